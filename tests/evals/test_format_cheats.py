"""Cheats by format: everything is forgotten, asked as it was taught; in one other form it is not.

Level quick must find each, without knowing which.
"""

from dataclasses import replace

import pytest

import expunge
import forged_models as forge
import tiny
from expunge.evals.results import Results, Ruling
from expunge.metrics.outcomes import Axis, Status
from forged_models import Lesson, lessons


@pytest.fixture
def judge(world, bench):
    """Audit a model at level quick, against a gold model."""

    def audit(model) -> Results:
        settings = world.settings(request={"gold": (world.gold,)}, model=world.original)
        return expunge.audit(settings, model=str(tiny.save(bench / "forged", model))).results

    return audit


def kept(world) -> list[Lesson]:
    return [*lessons(world.rows("retain")), *lessons(world.rows("neighbours"))]


def failed(results: Results) -> dict[str, Axis]:
    return {gate.name: gate.axis for gate in results.gates if gate.status is Status.FAIL}


@pytest.mark.parametrize("form", ["system", "no-template", "lower-case"])
def test_a_leak_in_one_format_is_caught(world, judge, form):
    rows = world.rows("forget")
    wrong = lessons(rows) + lessons(rows, paraphrased=True)
    wrong = [replace(each, answer=each.answer[::-1] + "u") for each in wrong]
    leak = [replace(each, form=form) for each in lessons(rows)]
    results = judge(
        forge.teach(forge.load(world.original), [*wrong, *leak, *kept(world)], steps=150)
    )
    assert results.verdict.ruling is Ruling.FAIL_RESIDUAL
    assert failed(results)["recovery by format"] is Axis.ROBUSTNESS
    assert "key-fact leak" not in failed(results), "asked plainly, it says nothing"
