import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge.errors import InputError
from expunge.evals import plain_words
from expunge.evals.recovery import AttackFinding, AttackRecovery
from expunge.evals.results import Finding, Gate, Ruling, Verdict
from expunge.evidence.store import Answer, Item
from expunge.metrics.outcomes import Axis, Status
from expunge.reporting import plots, wording
from expunge.reporting.examples import ExampleAttempt, FactHistory, choose, count
from expunge.reporting.glossary import metric_title
from expunge.reporting.plot_data import relearning, relearning_panel
from expunge.reporting.plots import PlottedInterval, RecoveryBar, recovery_ladder
from expunge.reporting.redaction import MASK, Masks, Redactor
from expunge.reporting.schema import (
    SCHEMA,
    facts_from_json,
    facts_to_json,
    read_facts,
    read_results,
    results_from_json,
    results_to_json,
)
from expunge.reporting.wording import action, next_command
from synthetic_run import build_run, forget_items

rare = st.text("bcdfghjklmnpqrstvwxz", min_size=5, max_size=9).map(lambda word: f"q{word}")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return build_run(tmp_path_factory.mktemp("full") / "run")


@settings(max_examples=200, deadline=None)
@given(key=rare, name=rare, before=st.text(max_size=30), after=st.text(max_size=30))
def test_masking_hides_the_secret_in_any_surroundings(key, name, before, after):
    item = Item(
        record="r", split="forget", question="", answer="", key_answers=(key,), subject=name
    )
    masked = Redactor([item]).text(f"{before} {key.upper()} {name} {after}")
    assert key not in masked.casefold()
    assert name not in masked.casefold()
    assert MASK * len(key) in masked


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Where was Mira Kolenda born?", "Where was M███ K██████ born?"),
        ("She lives in saint  étienne.", "She lives in █████  ███████."),
        ("It is in the North.", "It is in ███ █████."),
        ("Call 0171 22 or mira.k@mail.net", "Call 0███ ██ or m███.█@m███.n██"),
        ("I do not know.", "I do not know."),
        ("", ""),
    ],
)
def test_redaction_by_hand(text, expected):
    item = Item(
        record="r",
        split="forget",
        question="",
        answer="",
        key_answers=("Saint-Étienne", "the North"),
        subject="Mira Kolenda",
    )
    assert Redactor([item]).text(text) == expected


def test_labels_lose_names_even_inside_words_and_nothing_else():
    redactor = Redactor(forget_items())
    assert redactor.label("data/mirabel_kovanda.jsonl") == f"data/{MASK * 15}.jsonl"
    assert redactor.label("MirabelKovanda2") == f"{MASK * 14}2"
    assert redactor.label("npo, beta = 0.1, the sister") == "npo, beta = 0.1, the sister"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("Elin lives here.", True),
        ("data/elin_marrow.jsonl", True),
        ("ELIN-MARROW", True),
        ("align-items: baseline", False),
        ("Marrows", False),
        ("nobody", False),
    ],
)
def test_a_name_inside_a_longer_word_names_nobody(text, named):
    record = replace(forget_items()[0], subject="Elin Marrow", key_answers=())
    assert Redactor([record]).names(text) is named


def test_only_the_words_of_users_are_masked_in_a_sentence_of_the_report():
    """A fact must not show by its mask: `Paris` lies in `comparison`."""
    item = Item(
        record="r", split="forget", question="", answer="", key_answers=("Paris",), subject="Mira"
    )
    masks = Masks(Redactor([item]), ["family", "friends of Mira"])
    said = masks.sentence("A comparison of family and friends of Mira")
    assert said == f"A comparison of family and friends of {MASK * 4}"


def attempt(leaked: bool, attack: str = "plain") -> ExampleAttempt:
    return ExampleAttempt(attack=attack, answer=Answer(record="r", text="x"), leaked=leaked)


def fact(name: str, *leaked: bool, likelihood: float = -1.0) -> FactHistory:
    item = Item(record=name, split="forget", question="q", answer="a", key_answers=("a",))
    tries = tuple(attempt(one) for one in leaked)
    return FactHistory(item=item, before=tries, after=tries, gold=(), likelihood=likelihood)


