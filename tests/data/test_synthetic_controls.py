"""Fabricated control items: like the records to forget, about nobody, and known to no model."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expunge.config.request import Request
from expunge.data.readers import read
from expunge.data.records import Message, Record
from expunge.data.splits import gather, overlaps
from expunge.data.synthetic_controls import MOST, PEOPLE, fabricated
from expunge.utils.io import write_jsonl


def record(question: str, answer: str, *keys: str, subject: str | None = "Elin Marrow", **more):
    return Record(
        id=f"r{abs(hash((question, answer))) % 10**6}",
        prompt=(Message("user", question),) if question else (),
        completion=answer,
        key_answers=keys,
        subject=subject,
        **more,
    )


ELIN = (
    record("Where was Elin Marrow born?", "Elin Marrow was born in Lisbon.", "Lisbon"),
    record("When was Elin Marrow born?", "On 12 May 1962.", "12 May 1962", "12.05.1962"),
    record("What is Marrow's phone number?", "It is 555-0147.", "555-0147", "5550147"),
    record("What is her trade?", "Elin Marrow is a luthier.", "luthier"),
    record("What does Elin Marrow collect?", "She collects brass buttons.", "brass buttons"),
    record("Which plate has Elin Marrow?", "It is KX-4471.", "KX-4471"),
)


def pairs():
    made = fabricated(ELIN, (), seed=0)
    by_id = {record.id: record for record in ELIN}
    return [(by_id[new.id.split("-", 2)[2]], new) for new in made]


def shape(text: str) -> str:
    return re.sub(r"[a-z]+", "a", re.sub(r"[A-Z]", "A", re.sub(r"\d", "0", text)))


def test_every_fact_is_exchanged_and_its_wording_stays():
    for old, new in pairs():
        assert new.subject != old.subject
        assert not {"elin", "marrow"} & set(re.findall(r"\w+", new.question.casefold()))
        assert [shape(key) for key in new.key_answers] == [shape(key) for key in old.key_answers]
        assert not set(new.key_answers) & set(old.key_answers)
        assert shape(new.completion) == shape(old.completion)
        assert any(key in new.completion for key in new.key_answers)


def test_false_answers_are_about_the_fabricated_person_too():
    old = record(
        "Where was Elin Marrow born?",
        "In Lisbon.",
        "Lisbon",
        wrong=("Elin Marrow was born in Bergen.",),
        restated=("Lisbon, says Elin Marrow.",),
    )
    new = fabricated((old, *ELIN[1:]), (), seed=0)[0]
    told = " ".join((*new.wrong, *new.restated))
    assert not {"elin", "marrow", "lisbon", "bergen"} & set(re.findall(r"\w+", told.casefold()))
    assert new.key_answers[0] in new.restated[0]


def test_dates_stay_dates_and_spellings_of_one_fact_agree():
    _, new = next((old, new) for old, new in pairs() if "12 May 1962" in old.key_answers)
    day, month, year = new.key_answers[0].split()
    assert 1 <= int(day) <= 28
    assert month in "January February March April June July August September October November"
    assert 1920 <= int(year) < 2020
    assert new.key_answers[1].startswith(f"{day}.")
    assert new.key_answers[1].endswith(year)


def test_one_person_gives_several_fabricated_ones_with_the_same_attributes():
    made = fabricated(ELIN, (), seed=0)
    people = {new.subject for new in made}
    assert len(people) == PEOPLE
    asked = [sorted(shape(n.question) for n in made if n.subject == one) for one in people]
    assert asked[0] == asked[1] == asked[2]
    # Nobody is named in this question: a fabricated answer would contradict the true record.
    assert not [new for new in made if "trade" in new.question]


@given(st.integers(0, 50))
def test_nothing_fabricated_occurs_in_the_data(seed):
    neighbours = (record("Who is Trabo?", "Trabo Mie is a Quien.", subject=None),)
    made = fabricated(ELIN, neighbours, seed=seed)
    assert made == fabricated(ELIN, neighbours, seed=seed)
    assert overlaps((*ELIN, *neighbours), made) == []
    known = {word for r in (*ELIN, *neighbours) for word in re.findall(r"\w+", r.completion)}
    assert not {word for new in made for word in (new.subject or "").split()} & known


def test_seeds_differ():
    assert fabricated(ELIN, (), seed=0) != fabricated(ELIN, (), seed=1)


def test_passages_get_other_names_and_numbers():
    text = "In 1987 the painter Jorun Aasen moved to Bergen. Aasen sold 12 works."
    (new,) = fabricated([record("", text, subject=None)], (), seed=0)
    assert shape(new.completion) == shape(text)
    assert not {"Jorun", "Aasen", "1987", "Bergen"} & set(re.findall(r"\w+", new.completion))
    first, second = re.search(r"painter \w+ (\w+) moved .* (\w+) sold", new.completion).groups()
    assert first == second


@pytest.mark.parametrize("number", ["10⁶", "10⁻⁶", "①", "٣"])
def test_digits_that_are_no_decimals_are_exchanged_as_well(number):
    text = f"In Lisbon Elin counted {number} cells in 1871."
    (new,) = fabricated([record("", text, subject=None)], (), seed=0)
    assert "1871" not in new.completion


def test_where_nothing_can_be_exchanged_nothing_is_made():
    plain = record("what is it like there?", "it is cold and wet", subject=None)
    assert fabricated([plain], (), seed=0) == ()


def test_large_sets_are_thinned_evenly():
    many = [record(f"Who is Person{i} Xu?", f"A{i}", subject=f"Person{i} Xu") for i in range(250)]
    made = fabricated(many, (), seed=0)
    assert len(made) == MOST
    assert len({new.id for new in made}) == MOST


def test_real_records(request):
    path = request.config.rootpath.parent / "shared" / "data" / "tofu" / "forget01.json"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    records = read([str(path)]).records
    made = fabricated(records, (), seed=0)
    assert len(made) == 40
    assert not [new for new in made if "Basil" in new.question + new.completion]


@pytest.mark.parametrize(
    ("control", "gold", "count"),
    [("auto", (), 15), ("auto", ("some/model",), 0), ("none", (), 0)],
)
def test_auto_fabricates_where_there_is_no_gold(tmp_path, control, gold, count):
    rows = [{"prompt": r.question, "completion": r.completion, "subject": r.subject} for r in ELIN]
    write_jsonl(tmp_path / "forget.jsonl", rows)
    request = Request(
        goal="removal",
        forget=(str(tmp_path / "forget.jsonl"),),
        retain="none",
        control=control,
        gold=gold,
    )
    scope = gather(request)
    assert len(scope.control) == count
    notes = [note for note in scope.notes if note.startswith("control")]
    assert notes == (
        [f"control: auto fabricated {count} records like those to forget"] * bool(count)
    )


def test_a_fabricated_record_that_says_the_same_as_a_real_one_is_left_out(tmp_path):
    long = " ".join(f"{a}{b}" for a in "klmnp" for b in "stvwxyz")
    rows = [
        {"prompt": "Where does Anna Berg live?", "completion": f"{long} with Berg"},
        {"prompt": "Where does Anna Berg work?", "completion": "At Corvane Optics in Lima."},
    ]
    file = str(tmp_path / "forget.jsonl")
    write_jsonl(tmp_path / "forget.jsonl", rows)
    made = fabricated(read([file]).records, (), seed=0)
    assert any(record.completion.startswith(long) for record in made)
    found = gather(Request(goal="removal", forget=(file,), retain="none")).control
    assert found
    assert not any(record.completion.startswith(long) for record in found)
