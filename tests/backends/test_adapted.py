"""Models as people adapt them, by the packages themselves: LoRA by PEFT, 8-bit weights by torchao.

They skip where those are missing: `pip install --no-deps peft torchao` brings them.
"""

import pytest
import torch

from fairpos.backends.base import Decoding
from fairpos.backends.hf import HFBackend
from fairpos.layout import Layout
from fairpos.methods.pine import Pine
from fairpos.methods.placements import Placements
from fairpos.methods.set_based import SetBased
from tests.architectures import random_prompt, small_model
from tests.attention.test_families import Tokens
from tests.reference import pine, set_based

pytestmark = pytest.mark.filterwarnings("ignore")  # the packages' own, about transformers and torch

METHODS = [(SetBased(), set_based), (Pine(), pine)]


@pytest.mark.parametrize("wrap", ["get_peft_model", "inject_adapter_in_model"])
def test_an_adapter_counts_whichever_way_it_got_in(wrap):
    peft = pytest.importorskip("peft")
    ids, spans = random_prompt()
    layout, base = Layout.of(ids, spans), small_model("llama")
    before = HFBackend(base, Tokens()).logits([layout], SetBased())
    torch.manual_seed(0)
    config = peft.LoraConfig(target_modules=["q_proj", "k_proj", "v_proj"], r=4, init_lora_weights=False)
    adapted = getattr(peft, wrap)(*((base, config) if wrap == "get_peft_model" else (config, base))).eval()
    backend = HFBackend(adapted, Tokens())
    logits = {str(method): backend.logits([layout], method) for method, _ in METHODS}
    text = backend.generate([layout], Placements(views=2), Decoding(max_new_tokens=4))
    assert (before - logits[str(SetBased())]).norm() > 0.1 * before.norm()
    if wrap == "get_peft_model":  # the same adapter as weights
        merged = HFBackend(adapted.merge_and_unload(), Tokens())
        for method, reference in METHODS:
            torch.testing.assert_close(merged.logits([layout], method), logits[str(method)], rtol=1e-4, atol=1e-5)
            expected = reference.next_token_logits(merged.model, ids, spans)
            assert (logits[str(method)][0] - expected).norm() < 1e-4 * expected.norm()
        assert merged.generate([layout], Placements(views=2), Decoding(max_new_tokens=4)) == text


def test_eight_bit_weights_of_torchao():
    quantization = pytest.importorskip("torchao.quantization")
    ids, spans = random_prompt()
    model, layout = small_model("llama"), Layout.of(ids, spans)
    exact = HFBackend(small_model("llama"), Tokens()).logits([layout], SetBased())
    quantization.quantize_(model, quantization.Int8WeightOnlyConfig())
    backend = HFBackend(model, Tokens())
    for method, reference in METHODS:
        expected = reference.next_token_logits(model, ids, spans)
        assert (backend.logits([layout], method)[0] - expected).norm() < 1e-4 * expected.norm()
    assert 0 < (backend.logits([layout], SetBased()) - exact).norm() < 0.1 * exact.norm()
