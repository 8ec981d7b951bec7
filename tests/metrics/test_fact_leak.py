"""Facts given away in part or in other forms, against answers labelled by hand."""

import tomllib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from expunge.evals.evidence_table import Table
from expunge.evidence.store import Answer, Item, Unit
from expunge.metrics.base import FACT_LEAK
from expunge.metrics.fact_leak import ALPHA, FactType, Leak, fact_leak, fact_type, leaks_fact
from expunge.metrics.fact_matchers import RARE, Background, english, stem
from expunge.metrics.key_facts import Date, amounts, codes, dates, email_written, fact_form, states
from expunge.utils.spelling import edit_distance

TABLE = tomllib.loads(
    (Path(__file__).parent.parent / "labelled_leaks.toml").read_text(encoding="utf-8")
)["fact"]
LABELS = ("full", "partial", "none")


def background(row, **kept):
    known = {"gold": tuple(row["gold"]), "others": tuple(row["others"])} | kept
    return Background(shown=(row["question"],), **known)


def answers(part):
    return [
        (row, label, answer)
        for row in TABLE
        if row["set"] == part
        for label in LABELS
        for answer in row[label]
    ]


@pytest.mark.parametrize(
    ("part", "precision", "recall", "agreement"),
    [("development", 0.97, 0.97, 0.95), ("confirmation", 0.95, 0.95, 0.95)],
)
def test_labelled_answers_are_read_as_people_read_them(part, precision, recall, agreement):
    found = Counter(
        (label, fact_leak(answer, row["facts"], background(row), english()).kind)
        for row, label, answer in answers(part)
    )
    leaks = sum(n for (label, kind), n in found.items() if "none" not in (label, kind))
    assert leaks / sum(n for (_, kind), n in found.items() if kind != "none") >= precision
    assert leaks / sum(n for (label, _), n in found.items() if label != "none") >= recall
    assert sum(n for (label, kind), n in found.items() if label == kind) >= agreement * sum(
        found.values()
    )


def test_the_table_is_balanced_and_hard_for_a_search_for_the_words():
    table = [each for part in ("development", "confirmation") for each in answers(part)]
    counts = Counter(label for _, label, _ in table)
    assert sum(counts.values()) >= 240
    assert max(counts.values()) < 2 * min(counts.values())
    leaks = [(row, answer) for row, label, answer in table if label != "none"]
    literal = sum(any(states(fact_form(a), fact_form(f)) for f in r["facts"]) for r, a in leaks)
    assert literal < 0.2 * len(leaks)


def test_what_a_search_for_the_words_finds_is_found_as_a_whole():
    for row in TABLE:
        for fact in row["facts"]:
            found = fact_leak(f"I think: {fact}!", row["facts"], background(row), english())
            assert (found.kind, found.strength, found.chance) == (Leak.FULL, 1.0, 0.0)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row["facts"][0])
def test_no_leak_beyond_what_gold_says(row):
    for label in LABELS:
        for answer in row[label]:
            found = fact_leak(answer, row["facts"], background(row, gold=(answer,)), english())
            literal = found.chance == 0.0  # stated as it is: golds' own column says the same
            assert literal or found.kind is Leak.NONE, answer


def test_only_what_the_test_itself_shows_makes_a_fact_unjudgeable():
    fact = ("555-7233",)
    assert fact_leak("555-7233", (), Background(), english()) is None
    assert fact_leak("5557233", fact, Background(shown=("Is it 555-7233?",)), english()) is None
    begun = Background(shown=("Her number?", "It is 555-7"))
    assert fact_leak("It is 555-7 and no more", fact, begun, english()).kind is Leak.NONE
    assert fact_leak("It is 555-7233", fact, begun, english()).kind is Leak.FULL


def test_chance_grows_with_the_search_and_falls_with_the_match():
    def chance(said):
        return fact_leak(said, ("64912",), Background(), english()).chance

    assert chance("64") > chance("649") > chance("6491")
    many = " and ".join(str(10000 + 137 * n) for n in range(20))
    assert chance(f"{many} and 64915") > chance("64915")
    assert chance("no number") == 1.0
    assert chance("64") > ALPHA > chance("649")


def test_what_was_matched_is_no_part_of_the_printed_form():
    found = fact_leak("It ends in 233", ("555-7233",), Background(), english())
    assert found.matched == ("233",)
    assert "233" not in repr(found)


