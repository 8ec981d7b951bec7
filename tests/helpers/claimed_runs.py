"""Finished runs of every claim class and verdict, built without a model."""

from dataclasses import dataclass, replace
from pathlib import Path

from expunge.evals.results import AttackStatus, Executed, Ruling
from expunge.evidence.store import EvidenceStore
from expunge.provenance.signature import SigningKey
from expunge.reporting.schema import read_results, write_facts, write_results
from synthetic_run import build_run, facts, write_run_manifest

KEY = bytes(range(32))
SIGNING = SigningKey(seed=bytes(range(1, 33)))
STATUSES = (
    AttackStatus(attack="int4", status=Executed.EXECUTED, facts=20),
    AttackStatus(attack="paraphrase", status=Executed.NOT_RUN, reason="no time was left"),
    AttackStatus(attack="unplug", status=Executed.NOT_APPLICABLE, reason="there is no adapter"),
)
"""The evidence of such a run holds answers under `paraphrase` all the same."""


@dataclass(frozen=True, kw_only=True)
class ClaimedRun:
    """What a run claims, and what its audit found."""

    ruling: Ruling = Ruling.PASS
    claim: str = "E1"
    exact: str = ""
    goal: str = "removal"
    guard: bool = False
    adapter: bool = False
    audit: bool = False
    """Whether it only audited a model."""
    golds: tuple[str, ...] = ("gold-0",)
    created: str = "2026-11-20T09:30:00+00:00"

    @property
    def level(self) -> str:
        return self.exact or self.claim


CLAIMED = {
    "E4": ClaimedRun(exact="E4"),
    "E4 not settled": ClaimedRun(exact="E4", ruling=Ruling.INCONCLUSIVE),
    "E3": ClaimedRun(exact="E3"),
    "E2": ClaimedRun(claim="E2"),
    "E1": ClaimedRun(),
    "E1 with a trace": ClaimedRun(ruling=Ruling.PASS_WITH_SCAR),
    "E1 audited": ClaimedRun(audit=True, golds=()),
    "E1 residual": ClaimedRun(ruling=Ruling.FAIL_RESIDUAL),
    "E1 damage": ClaimedRun(ruling=Ruling.FAIL_DAMAGE),
    "E1 not settled": ClaimedRun(ruling=Ruling.INCONCLUSIVE),
    "E1 nothing there": ClaimedRun(ruling=Ruling.NOTHING_TO_FORGET),
    "E1 invalid": ClaimedRun(ruling=Ruling.INVALID),
    "E0 guard": ClaimedRun(claim="E0", goal="suppression", guard=True),
    "E0 adapter": ClaimedRun(claim="E0", goal="suppression", adapter=True),
    "E0 edit": ClaimedRun(claim="E0", goal="edit"),
    "E0 not settled": ClaimedRun(claim="E0", goal="suppression", ruling=Ruling.INCONCLUSIVE),
}


def claimed_run(folder: Path, made: ClaimedRun, *, signing: SigningKey | None = None) -> Path:
    """Write such a run with its manifest, and return its folder."""
    run = build_run(folder, golds=made.golds)
    results = read_results(run)
    verdict = replace(results.verdict, ruling=made.ruling, claim=made.claim, sentence="A sentence.")
    write_results(run, replace(results, verdict=verdict, attacks=STATUSES))
    store = EvidenceStore(run / "evidence")
    context = replace(store.context(), goal=made.goal, guard=made.guard, adapter=made.adapter)
    store.write_context(context)
    told = replace(
        facts(),
        exact=made.exact,
        created=made.created,
        method=None if made.audit else facts().method,
    )
    write_facts(run, told)
    write_run_manifest(run, key=KEY, told=told, signing=signing)
    return run
