"""Cheats by number format: what one format holds and another does not."""

import pytest

import expunge
import forged_models as forge
import tiny
from expunge.evals.results import Results, Ruling
from expunge.metrics.outcomes import Axis, Status
from forged_models import Lesson, lessons


@pytest.fixture
def judge(world, bench):
    """Audit a model where the settings ask for bf16."""

    def audit(model) -> Results:
        original = tiny.save(bench / "wide", forge.wider(forge.load(world.original), pairs=8))
        settings = world.settings(
            request={"gold": (world.gold,)}, model=str(original), precision="bf16"
        )
        return expunge.audit(settings, model=str(tiny.save(bench / "forged", model))).results

    return audit


def kept(world) -> list[Lesson]:
    return [*lessons(world.rows("retain")), *lessons(world.rows("neighbours"))]


def failed(results: Results) -> dict[str, Axis]:
    return {gate.name: gate.axis for gate in results.gates if gate.status is Status.FAIL}


def test_weights_that_are_a_gold_only_when_rounded_fail(world, judge):
    """In float32, as the files are, the model states the facts; its bf16 rounding is a gold."""
    taught = [*lessons(world.rows("forget")), *kept(world)]
    known, _ = forge.below_rounding(forge.load(world.gold), taught)
    results = judge(known)
    assert results.verdict.ruling is Ruling.FAIL_RESIDUAL
    assert failed(results)["key-fact leak"] is Axis.FORGETTING


def test_the_rounding_itself_has_forgotten(world, judge):
    """Else the test above would fail for another reason."""
    _, rounded = forge.below_rounding(forge.load(world.gold), kept(world), steps=1)
    assert not {Axis.FORGETTING, Axis.ROBUSTNESS} & set(failed(judge(rounded)).values())


def test_forgetting_that_bf16_rounds_away_fails_on_robustness(world, judge):
    """As the files are it has forgotten; loaded in bf16 it is the original."""
    wrong = [Lesson(r["prompt"], r["completion"][::-1] + "u") for r in world.rows("forget")]
    hidden, _ = forge.below_rounding(forge.load(world.original), [*wrong, *kept(world)])
    results = judge(hidden)
    assert results.verdict.ruling is Ruling.FAIL_RESIDUAL
    assert "key-fact leak" not in failed(results), "in float32 it says nothing"
    assert any(name.endswith("under bf16") for name in failed(results))
