"""What a graphics card asks for, as far as it can be told without one."""

import weakref

import torch
from torch import Tensor

import tiny
from expunge.engine.observe import Observer
from short import NEVER, quiet, unlearning


def test_a_pass_that_did_not_fit_is_let_go_before_a_smaller_one(tmp_path, monkeypatch):
    """Its activations, kept for a way back that failed, would fill the card a second time."""
    backward, real = Tensor.backward, Observer.step_loss
    failed, left = [], []

    def fails(self):
        if not failed:
            failed.append(weakref.ref(self))
            raise torch.OutOfMemoryError("CUDA out of memory")
        backward(self)

    def watched(self, draw, *, coefs, tokens_per_pass, side=None):
        left.extend(loss() is not None for loss in failed)
        yield from real(self, draw, coefs=coefs, tokens_per_pass=tokens_per_pass, side=side)

    monkeypatch.setattr(Tensor, "backward", fails)
    monkeypatch.setattr(Observer, "step_loss", watched)
    run = unlearning(tiny.network(), steps=1, tokens_per_pass=64)
    run.run(unseen=NEVER, folder=tmp_path, progress=quiet)
    assert left == [False]
