"""The channel search on curves that are known, and from end to end on a tiny model that has a positional channel."""

import json

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM
from typer.testing import CliRunner

import fairpos
from fairpos.attention.seam import seam_of
from fairpos.calibration.channel_search import candidates, direction, roughness, search, unit
from fairpos.cli.commands import app
from fairpos.cli.options import LocalOptions
from fairpos.errors import InvalidOption, NotCalibrated
from fairpos.methods.positional_hidden import PositionalHidden
from tests.tiny_models import TINY, tiny_model

TOKENS = np.arange(1000.0)


def test_direction_and_roughness_of_known_curves():
    noise = np.random.default_rng(0).normal(size=1000)
    curves = np.stack([TOKENS, -np.sqrt(TOKENS), np.cos(TOKENS / 100), TOKENS + 30 * noise, 0 * TOKENS], axis=1)
    assert direction(curves).tolist() == [1, -1, 0, 1, 1]
    rough = roughness(curves)
    assert rough[0] < 2e-6  # an even window stands half a token off, which shows as a kink at either end
    assert rough[3] > 1e-3 > rough[1]
    assert unit(curves)[:, 1].min() == 0
    assert unit(curves)[:, 1].max() == 1


def test_candidates_are_monotone_in_more_than_a_quarter_of_the_layers_smoothest_first():
    draw = np.random.default_rng(1)
    curves = draw.normal(size=(8, 1000, 5))
    wave = np.cos(TOKENS / 50) * 5
    curves[:, :, 0] = wave  # in no direction
    curves[:, :, 1] = wave
    curves[2:5, :, 1] = TOKENS  # rises in 3 of 8 layers
    curves[:, :, 2] = -TOKENS + 20 * draw.normal(size=(8, 1000))  # falls everywhere, roughly
    curves[:, :, 3] = wave
    curves[2:4, :, 3] = TOKENS  # in 2 of 8 only
    curves[:, :, 4] = wave
    curves[0:2, :, 4] = curves[7, :, 4] = TOKENS  # in layers that aren't looked at
    found = candidates(curves)
    assert [(c.channel, c.layers) for c in found] == [(1, 3), (2, 5)]


def positional_model(tokenizer):
    """A small Llama whose channel 5 is made to grow with the position after every layer."""
    config = TINY["llama"]()
    config.num_hidden_layers, config.max_position_embeddings, config.vocab_size = 8, 2048, len(tokenizer)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = LlamaForCausalLM(config).eval()
    seam_of(model).verify()  # before, since a model that knows positions beside its attention is refused

    def grow(_, __, kwargs, output):
        output[..., 5] = kwargs["position_ids"] / 100

    for block in model.model.layers:
        block.register_forward_hook(grow, with_kwargs=True)
    return model


def test_search_finds_a_channel_that_was_planted_and_repeats(tokenizer):
    fair = fairpos.wrap(positional_model(tokenizer), tokenizer)
    done = []
    found = search(fair.backend, texts=2, records=2, seed=3, progress=lambda *step: done.append(step))
    assert found.candidates[0].channel == 5
    assert found.setting.hidden_size == 48
    assert found.setting.depth == 8
    assert done[-1][0] <= done[-1][1] == 2 + 4 * 2
    assert found == search(fair.backend, texts=2, records=2, seed=3)
    chosen = PositionalHidden.calibrate(fair.backend, texts=2, records=2, seed=3)
    assert chosen.channel == found.setting.channel


def test_the_command_writes_a_profile_that_the_method_reads(tokenizer, tmp_path, monkeypatch):
    fair = fairpos.wrap(positional_model(tokenizer), tokenizer)
    monkeypatch.setattr(LocalOptions, "load", lambda self, name: fair)
    path = tmp_path / "profile.json"
    result = CliRunner().invoke(
        app, ["calibrate", "positional_hidden", "--texts", "1", "--records", "1", "-o", str(path)]
    )
    assert result.exit_code == 0, result.output
    profile = json.loads(path.read_text())
    setting = PositionalHidden(profile=str(path)).setting
    assert setting.channel == profile["setting"]["channel"]
    assert fair.next_token_logits(range(9), [(2, 5)], f"positional_hidden:profile={path}").isfinite().all()
    path.write_text(json.dumps(profile | {"method": "attn_rank"}))
    with pytest.raises(NotCalibrated, match="profile of attn_rank"):
        _ = PositionalHidden(profile=str(path)).setting


def test_what_is_refused(tokenizer):
    backend = fairpos.wrap(tiny_model("llama", torch.float32), tokenizer).backend
    with pytest.raises(NotCalibrated, match=r"context of 1000 tokens; .* has 256"):
        search(backend)
    with pytest.raises(InvalidOption, match="texts must be at least 1, got 0"):
        search(backend, texts=0)
