"""Several processes do what one does: gloo, two processes, one start for all jobs."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distributed_worker import do, read
from expunge.errors import UsageError
from expunge.models.batching import evenly
from expunge.training.distributed import SOLO, Share, joined

HERE = Path(__file__).parent
TERMS = (
    ("npo", {}),  # W, with references and a retain term
    ("dpo", {}),  # W, two streams side by side
    ("graddiff", {"retain": "kl"}),  # D
    ("undial", {"retain": "nll"}),  # D and W
    ("rmu", {"layer": 0}),  # R, a forward that ends early
    ("rr", {"layers": "0,1"}),  # R, per token and per sequence
)
GRADIENTS = [
    {
        "kind": "gradient",
        "name": f"{method}-{'lora' if lora else 'full'}-{tokens}",
        "method": method,
        "knobs": knobs,
        "lora": lora,
        "tokens": tokens,
    }
    for method, knobs in TERMS
    for lora in (True, False)
    for tokens in (20,)
] + [
    # Its head is applied by the model's own code, not equally often in each process.
    {
        "kind": "gradient",
        "name": "bent",
        "model": "gemma",
        "method": "npo",
        "knobs": {},
        "lora": False,
        "tokens": 20,
        "chunk": 5,
    }
]
RUNS = [
    {"kind": "run", "name": f"{job['name']}-{'lora' if lora else 'full'}", "lora": lora, **rest}
    for lora in (True, False)
    for job in (
        {"name": "clipped", "method": "npo", "options": {"clip": 0.5}},
        {"name": "dual", "method": "pdu"},
        {"name": "gru", "method": "npo", "combine": "gru", "average_last": 0.5},
        {"name": "blur", "method": "simnpo", "combine": "blur"},
        {"name": "noise", "method": "npo", "robust": "noise"},
        {"name": "checkpointed", "method": "npo", "options": {"checkpointing": True}},
        {"name": "8bit", "method": "npo", "optimiser": "adamw8bit"},
        {"name": "unwatched", "method": "npo", "options": {"retain_batch": 1, "batch": 1}},
    )
    for rest in ({k: v for k, v in job.items() if k != "name"},)
]
KEEPING = {"method": "npo", "combine": "gru", "kind": "run"}
HALVES = [
    {**KEEPING, "name": f"half-{optimiser}-{lora}", "optimiser": optimiser, "lora": lora, "stop": 3}
    for lora in (True, False)
    for optimiser in ("adamw", "adamw8bit")
]
NEEDED = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}


def torchrun(*words: str, count: int = 2, **options) -> subprocess.CompletedProcess:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return subprocess.run(
        [*launcher, "--nproc-per-node", str(count), *words],
        capture_output=True,
        text=True,
        timeout=300,
        env=NEEDED,
        **options,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What two processes made of all jobs; of some, one process did the first half."""
    place = tmp_path_factory.mktemp("together")
    alone = [{**job, "name": f"alone-{job['name']}"} for job in HALVES]
    for job in alone:
        do(job, place, SOLO)
    rest = [
        {**job, "stop": None, "name": f"rest-{job['name']}", "place": job["name"]} for job in alone
    ]
    (place / "jobs.json").write_text(json.dumps([*GRADIENTS, *RUNS, *HALVES, *rest]))
    done = torchrun(str(HERE.parent / "helpers" / "distributed_worker.py"), str(place))
    assert done.returncode == 0, done.stderr
    return place


def close(found, expected, *, rel) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        scale = value.abs().max().clamp(min=1e-8)
        assert ((found[name] - value).abs().max() / scale).item() < rel, name


