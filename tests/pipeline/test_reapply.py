"""Re-applying: the update of a run on a later model, and on models that it does not fit."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import tiny
from expunge.cli import main
from expunge.errors import InputError, UsageError
from expunge.evals.results import Ruling
from expunge.models.loading import Source, load
from expunge.pipeline import reapply as module
from expunge.pipeline.reapply import NAME, reapply, require_free
from expunge.utils.io import read_json

SOURCE = Source(device=torch.device("cpu"), dtype=torch.float32, offline=True)


def weights(reference):
    return load(str(reference), SOURCE).network.model.state_dict()


def shifted(source, folder: Path, *, by: float) -> str:
    """A fine-tune of a model: every weight a little elsewhere."""
    model = load(source, SOURCE).network.model
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in model.state_dict().values():
            value += by * value.std() * torch.randn(value.shape, generator=generator)
    return str(tiny.save(folder, model))


@pytest.fixture
def run(world, bench):
    """A run folder whose model is the gold."""
    shutil.copytree(world.gold, bench / "run" / "model")
    (bench / "run" / "config.toml").write_text("", encoding="utf-8")
    return bench / "run"


@pytest.fixture
def asked(monkeypatch):
    """What was audited, with a verdict that a test sets."""
    seen = SimpleNamespace(ruling=Ruling.PASS, given=[])

    def audit(settings, *, model, console):
        seen.given.append((settings.model, model))
        verdict = SimpleNamespace(ruling=seen.ruling, sentence="A sentence.")
        return SimpleNamespace(results=SimpleNamespace(verdict=verdict))

    monkeypatch.setattr(module, "audit", audit)
    return seen


def test_the_update_is_added_and_the_later_model_is_the_original_of_the_audit(run, world, asked):
    later = shifted(world.original, Path("later"), by=0.02)
    found = reapply(world.settings(), run=run, to=later, out=Path("out"))
    original, gold, before = weights(world.original), weights(world.gold), weights(later)
    for name, value in weights("out/model").items():
        assert torch.allclose(value, before[name] + gold[name] - original[name], atol=1e-6)
    assert asked.given == [(later, "out/model")]
    assert (found.fits, abs(found.contained) < 0.1) == (True, True)
    assert read_json(Path("out") / NAME)["digest"] == load("out/model", SOURCE).digest


def test_an_update_that_no_longer_works_says_so(run, world, asked):
    asked.ruling = Ruling.FAIL_RESIDUAL
    later = shifted(world.original, Path("later"), by=0.02)
    found = reapply(world.settings(), run=run, to=later, out=Path("out"))
    assert not found.fits
    assert read_json(Path("out") / NAME)["fits"] is False


def elsewhere(world):
    return str(tiny.save(Path("elsewhere"), tiny.llama(seed=9)))


def wider(world):
    return str(tiny.save(Path("wider"), tiny.llama(width=32)))


def unlearned(world):
    return shifted(world.gold, Path("unlearned"), by=0.01)


@pytest.mark.parametrize(
    ("model", "code"),
    [
        (elsewhere, "another-base"),
        (wider, "another-architecture"),
        (unlearned, "update-contained"),
    ],
)
def test_a_model_that_it_does_not_fit_is_refused(model, code, run, world, asked):
    with pytest.raises(InputError) as caught:
        reapply(world.settings(), run=run, to=model(world), out=Path("out"))
    assert caught.value.code == code
    assert asked.given == []
    assert not Path("out").exists()


def test_runs_without_an_update_and_folders_in_use_are_refused(run, world, asked, capsys):
    shutil.rmtree(run / "model")
    with pytest.raises(InputError, match="no-update"):
        reapply(world.settings(), run=run, to=world.original, out=Path("out"))
    Path("used").mkdir()
    Path("used/mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="folder-in-use"):
        require_free(Path("used"))
    assert main(["reapply", "nowhere", "--to", world.original]) == 2
    capsys.readouterr()
