"""A process that ends at any call that writes leaves the old state or the new one.

Each case runs in a child that ends, as by a power cut, right before its n-th call that changes the
disk: opening for writing, syncing, renaming, removing, making folders, changing modes.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch

import tiny
from expunge.models.saving import save_model, write_tensors
from expunge.pipeline.run_folder import mark_latest, open_run
from expunge.provenance.destroy import destroy_evidence
from expunge.provenance.keys import operator_key
from expunge.provenance.signature import SigningKey, make_signing_key
from expunge.provenance.verify import verify
from expunge.reporting.build import build_reports
from expunge.reporting.card import build_card
from expunge.reporting.schema import read_results
from expunge.training.activation_cache import DiskCache, key
from expunge.utils.io import read_json, write_json
from fuzzing.kills import CUT, cut_at
from random_records import FORGET
from synthetic_run import build_run, write_run_manifest

KEY = bytes(range(32))
SIGNING = SigningKey(seed=KEY)
NOW = datetime(2026, 3, 1, tzinfo=UTC)
MOST = 200
"""Calls; more would not end."""


def cut(act: Callable[[Path], object], folder: Path, number: int) -> bool:
    """Run `act` in a child that is cut off at a call; tell whether that came before its end."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            cut_at(number)
            act(folder)
            code = 0
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, CUT), f"call {number}: the child failed"
    return code == CUT


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is there before, what is done, and what must hold whenever it is cut off."""

    before: Callable[[Path], object]
    act: Callable[[Path], object]
    holds: Callable[[Path], str]
    """Says `old` or `new`, and fails where it is neither."""


def model(fill: float):
    network = tiny.llama()
    with torch.no_grad():
        for weight in network.parameters():
            weight.fill_(fill)
    return network


def save(fill: float) -> Callable[[Path], object]:
    return lambda folder: save_model(model(fill), tiny.tokenizer(), folder / "model")


def loaded(folder: Path) -> str:
    from transformers import AutoModelForCausalLM

    found = AutoModelForCausalLM.from_pretrained(folder / "model")
    (value,) = {float(weight.flatten()[0]) for weight in found.parameters()}
    return {1.0: "old", 2.0: "new"}[value]


def tensors(fill: float) -> Callable[[Path], object]:
    made = {"w": torch.full((64, 64), fill), "i": torch.arange(3)}
    return lambda folder: write_tensors(folder / "last.safetensors", made, {"step": str(fill)})


def kept_tensors(folder: Path) -> str:
    from safetensors import safe_open

    with safe_open(folder / "last.safetensors", framework="pt") as file:
        fill = float(file.metadata()["step"])
        assert bool((file.get_tensor("w") == fill).all())
    return "old" if fill == 1 else "new"


def finish(folder: Path) -> None:
    """Say that a run whose pages stand has ended."""
    run = folder / "run"
    write_run_manifest(run, key=KEY, signing=SIGNING)


def unfinished(folder: Path) -> None:
    run = build_run(folder / "run", kept=False, golds=())
    (run / "model").mkdir()
    (run / "model" / "weights.bin").write_bytes(bytes(64))
    build_reports(run)
    build_card(run)


def changed(run: Path) -> list[str]:
    """Return the files that do not verify; those that synthetic runs never agree on left out."""
    saved = read_results(run)
    found = verify(run, assess=lambda store: saved, key=KEY, signer=SIGNING.public).problems
    never = {"config.toml", "manifest.json"}
    return [problem.path for problem in found if problem.path not in never]


def published(folder: Path) -> str:
    if not (folder / "run" / "manifest.json").is_file():
        return "old"
    for path in (folder / "run").rglob(".*.part"):
        raise AssertionError(path)
    assert changed(folder / "run") == []
    return "new"


def destroy(folder: Path) -> None:
    destroy_evidence(folder / "run", key=KEY, only_expired=False, now=NOW, signing=SIGNING)


def destroyed(folder: Path) -> str:
    run = folder / "run"
    if not (run / "evidence-destroyed.json").is_file():
        (run / "evidence-destroyed.json").unlink(missing_ok=True)
        for path in run.glob(".*.part"):
            path.unlink()
        assert changed(run) == []
        return "old"
    destroy(folder)  # the same command again finishes it
    assert changed(run) == []
    assert [path.name for path in (run / "evidence").iterdir()] == ["context.json"]
    return "new"


def whole_keys(folder: Path) -> str:
    path = folder / "keys" / "operator"
    there = path.is_file()
    assert len(operator_key(path, run=folder / "run")) == 32
    make_signing_key(folder / "keys" / "signing")
    return "new" if there else "old"


def begun(folder: Path) -> str:
    known = (folder / "run" / "run.json").is_file()
    start(folder)
    assert read_json(folder / "run" / "run.json")["run_id"] == "4f1c0a2b"
    return "new" if known else "old"


def start(folder: Path) -> None:
    with open_run(folder / "run", root=folder, run_id="4f1c0a2b", method="npo", now=NOW):
        pass


def latest(folder: Path) -> str:
    return {"one": "old", "two": "new"}[(folder / "latest").readlink().name]


def keep_values(folder: Path) -> None:
    sizes = {key(FORGET[0]): 3}
    with DiskCache(folder=folder / "store").room("logp", sizes, width=1, dtype=torch.float32) as at:
        at[key(FORGET[0])].fill_(2.0)


def kept_values(folder: Path) -> str:
    found = DiskCache(folder=folder / "store").find("logp", [FORGET[0]])
    assert all(bool((rows == 2.0).all()) for rows in found.values())
    return "new" if found else "old"


CASES = {
    "a file": Case(
        before=lambda folder: write_json(folder / "a.json", "old"),
        act=lambda folder: write_json(folder / "a.json", "new"),
        holds=lambda folder: read_json(folder / "a.json"),
    ),
    "a checkpoint": Case(before=tensors(1), act=tensors(2), holds=kept_tensors),
    "a model": Case(before=save(1.0), act=save(2.0), holds=loaded),
    "a finished run": Case(before=unfinished, act=finish, holds=published),
    "a destruction": Case(
        before=lambda folder: (unfinished(folder), finish(folder)), act=destroy, holds=destroyed
    ),
    "keys": Case(
        before=lambda folder: None,
        act=lambda folder: make_signing_key(folder / "keys" / "operator"),
        holds=whole_keys,
    ),
    "a run that begins": Case(before=lambda folder: None, act=start, holds=begun),
    "the last run": Case(
        before=lambda folder: (
            [(folder / name).mkdir() for name in ("one", "two")],
            mark_latest(folder / "one", root=folder),
        ),
        act=lambda folder: mark_latest(folder / "two", root=folder),
        holds=latest,
    ),
    "values of a reference": Case(before=lambda folder: None, act=keep_values, holds=kept_values),
}


@pytest.mark.parametrize("name", CASES)
def test_every_call_leaves_the_old_state_or_the_new(name, tmp_path):
    case = CASES[name]
    start = tmp_path / "start"
    start.mkdir()
    case.before(start)
    states: list[str] = []
    for number in range(1, MOST):
        folder = tmp_path / str(number)
        shutil.copytree(start, folder, symlinks=True)
        if not cut(case.act, folder, number):
            assert case.holds(folder) == "new"
            break
        states.append(case.holds(folder))
        shutil.rmtree(folder)
    else:
        pytest.fail("it never came to its end")
    assert len(states) >= 2
    assert states[0] == "old"
    assert states == sorted(states, reverse=True), "once new, it stays new"
