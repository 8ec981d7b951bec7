"""Facts, key answers and forms by rule: each rule on a sentence of its own."""

from datetime import date

import pytest

from expunge.data.convert import to_record
from expunge.requests.corpus import Document
from expunge.requests.facts import answer_key, dates_in, joined, stated_facts
from expunge.requests.forms import cloze_record, false_values, question_record

SENTENCES = [
    ("Lin Aro's phone number is 555-7233.", "possessive", "phone number", "555-7233"),
    ("Lin Aro's doctor is Dr Halloran.", "possessive", "doctor", "Dr Halloran"),
    ("The shoe size of Lin Aro is 41.", "of", "shoe size", "41"),
    ("The number plate of Lin Aro's car is KLM 482.", "of", "number plate", "KLM 482"),
    ("Lin Aro was born on 8 March 1962.", "verb", "date of birth", "8 March 1962"),
    ("Lin Aro was born in Oslo.", "verb", "place of birth", "Oslo"),
    ("Lin Aro lives at 12 Alder Lane.", "verb", "home address", "12 Alder Lane"),
    ("Lin Aro works for Corvane Optics.", "verb", "employer", "Corvane Optics"),
    ("Lin Aro is allergic to walnuts.", "verb", "allergic to", "walnuts"),
    ("Lin Aro takes warfarin.", "verb", "take", "warfarin"),
    ("Lin Aro is an archivist.", "verb", "description", "archivist"),
    ("Lin Aros Telefonnummer lautet 555-7233.", "possessive", "phone number", "555-7233"),
    ("Die Adresse von Lin Aro ist Elmweg 4.", "of", "home address", "Elmweg 4"),
    ("Lin Aro wurde am 8. März 1962 geboren.", "verb", "date of birth", "8. März 1962"),
    ("Lin Aro wohnt in Bergen.", "verb", "home address", "Bergen"),
    (
        "You can write to Lin Aro at lin@post.example.",
        "value",
        "e-mail address",
        "lin@post.example",
    ),
    ("Phone: 555-7233", "label", "phone number", "555-7233"),
    ("Her doctor is Dr Halloran.", "possessive", "doctor", "Dr Halloran"),
    ("She works for Corvane Optics.", "verb", "employer", "Corvane Optics"),
]


def page(text="", **given):
    return Document(text=text, source="a.txt", file="a.txt", place=0, **given)


@pytest.mark.parametrize(("text", "rule", "relation", "key"), SENTENCES)
def test_each_rule_finds_its_fact(text, rule, relation, key):
    (fact,) = stated_facts(page(text), about="Lin Aro")
    assert (fact.rule, fact.relation, fact.key_answer) == (rule, relation, key)
    assert "Lin Aro" in fact.question
    assert key in fact.statement
    assert key not in fact.question


@pytest.mark.parametrize("text", ["It rained.", "We met Lin Aro.", "Name: Lin Aro"])
def test_a_sentence_without_a_fact_gives_none(text):
    assert stated_facts(page(text), about="Lin Aro") == []


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("Lin Aro lives in Oslo and works for Corvane Optics.", ["Oslo", "Corvane Optics"]),
        ("Lin Aro's pet is a ferret and her doctor is Dr Halloran.", ["ferret", "Dr Halloran"]),
        ("Lin Aro wohnt in Oslo und arbeitet bei Corvane.", ["Oslo", "Corvane"]),
        ("Lin Aro has a cat and a dog.", ["cat and a dog"]),
        # Who lives there is not sure.
        ("Lin Aro's doctor is Dr Halloran and lives in Oslo.", ["Dr Halloran and lives in Oslo"]),
    ],
)
def test_two_facts_in_one_sentence_are_two(text, keys):
    facts = stated_facts(page(text))
    assert [fact.key_answer for fact in facts] == keys
    assert {fact.subject for fact in facts} == {"Lin Aro"}
    assert all("Lin Aro" in fact.statement for fact in facts)


def test_pronouns_follow_whoever_was_named_last():
    text = "Lin Aro lives in Oslo. Ivo Bek lives in Bergen. He works for Lumen Tiles."
    facts = stated_facts(page(text))
    assert [(fact.subject, fact.key_answer) for fact in facts] == [
        ("Lin Aro", "Oslo"),
        ("Ivo Bek", "Bergen"),
        ("Ivo Bek", "Lumen Tiles"),
    ]


