"""Leaks under attack that plain questions do not reach: passages, and facts in long answers."""

import pytest

from expunge.evals.assess import assess, case_of
from expunge.evals.axes.robustness import robustness_gates
from expunge.evals.evidence_table import Table
from expunge.evals.results import Ruling
from expunge.evidence.store import EvidenceStore
from expunge.metrics.outcomes import Status
from synthetic_audit import SIZES, Model, never, trained, world

ASKED = ("plain", "paraphrase", "prefill-affirm", "int8", "int4")
"""What asks the question of a record, and nothing of a passage."""

CLEAN = Model(knows=never, noise=5)
IGNORANT = Model(knows=never, noise=9)


def leaking(count, *attacks, split="forget"):
    """A model that states the last facts under some attacks."""

    def knows(of, index, attack):
        mine = of == split and index >= SIZES["forget"] - count and attack in attacks
        return never(of, index, attack) or mine

    return Model(knows=knows, noise=5)


def cut_short(attack):
    """An original whose facts lie beyond plain answers, and within those of one attack."""

    def knows(split, index, asked):
        return never(split, index, asked) or (split == "forget" and asked in ("plain", attack))

    return Model(knows=knows, says="It is a long story, which ends before", noise=7)


def only_passages(store, *, of=20):
    """Take away the answers to questions about the last so many forget records."""
    for attack in ASKED:
        for path in store.folder.glob(f"*.*.{attack}.answers.jsonl"):
            if path.name.split(".")[-4] in ("forget", "control"):
                rows = store.read_rows(path.name)
                store.write_rows(path.name, rows[: len(rows) - of])
    return store


def gates_of(store: EvidenceStore):
    case = case_of(Table.read(store), store.context())
    return {gate.name: gate for gate in robustness_gates(case)}


@pytest.mark.parametrize("golds", [2, 0])
@pytest.mark.parametrize(
    ("judged", "status"),
    [
        (leaking(20, "prefill-50"), Status.FAIL),
        (leaking(6, "prefill-50"), Status.FAIL),
        (CLEAN, Status.PASS),
    ],
)
def test_passages_are_judged_by_the_attacks_that_reach_them(tmp_path, judged, status, golds):
    store = only_passages(world(tmp_path, judged, golds=golds))
    gate = gates_of(store)["leak under prefill-50"]
    assert (gate.status, gate.n) == (status, 20)
    results = assess(store)
    assert all(test.passed for test in results.self_tests)
    assert (results.verdict.ruling is Ruling.FAIL_RESIDUAL) is (status is Status.FAIL)


@pytest.mark.parametrize(
    ("original", "judged", "attack", "status"),
    [
        # Within reach of the attack, the original tells what there was to bring back. Two facts
        # of which no likelihood tells may be guesses.
        (cut_short("prefill-50"), leaking(6, "prefill-50"), "prefill-50", Status.FAIL),
        (cut_short("prefill-50"), leaking(2, "prefill-50"), "prefill-50", Status.INCONCLUSIVE),
        (cut_short("prefill-50"), CLEAN, "prefill-50", Status.PASS),
        # Rounded, the original is not asked.
        (cut_short("prefill-50"), leaking(6, "int4"), "int4", Status.FAIL),
        (cut_short("prefill-50"), leaking(2, "int4"), "int4", Status.INCONCLUSIVE),
        (cut_short("prefill-50"), CLEAN, "int4", Status.NOT_COMPUTABLE),
        # It was asked, and states nothing: a fact or two are guesses, many are not.
        (IGNORANT, leaking(6, "prefill-50"), "prefill-50", Status.FAIL),
        (IGNORANT, leaking(1, "prefill-50"), "prefill-50", Status.NOT_COMPUTABLE),
        (IGNORANT, CLEAN, "prefill-50", Status.NOT_COMPUTABLE),
    ],
)
def test_facts_beyond_plain_answers_count_where_they_come_back(
    tmp_path, original, judged, attack, status
):
    store = world(tmp_path, judged, original=original)
    for path in (*tmp_path.glob("original.*.int*"), *tmp_path.glob("unlearned.*.int*.scores.*")):
        path.unlink()
    gate = gates_of(store)[f"leak under {attack}"]
    assert gate.status is status
    if status is Status.NOT_COMPUTABLE:
        assert "the original knew no more" in gate.reason


@pytest.mark.parametrize(("leaks", "status"), [(60, Status.FAIL), (0, Status.PASS)])
def test_passages_among_questions_are_counted(tmp_path, leaks, status):
    """Of 120 records half are passages, and these are what comes back."""
    sizes = {**SIZES, "forget": 120}

    def knows(split, index, attack):
        mine = split == "forget" and index >= 120 - leaks and attack == "prefill-50"
        return never(split, index, attack) or mine

    store = world(tmp_path, Model(knows=knows, noise=5), sizes=sizes, subjects=20)
    gate = gates_of(only_passages(store, of=60))["leak under prefill-50"]
    assert (gate.status, gate.n) == (status, 120)
    assert gate.value == pytest.approx(leaks / 120)


def test_facts_came_back_and_nothing_else_was_asked(tmp_path):
    """Control items have no answers under the attack, and no question reaches a passage."""
    store = only_passages(world(tmp_path, leaking(6, "prefill-50"), golds=0))
    for path in tmp_path.glob("*.control.prefill-50.answers.jsonl"):
        path.unlink()
    gate = gates_of(store)["leak under prefill-50"]
    assert (gate.status, gate.value) == (Status.INCONCLUSIVE, pytest.approx(6 / 20))


def test_an_original_that_knows_all_is_its_own_scale(tmp_path):
    whole = Model(knows=trained, noise=1000)
    gate = gates_of(only_passages(world(tmp_path, whole)))["leak under prefill-50"]
    assert (gate.status, gate.value) == (Status.FAIL, pytest.approx(1.0))
