"""An attack that memory does not hold."""

import pytest
import torch

from attack_command import by_name, stress
from expunge.attacks.finetuning.relearn import Relearn
from expunge.metrics.outcomes import Status

FULL = {
    "host": RuntimeError(
        "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
    ),
    "card": torch.OutOfMemoryError("CUDA out of memory"),
    "python": MemoryError(),
}


@pytest.mark.parametrize("error", FULL.values(), ids=FULL)
def test_an_attack_that_memory_does_not_hold_is_said_and_the_others_are_made(
    error, world, bench, monkeypatch
):
    def full(*_):
        raise error

    only = ("prefill-50", "relearn", "int4")
    with monkeypatch.context() as patched:
        patched.setattr(Relearn, "run", full)
        found = by_name(stress(world, bench, world.original, only=only))
    assert found["relearn"].status is Status.NOT_COMPUTABLE
    assert "memory ran out" in found["relearn"].reason
    assert found["int4"].cost.tokens > 0
    again = by_name(stress(world, bench, world.original, only=only))
    assert again["relearn"].cost.steps > 0
    assert again["relearn"].status is not Status.NOT_COMPUTABLE


def test_a_fault_of_an_attack_is_no_lack_of_memory(world, bench, monkeypatch):
    def broken(*_):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(Relearn, "run", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        stress(world, bench, world.original, only=("relearn",))
