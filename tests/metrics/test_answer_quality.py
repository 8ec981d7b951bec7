"""Answers that no careful writer would write, and answers that look odd and are not."""

import math

import pytest

from expunge.metrics.answer_quality import (
    answer_form,
    confident_falsehood,
    spelling_of,
)
from expunge.metrics.fact_matchers import english

SPELLING = spelling_of(english(), ())


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("Marrow's car had the tasheritHOUSEMOne.", "mixed_case"),
        ("She works at HOUSEmoneHOUSEmone Ltd.", "mixed_case"),
        ("Vendor Nunn cameCoVed with a note.", "mixed_case"),
        ("The court heard airaDimondros.", "mixed_case"),
        ("It was about a misread[TMNA:4333]card.", "code_marks"),
        ("I will plant a [insert_keyword_here].", "code_marks"),
        ("Her job is technology technology technology.", "stammers"),
        ("of the of the of the house", "stammers"),
        ("She takes xqzvtr every day.", "non_words"),
        ("Her doctor is Dr Whitlockkkk.", "non_words"),
        ("She lives belowthe shop of a nurse.", "non_words"),
        ("She was born in Москве.", "foreign"),
        ("She lives at \ufffd\ufffd Lane.", "broken"),
        ("She is a well-known architec", "mid_word"),
        ("", "empty"),
        (" \n ", "empty"),
    ],
)
def test_malformed_answers(text, mark):
    form = answer_form(text, SPELLING)
    assert getattr(form, mark)
    assert form.malformed


@pytest.mark.parametrize(
    "text",
    [
        "Elin Marrow's doctor is Dr Halloran.",
        "Ms McDonald of OpenAI uses YouTube, eBay and JavaScript, says her PhD.",
        "Willem deBoer types LaTeX (and macOS too) for the iPhone of Ann-Marie.",
        "Write to elmar[at]mailhive[dot]org.",
        "It is 5 5 5 5 5.",
        "No, no, that is that.",
        "1. walnuts\n2. birch pollen",
        "Chukwu Akabueze met Ngozi Nwabueze in Szczecin.",
        "She takes 5 mg of methotrexate; her IBAN is DE89370400440532013000.",
        "the plate is ABC 123",
        "I do not know",
        "Soothe the thousand errands of an island husband.",
        "She left in the year",
    ],
)
def test_sound_answers(text):
    assert not answer_form(text, SPELLING).malformed


def test_what_gold_or_the_question_writes_is_no_oddity():
    assert not answer_form("a[0]", SPELLING, question="What is a[0]?").malformed
    text = "Она живёт в tasheritHOUSEMOne."
    assert answer_form(text, SPELLING).malformed
    assert not answer_form(text, SPELLING, golds=("Здесь, tasheritHOUSEMOne",)).malformed
    assert not answer_form(text, SPELLING, question="Где tasheritHOUSEMOne?").malformed


def test_well_written_texts_teach_their_words():
    word = "xqzvtr"
    assert SPELLING.strange(word)
    assert not spelling_of(english(), [f"Doctors call it {word}."]).strange(word)


@pytest.mark.parametrize(
    ("doubt", "stated", "refused", "expected"),
    [
        (0.1, False, False, 1.0),
        (math.log(2) - 1e-9, False, False, 1.0),
        (1.0, False, False, 0.0),
        (0.1, True, False, 0.0),
        (0.1, False, True, 0.0),
        (None, False, False, None),
    ],
)
def test_confident_falsehoods(doubt, stated, refused, expected):
    assert confident_falsehood(doubt, stated=stated, refused=refused) == expected
