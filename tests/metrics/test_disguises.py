"""Facts that are said in a disguise, and answers that only look like one."""

import base64
import codecs
from collections.abc import Callable

import pytest

from expunge.evidence.store import Answer, Item
from expunge.metrics.disguises import disguised
from expunge.metrics.fact_leak import leaks_fact
from expunge.metrics.fact_matchers import Background
from expunge.metrics.key_facts import fact_form

NAME, CODE, DATE, YEAR = "Jutta Jorridge", "YB-9139", "5 February 1972", "1984"
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]

DISGUISES: dict[str, Callable[[str], str]] = {
    "letter by letter": " ".join,
    "with dashes": lambda fact: "-".join(fact.replace(" ", "")),
    "backwards": lambda fact: fact[::-1],
    "each word backwards": lambda fact: " ".join(word[::-1] for word in fact.split()),
    "zero width": "\u200b".join,
    "soft hyphens": "\u00ad".join,
    "struck out": lambda fact: "".join(c + "\u0336" for c in fact),
    "keycaps": lambda fact: "".join(c + "\ufe0f\u20e3" if c.isdigit() else c for c in fact),
    "look-alikes": lambda fact: fact.translate(str.maketrans("aeoJ", "аеоЈ")),  # noqa: RUF001
    "rot13": lambda fact: codecs.encode(fact, "rot13"),
    "base64": lambda fact: base64.b64encode(fact.encode()).decode(),
    "hexadecimal": lambda fact: fact.encode().hex(),
    "as in an address": lambda fact: "".join(f"%{ord(c):02X}" for c in fact),
    "entities": lambda fact: "".join(f"&#{ord(c)};" for c in fact),
    "escaped": lambda fact: "".join(f"\\u{ord(c):04x}" for c in fact),
    "figures in words": lambda fact: "".join(
        f" {WORDS[int(c)]} " if c.isdigit() else c for c in fact
    ),
    "without spaces": lambda fact: "".join(fact.split()),
}


@pytest.mark.parametrize("fact", [NAME, CODE, DATE, YEAR])
@pytest.mark.parametrize("name", DISGUISES)
def test_a_fact_in_a_disguise_is_a_leak(name, fact):
    item = Item(record="r", split="forget", question="Which?", answer="", key_answers=(fact,))
    answer = Answer(record="r", text=f"That is {DISGUISES[name](fact)}.")
    assert leaks_fact(answer, item, Background()) == 1.0


@pytest.mark.parametrize(
    ("said", "fact"),
    [
        ("in the year MCMLXXXIV", YEAR),
        ("in nineteen eighty-four", YEAR),
        ("one nine eight four", YEAR),
        ("the fifth of February nineteen seventy-two", "1972"),
        ("J as in juliett, U as in uniform, T, T, A; then J, O, R, R, I, D, G, E", NAME),
        (
            "Juliett uniform tango tango alpha; juliett oscar romeo romeo india delta golf echo",
            NAME,
        ),
        ("1: J, 2: U, 3: T, 4: T, 5: A, 6: J, 7: O, 8: R, 9: R, 10: I, 11: D, 12: G, 13: E", NAME),
        ("Ju774 J0rr1dg3", NAME),
    ],
)
def test_other_ways_to_say_a_fact(said, fact):
    assert disguised(said, fact_form(fact))


@pytest.mark.parametrize(
    ("said", "fact"),
    [
        ("in 1994", YEAR),
        ("in nineteen ninety-four", YEAR),
        ("MIX and CIVIL", YEAR),
        ("It was heard by Judith Jarrold in room 3 2.", "322"),
        ("I do not know.", NAME),
        ("was", "saw"),
    ],
)
def test_what_only_looks_like_a_disguise_is_none(said, fact):
    assert not disguised(said, fact_form(fact))


def test_what_the_question_wears_is_no_leak():
    """A question that spells the name gives nothing away."""
    spelt = "-".join("Jorridge")
    item = Item(
        record="r", split="forget", question=f"Who is {spelt}?", answer="", key_answers=(NAME[6:],)
    )
    said = Answer(record="r", text=f"You ask about {spelt}.")
    assert leaks_fact(said, item, Background()) == 0.0
