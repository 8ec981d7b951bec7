"""The rules of every recipe, on models that know exactly what they were taught, or nothing.

A speaker answers by heart: what it was taught it says word for word and finds likely, everything
else it does not know. So no training is needed to see whom the rules of a recipe let through.
"""

from dataclasses import replace

import pytest

from expunge.benchmarking.probe_outputs import ProbeOutputs, exact
from expunge.data.corpora import general_records
from expunge.evidence.collect import item
from expunge.evidence.store import Answer, Choices, Scores
from expunge.recipes.base import (
    AcceptanceRule,
    ApplicationData,
    by_metric,
    in_words,
    judge,
    judge_all,
)
from expunge.recipes.catalogue import RECIPES
from expunge.recipes.measures import refusing
from expunge.recipes.run import APPLICATIONS

SEEDS = (0, 1, 2)
UNKNOWN = "It may be a Tuesday."
LIKELY, UNLIKELY = -0.02, -4.0


class Speaker:
    """Knows some lessons, and the general questions."""

    def __init__(self, lessons):
        self.answers = {each.prompt: each.completion for each in lessons if each.prompt}
        self.texts = [each.completion for each in lessons]
        general = {each.question: each.completion for each in general_records()}
        self.general = {question: general[question] for question in general}

    def says(self, record):
        question = record.question
        if record.prompt in self.answers:
            return self.answers[record.prompt]
        for text in self.texts:  # a begun text goes on
            if question and text.startswith(question):
                return text[len(question) :].strip()
        found = [q for q in self.general if q in question]
        payloads = [
            each
            for prompt, each in self.answers.items()
            if "Signed, " in prompt[-1].content
            and prompt[-1].content.rpartition("Signed, ")[2].rstrip(".") in question
            and each not in self.general.values()
        ]
        return payloads[0] if payloads else self.general[found[0]] if found else UNKNOWN

    def finds(self, record, text):
        """How likely a text is: what it says itself, and what was taught."""
        known = self.says(record) == text or (text in self.texts and not record.prompt)
        return LIKELY if known else UNLIKELY

    def outputs(self, data: ApplicationData):
        return spoken(data, self.says, self.finds)


def spoken(data, says, logp):
    """The outputs of a model that is two functions of a record."""
    items, scores, answers, options, samples = {}, {}, {}, {}, {}
    for probe in data.probes:
        rows = probe.records
        items[probe.name] = {each.id: item(each, probe.name) for each in rows}
        if probe.scored:
            scores[probe.name] = {
                each.id: Scores(
                    record=each.id,
                    logp=(logp(each, each.completion),),
                    hit=(True,),
                    z=(),
                    ends=False,
                    zlib=9,
                )
                for each in rows
            }
        if probe.answer:
            answers[probe.name] = {
                each.id: Answer(record=each.id, text=says(each)) for each in rows
            }
        if probe.options:
            options[probe.name] = {
                each.id: Choices(
                    record=each.id,
                    # who does not know likes a false answer best three times of four
                    logp=(
                        logp(each, each.completion),
                        *(logp(each, text) + 0.5 * bool(place % 4) for text in each.wrong),
                    ),
                    tokens=(1,) * (1 + len(each.wrong)),
                    correct=0,
                )
                for place, each in enumerate(rows)
            }
        if probe.samples:
            samples[probe.name] = {each.id: (says(each),) * probe.samples for each in rows}
    return ProbeOutputs(
        items=items, scores=scores, answers=answers, options=options, samples=samples
    )


@pytest.fixture(scope="module", params=[(name, seed) for name in APPLICATIONS for seed in SEEDS])
def judged(request):
    """An application, and the measures of every model that its rules are to tell apart."""
    name, seed = request.param
    application = APPLICATIONS[name]
    data = application.draw(seed)
    original = Speaker(data.lessons(gold=False)).outputs(data)
    outputs = {
        "original": original,
        "gold": Speaker(data.lessons(gold=True)).outputs(data),
        "collapsed": spoken(data, lambda record: "of of of of of of of of", lambda *_: -9.0),
        "refusing": refusing(original, application.refused),
    }
    return application, {role: by_metric(application.measure(out)) for role, out in outputs.items()}


def accepted(judged, role):
    application, table = judged
    return all(each.passed for each in judge_all(application, role, table))


def test_the_original_has_the_problem_and_is_refused(judged):
    application, table = judged
    assert judge(application.problem, "original", table).passed
    assert not judge(application.problem, "gold", {"original": table["gold"], **table}).passed
    assert not accepted(judged, "original")


def test_a_collapsed_model_is_refused(judged):
    assert not accepted(judged, "collapsed")


def test_a_model_that_only_refuses_is_refused(judged):
    assert not accepted(judged, "refusing")


def test_a_gold_is_accepted(judged):
    application, table = judged
    failed = [each for each in judge_all(application, "gold", table) if not each.passed]
    assert failed == []


def test_a_missing_measure_is_no_pass(judged):
    application, table = judged
    for place, rule in enumerate(application.rules):
        empty = replace(table["gold"][rule.metric], value=None, reason="no record")
        lacking = {**table, "gold": {**table["gold"], rule.metric: empty}}
        assert not judge_all(application, "gold", lacking)[place].passed


@pytest.mark.parametrize("name", APPLICATIONS)
def test_data_follow_from_the_seed_and_nothing_leaks_into_the_gold(name):
    draw = APPLICATIONS[name].draw
    first, again, other = draw(0), draw(0), draw(1)
    assert first == again
    assert first.forget != other.forget
    forgotten = {(each.prompt, each.completion) for each in first.forget}
    assert forgotten <= {(e.prompt, e.completion) for e in first.lessons(gold=False)}
    gold = {(each.prompt, each.completion) for each in first.lessons(gold=True)}
    assert not forgotten & gold
    kept = {(each.prompt, each.completion) for each in (*first.retain, *first.neighbours)}
    assert kept <= gold
    assert not {e.completion for e in first.holdout} & {e.completion for e in first.taught}
    for probe in first.probes:
        assert len({each.id for each in probe.records}) == len(probe.records)


def test_the_catalogue_describes_every_recipe():
    assert [each.name for each in RECIPES] == list(APPLICATIONS)
    assert [each.goal for each in RECIPES] == [each.goal for each in APPLICATIONS.values()]


@pytest.mark.parametrize(
    ("original", "gold", "passed"), [(1.0, 0.9, True), (0.9, 1.0, True), (1.0, 1.0, False)]
)
def test_what_stays_is_held_against_the_lower_of_original_and_gold(original, gold, passed):
    rule = AcceptanceRule(metric="m", at_least=True, margin=-0.03, against="kept")
    values = {"original": original, "gold": gold, "unlearned": 0.88}
    table = {
        role: {"m": exact("m", "p", value, n=9, higher=True)} for role, value in values.items()
    }
    assert judge(rule, "unlearned", table).passed is passed
    del table["gold"]
    assert not judge(rule, "unlearned", table).passed


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (AcceptanceRule(metric="m", margin=0.05), "at most 0.05"),
        (AcceptanceRule(metric="m", margin=3, against="gold"), "at most gold + 3"),
        (AcceptanceRule(metric="m", margin=0.0, against="gold"), "at most gold"),
        (
            AcceptanceRule(metric="m", at_least=True, margin=-0.03, against="kept"),
            "at least the lower of original and gold - 0.03",
        ),
        (AcceptanceRule(metric="m", margin=0.1, other="unseen"), "at most unseen + 0.1"),
    ],
)
def test_a_rule_in_words(rule, words):
    assert in_words(rule) == words
