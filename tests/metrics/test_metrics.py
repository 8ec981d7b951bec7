"""Metrics against values computed by hand: one case for each record, then what is special."""

import math
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from expunge.attacks.base import Attempt, knowledge
from expunge.data.corpora import refusal_texts
from expunge.evidence.store import Answer, Item, Scores
from expunge.metrics import base, membership
from expunge.metrics.efficiency import Work
from expunge.metrics.fact_matchers import Background
from expunge.metrics.fluency import (
    character_repetition,
    gibberish,
    perplexity,
    refusal,
    sequence_repetition,
    total_loss,
)
from expunge.metrics.key_facts import contains, fact_form, key_fact, normalise
from expunge.metrics.memorization import (
    exact_memorisation,
    extraction_strength,
    mean_log_probability,
    probability,
)
from expunge.metrics.registry import BY_ID, METRICS
from expunge.metrics.rouge import rouge_l_f1, rouge_l_recall
from expunge.metrics.tofu import Utility


def scored(
    logp: tuple[float, ...] = (),
    hit: tuple[bool, ...] | None = None,
    *,
    z: tuple[float, ...] | None = None,
    ends: bool = False,
    zlib: int = 10,
    named: tuple[int, ...] = (),
) -> Scores:
    if hit is not None and not logp:
        logp = (-1.0,) * len(hit)
    return Scores(
        record="r",
        logp=logp,
        hit=hit if hit is not None else (False,) * len(logp),
        z=z if z is not None else logp,
        ends=ends,
        zlib=zlib,
        named=named,
    )


def asked(*facts: str, question: str = "Where was she born?", answer: str = "a") -> Item:
    return Item(record="r", split="forget", question=question, answer=answer, key_answers=facts)


def said(text: str, given: str = "", nll: float | None = None) -> Answer:
    return Answer(record="r", text=text, given=given, nll=nll)


def hits(pattern: str) -> tuple[bool, ...]:
    return tuple(mark == "1" for mark in pattern)