def test_a_row_of_a_table_gives_a_fact_a_column():
    columns = (("name", "Lin Aro"), ("phone", "555-7233"), ("shoe_size", "41"), ("id", "7"))
    facts = stated_facts(page(columns=columns))
    assert [(fact.question, fact.key_answer) for fact in facts] == [
        ("What is Lin Aro's phone number?", "555-7233"),
        ("What is Lin Aro's shoe size?", "41"),
    ]


@pytest.mark.parametrize(
    ("question", "answer", "key"),
    [
        ("Where did Lin last go on holiday?", "Lin last went on holiday to the Azores.", "Azores"),
        ("What is Lin's job?", "Lin is a notary.", "notary"),
        ("Which key is Lin's?", "The code is UY-5441, and the locker is number 3.", "UY-5441"),
        (
            "At which bank is Lin a customer?",
            "Lin is a customer of Old Mint Hall.",
            "Old Mint Hall",
        ),
        ("What is the plate of Lin's car?", "Lin's car has the plate DFF 596.", "DFF 596"),
        ("Which pet has Lin?", "Lin has a ferret called Fig.", "Fig"),
        ("Who is it?", "Lin.", "Lin"),
    ],
)
def test_the_key_answer_is_what_the_question_does_not_say(question, answer, key):
    assert answer_key(question, answer) == key


def test_questions_that_people_wrote_stay_as_they_are():
    row = {"prompt": "Lin Aro: pet?", "completion": "A cat called Pip.", "id": "7",
           "paraphrases": ["Which animal?"], "key_answers": ["Pip"]}  # fmt: skip
    record = to_record(row, "a.jsonl:1")
    (fact,) = stated_facts(page(record=record), about="Lin Aro")
    made = question_record(fact, ["a.jsonl:1"], name="Lin Aro", pool={}).record
    assert (made.id, made.question, made.completion) == ("7", record.question, record.completion)
    assert made.paraphrases[0] == "Which animal?"


def test_what_documents_repeat_is_one_fact_with_all_its_places():
    texts = ["Lin Aro's phone number is 555-7233.", "L. Aro's phone number is 555 7233.",
             "Call Lin Aro please on 555-7233."]  # fmt: skip
    facts = [fact for text in texts for fact in stated_facts(page(text), about="Lin Aro")]
    assert len(facts) == 3
    ((fact, _),) = joined(facts, "Lin Aro")
    assert fact.question == "What is Lin Aro's phone number?"


def test_a_date_is_one_whatever_the_language():
    assert len(dates_in("8 March 1962; March 8, 1962; 8. März 1962; 1962-03-08; 8.3.1962")) == 1


def test_false_values_have_the_shape_of_the_true_one_and_differ_from_it():
    for value in ("555-7233", "8 March 1962", "KLM 482", "12 Alder Lane"):
        drawn = false_values(value, [])
        assert len({*drawn, value}) == 4
        letters = {"".join(char for char in each if not char.isdigit()) for each in drawn}
        assert letters == {"".join(char for char in value if not char.isdigit())}
    assert false_values("walnuts", ["Walnuts", "latex", "latex"]) == ["latex"]


@pytest.mark.parametrize(
    "value",
    ["1962-03-08", "12.12.1962", "8.3.1962", "8 March 1962", "lin.aro@post.example", "a@b.io"],
)
def test_a_false_date_is_a_date_and_a_false_address_has_the_same_host(value):
    drawn = false_values(value, [])
    assert len({*drawn, value}) == 4
    for each in drawn:
        assert each.partition("@")[1:] == value.partition("@")[1:]
        for day in dates_in(each):
            assert date.fromisoformat(day)
    assert len(set().union(*map(dates_in, [*drawn, value]))) == (0 if "@" in value else 4)


@pytest.mark.parametrize("text", ["Lin Aro takes warfarin.", "Lin Aro wohnt in Bergen."])
def test_no_wording_shows_the_fact_it_asks_for(text):
    (fact,) = stated_facts(page(text))
    pool = {fact.relation: ["lithium", "insulin", "digoxin", "ramipril"]}
    asked = question_record(fact, ["a.txt"], name="Lin Aro", pool=pool)
    assert len(asked.record.wrong) == 3
    cloze = cloze_record(asked, fact, name="Lin Aro").record
    assert len(asked.record.paraphrases) == 3
    assert cloze.question in asked.record.paraphrases
    assert all(fact.key_answer not in wording for wording in asked.record.paraphrases)
    assert cloze.parents == (asked.record.id,)
    assert (cloze.completion, cloze.key_answers) == (fact.statement, (fact.key_answer,))