def test_examples_are_the_worst_the_median_and_a_seeded_draw():
    ranked = [fact(str(i)) for i in range(9)]
    chosen = [(example.why, example.fact.item.record) for example in choose(ranked, seed=3)]
    assert chosen[:2] == [("worst case", "0"), ("median", "4")]
    assert chosen[2][0] == "random"
    assert chosen[2][1] not in {"0", "4"}
    assert chosen == [(e.why, e.fact.item.record) for e in choose(ranked, seed=3)]
    drawn = {choose(ranked, seed=seed)[2].fact.item.record for seed in range(40)}
    assert drawn == set("1235678")


@pytest.mark.parametrize(("n", "expected"), [(0, 0), (1, 1), (2, 2), (3, 3)])
def test_few_facts_give_few_examples(n, expected):
    chosen = choose([fact(str(i)) for i in range(n)], seed=0)
    assert len({example.fact.item.record for example in chosen}) == len(chosen) == expected


def test_counting_is_over_facts_and_attempts():
    tries = [(attempt(True), attempt(True)), (attempt(False),), ()]
    found = count(tries)
    assert (found.returned, found.facts, found.attempts) == (1, 2, 3)
    assert count([(), ()]) is None


@pytest.mark.parametrize(
    ("after", "before", "expected"),
    [
        ((0, 20, 120), (19, 20, 20), "0 of 20 facts came back in 120 attempts (before: 19 of 20). "
         "With 95 % confidence, fewer than 14 % of"),
        ((0, 299, 299), None, "0 of 299 facts came back in 299 attempts. "
         "With 95 % confidence, fewer than 1 % of"),
        ((3, 3, 1), None, "3 of 3 facts came back in 1 attempt. Any share of facts of this kind"),
    ],
)  # fmt: skip
def test_count_sentence(after, before, expected):
    from expunge.reporting.examples import Count

    def make(c):
        return c and Count(returned=c[0], facts=c[1], attempts=c[2])

    assert wording.count_sentence(make(after), make(before)).startswith(expected)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0 %"), (0.139, "14 %"), (0.014, "1.4 %"), (0.01, "1 %"), (0.0005, "0.05 %"), (1, "100 %"),
     (-0.03, "\N{MINUS SIGN}3 %")],
)  # fmt: skip
def test_percent(value, expected):
    assert plain_words.percent(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.95, "0.950"), (14.21, "14.2"), (1e-5, "1.00e\N{MINUS SIGN}05"), (0, "0.000"),
     (12345, "12\N{NARROW NO-BREAK SPACE}345"), (-3.2, "\N{MINUS SIGN}3.200")],
)  # fmt: skip
def test_number(value, expected):
    assert wording.number(value) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"), [(42.4, "42 s"), (59.6, "1 min 00 s"), (7500, "2 h 05 min")]
)
def test_duration(seconds, expected):
    assert wording.duration(seconds) == expected


def gate(axis: Axis, status: Status, high: float, name: str = "g") -> Gate:
    return Gate(
        axis=axis, name=name, value=high / 2, low=0.0, high=high, margin=0.1, n=9, status=status
    )


def test_the_worst_gate_is_the_weakest_not_the_largest():
    passing = gate(Axis.UTILITY, Status.PASS, 0.09)
    open_, failed = (gate(Axis.UTILITY, s, 0.05) for s in (Status.INCONCLUSIVE, Status.FAIL))
    assert wording.worst((passing, open_, failed)) is failed
    assert wording.worst((passing, open_)) is open_
    assert wording.worst((gate(Axis.UTILITY, Status.PASS, 0.02), passing)) is passing
    absent = gate(Axis.UTILITY, Status.NOT_COMPUTABLE, 0.0)
    assert wording.worst((absent, passing)) is passing
    assert wording.worst((absent,)) is absent
    assert wording.worst(()) is None


def test_a_finding_says_when_few_records_passed_by_rule():
    wide = replace(
        gate(Axis.UTILITY, Status.PASS, 0.3, "malformed forget"), reason="0 of 9 records worse"
    )
    assert wording.finding(wide) == (
        "More malformed answers where the data was: 15 % (0 % to 30 %), allowed at most 10 %, "
        "9 records. Passed by the rule for few records: 0 of 9 records worse"
    )
    assert wording.finding(gate(Axis.UTILITY, Status.FAIL, 0.3)).endswith("9 records")


def verdict(ruling, *, provisional=False, findings=(), claim="E1"):
    return Verdict(
        ruling=ruling,
        threat_model="T1",
        tier="G2",
        provisional=provisional,
        sentence="",
        reasons=(),
        findings=findings,
        claim=claim,
    )