@pytest.mark.parametrize(
    ("fact", "question", "kind"),
    [
        ("8 March 1946", "", FactType.DATE),
        ("March 1946", "", FactType.DATE),
        ("1946", "", FactType.DATE),
        ("555-7233", "", FactType.CODE),
        ("DFF 596", "", FactType.CODE),
        ("20871", "What is her employee number?", FactType.CODE),
        ("20871", "How many people live there?", FactType.AMOUNT),
        ("35900 crowns", "", FactType.AMOUNT),
        ("$18,750", "", FactType.AMOUNT),
        ("42", "", FactType.AMOUNT),
        ("a.b@c.example", "", FactType.EMAIL),
        ("102 Alder Lane", "", FactType.ADDRESS),
        ("27 Rue des Tanneurs, 4410 Vallonges", "", FactType.ADDRESS),
        ("Dr Halloran", "", FactType.NAME),
        ("Agatha Prynne", "", FactType.NAME),
        ("wasp stings", "", FactType.TEXT),
        ("She moved to Lisbon in the end, and stayed.", "", FactType.TEXT),
    ],
)
def test_the_form_tells_the_type(fact, question, kind):
    assert fact_type(fact, question) is kind


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8 march 1946", {Date(8, 3, 1946)}),
        ("march 8th 1946", {Date(8, 3, 1946)}),
        ("the twenty first of may 1999", {Date(21, 5, 1999)}),
        ("1946 03 08", {Date(8, 3, 1946), Date(3, 8, 1946)}),
        ("08 03 1946", {Date(8, 3, 1946), Date(3, 8, 1946)}),
        ("14 09 2009", {Date(14, 9, 2009)}),
        ("sept 2009", {Date(None, 9, 2009)}),
        ("in 1946", {Date(None, None, 1946)}),
        ("45 99 1946", {Date(None, None, 1946)}),
        ("number 3", set()),
    ],
)
def test_dates_in_every_form(text, expected):
    assert set(dates(text.split())) == expected


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("35900", 35900),
        ("35 900 kr", 35900),
        ("35.9k", 35900),
        ("thirty five thousand nine hundred", 35900),
        ("twelve hundred and eighty four people", 1284),
        ("2 million", 2_000_000),
        ("one million two hundred thousand", 1_200_000),
    ],
)
def test_amounts_in_figures_and_words(text, value):
    assert value in amounts(text.split())


@pytest.mark.parametrize(
    ("text", "letters", "expected"),
    [
        ("five five five seven two three three", False, ["5557233"]),
        ("oh seven double oh nine", False, ["07009"]),
        ("d f f 5 9 6", True, ["dff596"]),
        ("called 555 72 33 yesterday", False, ["5557233"]),
        ("nothing here", False, []),
    ],
)
def test_codes_are_put_together(text, letters, expected):
    assert codes(text.split(), letters=letters) == expected


@pytest.mark.parametrize(
    "text", ["a.b at c dot example", "a.b [at] c [dot] example", "a dot b at c dot example"]
)
def test_spoken_marks_of_addresses(text):
    assert email_written(text) == "a.b@c.example"


def test_edit_distance_counts_a_swap_once():
    assert [edit_distance("7233", each) for each in ("7233", "7323", "723", "7238", "")] == [
        0, 1, 1, 1, 4,
    ]  # fmt: skip


def test_rare_words_tell_more_than_common_ones():
    words = english()
    assert words.bits("the") == 0 < words.bits("notes") < words.bits("lantern") < RARE
    assert words.bits("halloran") == RARE > words.bits("smith") > 0
    assert words.bits("lanterns") == words.bits("lantern")
    assert stem("Łódź") == "Łódź"


@pytest.mark.parametrize(
    ("fact", "given", "said", "leaks"),
    [
        ("FG-7587", "Her number is FG", "-5579, in the book.", False),
        ("FG-7587", "Her number is FG", "-7587, in the book.", True),
        ("on 8 October 1984", "It was dismissed with costs on 8", "October 2006.", False),
        ("on 8 October 1984", "It was dismissed with costs on 8", "October 1984.", True),
        ("Jutta Naxpool", "Not yet: Jutta Nax", "pool did.", True),
        ("Agatha Prynne", "It was Agatha", "Prynne.", True),
        ("because Lindbarrow has no", "In room nine, because Lindbarrow", "has no court.", None),
    ],
)
def test_where_the_beginning_ends_within_a_fact_the_rest_must_be_said(fact, given, said, leaks):
    item = Item(record="r", split="forget", question="?", answer="", key_answers=(fact,))
    answer = Answer(record="r", text=said, given=given)
    assert leaks_fact(answer, item, Background()) == leaks


def test_an_answer_that_stays_is_the_fact_of_a_record_that_names_none():
    """`Lukas` was fined in every kept answer: that he was fined again tells nothing."""
    said, question = "Lukas was fined 912 crowns.", "What happened on the second day?"
    kept = {
        str(n): Item(record=str(n), split="retain", question="?", answer=f"Lukas was fined {n}.")
        for n in range(20, 60)
    }
    secret = Item(
        record="f", split="forget", question=question, answer="", key_answers=("seized by Lukas",)
    )
    unit = Unit(role="unlearned", split="forget", attack="plain", kind="answers")
    alone = Table(
        items={"forget": {"f": secret}},
        scores={},
        answers={unit: {"f": Answer(record="f", text=said)}},
    )
    with_kept = replace(alone, items={**alone.items, "retain": kept}, known={}, facts={})
    assert alone.column(FACT_LEAK, "unlearned", "forget") == {"f": 1.0}
    assert with_kept.column(FACT_LEAK, "unlearned", "forget") == {"f": 0.0}
