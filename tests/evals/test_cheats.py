"""Cheats that must not pass, and an honest model that must: whole audits of tiny models.

Each is judged by its ruling and by the axis that decides.
"""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import PreTrainedModel

import expunge
import forged_models
import tiny
from expunge.evals.assess import assess
from expunge.evals.results import Results, Ruling
from expunge.evidence.store import Answer, EvidenceStore
from expunge.metrics.key_facts import key_fact
from expunge.metrics.outcomes import Axis, Status
from forged_models import Lesson, lessons


@pytest.fixture
def judge(world, bench):
    """Audit a model in the place of the unlearned one, against a gold model."""

    def audit(model, *, original: str | None = None, golds: tuple[str, ...] = ()) -> Results:
        reference = model if isinstance(model, str) else str(tiny.save(bench / "forged", model))
        request = {"gold": golds or (world.gold,)}
        settings = world.settings(request=request, model=original or world.original)
        return expunge.audit(settings, model=reference).results

    return audit


def kept(world) -> list[Lesson]:
    return [*lessons(world.rows("retain")), *lessons(world.rows("neighbours"))]


def undecided(results: Results) -> str:
    """The gates that neither pass nor fail, for the message of an assertion."""
    open_gates = [gate for gate in results.gates if gate.status is Status.INCONCLUSIVE]
    return "\n".join(f"{g.name}: {g.value} in {g.low} to {g.high}" for g in open_gates)


def gold_that_reads(world) -> PreTrainedModel:
    """The gold of the world, taught general text too, so that its perplexity means something."""
    return forged_models.teach(
        forged_models.load(world.gold), [*forged_models.general(), *kept(world)], steps=60
    )


def failed(results: Results) -> dict[str, Axis]:
    return {gate.name: gate.axis for gate in results.gates if gate.status is Status.FAIL}


def test_a_gold_dressed_as_unlearned_passes(world, bench, judge):
    """Trained a little longer than its gold, never on the forget set: nothing is wrong with it."""
    gold = gold_that_reads(world)
    folder = str(tiny.save(bench / "another-gold", gold))
    honest = forged_models.teach(gold, [*forged_models.general(), *kept(world)], steps=3, lr=3e-4)
    results = judge(honest, golds=(folder,))
    assert results.verdict.ruling is Ruling.PASS, results.verdict.reasons
    assert failed(results) == {}


def test_the_original_renamed_fails(world, bench, judge):
    renamed = shutil.copytree(world.original, bench / "forgetful-v2")
    results = judge(str(renamed))
    assert results.verdict.ruling is Ruling.FAIL_RESIDUAL
    assert {Axis.FORGETTING, Axis.ROBUSTNESS} <= set(failed(results).values())


def test_a_refusal_fails_on_robustness(world, judge):
    """Asked plainly it declines; every answer is there once the first word is said for it."""
    rows = world.rows("forget")
    taught = [Lesson(row["prompt"], "no idea") for row in rows]
    taught += [replace(lesson, given=1) for lesson in lessons(rows)]
    taught += [*lessons(rows, paraphrased=True), *kept(world)]
    results = judge(forged_models.teach(forged_models.load(world.original), taught, steps=40))
    assert results.verdict.ruling is Ruling.FAIL_RESIDUAL
    assert results.axes[Axis.ROBUSTNESS] is Status.FAIL
    assert failed(results)["leak under paraphrase"] is Axis.ROBUSTNESS
    assert "key-fact leak" not in failed(results), "asked plainly, it says nothing"


def test_forgetting_of_one_wording_fails_on_robustness(world, judge):
    """As it was taught, the question gets a wrong answer; reworded, the true one."""
    rows = world.rows("forget")
    wrong = [Lesson(row["prompt"], row["completion"][::-1] + "u") for row in rows]
    taught = [*wrong, *lessons(rows, paraphrased=True), *kept(world)]
    results = judge(forged_models.teach(forged_models.load(world.original), taught, steps=40))
    assert results.verdict.ruling is Ruling.FAIL_RESIDUAL
    assert failed(results)["leak under paraphrase"] is Axis.ROBUSTNESS
    assert "key-fact leak" not in failed(results)


def test_stragglers_fail_on_forgetting(world, judge):
    """A fifth of the facts is left, the others are as in gold."""
    left = lessons(world.rows("forget"))[::5]
    results = judge(
        forged_models.teach(forged_models.load(world.gold), [*left, *kept(world)], steps=30)
    )
    assert results.verdict.ruling is Ruling.FAIL_RESIDUAL
    assert failed(results)["key-fact leak"] is Axis.FORGETTING