@pytest.mark.parametrize("fails", [True, False], ids=["fails", "hangs"])
def test_no_process_waits_for_one_that_does_not_come(fails, tmp_path):
    job = {"kind": "broken", "name": "broken", "fails": fails}
    (tmp_path / "jobs.json").write_text(json.dumps([job]))
    began = time.monotonic()
    done = torchrun(str(HERE.parent / "helpers" / "distributed_worker.py"), str(tmp_path))
    assert done.returncode != 0
    assert time.monotonic() - began < 120  # the other one sleeps for 600 s
    assert ("a mistake in one process" in done.stderr) == fails
    assert fails or "has ended, or answers no more" in done.stderr


@pytest.mark.parametrize("job", GRADIENTS, ids=lambda job: job["name"])
def test_gradient_and_values_are_those_of_one_process(job, folder):
    found, facts = read(job["name"], folder)
    expected, values = do(job, folder, SOLO)
    close(found, expected, rel=1e-5)
    assert facts["values"] == pytest.approx(values["values"], rel=1e-5, abs=1e-7)
    # Adapters are copied; of all weights each of two processes holds half.
    assert facts["held"] == (0 if job["lora"] else 0.5)


@pytest.mark.parametrize("job", RUNS, ids=lambda job: job["name"])
def test_a_run_is_that_of_one_process(job, folder, tmp_path):
    found, facts = read(job["name"], folder)
    expected, alone = do(job, tmp_path, SOLO)
    assert len(facts["curve"]) == len(alone["curve"]) == 4
    for point, other in zip(facts["curve"], alone["curve"], strict=True):
        assert point["values"] == pytest.approx(other["values"], rel=1e-4, abs=1e-6)
        assert point["gradient_norm"] == pytest.approx(other["gradient_norm"], rel=1e-4)
    close(found, expected, rel=1e-3)


@pytest.mark.parametrize("job", HALVES, ids=lambda job: job["name"])
def test_a_run_goes_on_with_another_number_of_processes(job, folder, tmp_path):
    expected, whole = do({**job, "stop": None}, tmp_path, SOLO)
    parts = {path.name for path in (folder / job["name"]).glob("last.*.1-of-2.safetensors")}
    assert len(parts) == (0 if job["lora"] else 1)
    fewer, fewer_facts = do({**job, "stop": None}, folder, SOLO)  # two, then one
    more, more_facts = read(f"rest-alone-{job['name']}", folder)  # one, then two
    for state, facts in ((fewer, fewer_facts), (more, more_facts)):
        assert len(facts["curve"]) == 4
        norms = [point["gradient_norm"] for point in facts["curve"]]
        assert norms == pytest.approx([p["gradient_norm"] for p in whole["curve"]], rel=1e-3)
        close(state, expected, rel=1e-3)
    assert list((folder / job["name"]).glob("last.*-of-*")) == []


@given(st.lists(st.integers(1, 40), max_size=30), st.integers(1, 5), st.integers(1, 100))
def test_shares_hold_each_record_once_and_keep_step(lengths, size, tokens):
    shares = [Share(rank=rank, size=size, even=True) for rank in range(size)]
    cuts = [list(share.cut(lengths, tokens=tokens)) for share in shares]
    real = [index for cut in cuts for part in cut if part.real for index in part.indices]
    assert sorted(real) == list(range(len(lengths)))
    assert len({len(cut) for cut in cuts}) == 1
    counts = [sum(len(part.indices) for part in cut if part.real) for cut in cuts]
    assert max(counts) - min(counts) <= 1
    alone = list(Share().cut(lengths, tokens=tokens))
    assert [cut.indices for cut in alone] == evenly(lengths, tokens=tokens)
    assert all(cut.real for cut in alone)


@pytest.mark.parametrize(
    ("device", "variables", "why"),
    [
        ("cpu", {"WORLD_SIZE": "2"}, "expected, but not set"),
        ("cpu", {"WORLD_SIZE": "two"}, "not a number"),
        ("cuda", {"WORLD_SIZE": "2", "LOCAL_RANK": "1"}, "1 graphics cards, and this is process 1"),
    ],
)
def test_processes_that_cannot_meet_say_so(device, variables, why, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=why), joined(torch.device(device)):
        pass
