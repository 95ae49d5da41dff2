"""Proves, once a model, that the seam computes what the model computes, or says why it can't.

    kinds      every layer is attention (`refuse_other_layers`), and calls an attention function that can be replaced
    parts      with half a turn for rotation, the channels of a query that rotate change their sign, and no score
               changes: an exact test of which channels rotate in which layer, in any precision
    silence    with attention silenced and nothing rotated, tokens know nothing of each other or of their place:
               whatever still mixes them (a convolution, learned positions, a second rotation) would escape a method
    layers     the model's own attention, recomputed through the seam, on a short prompt and on one beyond the window.
               Each layer is given the very input that it has in the unmodified model, so errors don't add up: what is
               left is the rounding of one layer, and anything wrong stands out in half precision, too

Errors are relative, the norm of the difference over the norm of what the model says, without a floor.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from fairpos.attention.batch import Batch
from fairpos.attention.cache import kept_in
from fairpos.attention.compiled import is_of_compiler
from fairpos.attention.families.find import attention_modules, decoder_of, layers_of
from fairpos.attention.hooks import Hooks
from fairpos.attention.layer import Attention, Layer
from fairpos.attention.plain import PlainAttention
from fairpos.errors import NonFiniteLogits, UnsupportedModel
from fairpos.layout import Layout

# Largest relative error of a layer's output; half precision rounds queries, keys and weights to 8 or 11 bits.
_TOLERANCE = {torch.float64: 1e-4, torch.float32: 1e-4, torch.float16: 0.02, torch.bfloat16: 0.05}
_SHORT, _LONG, _LONGEST = 16, 48, 640  # tokens
# What a model's own code raises when it meets a cache, a mask or a tensor that it isn't made for.
MODEL_FAILURES = (RuntimeError, AttributeError, TypeError, KeyError, IndexError, ValueError)
_OTHER_KINDS = re.compile(
    r"Mamba|Conv1d|ShortConv|SSM|DeltaNet|LinearAttention|Lightning|Recurrent|R[Gg][Ll][Rr][Uu]|Rwkv|LSTM|Retention|K[Dd][Aa]"
)
_ELSEWHERE = (
    "Methods of the input and output levels (permutation, swap, attn_rank with a profile, windows, ...) work on any "
    "model."
)


def prove(hooks: Hooks) -> None:
    """Learns which channels rotate, and proves the hooks.

    Raises:
        UnsupportedModel: with the reason.
        NonFiniteLogits: the model itself returns NaN.
    """
    name = type(hooks.model).__name__
    short = _proof_tokens(hooks, _SHORT)
    said = _said_plainly(f"{name} itself fails on a short prompt of text alone")
    with torch.no_grad(), said, _refusing_unknown_factors(hooks):
        hooks.model(input_ids=short, use_cache=False)
    with (
        torch.no_grad(),
        _said_plainly(
            f"{name} works on its cache or its masks in a way of its own, so its attention can't be replaced"
        ),
    ):
        looks = [_look_without_rotation(hooks, short, cos) for cos in (1.0, -1.0)]
        _learn_parts(hooks, *looks)
        _prove_silence(hooks, short)
        _prove_layers(hooks, short, looks[0].modules, cut=12)
        windows = [window.size for window in looks[0].windows if window is not None]
        most = min(_LONGEST, _context_length(hooks))
        long = _proof_tokens(
            hooks, min(max(_LONG, max((size for size in windows if size < most), default=0) + 24), most)
        )
        _prove_layers(hooks, long, looks[0].modules, cut=long.shape[1] - 3)


class _PlacelessAttention(Attention):
    """All tokens stand at 0."""

    def places(self, rows: int, n_key: int, past: int, device: torch.device) -> Tensor:
        """Zeros."""
        return torch.zeros(rows, n_key - past, dtype=torch.long, device=device)


class _LookAttention(_PlacelessAttention):
    """Remembers which layers call, and their queries; attends as if nothing were rotated."""

    def __init__(self, batch: Batch) -> None:
        super().__init__(batch)
        self.queries: dict[int, Tensor] = {}
        self.modules: dict[int, nn.Module] = {}
        self.layers: dict[int, Layer] = {}
        self.calls = 0

    @property
    def windows(self) -> list[Any]:
        """Of each layer."""
        return [layer.window for layer in self.layers.values()]

    def __call__(self, layer: Layer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Causal attention without positions."""
        self.queries[layer.index], self.modules[layer.index] = q.clone(), layer.module
        self.layers[layer.index] = layer
        self.calls += 1
        return layer.attend(q, k, v, causal=True)


