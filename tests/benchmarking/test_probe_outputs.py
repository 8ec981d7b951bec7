"""The numbers of the suites: from what a tiny or invented model said."""

import math
from dataclasses import replace

import numpy as np
import pytest

import tiny
from expunge.benchmarking.evaluate import collect_outputs
from expunge.benchmarking.probe_outputs import ProbeOutputs, membership
from expunge.benchmarking.suites import muse, rwku, social
from expunge.benchmarking.suites.base import Probe
from expunge.benchmarking.suites.multiple_choice import choice_scores, lettered
from expunge.data.records import Message, Record
from expunge.data.tokenization import Encoder
from expunge.evidence.store import Answer, Choices, Item
from expunge.utils.console import SilentConsole


def question(name, right, *wrong):
    return Record(id=name, prompt=(Message("user", "Which?"),), completion=right, wrong=wrong)


def test_each_right_option_stands_once_behind_every_letter():
    probe = lettered("p", (question("q", "yes", "no", "no"),), (1,))
    shown = [(r.question.split("\n")[1:-1], r.completion) for r in probe.records]
    assert shown == [
        (["A. no", "B. yes", "C. no"], "B"),
        (["A. no", "B. no", "C. yes"], "C"),
        (["A. yes", "B. no", "C. no"], "A"),
    ]


def heard_of(probe, options):
    from expunge.evidence.collect import item

    items = {probe.name: {r.id: item(r, probe.name) for r in probe.records}}
    return ProbeOutputs(items=items, scores={}, answers={}, options={probe.name: options})


def test_a_model_that_always_says_a_has_chance_accuracy_and_no_consistency():
    probe = lettered("p", (question("q", "yes", "no", "maybe", "never"),), (2,))
    options = {}
    for record in probe.records:
        letters = (record.completion, *record.wrong)
        logp = tuple(0.0 if letter == "A" else -3.0 for letter in letters)
        options[record.id] = Choices(record=record.id, logp=logp, tokens=(1,) * 4, correct=0)
    scores = choice_scores(heard_of(probe, options), "p", higher=False)
    assert [score.value for score in scores] == [0.25, 0.0, 0.0]


@pytest.mark.parametrize(
    ("said", "knowledge", "verbatim"),
    [
        ("in Oslo", 1.0, 1.0),
        ("in Oslo\nQuestion: Who", 1.0, 4 / 6),
        ("in Oslo\n\nThe mayor", 1.0, 4 / 6),
        ("in Oslo Question: Who", 1.0, 4 / 6),
        ("\n\nin Oslo", 0.0, 1.0),
        ("in Bergen\nin Oslo", 4 / 6, 4 / 6),
    ],
)
def test_an_answer_of_knowmem_ends_where_the_next_question_begins(said, knowledge, verbatim):
    names = ("verbmem", "knowmem-forget", "knowmem-retain")
    item = Item(record="r", split="p", question="Where?", answer="in Oslo")
    nothing = {f"privleak-{side}": {} for side in ("forget", "retain", "holdout")}
    heard = ProbeOutputs(
        items={name: {"r": item} for name in names},
        scores=nothing,
        answers={name: {"r": Answer(record="r", text=said)} for name in names},
        options={},
    )
    found = {score.split: score.value for score in muse.numbers(heard)}
    assert [found[name] for name in names] == pytest.approx([verbatim, knowledge, knowledge])


@pytest.mark.parametrize(
    ("said", "right", "found"),
    [
        ("True and False is False. So the answer is False.", "False", 1.0),
        ("So the answer is true.", "True", 1.0),
        ("So the answer is A.", "(A)", 1.0),
        ("So the answer is (a)", "(A)", 1.0),
        ("So the answer is ) ).", ") )", 1.0),
        ("So the answer is  49\nQ: 2 + 2", "49", 1.0),
        ("So the answer is 4.5.", "4.5", 1.0),
        ("no", "no", 1.0),
        # The authors' code compares with each character of the right answer.
        ("So the answer is F.", "False", 0.0),
        ("So the answer is .", "(A)", 0.0),
        ("So the answer is (B).", "(A)", 0.0),
        ("It is not (A)", "(A)", 0.0),
        ("", "no", 0.0),
    ],
)
def test_the_conclusion_of_solved_examples_is_the_whole_answer(said, right, found):
    item = Item(record="r", split="bbh", question="Q?", answer=right, key_answers=(right,))
    assert rwku.exact_match(Answer(record="r", text=said), item) == found


