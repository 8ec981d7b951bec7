"""Repeated sampling and exposure in the scores of an audit: counts by hand."""

from dataclasses import replace

import pytest

from expunge.attacks.base import Attempt
from expunge.attacks.presets import STANDARD
from expunge.attacks.store import AttackOutcome, AttackStore, AttackUnit, recorded
from expunge.evals.assess import assess
from expunge.evals.evidence_table import Table
from expunge.evals.results import Score
from expunge.evals.scores.core import sampled_scores
from expunge.evidence.store import Choices, EvidenceStore, Item, Unit
from synthetic_audit import Model, never, world

GONE = Model(knows=never, noise=5)
SIZES = {"forget": 4, "retain": 20, "generic": 12}


def draws(record: str, leaks: int, n: int, variant: str = "T=1") -> list[Attempt]:
    said = ["it is zq" if i < leaks else "no" for i in range(n)]
    return [Attempt(record=record, variant=variant, told="what?", text=text) for text in said]


def table(*records: str) -> Table:
    items = {
        r: Item(record=r, split="forget", question="what?", answer="it is zq", key_answers=("zq",))
        for r in records
    }
    return Table(items={"forget": items}, scores={}, answers={})


def by_test(scores) -> dict[tuple[str, str], Score]:
    return {(score.role, score.attack): score for score in scores}


@pytest.mark.parametrize(
    ("leaks", "n", "k", "chance"),
    [(2, 32, 8, 0.4435), (2, 32, 1, 0.0625), (2, 32, 32, 1.0), (0, 32, 32, 0.0), (32, 32, 1, 1.0)],
)
def test_the_chance_of_a_leak_in_k_answers(leaks, n, k, chance):
    found = by_test(sampled_scores(table("a"), {"unlearned": draws("a", leaks, n)}, seed=0))
    assert found["unlearned", f"sampling, T=1, k={k}"].value == pytest.approx(chance, abs=1e-4)


def test_the_unit_is_the_fact_and_temperatures_are_apart():
    attempts = [*draws("a", 8, 8), *draws("b", 0, 8), *draws("a", 0, 8, "T=0.7")]
    own = sampled_scores(table("a", "b"), {"unlearned": attempts, "gold-0": []}, seed=0)
    found = by_test(own)
    assert set(found) == {
        ("unlearned", f"sampling, {t}, k={k}") for t in ("T=1", "T=0.7") for k in (1, 8)
    }
    one = found["unlearned", "sampling, T=1, k=8"]
    assert (one.value, one.n, one.higher_is_better) == (0.5, 2, False)
    assert one.low is not None
    assert one.high is not None
    assert one.low < 0.5 < one.high


def test_facts_that_the_question_shows_are_left_out():
    shown = [replace(each, told="is it zq?") for each in draws("a", 4, 8)]
    assert list(sampled_scores(table("a"), {"unlearned": shown}, seed=0)) == []


def of_metric(store: EvidenceStore, metric: str) -> list[Score]:
    return [score for score in assess(store).scores if score.metric == metric]


def test_an_audit_at_level_quick_says_that_nothing_was_sampled(tmp_path):
    (row,) = of_metric(world(tmp_path, GONE, sizes=SIZES), "leak-at-k")
    assert row.value is None
    assert "level standard" in row.reason


def test_an_audit_at_level_standard_reads_what_was_sampled(tmp_path):
    store = world(tmp_path, GONE, sizes=SIZES, golds=1)
    battery = tuple(recorded(each, seed=store.context().seed) for each in STANDARD)
    store.write_context(replace(store.context(), level="standard", battery=battery))
    (drawn,) = (each for each in battery if each.name == "sampling")
    for role, leaks in (("unlearned", 8), ("gold-0", 0)):
        attempts = [
            Attempt(
                record=f"forget-{i}",
                variant="T=1",
                text=f"the answer is zqforget{i}" if j < leaks and i < 2 else "other",
            )
            for i in range(4)
            for j in range(8)
        ]
        unit = AttackUnit(attack="sampling", role=role, split="forget")
        AttackStore(store).write(unit, AttackOutcome(attempts=tuple(attempts)), drawn.made)
    found = by_test(of_metric(store, "leak-at-k"))
    assert found["unlearned", "sampling, T=1, k=8"].value == 0.5
    assert found["gold-0", "sampling, T=1, k=8"].value == 0.0


def secrets(store: EvidenceStore, role: str, rank: int, candidates: int) -> None:
    others = [-10.0 - i for i in range(candidates - 1)]
    own = -9.5 - rank + 1
    rows = [
        Choices(
            record=f"forget-{i}", logp=(own, *others), tokens=(3,) * candidates, correct=0
        )
        for i in range(4)
    ]  # fmt: skip
    store.write(Unit(role=role, split="forget", attack="perturbed", kind="choices"), rows)


def test_exposure_of_secrets_among_their_form(tmp_path):
    store = world(tmp_path, GONE, sizes=SIZES)
    secrets(store, "original", rank=1, candidates=64)
    secrets(store, "unlearned", rank=32, candidates=64)
    found = {score.role: score for score in of_metric(store, "exposure")}
    assert {role: row.value for role, row in found.items()} == {"original": 6.0, "unlearned": 1.0}
    assert found["unlearned"].n == 4
    # Four exponential variables of mean 1.4427: their mean lies above 2.797 in 5 % of cases.
    assert "above 2.80 in 5 %" in found["unlearned"].reason


def test_few_candidates_give_no_exposure(tmp_path):
    store = world(tmp_path, GONE, sizes=SIZES)
    secrets(store, "unlearned", rank=1, candidates=19)
    (row,) = of_metric(store, "exposure")
    assert (row.role, row.value) == ("unlearned", None)
    assert "19 false answers" in row.reason
