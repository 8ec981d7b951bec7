"""The scripts that make originals and golds, on a tiny model."""

import itertools
import json
import runpy
import sys
from pathlib import Path

import pytest
import torch

from expunge.benchmarking.suites import load_suite
from expunge.benchmarking.suites.base import Spec
from expunge.data.readers import read
from expunge.models.loading import Source, load
from expunge.utils.io import read_json

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(
    not DATA.is_dir(), reason="the benchmark data do not lie beside the checkout"
)
SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def make(world, bench, monkeypatch):
    """Return a function that runs the script on some targets; the folder of the targets."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    for target, name in (("full", "forget"), ("retain90", "retain")):
        rows = [{"question": r["prompt"], "answer": r["completion"]} for r in world.rows(name)]
        (bench / f"{target}.json").write_text(json.dumps(rows), encoding="utf-8")
    out = bench / "targets"

    def run(*words):
        given = ("--base", world.original, "--data", str(bench), "--out", str(out))
        few = ("--epochs", "1", "--records", "6", "--device", "cpu")
        monkeypatch.setattr(sys, "argv", ["make_tofu_targets.py", *given, *few, *words])
        runpy.run_path(str(SCRIPTS / "make_tofu_targets.py"), run_name="__main__")
        return out

    return run


def weights(reference):
    loaded = load(reference, Source(device=torch.device("cpu"), dtype=torch.float32))
    return torch.cat([weight.detach().flatten() for weight in loaded.network.model.parameters()])


def test_a_target_is_an_adapter_for_each_seed_and_is_made_once(world, make, capsys):
    out = make("--targets", "retain90")
    first, second = (weights(f"{world.original}+{out}/retain90-s{seed}") for seed in (0, 1))
    assert not torch.equal(first, weights(world.original))
    assert not torch.equal(first, second)
    made = read_json(out / "retain90-s0" / "made.json")
    assert made["options"]["seed"] == 0
    assert made["losses"][-1][1] < made["losses"][0][1]
    capsys.readouterr()
    make("--targets", "retain90")
    assert capsys.readouterr().out == "retain90-s0 is there\nretain90-s1 is there\n"


def test_with_all_weights_a_target_is_a_model_of_its_own(world, make):
    out = make("--targets", "full", "--full-weights", "--lr", "1e-3")
    assert sorted(path.name for path in out.iterdir()) == ["full-s0"]
    assert not torch.equal(weights(f"{out}/full-s0"), weights(world.original))


@needs_data
def test_muse_targets_learn_what_is_kept_and_only_the_original_what_is_forgotten(
    world, bench, monkeypatch, capsys
):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    out = bench / "targets"
    given = ("--base", world.original, "--data", str(DATA / "muse" / "news"), "--out", str(out))
    few = ("--records", "1", "--epochs", "1", "--device", "cpu")
    monkeypatch.setattr(sys, "argv", ["make_muse_targets.py", *given, *few])
    runpy.run_path(str(SCRIPTS / "make_muse_targets.py"), run_name="__main__")
    made = {path.parent.name: read_json(path) for path in out.glob("*/made.json")}
    assert sorted(made) == ["full", "retain-s0", "retain-s1"]
    suite = load_suite(Spec(name="muse", data=str(DATA / "muse" / "news"), records=1))
    kept = read([str(out / "kept.jsonl")]).records
    assert [r.completion for r in kept] == [r.completion for r in suite.retain[: len(suite.forget)]]
    assert made["full"]["records"] > made["retain-s0"]["records"] >= len(kept)
    models = [weights(f"{world.original}+{out}/{name}") for name in sorted(made)]
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(models, 2))
    capsys.readouterr()
    runpy.run_path(str(SCRIPTS / "make_muse_targets.py"), run_name="__main__")
    assert capsys.readouterr().out == "full is there\nretain-s0 is there\nretain-s1 is there\n"
