"""Audits of checkpoints that do not fit together: said what cannot be computed, the rest is."""

import json
from pathlib import Path

import pytest
import torch

import expunge
import tiny
from expunge.errors import ExpungeError
from expunge.evals.results import Ruling
from expunge.metrics.outcomes import Axis, Status

BYTES = 259
"""Three marks and every byte; tokens behind these are longer."""


def audited(world, *, model=None, tables=None, **request):
    settings = world.settings(request={"gold": (world.gold,), **request}, **(tables or {}))
    return expunge.audit(settings, model=model or world.gold)


def statuses(results, axis):
    return {gate.name: gate.status for gate in results.gates if gate.axis is axis}


def other_tokens(folder: Path, source: str) -> str:
    """A copy of a model that has bytes and no longer tokens."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(source)
    model.resize_token_embeddings(BYTES)
    tiny.save(folder, model)
    file = folder / "tokenizer.json"
    fields = json.loads(file.read_text(encoding="utf-8"))
    vocabulary = fields["model"]["vocab"]
    fields["model"]["vocab"] = {k: i for k, i in vocabulary.items() if i < BYTES}
    fields["model"]["merges"] = []
    file.write_text(json.dumps(fields), encoding="utf-8")
    return str(folder)


def test_tokens_that_the_original_does_not_have_leave_the_answers(world, bench):
    outcome = audited(world, model=other_tokens(bench / "strange", world.original))
    results = outcome.results
    assert statuses(results, Axis.FORGETTING)["residual memory"] is Status.NOT_COMPUTABLE
    assert statuses(results, Axis.FORGETTING)["key-fact leak"] is not Status.NOT_COMPUTABLE
    assert results.verdict.ruling is not Ruling.PASS
    said = " ".join(results.verdict.reasons)
    assert "the tokenizer of unlearned is not the original's" in said
    assert "The tokenizer of unlearned" in (outcome.folder / "report.html").read_text("utf-8")
    assert expunge.verify(outcome.folder).ok


def test_a_gold_of_another_architecture_is_still_a_gold(world, bench):
    gold = str(tiny.save(bench / "gpt2", tiny.gpt2(seed=3)))
    results = audited(world, model=world.original, gold=(gold,)).results
    assert results.verdict.ruling is Ruling.FAIL_RESIDUAL
    assert statuses(results, Axis.FORGETTING)["residual memory"] is Status.FAIL


def test_a_judged_model_of_another_architecture_has_no_ladder(world, bench):
    outcome = audited(world, model=str(tiny.save(bench / "gpt2", tiny.gpt2(seed=3))))
    tests = {test.name: test.detail for test in outcome.results.self_tests}
    assert "not tested" in tests["knowledge must fall from the original to the unlearned model"]
    # This gold finds the facts less likely than chance, so that mere guessing can look like memory:
    # which of the two failures comes first is not what this test is about.
    assert outcome.results.verdict.ruling in (Ruling.FAIL_DAMAGE, Ruling.FAIL_RESIDUAL)
    assert statuses(outcome.results, Axis.UTILITY)["key-fact retain"] is Status.FAIL
    assert any("weights of other shapes" in reason for reason in outcome.results.verdict.reasons)


def test_a_gold_with_another_tokenizer_anchors_answers_only(world, bench):
    gold = other_tokens(bench / "gold", world.gold)
    results = audited(world, model=world.original, gold=(gold,)).results
    found = statuses(results, Axis.FORGETTING)
    assert found["residual memory"] is Status.NOT_COMPUTABLE
    assert found["key-fact leak"] is Status.FAIL
    assert statuses(results, Axis.PRIVACY)["membership residual"] is Status.NOT_COMPUTABLE


def write(bench: Path, name: str, rows: list[dict]) -> str:
    path = bench / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_one_record_to_forget(world, bench):
    one = write(bench, "one", world.rows("forget")[:1])
    outcome = audited(world, model=world.original, forget=(one,))
    assert outcome.results.verdict.ruling is Ruling.FAIL_RESIDUAL
    planted = next(t for t in outcome.results.self_tests if "refusal wrapper" in t.name)
    assert planted.detail == (
        "not tested: the original says too few facts for any attack to fail anyone"
    )
    leak = statuses(outcome.results, Axis.FORGETTING)["key-fact leak"]
    assert leak is Status.FAIL
    assert expunge.verify(outcome.folder).ok


def test_duplicates_are_left_out_and_said(world, bench):
    twice = write(bench, "twice", [*world.rows("forget"), *world.rows("forget")])
    outcome = audited(world, forget=(twice,))
    assert {gate.n for gate in outcome.results.gates if gate.name == "key-fact leak"} == {12}
    said = "12 forget records were given more than once and count once"
    assert said in outcome.results.verdict.reasons
    assert said in (outcome.folder / "report.html").read_text("utf-8")


def test_without_anything_to_compare_with_privacy_says_so(world, bench):
    results = audited(world, control="none", holdout=()).results
    gates = [gate for gate in results.gates if gate.axis is Axis.PRIVACY]
    assert {gate.status for gate in gates} == {Status.NOT_COMPUTABLE}
    assert all("holdout" in gate.reason or "gold" in gate.reason for gate in gates)
    assert statuses(results, Axis.FORGETTING)["key-fact leak"] is Status.PASS
    assert "Not tested: privacy" in results.verdict.sentence or (
        results.verdict.ruling is not Ruling.PASS
    )


@pytest.mark.parametrize("broken", ["nan", "huge"])
def test_weights_that_are_no_numbers_are_said_to_be(world, bench, broken):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(world.original)
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan") if broken == "nan" else 1e38)
    with pytest.raises(ExpungeError, match="are not numbers"):
        audited(world, model=str(tiny.save(bench / "broken", model)))
