"""A backend that is asked each call once whose reply is a function of the call: what an audit repeats, it remembers.

Methods that are free of order make the same prompts of every order, a swap asks what the plain model was asked, and a
prompt without content is the same for all items. Scores are such replies, and so is a greedy text of a local model that
doesn't depend on its batch; any other text is asked for anew.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from fairpos.attention.reading import Pairs, Reading
from fairpos.backends.base import AttentionReader, Backend, Call, Generate, Reply, Score, attention_reader
from fairpos.prompts import Prompt
from fairpos.types import Capability


class OnceBackend(Backend, AttentionReader):
    """Remembers replies for as long as it lives; they count as cached.

    Costs: some hundred bytes a call, and the prompts.

    Attributes:
        seconds: What all calls so far would have taken without a memory: of a remembered one, its part of the run in
            which it was made.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.seconds = 0.0
        self._known: dict[Call, tuple[Reply, float]] = {}

    @property
    def name(self) -> str:
        """The backend's own."""
        return self.backend.name

    @property
    def capabilities(self) -> frozenset[Capability]:
        """The backend's own."""
        return self.backend.capabilities

    def run(self, calls: Sequence[Call]) -> list[Reply]:
        """Replies in the order of the calls; equal calls that repeat are made once, as if alone."""
        # Only what doesn't depend on its batch is a function of the call.
        calls = [replace(call, batch_invariant=True) if isinstance(call, Score) else call for call in calls]
        new = list(dict.fromkeys(call for call in calls if self._repeats(call) and call not in self._known))
        others = [call for call in calls if not self._repeats(call)]
        started = time.perf_counter()
        replies = self.backend.run([*new, *others]) if new or others else []
        each = (time.perf_counter() - started) / max(1, len(replies))
        fresh = dict(zip(new, replies, strict=False))
        rest = iter(replies[len(new) :])
        # A call that failed may do better another time.
        self._known |= {call: (reply, each) for call, reply in fresh.items() if reply.status in ("ok", "partial")}
        found = []
        for call in calls:
            if not self._repeats(call):
                found.append(next(rest))
                self.seconds += each
            elif call in fresh:
                found.append(fresh[call])
                self.seconds += each
                if call in self._known:
                    del fresh[call]  # the next one like it is a copy
            else:
                reply, seconds = self._known[call]
                found.append(replace(reply, usage=reply.usage.as_cached()))
                self.seconds += seconds
        return found

    def _repeats(self, call: Call) -> bool:
        """Whether the reply to a call is the same each time."""
        if isinstance(call, Score):
            return True
        # Who can lend its attention is a local model, and keeps what `batch_invariant` promises.
        return call.batch_invariant and "attention" in self.capabilities and _is_greedy(call)

    def read_attention(
        self,
        prompts: Sequence[Prompt],
        *,
        heads: Sequence[int] = (),
        pairs: Pairs = (),
        last_only: bool = False,
        replies: Sequence[str] = (),
    ) -> list[Reading]:
        """The backend's own; nothing is remembered of it.

        Raises:
            UnsupportedBackend: the backend has no attention to read.
        """
        reader = attention_reader(self.backend)
        return reader.read_attention(prompts, heads=heads, pairs=pairs, last_only=last_only, replies=replies)


def _is_greedy(call: Generate) -> bool:
    """Whether a text is generated greedily and nobody looks on."""
    decoding = call.decoding
    return decoding.is_plain and decoding.temperature == 0 and not decoding.guides and decoding.live is None