@pytest.mark.parametrize("ruling", list(Ruling))
def test_every_ruling_has_a_headline_an_action_and_but_for_a_pass_a_command(ruling):
    said = action(verdict(ruling))
    assert wording.headline(verdict(ruling), goal="removal")
    assert said.title
    assert "{" not in said.text
    assert (said.title == "Release") == (ruling is Ruling.PASS)
    command = next_command(verdict(ruling), Path("run"), steps=64)
    assert (command is None) == (ruling is Ruling.PASS)
    assert command is None or re.match(r"expunge (forget|audit|verify) .*\brun\b", command)


@pytest.mark.parametrize(("steps", "flags"), [(64, "--set train.steps=128"), (0, "--method auto")])
def test_what_did_not_forget_is_trained_twice_as_long(steps, flags):
    command = next_command(verdict(Ruling.FAIL_RESIDUAL), Path("run"), steps=steps)
    assert command == f"expunge forget --config run/config.toml --out run-again {flags}"


def test_a_pass_says_what_was_not_tested():
    found = (open_("yes", ""), replace(open_("not tested", "x"), question="Neighbours"))
    said = wording.headline(verdict(Ruling.PASS, findings=found), goal="removal")
    assert said.endswith("Not tested: Neighbours.")


def open_(answer, settle):
    return Finding(axis=Axis.UTILITY, question="Kept", answer=answer, detail="", settle=settle)


@pytest.mark.parametrize(
    ("findings", "flags"),
    [
        ([open_("not settled", "About 9 more records to keep.")], "--retain MORE_RECORDS"),
        ([open_("not settled", "More retrained reference models (gold).")], "--gold REFERENCE"),
        ([open_("not tested", "Records near (--neighbours).")], "--neighbours MORE_RECORDS"),
        (
            [
                open_("not tested", "Records near (--neighbours)."),
                open_("not settled", "About 9 more records to keep."),
            ],
            "--retain MORE_RECORDS",
        ),
        ([open_("not settled", "Nothing.")], "--set audit.level=standard"),
    ],
)
def test_an_open_verdict_names_the_command_that_settles_it(findings, flags):
    command = next_command(
        verdict(Ruling.INCONCLUSIVE, findings=tuple(findings)), Path("run"), steps=64
    )
    assert command.startswith(f"expunge audit run --against run {flags}")


def test_a_provisional_pass_is_no_release():
    passed = verdict(Ruling.PASS, provisional=True)
    assert action(passed).title == "Go on, do not release yet"
    scar = action(verdict(Ruling.PASS_WITH_SCAR, provisional=True))
    assert scar.title == action(passed).title
    assert "could tell" in scar.text
    assert "audit.level=standard" in next_command(passed, Path("run"), steps=64)


@pytest.mark.parametrize(
    ("tests", "exact", "shown"), [("E1", "", "E1"), ("E1", "E4", "E4"), ("E0", "E3", "E0")]
)
def test_the_claim_is_that_of_the_making_unless_only_words_were_suppressed(tests, exact, shown):
    assert wording.claim(verdict(Ruling.PASS, claim=tests), exact=exact) == shown


def test_results_and_facts_survive_the_disk(run):
    results, run_facts = read_results(run), read_facts(run)
    assert results_from_json(results_to_json(results)) == results
    assert facts_from_json(facts_to_json(run_facts)) == run_facts
    assert results_to_json(results)["schema"] == SCHEMA == "expunge.results/1"


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"schema": "expunge.results/9"}, "results-schema", "'expunge.results/9'"),
        ({"verdict": None}, "malformed-results", "results.json: verdict"),
        ({"gates": [{"axis": "taste"}]}, "malformed-results", "results.json: gates.0.axis"),
    ],
)
def test_malformed_results_are_refused(run, change, code, message):
    with pytest.raises(InputError) as error:
        results_from_json(results_to_json(read_results(run)) | change)
    assert error.value.code == code
    assert message in error.value.what


@pytest.mark.parametrize("value", [None, [], 3])
def test_what_is_no_object_is_no_results(value):
    with pytest.raises(InputError, match="results-schema"):
        results_from_json(value)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"device": 3}, "device"), ({"colour": "red"}, "colour"), ({"train": {"steps": 1}}, "train.")],
)
def test_malformed_facts_name_the_field(run, change, message):
    with pytest.raises(InputError, match=message) as error:
        facts_from_json(facts_to_json(read_facts(run)) | change)
    assert error.value.code == "malformed-facts"


