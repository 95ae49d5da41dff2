"""A service on a free loopback port, in a thread of this process, with tiny models that anybody can load."""

import asyncio
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import fairpos
from fairpos import FairModel
from fairpos_service.app import create_app
from fairpos_service.serving import server
from fairpos_service.settings import Settings
from tests.service.replica import THROUGH_RAY, Replica

CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, two control tokens, a chat template."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<|im_start|>", special=True), AddedToken("<|im_end|>", special=True)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|im_end|>")
    fast.chat_template = CHAT_TEMPLATE
    return fast


def tiny(seed: int = 0, context: int = 4096) -> FairModel:
    """A random Llama that writes bytes, and never ends by itself."""
    config = LlamaConfig(
        vocab_size=258,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        initializer_range=0.3,
        eos_token_id=None,
        pad_token_id=257,
        bos_token_id=None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).eval()
    return fairpos.wrap(model, byte_tokenizer())


class Running:
    """A running service.

    Attributes:
        url: "http://127.0.0.1:PORT".
        app: The application.
        loop: Its event loop.
    """

    def __init__(self, settings: Settings, loaded: Mapping[str, FairModel]) -> None:
        self.settings = settings
        self.app = create_app(settings, loaded)
        self.server = server(self.app, settings)
        self.loop: asyncio.AbstractEventLoop
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        async def main() -> None:
            self.loop = asyncio.get_running_loop()
            await self.server.serve()

        asyncio.run(main())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.servers[0].sockets[0].getsockname()[1]}"

    @property
    def state(self):
        return self.app.state.fairpos

    def start(self) -> None:
        self._thread.start()
        until(lambda: self.server.started and self.state.ready)

    def stop(self, timeout_s: float = 30.0) -> None:
        self.server.should_exit = True
        self._thread.join(timeout_s)
        assert not self._thread.is_alive(), "the server did not stop"

    def tasks(self) -> int:
        """Tasks that are alive in the server's loop."""

        async def count() -> int:
            return len(asyncio.all_tasks())

        return asyncio.run_coroutine_threadsafe(count(), self.loop).result(10)


@contextmanager
def running(loaded: Mapping[str, FairModel] | None = None, **settings: object) -> Iterator[Running]:
    """The service with these models and settings; nothing comes from the environment but what is not named."""
    service = (Replica if THROUGH_RAY else Running)(
        Settings(_env_file=None, port=0, drain_s=5, **settings), loaded or {}
    )
    service.start()
    try:
        yield service
    finally:
        service.stop()


def until(true, timeout_s: float = 20.0) -> None:
    """Waits for a condition; fails if it doesn't come."""
    end = time.monotonic() + timeout_s
    while not true():
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout_s} s")
        time.sleep(0.005)
