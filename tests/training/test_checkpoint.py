"""Checkpoints take no second copy of what they hold, and hold no more than is read."""

import tracemalloc

import torch
from safetensors import safe_open
from safetensors.torch import load_file

import tiny
from distributed_worker import NEVER
from expunge.methods.npo import NPO
from expunge.models.saving import write_tensors
from expunge.training.trainer import Trainer, TrainingArgs
from random_records import STREAMS


def test_what_is_written_is_what_safetensors_reads(tmp_path):
    generator = torch.Generator().manual_seed(0)
    wide = torch.randn(6, 5, generator=generator)
    tensors = {
        "codes": torch.arange(7, dtype=torch.uint8),
        "turned": wide.T,
        "narrow": wide.bfloat16(),
        "step": torch.tensor(3.0),
        "flags": wide > 0,
        "long": torch.arange(3),
        "none of it": wide[:0],
        "trained": wide.clone().requires_grad_(),
    }
    write_tensors(tmp_path / "some.safetensors", tensors, {"state": '"ä"'})
    found = load_file(tmp_path / "some.safetensors")
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor.detach())
    with safe_open(tmp_path / "some.safetensors", framework="pt") as file:
        assert file.metadata() == {"state": '"ä"'}


def test_no_second_copy_is_held(tmp_path):
    tensors = {str(index): torch.zeros(1 << 18) for index in range(8)}
    tracemalloc.start()
    write_tensors(tmp_path / "some.safetensors", tensors, {})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20  # one of the eight tensors


def test_the_last_good_weights_are_kept_without_moments(tmp_path):
    options = TrainingArgs(lora=None, steps=2, check_every=1, batch=3, retain_batch=3, lr=1e-3)
    run = Trainer(method=NPO(), network=tiny.network(), streams=STREAMS, options=options, pad_id=2)
    run.run(unseen=NEVER, folder=tmp_path, progress=lambda step, text: None)
    kinds = {}
    for name in ("last", "good"):
        with safe_open(tmp_path / f"{name}.safetensors", framework="pt") as file:
            kinds[name] = {key.partition("/")[0] for key in file.keys()}  # noqa: SIM118
    assert kinds["good"] == {"weight"}
    assert kinds["last"] > kinds["good"]
