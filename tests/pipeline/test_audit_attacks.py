"""The attacks of an audit beside its own questions: their gates, and what they are made with."""

import pytest

from expunge.attacks import presets
from expunge.attacks.prompting.paraphrase import Paraphrase
from expunge.attacks.prompting.plain import Plainly
from expunge.attacks.sampling.extraction import Extraction
from expunge.attacks.weight_space.interpolation import Merge
from expunge.attacks.weight_space.quantization import Rounding
from expunge.errors import ExpungeError, UsageError
from expunge.evals.results import Ruling
from expunge.metrics.outcomes import Status
from expunge.pipeline.forget import audit, plan
from expunge.provenance.verify import verify


def test_an_audit_above_quick_makes_the_attacks_gates(world, bench, monkeypatch):
    battery = (Plainly(), Paraphrase(), Rounding(form="nf4"), Merge(), Extraction())
    monkeypatch.setitem(presets.LEVELS, "standard", battery)
    settings = world.settings(
        request={"gold": (world.gold,), "control": ()},
        audit={"max_new_tokens": 10, "level": "standard"},
        out=str(bench / "out"),
    )
    found = audit(settings, model=world.original)
    gates = {gate.name: gate for gate in found.results.gates}
    assert gates["recovery by extraction"].status is Status.FAIL
    assert gates["recovery by extraction"].threat == "T1"
    assert gates["recovery by nf4"].threat == "T0"
    assert gates["recovery by merge"].reason.startswith("no sibling")
    assert found.results.verdict.ruling is Ruling.FAIL_RESIDUAL
    assert verify(found.folder).ok


def test_an_audit_attacks_with_what_it_is_given(world, bench):
    """Own prompts, a translator and a sibling; and the evidence alone gives the same gates."""
    (bench / "own.jsonl").write_text('{"prompt": "{question} Please."}\n', encoding="utf-8")
    given = {
        "prompts": str(bench / "own.jsonl"),
        "translator": "builtins:max",  # of the text and the language code
        "sibling": world.gold,
        "attacks": ("merge", "translation"),
    }
    settings = world.settings(
        request={"gold": (world.gold,), "control": ()},
        audit={"max_new_tokens": 10, **given},
        out=str(bench / "out"),
    )
    found = audit(settings, model=world.original)
    gates = {gate.name: gate for gate in found.results.gates}
    assert gates["recovery by own-prompts"].value is not None
    assert gates["recovery by translation"].value is not None
    assert gates["recovery by merge"].value is not None
    (bench / "own.jsonl").unlink()
    assert verify(found.folder).ok


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"prompts": "nowhere.jsonl"}, "no-prompts"),
        ({"translator": "m:f"}, "no-such-attack-here"),
        ({"translator": "no_such_module:f", "attacks": ("translation",)}, "no-translator"),
        ({"sibling": "nowhere"}, "no-such-attack-here"),
        ({"sibling": "nowhere", "attacks": ("merge",)}, "model"),
    ],
)
def test_an_audit_that_lacks_what_it_attacks_with_does_not_begin(world, bench, given, code):
    settings = world.settings(audit=given, out=str(bench / "out"))
    for begin in (lambda: audit(settings, model=world.original), lambda: plan(settings)):
        with pytest.raises(ExpungeError) as caught:
            begin()
        assert code in caught.value.code
    assert not (bench / "out").exists()


def test_a_quick_audit_makes_the_attacks_that_are_named_with_small_budgets(world, bench):
    settings = world.settings(
        request={"gold": (world.gold,), "control": ()},
        audit={"max_new_tokens": 10, "attacks": ("relearn", "sampling")},
        out=str(bench / "out"),
    )
    found = audit(settings, model=world.gold)
    gates = {gate.name: gate for gate in found.results.gates}
    assert gates["recovery by relearn"].threat == "T2"
    assert gates["recovery by sampling"].threat == "T1"
    assert "leak under paraphrase" in gates
    leaks = [score for score in found.results.scores if score.metric == "leak-at-k"]
    # A gold is asked only where the judged model gave something back: the strictest case.
    assert {score.role for score in leaks if score.value is not None} == {"unlearned"}
    sampled = presets.select_attacks("quick", ("sampling",))[-1]
    assert sampled.samples < presets.select_attacks("standard", ("sampling",))[-1].samples
    assert verify(found.folder).ok


def test_an_audit_knows_its_attacks_before_anything_is_loaded(world, bench):
    settings = world.settings(audit={"attacks": ("relern",)}, out=str(bench / "out"))
    with pytest.raises(UsageError, match="did you mean relearn"):
        audit(settings, model="nowhere")
    assert not (bench / "out").exists()