class _SilentAttention(_PlacelessAttention):
    """Tokens get nothing from each other. Remembers each layer's queries and keys, by token."""

    def __init__(self, batch: Batch) -> None:
        super().__init__(batch)
        self.made: dict[int, Tensor] = {}  # by layer, (1, L, numbers of all heads)

    def __call__(self, layer: Layer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Zeros."""
        both = [x.transpose(1, 2).flatten(2) for x in (q, k)]
        self.made[layer.index] = torch.cat(both, dim=-1)
        return q.new_zeros(*q.shape[:3], v.shape[3])


@contextmanager
def _said_plainly(what: str) -> Iterator[None]:
    try:
        yield
    except (UnsupportedModel, NonFiniteLogits, torch.OutOfMemoryError):
        raise  # memory is no property of the model: the next call may have it
    except MODEL_FAILURES as error:
        if is_of_compiler(error):
            raise  # nor is what this machine can compile
        raise UnsupportedModel(f"{what}. {_ELSEWHERE}") from error


def refuse_other_layers(model: PreTrainedModel) -> None:
    """Layers that aren't attention read tokens in the order that they come in, whatever attention does.

    Raises:
        UnsupportedModel: there are such; with their kinds.
    """
    decoder = decoder_of(model)
    config: Any = decoder.config
    types = [str(kind) for kind in getattr(config, "layer_types", None) or []]
    other = Counter(kind for kind in types if "attention" not in kind or "linear" in kind or kind == "hybrid")
    inside = [type(module).__name__ for layer in layers_of(decoder) for module in layer.modules()]
    modules = Counter(kind for kind in inside if _OTHER_KINDS.search(kind))
    if other or modules:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted((other + modules).items()))
        raise UnsupportedModel(
            f"{type(model).__name__} has layers that aren't attention ({kinds}): they read tokens in the order "
            f"that they come in, which no attention method can change. {_ELSEWHERE}"
        )


def _proof_tokens(hooks: Hooks, count: int) -> Tensor:
    """Different tokens, none of them special to the model, (1, count)."""
    model = hooks.model
    config: Any = model.config
    special = {
        value
        for each in (config, config.get_text_config())
        for key, value in each.to_dict().items()
        if re.search(r"_(id|index)$", key) and isinstance(value, int)
    }
    vocabulary = int(config.get_text_config().vocab_size)
    usable = [token for token in range(min(3, vocabulary - 1), min(vocabulary, 5000)) if token not in special]
    return torch.tensor([[usable[7 * i % len(usable)] for i in range(count)]], device=model.device)


def _context_length(hooks: Hooks) -> int:
    return int(getattr(hooks.model.config.get_text_config(), "max_position_embeddings", None) or _LONGEST)


def _run_in_pieces(hooks: Hooks, attention: Attention, pieces: Sequence[Tensor]) -> Tensor:
    """Logits (1, L, V) of a prompt in pieces, with one cache."""
    with hooks.armed():
        cache = hooks.new_cache(attention)
        return torch.cat([hooks.model(input_ids=x, **kept_in(cache), use_cache=True).logits for x in pieces], dim=1)


def _batch_of(ids: Tensor) -> Batch:
    return Batch([Layout(tuple(ids[0].tolist()), ())])


def _look_without_rotation(hooks: Hooks, ids: Tensor, cos: float) -> _LookAttention:
    """Queries with every rotation replaced by one angle, 0 (cos = 1) or half a turn."""
    name, decoder = type(hooks.model).__name__, decoder_of(hooks.model)
    ran: set[int] = set()  # layers, and attention modules by number; some may be for images alone
    modules = dict(enumerate([*layers_of(decoder), *attention_modules(decoder).values()]))
    hooks.cos = cos
    try:
        attention = _LookAttention(_batch_of(ids))
        with _watch_outputs(modules, lambda number, _: ran.add(number)):
            _run_in_pieces(hooks, attention, [ids])
    finally:
        hooks.cos = 1.0
    if len(attention.queries) < attention.calls:
        raise UnsupportedModel(
            f"{name} runs its layers several times in a forward pass, so what a method keeps of a layer would be mixed "
            f"up. {_ELSEWHERE}"
        )
    first = len(layers_of(decoder))
    depth = max(sum(number < first for number in ran), sum(number >= first for number in ran))
    if not attention.queries:
        raise UnsupportedModel(
            f"{name} doesn't call an attention function of transformers that could be replaced. {_ELSEWHERE}"
        )
    if len(attention.queries) < depth:
        raise UnsupportedModel(
            f"{name}: {len(attention.queries)} of its {depth} layers call an attention function that can be "
            f"replaced; the others mix tokens in a way of their own. {_ELSEWHERE}"
        )
    return attention


@contextmanager
def _refusing_unknown_factors(hooks: Hooks) -> Iterator[None]:
    """Numbers that attention modules are given beside their input and rotation may scale tokens by their place.

    On a short prompt such factors may be 1, so nothing but their being there tells.
    """
    name, own_thread = type(hooks.model).__name__, threading.get_ident()

    def look(_: nn.Module, __: Any, kwargs: dict[str, Any]) -> None:
        if threading.get_ident() != own_thread:
            return
        for argument, value in kwargs.items():
            is_number = isinstance(value, Tensor) and value.is_floating_point()
            if is_number and argument not in ("hidden_states", "attention_mask", "position_embeddings"):
                raise UnsupportedModel(
                    f"{name} gives its attention modules factors that fairpos doesn't know: {argument}. {_ELSEWHERE}"
                )

    modules = attention_modules(decoder_of(hooks.model)).values()
    handles = [module.register_forward_pre_hook(look, with_kwargs=True) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _learn_parts(hooks: Hooks, plain: _LookAttention, turned: _LookAttention) -> None:
    """A channel that half a turn leaves as it is doesn't rotate."""
    name, rotary = type(hooks.model).__name__, hooks.rotary
    for index, query in plain.queries.items():  # (1, H, L, D)
        other, dim = turned.queries[index], query.shape[3]
        same = (query == other).flatten(0, 2).all(dim=0)  # (D,)
        opposite = (query == -other).flatten(0, 2).all(dim=0)
        if not (same | opposite).all():
            raise UnsupportedModel(
                f"{name}: half a turn of layer {index}'s queries and keys changes more than their sign; "
                "something other than rotation depends on positions there"
            )
        channels = (~same).nonzero().flatten().tolist()
        start, stop = (channels[0], channels[-1] + 1) if channels else (0, 0)
        if not opposite[start:stop].all():
            raise UnsupportedModel(f"{name}: the channels that rotate in layer {index} don't stand together")
        origin = torch.zeros(1, 1, device=query.device)
        rotary.learn_part(index, start, stop, dim, plain.layers[index].factors(query, origin))


def _prove_silence(hooks: Hooks, ids: Tensor) -> None:
    """The same tokens in the opposite order give each token the same logits, queries and keys."""
    name, allowed = type(hooks.model).__name__, _TOLERANCE[hooks.model.dtype]
    forth, back = _SilentAttention(_batch_of(ids)), _SilentAttention(_batch_of(ids.flip(1)))
    logits = [_run_in_pieces(hooks, forth, [ids]), _run_in_pieces(hooks, back, [ids.flip(1)])]
    if any(each.isnan().any() for each in logits):
        raise NonFiniteLogits(f"{name} returned NaN for a short prompt; are its weights whole?")
    if not _error_when_reversed(*logits) <= allowed:
        raise UnsupportedModel(
            f"{name}: with its attention silenced, its tokens still depend on their order; "
            f"something beside attention mixes them or knows their place. {_ELSEWHERE}"
        )
    for index, made in forth.made.items():
        if not _error_when_reversed(made, back.made[index]) <= allowed:
            raise UnsupportedModel(
                f"{name}: with its rotation taken out, the queries or keys of layer {index} still depend on where a "
                f"token stands, in a way that fairpos doesn't know. {_ELSEWHERE}"
            )


def _error_when_reversed(forth: Tensor, back: Tensor) -> float:
    """Relative error between tokens (1, L, D) and the same in the opposite order.

    The median over tokens: a router on the edge between two experts may send one elsewhere.
    """
    forth, back = forth.float(), back.float().flip(1)
    return float(((forth - back).norm(dim=-1) / forth.norm(dim=-1)).median())


def _prove_layers(hooks: Hooks, ids: Tensor, modules: dict[int, nn.Module], cut: int) -> None:
    """The model's own attention through the seam, layer by layer on the unmodified model's inputs."""
    name = type(hooks.model).__name__
    expected: dict[int, Tensor] = {}  # by layer, (1, L, hidden size)

    def remember(index: int, output: Tensor) -> None:
        expected[index] = output

    with _watch_outputs(modules, remember):
        plain = hooks.model(input_ids=ids, use_cache=False).logits
    if not torch.isfinite(plain).all():
        raise NonFiniteLogits(f"{name} returned NaN or infinite logits for a short prompt; are its weights whole?")
    errors: list[tuple[float, int]] = []
    done = dict.fromkeys(expected, 0)  # tokens compared

    def compare(index: int, output: Tensor) -> Tensor:
        start = done[index]
        done[index] = start + output.shape[1]
        own = expected[index][:, start : done[index]]
        errors.append((_relative_error(output, own), index))
        return own  # the next layer's input is the unmodified model's

    with _watch_outputs(modules, compare):
        logits = _run_in_pieces(hooks, PlainAttention(_batch_of(ids)), [ids[:, :cut], ids[:, cut:]])
    worst, index = max(errors)
    allowed = _TOLERANCE[plain.dtype]
    if not worst <= allowed:
        raise UnsupportedModel(
            f"{name}: recomputed through the seam, layer {index}'s attention differs by {worst:.2g} of its own "
            f"(allowed {allowed:.2g}) on {ids.shape[1]} tokens; it has something that fairpos doesn't know"
        )
    if not _relative_error(logits, plain) <= allowed:
        raise UnsupportedModel(
            f"{name}: with every layer's attention as it should be, its logits still differ by "
            f"{_relative_error(logits, plain):.2g}; something beside attention depends on the cache"
        )


@contextmanager
def _watch_outputs(modules: dict[int, nn.Module], seen: Callable[[int, Tensor], Tensor | None]) -> Iterator[None]:
    """Calls `seen` with each attention module's output; what it returns, if anything, takes its place.

    Only in this thread: others may run the model meanwhile.
    """
    own_thread = threading.get_ident()

    def hook_of(index: int) -> Callable[..., Any]:
        def hook(_: nn.Module, __: Any, output: Any) -> Any:
            if threading.get_ident() != own_thread:
                return None
            first = output[0] if isinstance(output, tuple) else output
            instead = seen(index, first)
            if instead is None:
                return None
            return (instead, *output[1:]) if isinstance(output, tuple) else instead

        return hook

    handles = [module.register_forward_hook(hook_of(index)) for index, module in modules.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _relative_error(found: Tensor, expected: Tensor) -> float:
    size = expected.float().norm()
    difference = (found.float() - expected.float()).norm()
    return float(difference / size) if size > 0 else float(difference)
