"""Pieces of work that threads share: each is done once, alone in its thread, and as exactly as by one thread."""

import os
import subprocess
import sys
import threading

import pytest
import torch

import fairpos
from fairpos.attention.threads import side_by_side
from tests.prompts_in_tokens import orders, random_layout
from tests.tiny_models import tiny_model


def test_each_piece_runs_once_in_a_thread_that_runs_operators_alone():
    torch.set_num_threads(2)
    met = threading.Barrier(2, timeout=30)  # two pieces at once, or neither ends
    seen = []

    def piece(number):
        met.wait()
        seen.append((number, threading.get_ident(), (torch.get_num_threads(), torch.is_grad_enabled())))

    with torch.no_grad():
        side_by_side([lambda number=number: piece(number) for number in range(6)])
    assert sorted(number for number, *_ in seen) == list(range(6))
    assert len({thread for _, thread, *_ in seen}) == 2
    assert {state for *_, state in seen} == {(1, False)}
    assert torch.get_num_threads() == 2
    # Threads of others that begin now have as many as before.
    others = []
    begun = threading.Thread(target=lambda: others.append(torch.get_num_threads()))
    begun.start()
    begun.join()
    assert others == [2]


@pytest.mark.parametrize(("threads", "pieces", "gradients"), [(1, 3, False), (4, 3, False), (2, 3, True)])
def test_pieces_run_here_where_threads_would_not_help_or_not_know_of_gradients(threads, pieces, gradients):
    torch.set_num_threads(threads)
    seen = []
    with torch.set_grad_enabled(gradients):
        side_by_side([lambda: seen.append((threading.get_ident(), torch.get_num_threads()))] * pieces)
    assert seen == [(threading.get_ident(), threads)] * pieces


def test_what_a_piece_raises_is_raised_here():
    torch.set_num_threads(2)

    def fails():
        raise ValueError("a piece")

    with torch.no_grad(), pytest.raises(ValueError, match="a piece"):
        side_by_side([lambda: None, fails, lambda: None])


def test_pieces_may_write_to_tensors_of_inference_mode():
    torch.set_num_threads(2)
    with torch.inference_mode():
        out = torch.zeros(3)
        side_by_side([lambda i=i: out[i].fill_(i) for i in range(3)])
    assert out.tolist() == [0, 1, 2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes can't be forked here")
def test_a_forked_process_has_threads_of_its_own():
    program = """
import os, torch
from fairpos.attention import threads
from fairpos.attention.threads import side_by_side
torch.set_num_threads(2)
torch.set_grad_enabled(False)
done = []
side_by_side([lambda: done.append(1)] * 4)
threads._LOCK.acquire()  # as if another thread were making its threads
child = os.fork()
if child == 0:
    side_by_side([lambda: done.append(1)] * 4)
    os._exit(len(done))
print(len(done), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.split() == ["4", "8"]


def test_pine_is_as_exact_with_two_threads_as_with_one(tokenizer):
    fair = fairpos.wrap(tiny_model("llama", torch.float64), tokenizer)
    views = orders(random_layout(5, (9, 5, 7, 5)))[::5]
    alone = fair.next_token_logits(views[0].input_ids, views[0].spans, "pine")
    torch.set_num_threads(2)
    logits = [fair.next_token_logits(view.input_ids, view.spans, "pine") for view in views]
    assert all(torch.equal(logits[0], other) for other in logits[1:])
    torch.testing.assert_close(logits[0], alone, rtol=1e-12, atol=1e-12)