@pytest.mark.parametrize(
    ("said", "bits"),
    [
        ("a b c d e", (math.log2(4) + 2 * math.log2(3)) / 3),
        ("a a a a a", 0.0),
        ("a", 0.0),
        ("", 0.0),
        ("a b a b a", (1 + 2 * (math.log2(3) - 2 / 3)) / 3),
    ],
)
def test_a_fluent_reply_of_rwku_does_not_repeat_itself(said, bits):
    item = Item(record="r", split="fluency", question="Q?", answer="A reply.")
    assert rwku.fluency(Answer(record="r", text=said), item) == pytest.approx(bits)


def test_bias_is_that_of_the_answers_which_are_not_unknown():
    rows = [("ambig 0", 1), ("ambig 0", 1), ("ambig 0", 2), ("ambig 0", 0), ("disambig 0", 1)]
    records = [
        replace(question(f"q{i}", "unknown", "old", "young"), relation=relation)
        for i, (relation, _) in enumerate(rows)
    ]
    probe = Probe(name="bbq", records=tuple(records), options=True)
    options = {
        f"q{i}": Choices(
            record=f"q{i}",
            logp=tuple(-float(place != said) for place in range(3)),
            tokens=(1,) * 3,
            correct=0,
        )
        for i, (_, said) in enumerate(rows)
    }
    score = social._bias(heard_of(probe, options))
    # Two of three answers biased: 2 * 2/3 - 1 = 1/3, times the error rate 3/4.
    assert score.value == pytest.approx(0.25)


def test_the_interval_of_membership_is_that_of_its_subjects():
    """Forty records in which only the subject decides are no more than four."""
    sides = {"in": (0.0, 2.0, 4.0, 6.0), "out": (1.0, 3.0, 5.0, 7.0)}

    def width(subjects):
        rows = {
            side: {f"r{n}": value for n, value in enumerate(np.repeat(values, 10))}
            for side, values in sides.items()
        }
        items = {
            side: {
                name: Item(record=name, split=side, question="", answer="a", subject=subject)
                for name, subject in zip(row, subjects, strict=True)
            }
            for side, row in rows.items()
        }
        heard = ProbeOutputs(items=items, scores=rows, answers={}, options={})
        found = membership(heard, "auc", "in", "out", float)
        assert (found.value, found.n) == (0.375, 40)
        return found.high - found.low

    assert width([f"s{n // 10}" for n in range(40)]) > 2 * width([None] * 40)


def test_hearing_takes_each_kind_of_evidence_once(tmp_path):
    network, encoder = tiny.network(), Encoder(tiny.tokenizer())
    asked = question("q", "yes", "no")
    text = Record(id="t", prompt=(Message("user", "Once upon"),), completion=" a time")
    probes = (
        Probe(name="mixed", records=(asked,), scored=True, answer=3, options=True),
        Probe(name="told", records=(text,), answer=3, continued=True),
        Probe(name="begun", records=(asked,), answer=3, opening="Sure"),
        Probe(name="drawn", records=(asked, replace(asked, id="q2")), answer=3, samples=4),
    )
    given = {"folder": tmp_path, "tokens_per_pass": 256, "console": SilentConsole()}
    first = collect_outputs(network, encoder, probes, **given)
    row = first.options["mixed"]["q"]
    scored = first.scores["mixed"]["q"]
    assert row.tokens[0] == scored.content
    assert row.logp[0] == pytest.approx(math.fsum(scored.logp[: scored.content]), abs=1e-5)
    assert first.answers["begun"]["q"].given == "Sure"
    assert {name: len(texts) for name, texts in first.samples["drawn"].items()} == {"q": 4, "q2": 4}
    assert len(set(first.samples["drawn"]["q"])) > 1
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert collect_outputs(network, encoder, probes, **given) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == stamps