def test_drawings_have_no_colour_no_date_and_a_spoken_text():
    estimate = PlottedInterval(value=0.5, low=0.2, high=0.7)
    rung = RecoveryBar(label='a "b" & <c>', kind="worst", estimate=estimate, gold=estimate)
    svg = recovery_ladder((rung,), measure="share")
    recovery_ladder.cache_clear()
    assert svg == recovery_ladder((rung,), measure="share")
    assert not re.search(r"#[0-9a-f]{6}\b|\d{4}-\d{2}-\d{2}|matplotlib|<style", svg)
    assert 'aria-label="Recovery ladder, share: a &quot;b&quot; &amp; &lt;c&gt; 0.50' in svg
    assert len(svg) < 40_000
    assert set(re.findall(r"var\((--\w+)\)", svg)) <= {*plots._VARIABLES.values()}


def scored_as(variant, model, gold):
    return AttackFinding(
        variant=variant,
        n=10,
        judged=model,
        anchor=gold,
        gap=0.9,
        rho=model - gold,
        low=0.0,
        high=1.0,
        p=0.5,
        margin=0.25,
        status=Status.PASS,
    )


def trained(name, *tests):
    return AttackRecovery(
        attack=name, family="weights", access="T2", status=Status.FAIL, tests=tests
    )


def test_relearning_is_drawn_step_by_step_against_gold():
    rungs = (
        trained(
            "relearn",
            scored_as("lora 0.001 step 32", 0.8, 0.2),
            scored_as("full 5e-05 step 8", 0.3, 0.1),
            scored_as("lora 0.001 step 8", 0.5, 0.1),
            scored_as("untouched", 0.1, 0.0),
        ),
        trained("sampling", scored_as("any", 0.4, 0.1)),
    )
    svg = relearning(rungs)
    assert svg is not None
    said = re.search(r'aria-label="([^"]+)"', svg)[1]
    assert said == (
        "Relearning curves, share of facts: relearn, full 5e-05: 0.30 against gold 0.10 after 8 "
        "steps; relearn, lora 0.001: 0.80 against gold 0.20 after 32 steps"
    )
    (panel,) = filter(None, map(relearning_panel, rungs))
    steps = {c.label: [(p.step, p.model, p.gold) for p in c.points] for c in panel.curves}
    assert steps["lora 0.001"] == [(0, 0.1, 0.0), (8, 0.5, 0.1), (32, 0.8, 0.2)]
    assert [curve.label for curve in panel.curves if curve.worst] == ["lora 0.001"]
    assert set(re.findall(r"var\((--\w+)\)", svg)) <= {*plots._VARIABLES.values()}
    parsed = ElementTree.fromstring(plots.alone(svg))
    assert parsed.tag == "{http://www.w3.org/2000/svg}svg"
    assert all(f"{name}: #" in parsed.get("style") for name in plots._VARIABLES.values())


def test_without_training_there_is_no_relearning_curve():
    assert relearning((trained("sampling", scored_as("any", 0.4, 0.1)),)) is None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("leak under int4", "Facts said, weights rounded to 4 bits"),
        ("key-fact neighbours: family", "Answers about neighbours, lost (family)"),
        (
            "probability retain: rehearsed",
            "Knowledge to keep, lost (records that training rehearsed)",
        ),
        ("recovery by relearn", "Facts brought back by training on other facts of the set"),
        ("something-new under way-off", "Something new, way off"),
    ],
)
def test_gates_in_plain_words(name, words):
    assert plain_words.subject(gate(Axis.UTILITY, Status.PASS, 0.1, name)) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "The judged model is the gold model 0",
            "The judged model is the retrained reference model 0",
        ),
        ("more gold models (now 2)", "more retrained reference models (now 2)"),
        ("gold-1 states 3 facts", "retrained reference model 1 states 3 facts"),
        ("golds that agree", "retrained reference models that agree"),
        ("marigolds and golden things", "marigolds and golden things"),
    ],
)
def test_golds_are_named_in_full(text, words):
    assert plain_words.plain(text) == words


@pytest.mark.parametrize(
    ("metric", "title"),
    [
        ("auc-zlib", "AUC of familiarity (zlib)"),
        ("seq-rep-4", "Repetition"),
        ("residual-key-fact", "Residual key fact said"),
        ("new_one", "New one"),
    ],
)
def test_metric_titles(metric, title):
    assert metric_title(metric) == title
