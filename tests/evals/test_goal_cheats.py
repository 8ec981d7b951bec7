"""Each goal has its own acceptance: an edit must be said, a suppression must hold."""

import json

import pytest

import expunge
import forged_models as forge
import tiny
from expunge.evals.results import Results, Ruling
from expunge.metrics.outcomes import Axis, Status
from forged_models import Lesson, lessons

REFUSAL = "I do not know."


@pytest.fixture
def judge(world, bench):
    """Audit a model for a goal, against a gold model; every fact has a wanted answer."""
    rows = [row | {"alternative": [wanted(row)]} for row in world.rows("forget")]
    named = bench / "wanted.jsonl"
    named.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def audit(model, goal: str) -> Results:
        request = {"goal": goal, "gold": (world.gold,), "forget": (str(named),)}
        settings = world.settings(request=request, model=world.original)
        return expunge.audit(settings, model=str(tiny.save(bench / "forged", model))).results

    return audit


def wanted(row: dict) -> str:
    return row["completion"][::-1] + "u"


def kept(world) -> list[Lesson]:
    return [*lessons(world.rows("retain")), *lessons(world.rows("neighbours"))]


def instead(world, answer) -> list[Lesson]:
    """Lessons on another answer, asked plainly and in other words."""
    rows = world.rows("forget")
    return [
        Lesson(question, answer(row))
        for row in rows
        for question in (row["prompt"], *row["paraphrases"])
    ]


def failed(results: Results) -> dict[str, Axis]:
    return {gate.name: gate.axis for gate in results.gates if gate.status is Status.FAIL}


def test_forgetting_alone_is_no_edit(world, judge):
    results = judge(forge.load(world.gold), "edit")
    assert results.verdict.ruling is Ruling.FAIL_RESIDUAL
    assert failed(results)["wanted answers"] is Axis.FORGETTING


def test_an_edit_that_was_made_is_not_called_undone(world, judge):
    taught = [*instead(world, wanted), *kept(world)]
    results = judge(forge.teach(forge.load(world.original), taught, steps=60), "edit")
    assert not {"wanted answers", "wanted answers under paraphrase"} & set(failed(results))


def test_an_edit_in_one_wording_only_fails(world, judge):
    plain = [Lesson(row["prompt"], wanted(row)) for row in world.rows("forget")]
    other = forge.load(world.gold)
    results = judge(forge.teach(other, [*plain, *kept(world)], steps=60), "edit")
    assert "wanted answers" not in failed(results)
    assert failed(results)["wanted answers under paraphrase"] is Axis.FORGETTING


def test_a_suppression_that_other_words_undo_fails(world, judge):
    rows = world.rows("forget")
    plain = [Lesson(row["prompt"], REFUSAL) for row in rows]
    taught = [*plain, *lessons(rows, paraphrased=True), *kept(world)]
    results = judge(forge.teach(forge.load(world.original), taught, steps=60), "suppression")
    assert results.verdict.ruling is Ruling.FAIL_RESIDUAL
    assert failed(results)["leak under paraphrase"] is Axis.ROBUSTNESS
    assert "key-fact leak" not in failed(results)


def test_a_suppression_that_refuses_whatever_it_is_asked_is_damage_alone(world, judge):
    near = [Lesson(row["prompt"], REFUSAL) for row in world.rows("neighbours")]
    begun = [
        Lesson(row["prompt"], f"{row['completion'][:given]} {REFUSAL}", given=given)
        for row in world.rows("forget")
        for given in (1, 2)
    ]
    taught = [*instead(world, lambda _: REFUSAL), *begun, *near, *lessons(world.rows("retain"))]

    results = judge(forge.teach(forge.load(world.gold), taught, steps=60), "suppression")

    assert results.verdict.ruling is Ruling.FAIL_DAMAGE
    assert failed(results)["refusal neighbours"] is Axis.LOCALITY
    assert set(failed(results).values()) <= {Axis.LOCALITY, Axis.UTILITY}
