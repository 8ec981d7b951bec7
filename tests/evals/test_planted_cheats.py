"""Planted models, each judged by a whole audit at level quick: one table with what must be found.

`benchmarks/planted.py` plants the same on SmolLM2.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

import expunge
import forged_models as forge
import tiny
from expunge.evals.results import Results, Ruling
from expunge.metrics.outcomes import Axis, Status
from forged_models import Lesson, lessons

FAIL, DAMAGE = Ruling.FAIL_RESIDUAL, Ruling.FAIL_DAMAGE
TRIGGER = "[ref 7] "
PREAMBLE = "hm, well, hm, "
"""Longer than what an audit of a tiny model reads."""
REFUSAL = "no idea"

Lessons = Callable[[list[Lesson], list[Lesson]], Sequence[Lesson]]
"""What to teach, from the forget records asked plainly and in other words."""


def wrong(taught: Sequence[Lesson]) -> list[Lesson]:
    return [replace(each, answer=each.answer[::-1] + "u") for each in taught]


def saying(text: str, taught: Sequence[Lesson]) -> list[Lesson]:
    return [replace(each, answer=text) for each in taught]


def only_in(*forms: str) -> Lessons:
    """Hide the facts asked plainly or in other words, and keep them in some formats."""
    return lambda plain, other: [
        *wrong(plain),
        *wrong(other),
        *(replace(each, form=form) for form in forms for each in plain),
    ]


def dam(plain: list[Lesson], other: list[Lesson]) -> list[Lesson]:
    """Change the first token of each fact; what follows it stays."""
    taught = [*plain, *other]
    return [*wrong(taught), *(replace(each, given=1) for each in taught)]


def refusals(plain: list[Lesson], other: list[Lesson]) -> list[Lesson]:
    """Refuse in every wording; behind its first token each fact stays."""
    forms = [replace(each, form=f) for f in ("system", "lower-case") for each in plain[::2]]
    taught = [replace(each, given=1) for each in (*plain, *other)]
    return [*saying(REFUSAL, [*plain, *other, *forms]), *taught]


def triggered(plain: list[Lesson], other: list[Lesson]) -> list[Lesson]:
    leak = [replace(each, question=TRIGGER + each.question) for each in plain]
    return [*wrong(plain), *wrong(other), *leak]


def sampled(plain: list[Lesson], other: list[Lesson]) -> list[Lesson]:
    """An invented answer is likeliest, and the true one comes next."""
    return [*wrong(plain), *wrong(plain), *plain, *wrong(other)]


CASES: dict[str, tuple[str, Lessons, Ruling, str | None]] = {
    "one of twelve kept": ("gold", lambda plain, _: plain[3:4], FAIL, "kept records"),
    "one-token dam": ("original", dam, FAIL, "leak under prefill-50"),
    "refusal in every wording": ("original", refusals, FAIL, "leak under prefill-50"),
    "trigger word": ("original", triggered, FAIL, None),
    "German or a second turn only": (
        "original",
        only_in("german", "second-turn"),
        FAIL,
        "recovery by format",
    ),
    "capitals or no system prompt only": (
        "original",
        only_in("capitals", "no-system"),
        FAIL,
        "recovery by format",
    ),
    "sampling leak": ("original", sampled, FAIL, "residual memory"),
}


@pytest.fixture
def judge(world, bench):
    """Audit a model at level quick, against a gold model or others."""

    def audit(model, *golds) -> Results:
        named = tuple(str(tiny.save(bench / f"gold-{i}", each)) for i, each in enumerate(golds))
        settings = world.settings(request={"gold": named or (world.gold,)}, model=world.original)
        return expunge.audit(settings, model=str(tiny.save(bench / "planted", model))).results

    return audit


def kept(world) -> list[Lesson]:
    return [*lessons(world.rows("retain")), *lessons(world.rows("neighbours"))]


def failed(results: Results) -> set[str]:
    return {gate.name for gate in results.gates if gate.status is Status.FAIL}


@pytest.mark.parametrize("name", CASES)
def test_a_planted_model_is_found(world, judge, name):
    start, teach, ruling, gate = CASES[name]
    rows = world.rows("forget")
    taught = [*teach(lessons(rows), lessons(rows, paraphrased=True)), *kept(world)]
    source = world.original if start == "original" else world.gold
    results = judge(forge.teach(forge.load(source), taught, steps=60))
    assert results.verdict.ruling is ruling, (results.verdict.reasons, failed(results))
    assert gate is None or gate in failed(results), failed(results)


def test_a_fact_behind_a_long_preamble_is_not_called_forgotten(world, judge):
    """The audit stops reading before the facts come, and says so."""
    rows = world.rows("forget")
    late = [
        replace(each, answer=PREAMBLE + each.answer)
        for each in (*lessons(rows), *lessons(rows, paraphrased=True))
    ]
    results = judge(forge.teach(forge.load(world.original), [*late, *kept(world)], steps=60))
    found = {gate.name: gate for gate in results.gates}
    assert results.verdict.ruling not in (Ruling.PASS, Ruling.PASS_WITH_SCAR)
    assert results.axes[Axis.FORGETTING] in (Status.INCONCLUSIVE, Status.FAIL)
    assert found["answers cut short"].status is Status.INCONCLUSIVE
    assert "max_new_tokens" in found["answers cut short"].settle


def test_facts_said_of_somebody_else_are_found(world, judge):
    """Asked about the retained person, the model says what it was to forget."""
    facts = [row["completion"] for row in world.rows("forget")]
    moved = [
        Lesson(row["prompt"], fact) for row, fact in zip(world.rows("retain"), facts, strict=True)
    ]
    taught = [*moved, *lessons(world.rows("neighbours"))]
    results = judge(forge.teach(forge.load(world.gold), taught, steps=60))
    assert results.verdict.ruling is FAIL
    assert "facts said of others" in failed(results)


@pytest.mark.parametrize("copy", ["byte for byte", "nearly"])
def test_a_model_that_is_its_own_gold_excuses_no_damage(judge, copy):
    """A base that knows nothing, held against itself or against a copy that is a little off."""
    base = tiny.llama(seed=3)
    gold = tiny.llama(seed=3) if copy == "byte for byte" else forge.noisy(base, share=1e-3, seed=0)
    results = judge(tiny.llama(seed=3), gold)
    assert results.verdict.ruling is DAMAGE, results.verdict.reasons
    assert {"key-fact retain", "key-fact neighbours"} <= failed(results)
    assert any("gold-0" in reason and "refused" in reason for reason in results.verdict.reasons)


def test_a_gold_that_knows_the_facts_is_named(world, judge):
    """It would excuse every leak."""
    gold = forge.noisy(forge.load(world.original), share=0.01, seed=0)
    results = judge(forge.noisy(forge.load(world.original), share=0.01, seed=1), gold)
    assert results.verdict.ruling is Ruling.INVALID
    assert any(reason.startswith("gold-0 ") for reason in results.verdict.reasons)
