"""An adapter in use: it is for one model and one attention, in Python, on the command line and in the service."""

import itertools
import json
import shutil

import pytest
import torch
from typer.testing import CliRunner

import fairpos
from fairpos.backends.base import Score
from fairpos.cli.commands import app
from fairpos.errors import FairposError, InvalidComposition, InvalidOption
from fairpos.models.adapter import CARD
from fairpos.prompts import KEY_VALUE, render
from fairpos_service.app import _load_local
from fairpos_service.settings import Settings
from tests.tuning.lists import request_of, saved_model, written_pairs

pytest.importorskip("peft")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return saved_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, model):
    """An adapter that the command line trained: its folder and what was printed."""
    folder = tmp_path_factory.mktemp("tuned")
    data = written_pairs(folder / "kv.jsonl", 4)
    words = f"tune --data {data} --task kv --model {model} -o {folder / 'adapter'} --steps 2 --look 2 --rank 2"
    found = CliRunner().invoke(app, [*words.split(), "--teacher", "permutation:views=2", "--rate", "0.005", "--json"])
    assert found.exit_code == 0, found.output
    return folder / "adapter", found.stdout


def test_the_report_has_the_curve_and_both_audits(tuned):
    folder, printed = tuned
    report = json.loads(printed)
    assert json.loads((folder / "report.json").read_text()) == report
    assert [look["step"] for look in report["curve"]] == [0, 2]
    assert (report["learned"], report["held_out"], report["left_out"]) == (3, 1, 0)
    assert set(report["before"]) == {"none", "set_based"}
    assert set(report["after"]) == {"set_based"}
    assert report["after"]["set_based"]["consistency"]["estimate"] == 1.0


@pytest.fixture(scope="module")
def fair(model, tuned):
    return fairpos.load(model, device="cpu", adapter=tuned[0])


def prompts_of(request):
    """In every order."""
    return [render(request.reordered(order), KEY_VALUE) for order in itertools.permutations(range(3))]


def test_it_changes_the_model_and_no_order_changes_a_bit(fair, model):
    plain = fairpos.load(model, device="cpu")
    layouts = [fair.backend.layout(prompt) for prompt in prompts_of(request_of(7, 0))]
    logits = [fair.next_token_logits(each.input_ids, each.spans, "set_based") for each in layouts]
    assert all(torch.equal(logits[0], other) for other in logits[1:])
    assert not torch.allclose(logits[0], plain.next_token_logits(layouts[0].input_ids, layouts[0].spans, "set_based"))


def test_the_name_tells_that_it_is_there(fair, model):
    assert fair.backend.name.startswith(f"{model}, tuned for set_based (")


@pytest.mark.parametrize("methods", ["none", "pine", "permutation:views=2", "ape"])
def test_other_attentions_are_refused(fair, methods):
    with pytest.raises(InvalidComposition, match="trained for set_based"):
        fair.run([request_of(0, 0)], methods)


def test_so_are_calls_that_go_past_the_methods(fair):
    prompt = render(request_of(0, 0), KEY_VALUE)
    with pytest.raises(InvalidComposition, match="trained for set_based"):
        fair.backend.read_attention([prompt])
    with pytest.raises(InvalidComposition, match="trained for set_based"):
        fair.backend.run([Score(prompt, ("a", "b"), branched=True)])


def test_orders_around_its_own_attention_are_allowed(fair):
    assert fair.run([request_of(0, 0)], "permutation:views=2+set_based")[0].status == "ok"


def test_an_adapter_is_for_one_model(tuned, model, tmp_path):
    other = fairpos.load(model, device="cpu")
    with torch.no_grad():
        other.model.lm_head.weight.flatten()[0] += 1
    other.model.save_pretrained(tmp_path)
    other.tokenizer.save_pretrained(tmp_path)
    with pytest.raises(InvalidOption, match="this model's weights are"):
        fairpos.load(tmp_path, device="cpu", adapter=tuned[0])


def test_folders_without_an_adapter_are_named(tuned, model, tmp_path):
    with pytest.raises(InvalidOption, match="holds no adapter of `fairpos tune`"):
        fairpos.load(model, device="cpu", adapter=tmp_path)
    for name, damage in ((CARD, "{}"), (CARD, "{"), ("adapter_config.json", "{}"), ("adapter_model.safetensors", "")):
        folder = tmp_path / f"{name} {damage}"
        shutil.copytree(tuned[0], folder)
        (folder / name).write_text(damage)
        with pytest.raises(InvalidOption, match=r"is damaged|can't be read"):
            fairpos.load(model, device="cpu", adapter=folder)


def test_endpoints_have_no_weights_to_change(tuned):
    with pytest.raises(InvalidOption, match="adapter: for local models"):
        fairpos.load("openai:http://127.0.0.1:9/v1#m", adapter=tuned[0])


def test_an_adapter_is_not_trained_on_top_of_another(model, tuned, tmp_path):
    data = written_pairs(tmp_path / "kv.jsonl", 3)
    words = f"tune --data {data} --task kv --model {model} -o {tmp_path / 'more'} --adapter {tuned[0]}"
    found = CliRunner().invoke(app, words.split())
    assert isinstance(found.exception, FairposError)
    assert "has an adapter already" in str(found.exception)


def test_the_command_line_asks_with_it(model, tuned, tmp_path):
    record = {"id": "q", "query": "Which?", "passages": [{"id": "a", "text": "one"}, {"id": "b", "text": "two"}]}
    path = tmp_path / "questions.jsonl"
    path.write_text(json.dumps(record) + "\n")
    words = ["answer", str(path), "--model", str(model), "--adapter", str(tuned[0]), "--max-new-tokens", "2"]
    found = CliRunner().invoke(app, [*words, "--methods", "set_based"])
    assert found.exit_code == 0, found.output
    refused = CliRunner().invoke(app, words)
    assert "trained for set_based" in f"{refused.output} {refused.exception}"


def test_the_service_asks_with_it(model, tuned):
    fair = _load_local(str(model), Settings(adapter=str(tuned[0]), device="cpu"))
    assert fair.backend.trained_for.method == "set_based"


def test_labels_on_the_command_line(model, tmp_path):
    data = written_pairs(tmp_path / "kv.jsonl", 3)
    words = f"tune --data {data} --task kv --model {model} -o {tmp_path / 'a'} --steps 1 --labels --method none"
    found = CliRunner().invoke(app, words.split())
    assert found.exit_code == 0, found.output
    assert "use it with --adapter" in found.output
    card = json.loads((tmp_path / "a" / CARD).read_text())
    assert (card["method"], card["lesson"]) == ("none", "the right option, 2 nats above the others")
    again = CliRunner().invoke(app, words.split())
    assert "add --resume" in str(again.exception)