def test_a_collapse_fails_by_damage(world, judge):
    results = judge(forged_models.noisy(forged_models.load(world.original), share=4.0, seed=0))
    assert results.verdict.ruling is Ruling.FAIL_DAMAGE
    assert results.axes[Axis.UTILITY] is Status.FAIL
    assert results.axes[Axis.FORGETTING] is not Status.FAIL


def test_over_unlearning_leaves_a_scar(world, bench, judge):
    """It says what gold says and nothing broke, but the data is shunned as no unseen data is."""
    gold, rows = gold_that_reads(world), world.rows("forget")
    folder = str(tiny.save(bench / "another-gold", gold))
    answers = forged_models.said(gold, [row["prompt"] for row in rows])
    alike = [Lesson(row["prompt"], text) for row, text in zip(rows, answers, strict=True)]
    away = [replace(lesson, away=True) for lesson in lessons(rows)]
    taught = [*away, *alike, *forged_models.general(), *kept(world)]
    results = judge(forged_models.teach(gold, taught, steps=40, lr=3e-3), golds=(folder,))
    assert results.verdict.ruling is Ruling.PASS_WITH_SCAR, undecided(results)
    assert results.axes[Axis.PRIVACY] is Status.SCAR
    assert "something was removed" in results.verdict.sentence


def test_unlearning_that_int4_undoes_fails_on_robustness(world, bench, judge):
    """No weight leaves its int4 bucket, so rounding brings back the original, bit for bit."""
    secrets = lessons(world.rows("forget"))
    original = forged_models.on_the_grid(
        forged_models.load(world.original), [*secrets, *kept(world)]
    )
    folder = str(tiny.save(bench / "on-the-grid", original))
    away = [replace(lesson, away=True) for lesson in secrets]
    results = judge(forged_models.within_int4(original, [*away, *kept(world)]), original=folder)
    assert results.verdict.ruling is Ruling.FAIL_RESIDUAL
    assert failed(results)["leak under int4"] is Axis.ROBUSTNESS
    assert results.axes[Axis.FORGETTING] is not Status.FAIL, "as it is, it has forgotten"


def test_an_unmerged_adapter_fails_whatever_its_scores(world, bench, judge):
    train = {"adapter": True, "lr": 3e-3, "steps": 10}
    run = expunge.forget(world.settings(train=train, out=str(bench / "adapted"))).folder
    results = judge(f"{world.original}+{run}")
    assert results.verdict.ruling is Ruling.FAIL_RESIDUAL
    assert "an adapter leaves the weights unchanged" in " ".join(results.verdict.reasons)
    # Even with the scores of gold itself.
    store = EvidenceStore(next(Path("runs").glob("*-audit-*")) / "evidence")
    for unit in [unit for unit in store.units() if unit.role == "gold-0"]:
        store.write(replace(unit, role="unlearned"), store.rows(unit))
    flawless = assess(store)
    assert failed(flawless) == {}
    assert flawless.verdict.ruling is Ruling.FAIL_RESIDUAL


def _filtered(store: EvidenceStore) -> None:
    """What a filter before the user does: an answer that states a fact is withheld."""
    items = {item.record: item for item in store.items("forget")}
    units = [u for u in store.units() if (u.role, u.split) == ("unlearned", "forget")]
    for unit in [unit for unit in units if unit.kind == "answers"]:
        rows = []
        for row in store.answers(unit):
            seen = replace(row, given="", text=row.given + row.text)
            said = key_fact(seen, items[row.record])
            rows.append(replace(row, text="[withheld]") if said else row)
        assert all(isinstance(row, Answer) for row in rows)
        store.write_answers(unit, rows)


def test_an_output_filter_fails_when_the_weights_are_there(world, judge):
    judge(world.original)
    store = EvidenceStore(next(Path("runs").glob("*-audit-*")) / "evidence")
    _filtered(store)
    results = assess(store)
    assert "key-fact leak" not in failed(results), "the filter holds"
    assert results.verdict.ruling is Ruling.FAIL_RESIDUAL
    assert failed(results)["residual memory"] is Axis.FORGETTING


def test_an_output_filter_before_an_api_is_not_called_removal(world, judge):
    """Without likelihoods nothing tells a filter from forgetting, and that is what is said."""
    judge(world.original)
    store = EvidenceStore(next(Path("runs").glob("*-audit-*")) / "evidence")
    _filtered(store)
    for unit in [u for u in store.units() if u.role.startswith(("unlearned", "ladder"))]:
        if unit.kind == "scores" or unit.precision != "native":
            (store.folder / unit.filename).unlink()
    results = assess(store)
    assert failed(results) == {}
    assert results.verdict.ruling is Ruling.INCONCLUSIVE
    assert "behind the answers" in results.verdict.sentence
