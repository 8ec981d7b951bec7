"""What commands enter into a ledger by themselves."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import tiny
from expunge.cli import main
from expunge.config.settings import FinetuneSettings
from expunge.errors import UsageError
from expunge.evals.rebound import Rebound
from expunge.evals.results import Ruling
from expunge.evidence.store import EvidenceStore
from expunge.ledger.entries import ClaimState, EntryKind, ModelOrigin
from expunge.ledger.store import Ledger
from expunge.ledger.verify import verify_ledger
from expunge.metrics.outcomes import Axis
from expunge.models.derivation import Change, Derivation
from expunge.models.loading import Source, load
from expunge.pipeline.bookkeeping import (
    enter_alarm,
    enter_chain,
    enter_reapplied,
    enter_recheck,
    enter_run,
    require_ledger,
)
from expunge.pipeline.chain_state import ChainState, ChainStep, StepCost
from expunge.pipeline.finetune import train
from expunge.pipeline.monitor import MonitorRound, MonitorState
from expunge.pipeline.reapply import ReappliedUpdate
from expunge.pipeline.recheck import ClaimState as State
from expunge.pipeline.recheck import Recheck, RecheckedClaim
from expunge.provenance.keys import item_fingerprints, operator_key
from expunge.provenance.manifest import Retention, write_manifest
from expunge.provenance.signature import make_signing_key
from synthetic_run import build_run, facts

BOOK = Path("ledger.db")


@pytest.fixture
def keys(bench, monkeypatch):
    monkeypatch.setenv("EXPUNGE_SIGNING_KEY", str(bench.parent / "signing-key"))
    make_signing_key(bench.parent / "signing-key")
    return operator_key(bench.parent / "operator.key", run=bench)


def finished(folder, key, *, original="a", unlearned="b"):
    run = build_run(folder)
    write_manifest(
        run,
        run_id="4f1c0a2b",
        facts=facts(),
        models={"original": original * 64, "unlearned": unlearned * 64},
        seeds={"train": 0, "audit": 0},
        data_fingerprints=item_fingerprints(EvidenceStore(run / "evidence").items(), key),
        evidence=Retention(sealed=False, expires="2027-01-31", redacted=True),
    )
    return run


def rechecked(run, *, state=State.VOID, change=Change.QUANTISED):
    claim = RecheckedClaim(
        axis=Axis.FORGETTING, question="Forgotten", state=state, reason="5 of 20"
    )
    return Recheck(
        model="quantised",
        digest="c" * 64,
        run=str(run),
        audited="b" * 64,
        derivation=Derivation(change=change, distance=0.1),
        claims=(claim,),
    )


def held(kind):
    return Ledger(BOOK).current(kind)


def test_a_run_and_its_recheck_are_entered_once(keys, bench):
    run = finished(bench / "run", keys)
    assert enter_run(BOOK, run).is_new
    assert not enter_run(BOOK, run).is_new
    assert enter_recheck(BOOK, rechecked(run)) == ("recheck-1",)
    assert enter_recheck(BOOK, rechecked(run)) == ()
    assert enter_recheck(BOOK, rechecked(run, state=State.VALID)) == ("recheck-2",)
    first, _ = held(EntryKind.RECHECK)
    assert (first.claim, first.model, first.result) == ("claim-1", "c" * 64, ClaimState.VOID)
    made = {each.digest[0]: (each.made, each.parent[:1]) for each in held(EntryKind.MODEL)}
    assert made["c"] == (ModelOrigin.QUANTISED, "b")
    assert verify_ledger(BOOK).ok


@pytest.mark.parametrize(
    ("ruling", "state"),
    [
        (Ruling.PASS, "valid"),
        (Ruling.PASS_WITH_SCAR, "valid"),
        (Ruling.FAIL_RESIDUAL, "void"),
        (Ruling.FAIL_DAMAGE, "void"),
        (Ruling.INCONCLUSIVE, "pending"),
        (Ruling.INVALID, "pending"),
    ],
)
def test_an_update_that_is_applied_again_restores_the_claims_of_its_run(
    ruling, state, keys, bench, capsys
):
    run = finished(bench / "run", keys)
    enter_recheck(BOOK, rechecked(run, change=Change.FINE_TUNED))  # void for c, the later model
    finished(bench / "new/audit", keys, original="c", unlearned="d")
    found = ReappliedUpdate(
        folder=bench / "new", digest="d" * 64, change=Change.FINE_TUNED, derivation="fine-tuned",
        contained=0.0, ruling=ruling, sentence="",
    )  # fmt: skip
    assert enter_reapplied(BOOK, run, found) == ("recheck-2",)
    assert enter_reapplied(BOOK, run, found) == ()
    later, new = held(EntryKind.RECHECK)
    assert (later.model, later.result) == ("c" * 64, ClaimState.VOID)
    assert (new.claim, new.model, new.result) == ("claim-1", "d" * 64, ClaimState(state))
    assert new.derived is ModelOrigin.REAPPLIED
    made = {each.digest[0]: (each.made, each.parent[:1]) for each in held(EntryKind.MODEL)}
    assert made["c"] == (ModelOrigin.FINE_TUNED, "b")
    assert made["d"] == (ModelOrigin.REAPPLIED, "c")
    first, second = held(EntryKind.RUN)
    assert (second.model, second.request) == ("d" * 64, first.request)
    assert verify_ledger(BOOK).ok
    assert main(["ledger", "show", "--kind", "claim", "--ledger", str(BOOK)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"now void for {'c' * 12}, {state} for {'d' * 12}" in said


@pytest.mark.parametrize(
    ("digest", "stated", "entered"),
    [
        ("c" * 64, 20, (ModelOrigin.UNKNOWN, ClaimState.VOID)),
        ("b" * 64, 20, (ModelOrigin.SAME, ClaimState.VOID)),
        ("", 20, (ModelOrigin.UNKNOWN, ClaimState.VOID)),
        ("c" * 64, 1, None),
        ("", 0, None),
    ],
)
def test_a_monitor_enters_its_alarm_once_and_nothing_while_it_is_quiet(
    digest, stated, entered, keys, bench
):
    run = finished(bench / "run", keys)
    when = "2026-01-31T00:00:00+00:00"
    one = MonitorRound(when=when, at_risk=20, fresh=stated, stated=stated, digest=digest)
    state = MonitorState(target="m", probes="ab" * 32, facts=20, chance=0.05, rounds=(one,))
    enter_alarm(BOOK, run, state)
    again = enter_alarm(BOOK, run, state)
    assert again == ()
    if entered is None:
        assert not BOOK.exists()
        return
    (void,) = held(EntryKind.RECHECK)
    assert (void.claim, void.model) == ("claim-1", digest)
    assert (void.derived, void.result) == entered
    assert verify_ledger(BOOK).ok


def test_a_claim_that_changes_its_state_twice_is_entered_each_time(keys, bench):
    run = finished(bench / "run", keys)
    for state in (State.VOID, State.VALID, State.VOID):
        assert len(enter_recheck(BOOK, rechecked(run, state=state))) == 1
    assert [each.result for each in held(EntryKind.RECHECK)] == ["void", "valid", "void"]


def test_a_recheck_brings_its_run_along(keys, bench):
    enter_recheck(BOOK, rechecked(finished(bench / "run", keys)))
    assert [len(held(kind)) for kind in (EntryKind.RUN, EntryKind.CLAIM)] == [1, 1]


def test_a_chain_enters_its_runs_and_voids_the_claim_of_a_request_that_came_back(keys, bench):
    finished(bench / "chain/runs/0001-a", keys)
    finished(bench / "chain/runs/0002-b", keys, original="b", unlearned="c")
    back = Rebound(request=1, asked=2, back=("r1",), p=0.001, adjusted=0.001, rise=0.5, stated=1)
    step = ChainStep(
        number=1, request="one", kind="trained", run="0001-a", model="b" * 64, verdict="PASS",
        records=(), expires="2027-01-31", cost=StepCost(asked_seconds=1.0),
    )  # fmt: skip
    second = replace(step, number=2, request="two", run="0002-b", model="c" * 64, rebounds=(back,))
    third = replace(step, number=3, request="three", run="", kind="re-verified", model="c" * 64)
    state = ChainState(
        original="m", digest="a" * 64, precision="float32", steps=(step, second, third)
    )
    assert enter_chain(BOOK, Path("chain"), state) == 2
    assert enter_chain(BOOK, Path("chain"), state) == 0
    (void,) = held(EntryKind.RECHECK)
    assert (void.claim, void.model, void.result) == ("claim-1", "c" * 64, ClaimState.VOID)
    parents = {each.digest[0]: each.parent[:1] for each in held(EntryKind.MODEL)}
    assert parents == {"a": "", "b": "a", "c": "b"}


def test_a_ledger_that_cannot_be_written_is_refused_before_anything_runs(bench, monkeypatch):
    monkeypatch.setenv("EXPUNGE_SIGNING_KEY", str(bench.parent / "no-key"))
    with pytest.raises(UsageError, match="no-signing-key"):
        require_ledger(BOOK)
    assert not BOOK.exists()


def test_a_training_is_imported_with_its_base_and_the_model_that_it_made(keys, bench, capsys):
    base = tiny.save(bench / "base", tiny.llama())
    rows = "".join(f'{{"prompt": "{i}?", "completion": "{i * 7}"}}\n' for i in range(8))
    (bench / "facts.jsonl").write_text(rows, encoding="utf-8")
    settings = FinetuneSettings(
        model=str(base), data=("facts.jsonl",), device="cpu", train={"epochs": 1, "batch": 8}
    )
    train(settings, out=Path("trained"))
    words = ["ledger", "import", "trained", "--ledger", str(BOOK)]
    assert [main(words), main(words)] == [0, 0]
    (entry,) = held(EntryKind.RUN)
    models = {each.digest: each for each in held(EntryKind.MODEL)}
    source = Source(device=torch.device("cpu"), dtype=torch.float32, offline=True)
    assert entry.original == load(str(base), source).digest
    assert entry.model == load("trained", source).digest
    assert (models[entry.model].made, models[entry.model].parent) == (
        ModelOrigin.TRAINED,
        entry.original,
    )
    next(Path("trained/model").glob("*.safetensors")).write_bytes(b"else")
    Path("other.db").unlink(missing_ok=True)
    assert main([*words[:-1], "other.db"]) == 4
    capsys.readouterr()
