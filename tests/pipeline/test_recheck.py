"""Recheck: which claims of a run still hold for a model that was made from it."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import expunge
import tiny
from expunge.cli import main
from expunge.errors import InputError
from expunge.evals.results import Finding
from expunge.metrics.outcomes import Axis
from expunge.models.derivation import Change
from expunge.pipeline import recheck as module
from expunge.pipeline.recheck import NAME, ClaimState, RecheckedClaim, recheck
from expunge.reporting.schema import read_results
from expunge.utils.io import read_json


@pytest.fixture(scope="module")
def made(world, tmp_path_factory):
    """A run that changed next to nothing: it claims that the rest is kept."""
    place = tmp_path_factory.mktemp("rechecked")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("EXPUNGE_CACHE", str(place / "cache"))
        patch.setenv("EXPUNGE_KEY_FILE", str(place / "operator.key"))
        settings = world.settings(out=str(place / "run"), train={"steps": 1, "lr": 1e-9})
        expunge.forget(settings)
        shutil.copytree(place / "run" / "model", place / "copied")
        tiny.save(place / "other", tiny.network().model)
        yield place, settings


@pytest.fixture
def place(made, monkeypatch):
    folder, _ = made
    monkeypatch.chdir(folder)
    monkeypatch.setenv("EXPUNGE_CACHE", str(folder / "cache"))
    monkeypatch.setenv("EXPUNGE_KEY_FILE", str(folder / "operator.key"))
    return folder


def test_the_same_tensors_keep_every_claim_and_are_asked_nothing(made, place, monkeypatch):
    monkeypatch.setattr(module, "audit", None)
    found = recheck(made[1], model="copied", run=Path("run"))
    assert found.derivation.change is Change.NONE
    assert {claim.question for claim in found.claims} >= {"Neighbours"}
    assert (found.state, found.folder) == (ClaimState.VALID, None)


def test_a_model_that_lost_the_rest_voids_the_claim_that_it_is_kept(place, tmp_path, capsys):
    words = ["recheck", "other", "--against", "run", "--out", str(tmp_path / "out"), "--gate"]
    assert main(words) == 3
    assert "claim-not-valid" in capsys.readouterr().err
    record = read_json(tmp_path / "out" / NAME)
    assert record["state"] == "void"
    assert record["derivation"]["change"] == "unknown"
    assert {c["state"] for c in record["claims"] if c["question"] == "Neighbours"} == {"void"}
    assert expunge.verify(tmp_path / "out" / "audit").ok


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        ("yes", ClaimState.VALID),
        ("yes, with a trace", ClaimState.VALID),
        ("no", ClaimState.VOID),
        ("not settled", ClaimState.PENDING),
        ("not tested", ClaimState.PENDING),
        (None, ClaimState.PENDING),
    ],
)
def test_a_claim_is_what_the_audit_of_the_other_model_answers(answer, state, place):
    claim = Finding(axis=Axis.FORGETTING, question="Forgotten", answer="yes", detail="")
    after = read_results(place / "run")
    again = () if answer is None else (replace(claim, answer=answer, detail="5 of 20"),)
    after = replace(after, verdict=replace(after.verdict, findings=again))
    found = module._held(claim, after)
    assert found.state is state
    assert answer is None or "5 of 20" in found.reason


def test_facts_that_are_stated_again_void_what_an_invalid_audit_leaves_open(
    world, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXPUNGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("EXPUNGE_KEY_FILE", str(tmp_path / "operator.key"))
    # Held against a model that knows nothing: the audit fails its own checks.
    settings = world.settings(model=world.gold)
    for name, model in (("forgot", world.gold), ("knows", world.original)):
        asked = settings.model_copy(update={"out": name})
        expunge.audit(asked, model=model)
    claim = RecheckedClaim(
        axis=Axis.FORGETTING, question="Forgotten", state=ClaimState.PENDING, reason="invalid"
    )
    back = module._back(Path("forgot"), Path("knows"))
    assert module._unless_back(claim, back).state is ClaimState.VOID
    assert "facts are stated that the audited model did not state" in back
    assert module._back(Path("forgot"), Path("forgot")) == ""
    assert module._unless_back(claim, "") == claim
    kept = replace(claim, axis=Axis.UTILITY)
    assert module._unless_back(kept, back) == kept


def test_a_run_that_was_changed_or_claims_nothing_is_refused(made, place, tmp_path, monkeypatch):
    changed = shutil.copytree("run", tmp_path / "run")
    (changed / "report.html").write_text("better", encoding="utf-8")
    with pytest.raises(InputError, match="run-changed"):
        recheck(made[1], model="copied", run=changed)
    assert main(["recheck", "copied", "--against", "copied"]) == 2
    before = read_results(place / "run")
    silent = replace(before, verdict=replace(before.verdict, findings=()))
    monkeypatch.setattr(module, "read_results", lambda run: silent)
    with pytest.raises(InputError, match="nothing-claimed"):
        recheck(made[1], model="copied", run=Path("run"))