SPAN = (-1.0, math.log(0.25), math.log(0.5))
MICRO = (-0.1, -3.0, -0.5, -2.0, -0.2)
WRONG = [math.log(p) for p in (0.1, 0.2, 0.4)]
REFERENCE = asked("Lagos", answer="The author was born in Lagos in 1962.")
SENT = np.array([[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0.5, 0.5]])
ELSEWHERE = np.array([[0.75, 0.25, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
DIAGONAL = np.array([[3, 0], [0, 4]], dtype=np.float32)
NUDGED = np.array([[3.5, 0], [0, 4]], dtype=np.float32)


def worded(of):
    """Each side keeps one of its two texts to learn from: (1 + 1) / 4 against (0 + 1) / 4."""
    groups = {"member_groups": ["a", "b"], "other_groups": ["c", "d"]}
    return of(["red", "red"], ["blue", "blue"], **groups, seed=0)


CASES = {
    # forgetting
    "key-fact": (lambda of: of(said("In LAGOS."), asked("Lagos")), 1.0),
    "extraction-strength": (lambda of: of(scored(hit=hits("10111"))), 3 / 5),
    "exact-memorisation": (lambda of: of(scored(hit=hits("10111"))), 4 / 5),
    "probability": (lambda of: of(scored(tuple(map(math.log, (0.5, 0.25, 0.8))))), 0.1 ** (1 / 3)),
    "truth-share": (lambda of: of(math.log(0.4), WRONG), 2 / 3),
    "truth-ratio": (lambda of: of(math.log(0.4), WRONG), 0.5),
    "ks-distance": (lambda of: of([1, 2, 3, 4], [3, 4, 5, 6]), 0.5),
    "forget-quality": (lambda of: of([1, 2], [3, 4]).p, 1 / 3),
    "ks-equivalence-p": (lambda of: of(0.05, 800, 800), 2 * math.exp(-4)),
    "distance-share": (lambda of: of(0.25, 0.4, noise=0.1), 0.5),
    "rouge-l-recall-stem": (lambda of: of(said("Lagos."), REFERENCE), 1 / 8),
    "rouge-l-f1": (lambda of: of(said("Lagos."), REFERENCE), 2 / 9),
    "discoverable-100": (lambda of: of(scored((math.log(0.01),))), 1.0),
    "samples-needed": (lambda of: of(math.log(0.01), 0.5), 69),
    "verbatim-50": (lambda of: of(scored(hit=hits("0" * 50 + "1" * 50))), 1.0),
    "near-verbatim": (lambda of: of([math.log(0.1), math.log(0.2)]), 0.3),
    "leak-at-k": (lambda of: of(32, 2, 8), 1 - 24 * 23 / (32 * 31)),
    "exposure": (lambda of: of(4, 1024), 8.0),
    "fact-leak": (lambda of: of(said("In Lagos."), asked("Lagos"), Background()), 1.0),
    "span-first": (lambda of: of(SPAN, (False, True, True)).first_prob, 0.25),
    "span-least": (lambda of: of(SPAN, (False, True, True)).min_prob, 0.25),
    "span-onward": (lambda of: of(SPAN, (False, True, True)).onward[1], math.log(0.5)),
    "confident-falsehood": (lambda of: of(0.5, stated=False, refused=False), 1.0),
    "says-wanted": (lambda of: of(said("In Accra."), replace(asked(), wanted=("Accra",))), 1.0),
    # privacy
    "auc-loss": (lambda of: of(scored((-1.0, -3.0))), -2.0),
    "bounded-loss": (lambda of: of(scored((-1.0, -9.0))), -2.0),
    "auc-zlib": (lambda of: of(scored((-1.0, -3.0), zlib=8)), -0.25),
    "auc-min-k-40": (lambda of: of(scored(MICRO)), -2.5),
    "auc-min-k-plus-20": (lambda of: of(scored(MICRO, z=(0.5, -1.0, 0.0, 0.0, 0.0))), -1.0),
    "auc-reference": (lambda of: of(-1.0, -1.5), 0.5),
    "auc-lowercase": (lambda of: of(-1.0, -3.0), 2.0),
    "auc-recall": (lambda of: of(-1.0, -1.5), 1.5),
    "auc-gradient": (lambda of: of(3.0), -3.0),
    "auc-dc-pdd": (lambda of: of((math.log(0.5), math.log(0.1)), (0.01, 0.02)), 0.0035),
    "neighbourhood": (lambda of: of(-1.0, [-2.0, -4.0]), 2.0),
    "tpr-at-fpr": (lambda of: of([98.5, 94.5, 3.0], range(100), 0.05), 2 / 3),
    "dataset-inference": (lambda of: of(np.ones((20, 2)), np.ones((20, 2)), seed=0), 1.0),
    "auc-loss-matched": (lambda of: np.ravel(of([-1.0, -3.0], [-2.98, -1.04])), [1, 0, 0, 1]),
    "auc-words": (lambda of: worded(of).members[0], math.log(2)),
    "u-lira": (lambda of: of(*(np.array(x) for x in ([1], [[-1], [1]], [[-2], [0]]))), [0.75]),
    "auc-rmia": (lambda of: of(np.array([0.0, -1.0]), np.array([[-1.0, -1.0]])), [1.0, 0.0]),
    "duci": (lambda of: of(*map(np.array, ([0.9, 0.1], [0.8], [0.2])), seed=0).value, 0.5),
    "empirical-epsilon": (lambda of: of(10, 100, 1, 100, exact=False), math.log(10)),
    "privleak": (lambda of: of(0.25, 0.5), -50.0),
    "privacy-closeness": (lambda of: of([0.25, 0.4], [0.5, 0.4]), 2 / 3),
    "sign-flip": (lambda of: of(np.ones(5), tuple("abcde")), 2.0**-5),
    "person-rank": (lambda of: of(3.0, range(3)), 0.25),
    "own-nll": (lambda of: of(replace(said("Lagos."), own_nll=0.5)), 0.5),
    "edit-detection": (lambda of: of(np.array([2.0, 3.0]), np.array([1.0, 2.5])), 0.75),
    "log-loss": (lambda of: of(scored((-1.0, -3.0))), -math.log(2.2)),
    "untold-likelihood": (lambda of: of(scored((-9.0, -1.0, -40.0), named=(0,))), -6.0),
    "untold-min-k-40": (lambda of: of(scored((-90.0, *MICRO), named=(0,))), -2.5),
    "untold-min-k-40-unfloored": (lambda of: of(scored((-1.0, -30.0))), -30.0),
    "untold-log-loss": (lambda of: of(scored((-9.0, -0.8), named=(0,))), 0.0),
    # robustness
    "patching-depth": (lambda of: of((0.0, 0.04, 1.0, 3.0), (9.0, 9.0, 0.5, 7.0)), 3.5 / 4),
    "lens-depth": (lambda of: of((1.0, 3.0), (0.5, 0.75)), 1.25 / 4),
    # utility
    "perplexity": (lambda of: of([3.0, 3.0], [3, 1]), math.exp(6 / 4)),
    "kl-median": (lambda of: of(range(101)).median, 50.0),
    "kl-p95": (lambda of: of(range(101)).p95, 95.0),
    "model-utility": (lambda of: of(Utility(1.0, 0.5, 1.0)), 3 / 4),
    "truth-utility": (lambda of: of(0.25), 0.75),
    "option-probability": (lambda of: of(math.log(0.7), WRONG), 0.5),
    "choice-accuracy": (lambda of: of((-1.0, -1.0, -3.0), 1), 0.5),
    "open-accuracy": (lambda of: of(said("Nobody knows."), asked("Lagos")), 0.0),
    "ece": (lambda of: of((0.9, 0.9, 0.6, 0.6), (1, 0, 1, 1)), 0.4),
    "brier": (lambda of: of((0.7, 0.2, 0.1), 0), 0.09 + 0.04 + 0.01),
    "malformed": (lambda of: of(said("of" * 40), asked()), 1.0),
    "form-missed": (lambda of: of(said("seven"), replace(asked(), form="number")), 1.0),
    "gibberish": (lambda of: float(of(said("of" * 40))), 1.0),
    "seq-rep-4": (lambda of: of("a a a a a a a"), 3 / 4),
    "bigram-entropy": (lambda of: of("a b c d e f g h"), math.log2(7)),
    "refusal": (lambda of: float(of("Sorry, I cannot say.")), 1.0),
    "churn": (lambda of: of((1, 1, 0, 0), (1, 0, 1, 0)).total, 0.5),
    # locality
    "distance-response": (lambda of: of((0.9, 0.1), (0.0, 0.4), bins=2)[0].damage, 0.4),
    "weight-change": (lambda of: of(DIAGONAL, NUDGED).relative, 0.5 / 5),
    "weight-change-max": (lambda of: of(DIAGONAL, 2 * DIAGONAL).relative, 1.0),
    "experts-changed": (lambda of: of(SENT, ELSEWHERE), 1 / 3),
    "routing-shift": (lambda of: of(SENT, ELSEWHERE), (0.25 + 0.5 + 0.0) / 3),
    # efficiency
    "flops": (lambda of: of(10, Work(forward=1, trained=1, trained_lora=1, generated=1)), 140.0),
    "speed-up": (lambda of: of(100.0, 20.0), 5.0),
}
"""Id of a metric to how its function is called, and the value by hand."""


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.id)
def test_every_metric_has_its_value_by_hand(metric):
    call, value = CASES[metric.id]
    assert call(metric.of) == pytest.approx(value)


def test_every_record_is_complete():
    assert [name for name, count in Counter(each.id for each in METRICS).items() if count > 1] == []
    assert CASES.keys() == BY_ID.keys()
    texts = [(each.title, each.meaning, each.cost, each.of.__doc__) for each in METRICS]
    assert all(map(all, texts))
    sources = {each.id: each.source for each in METRICS if each.source}
    assert [name for name in sources if not re.search(r"arXiv|ICLR \d{4}", sources[name])] == []


def test_what_an_audit_reads_record_by_record_has_a_record():
    read = [each for each in vars(base).values() if isinstance(each, base.RecordMetric)]
    assert len(read) >= 10
    assert {each.id for each in read} <= BY_ID.keys()
    assert {f"auc-{each.id}" for each in base.MEMBERSHIP} <= BY_ID.keys()


def test_probability_of_the_reference_example():
    row = scored(tuple(math.log(p) for p in (0.5, 0.25, 0.8)))
    assert mean_log_probability(row) == pytest.approx(-0.7675, abs=1e-4)
    assert probability(row) == pytest.approx(0.4642, abs=1e-4)


def test_the_end_token_is_not_scored():
    row = scored((-1.0, -3.0, -100.0), hits("111"), ends=True)
    assert mean_log_probability(row) == pytest.approx(-2.0)
    assert membership.min_k(row, share=1.0) == pytest.approx(-2.0)
    assert extraction_strength(scored(hit=hits("110"), ends=True)) == 1.0


@pytest.mark.parametrize(
    "metric",
    [
        probability,
        extraction_strength,
        exact_memorisation,
        membership.loss,
        membership.zlib,
        membership.min_k,
        membership.min_k_plus,
    ],
)
def test_a_record_without_content_token_is_dropped_not_zero(metric):
    assert metric(scored()) is None
    assert metric(scored((-1.0,), ends=True)) is None


@pytest.mark.parametrize(
    ("pattern", "strength", "exact"),
    [
        ("10111", 0.6, 0.8),  # 12345 against 19345
        ("11110", 0.0, 0.8),  # only the last token wrong: the floor is 0, not 1/T
        ("11111", 1.0, 1.0),
        ("00000", 0.0, 0.0),
        ("00001", 0.2, 0.2),
    ],
)
def test_extraction_strength_and_exact_memorisation(pattern, strength, exact):
    row = scored(hit=hits(pattern))
    assert extraction_strength(row) == pytest.approx(strength)
    assert exact_memorisation(row) == pytest.approx(exact)


@given(st.lists(st.booleans(), min_size=1, max_size=30))
def test_exact_memorisation_is_never_below_extraction_strength(pattern):
    row = scored(hit=tuple(pattern))
    strength = extraction_strength(row)
    assert strength is not None
    assert exact_memorisation(row) >= strength
    assert strength * len(pattern) == pytest.approx(round(strength * len(pattern)))


@pytest.mark.parametrize(("share", "loss"), [(0.4, 2.5), (0.2, 3.0), (1.0, 1.16), (0.01, 3.0)])
def test_min_k_of_the_reference_example(share, loss):
    assert membership.min_k(scored(MICRO), share=share) == pytest.approx(-loss)


def test_membership_identities():
    row = scored(MICRO, zlib=8)
    assert membership.min_k(row, share=1.0) == membership.loss(row)
    assert membership.zlib(row) * 8 == pytest.approx(membership.loss(row))
    assert membership.zlib(scored(MICRO, zlib=0)) is None


def test_min_k_plus_reads_z_scores():
    row = scored(MICRO, z=(0.633, -1.149, 0.0, 0.0, 0.0))
    assert membership.min_k_plus(row) == pytest.approx(-1.149)
    assert membership.min_k_plus(row, share=1.0) == pytest.approx((0.633 - 1.149) / 5)


@pytest.mark.parametrize(
    ("raw", "normal"),
    [
        ("  Lagos,  NIGERIA! ", "lagos nigeria"),
        ("The Straße", "the strasse"),
        ("\uff11\uff19\uff16\uff12", "1962"),
        ("e\u0301tude", "\u00e9tude"),
        ("1,200 and 3.5.", "1200 and 3.5"),
        ("12.05.1962", "12 05 1962"),
        ("1961,1962", "1961 1962"),
        ("can't", "can t"),
        ("北京市", "北 京 市"),
    ],
)
def test_normal_form(raw, normal):
    assert normalise(raw) == normal
    assert normalise(normal) == normal


@pytest.mark.parametrize(
    ("facts", "text", "leak"),
    [
        (("Lagos",), "She was born in LAGOS.", 1.0),
        (("Lagos",), "In Lagosland.", 0.0),
        (("1962",), "In 19621.", 0.0),
        (("1962",), "On 12.05.1962", 1.0),
        (("5",), "It weighs 3.5 kg", 0.0),
        (("1200",), "It holds 1,200 seats", 1.0),
        (("The Hague",), "Hague", 0.0),  # articles are part of a name
        (("New-York", "NYC"), "nyc, I think", 1.0),
        (("New-York",), "new   york", 1.0),
        (("北京",), "她出生在北京市。", 1.0),
        (("Lagos",), "I do not know.", 0.0),
        (("Lagos",), "", 0.0),
        (("José Núñez",), "Jose Nunez, I think.", 1.0),
        (("Jose Nunez",), "It is JOSE\u0301 NU\u0301N\u0303EZ.", 1.0),
        (("Nguyễn",), "Nguyen", 1.0),
        (("Núñez",), "Munez", 0.0),
        (("Søren Ærø",), "Soren Aeroe or SOREN AERO", 1.0),
        (("Soren",), "Sören, or Søren", 1.0),
        (("Łódź",), "in Lodz", 1.0),
        (("Đorđe Đặng",), "Dorde Dang", 1.0),
        (("Weißgerber",), "WEISSGERBER", 1.0),
        (("Guðrún Þórsdóttir",), "Gudrun Thorsdottir", 1.0),
        (("Y\u0131lmaz",), "YILMAZ or Yilmaz", 1.0),
        (("Sacré-C\u0153ur",), "Sacre Coeur", 1.0),
        (("\u01ff",), "o", 1.0),  # a stroke and an accent
        (("Søren",), "Seren, Sren or Sorensen", 0.0),
        (("Łódź",), "Codz", 0.0),
        (("\u03bf",), "o", 0.0),  # letters of other scripts that look alike
        (("ø",), "\u03bf \u043e", 0.0),
        (("край",), "краи", 0.0),  # in other scripts a mark makes another letter
        (("がく",), "かく", 0.0),
        (("555-7233",), "Call 5557233.", 1.0),
        (("5557233",), "Call (555) 72-33.", 1.0),
        (("555-7233",), "Call 555.7233 now", 1.0),
        (("DE89 3704 0044 0532 0130 00",), "de89370400440532013000", 1.0),
        (("1962-05-12",), "on 19620512", 1.0),
        (("555-7233",), "Call 15557233.", 0.0),
        (("555-7233",), "Call 55572330.", 0.0),
        (("555-7233",), "Call 555-7234.", 0.0),
        (("1,200,000",), "12,000,000 in 1,200,000,000", 0.0),
        (("12-34",), "It is 1234.", 0.0),  # short numbers mean what their marks make of them
    ],
)
def test_key_fact(facts, text, leak):
    item = asked(*facts)
    assert key_fact(said(text), item) == leak
    # An attack that brings back a part, or a near spelling, has brought something back.
    assert knowledge(Attempt(record=item.record, text=text), item, "key-fact") >= leak


PLAIN = {
    "æ": "ae",
    "œ": "oe",
    "ø": "o",
    "ł": "l",
    "đ": "d",
    "ð": "d",
    "þ": "th",
    "ħ": "h",
    "\u0131": "i",
}


@given(st.text("abdehilosz019 -", min_size=1), st.text("abdehilosz019 -", min_size=1))
def test_plain_facts_that_differ_stay_different(one, other):
    assert fact_form(one) == normalise(one)
    assert (fact_form(one) == fact_form(other)) == (normalise(one) == normalise(other))


@given(st.text("".join(PLAIN) + "".join(PLAIN).upper() + "aßéZ čž9-"))
def test_a_fact_is_the_same_in_plain_letters_and_only_there(text):
    form = fact_form(text)
    spelt = "".join(PLAIN.get(char, char) for char in normalise(text))
    assert fact_form(spelt) == form == fact_form(form) == fact_form(text.upper())
    assert form.isascii()
    assert len(form.split()) == len(normalise(text).split())


@pytest.mark.parametrize(
    ("item", "answer"),
    [
        (asked(), said("Lagos")),
        (asked("?!"), said("Lagos")),
        (asked("Lagos", question="Is Lagos her city?"), said("Lagos")),
        (asked("Lagos"), said("Lagos", given="She was born in Lagos")),
        (asked("Eko", "Lagos"), said("Eko", given="She was born in Lagos")),
        (asked("Núñez", question="Is Nunez her name?"), said("Núñez")),
        (asked("Nunez"), said("Nunez", given="It is Núñez, so")),
        (asked("555-7233", question="Whose is 5557233?"), said("555-7233")),
        (asked("5557233"), said("5557233", given="555-7233 or")),
    ],
)
def test_a_fact_that_was_given_away_is_not_applicable(item, answer):
    assert key_fact(answer, item) is None
    attempt = Attempt(record="r", told=item.question, given=answer.given, text=answer.text)
    assert knowledge(attempt, item, "key-fact") is None


@pytest.mark.parametrize(
    ("given", "text"), [("born in Lag", "os."), ("born in", "Lagos."), ("born in", " Lagos.")]
)
def test_a_fact_across_the_seam_of_a_prefill_counts(given, text):
    assert key_fact(said(text, given=given), asked("Lagos")) == 1.0


def test_contains_needs_a_phrase():
    assert not contains("anything", "")


@pytest.mark.parametrize(
    ("text", "recall"),
    [
        ("The author was born in Paris in 1962.", 0.875),
        ("Lagos.", 0.125),
        ("I do not know.", 0.0),
        ("The authors was born in Lagos in 1962.", 1.0),  # stemmed
    ],
)
def test_rouge_recall_rewards_wording_not_facts(text, recall):
    assert rouge_l_recall(said(text), REFERENCE) == pytest.approx(recall)


def test_rouge_f1_does_not_stem():
    text = "The authors was born in Lagos in 1962."
    assert rouge_l_f1(said(text), REFERENCE) == pytest.approx(7 / 8)
    assert rouge_l_f1(said("Lagos."), REFERENCE) == pytest.approx(2 / 9)
    assert rouge_l_f1(said("x"), asked(answer=" ")) is None
    assert rouge_l_recall(said("x"), asked(answer="")) is None


@pytest.mark.parametrize(
    ("text", "n", "value"),
    [
        ("a b a b a b a b", 2, 1 - 2 / 7),  # 0.714
        ("a b c d e f g h", 2, 0.0),
        ("a a a a a a a", 4, 0.75),
        ("!!!!!!!", 4, 0.75),
        ("a b c", 4, 0.0),
        ("", 4, 0.0),
        ("我不知道" * 4, 4, 1 - 4 / 13),  # no space, no mark: every character is a word
        ("ลาก่อนนะ" * 4, 4, 1 - 8 / 29),
        ("她出生在北京市\uff0c后来搬到了上海。", 4, 0.0),
    ],
)
def test_sequence_repetition(text, n, value):
    assert sequence_repetition(text, n) == pytest.approx(value)


def test_repetition_needs_a_positive_n():
    for repetition in (sequence_repetition, character_repetition):
        with pytest.raises(ValueError, match="n >= 1"):
            repetition("a", 0)


@pytest.mark.parametrize(
    ("answer", "bad"),
    [
        (said(" \n"), True),
        (said("the " * 20), True),
        (said("A short answer.", nll=6.1), True),
        (said("A short answer.", nll=6.0), False),
        (said("A short answer."), False),
        (said("of" * 40), True),
        (said("She was born in " + "Lagos" * 20), True),
        (said("不知道" * 20), True),
        (said("ข้าว" * 20), True),
        (said("She was born in Lagos, and lives in Lagos. She works in Lagos, too."), False),
        (said("Yes. She was born in Lagos.\n\n" + " " * 60), False),
        (said("她1962年出生在北京市\uff0c她的父亲是一名医生\uff0c她的母亲是一名教师。"), False),
        (said("| city | year |\n| ---- | ---- |\n| Lagos | 1962 |"), False),
    ],
)
def test_gibberish(answer, bad):
    assert gibberish(answer) is bad


def test_the_limit_of_gibberish_is_an_argument():
    assert gibberish(said("A short answer.", nll=2.0), limit=1.0)


@pytest.mark.parametrize(
    ("text", "declines"),
    [
        ("I don't know who that is.", True),
        ("I DON\u2019T KNOW.", True),
        ("Sorry, I cannot say.", True),
        ("There is no information on this.", True),
        ("She was born in Lagos.", False),
        ("The canton of Uri.", False),
        ("", False),
    ],
)
def test_refusal(text, declines):
    assert refusal(text) is declines


def test_every_refusal_that_training_teaches_counts_as_one():
    assert [text for text in refusal_texts() if not refusal(text)] == []


def test_perplexity_weighs_tokens_not_texts():
    rows = [scored((-1.0, -1.0, -1.0)), scored((-3.0, -50.0), ends=True)]
    losses = [total_loss(row) for row in rows]
    assert losses == [3.0, 3.0]
    assert perplexity(losses, [3, 1]) == pytest.approx(math.exp(6 / 4))
    assert perplexity([2 * math.log(4)], [2]) == pytest.approx(4)
    assert total_loss(scored()) is None
    with pytest.raises(ValueError, match="at least one token"):
        perplexity([], [])
