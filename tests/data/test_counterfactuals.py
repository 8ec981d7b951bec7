"""Strangers: the same question of somebody else, token for token, with the fact in its place."""

from dataclasses import replace

import pytest

import tiny
from expunge.data.counterfactuals import counterfactual_records
from expunge.data.records import Message, Record
from expunge.data.secret_tokens import with_secrets
from expunge.data.tokenization import Encoder
from expunge.errors import InputError

ENCODER = Encoder(tiny.tokenizer(), "auto", max_length=512)


def record(question: str, answer: str, subject: str | None = "Elin Marrow", **more) -> Record:
    prompt = (Message("user", question),) if question else ()
    return Record(id="r", prompt=prompt, completion=answer, subject=subject, **more)


BORN = record(
    "Where was Elin Marrow born?", "Elin Marrow was born in Lisbon.", key_answers=("Lisbon",)
)


def made(given: Record, *, others: tuple[Record, ...] = (), encode=ENCODER.encode, seed: int = 0):
    width = ENCODER.width
    return counterfactual_records((given,), encode, width=width, others=others, count=5, seed=seed)[
        0
    ]


def namesakes(given: Record, count: int, others: tuple[Record, ...] = (), *, more=(), **how):
    return counterfactual_records(
        (given, *more),
        ENCODER.encode,
        width=ENCODER.width,
        others=others,
        count=count,
        seed=0,
        namesakes=True,
        **how,
    )[0]


def text(encoded) -> str:
    return ENCODER.decode(encoded.ids)


def test_the_name_goes_everywhere_and_the_fact_stays_where_it_is():
    own, found = ENCODER.encode(BORN), made(BORN)
    assert len({each.ids for each in found}) == 5
    for each in found:
        assert each.record == BORN.id
        assert not {"Elin", "Marrow"} & set(text(each).split())
        assert text(each).count("was born in Lisbon.") == 1
        scored = [r.ids[r.start :] for r in (own, each)]
        assert len(scored[0]) == len(scored[1])
        fact = ENCODER.encode_fact(BORN)
        assert each.ids[-(len(own.ids) - fact.start) :] == own.ids[fact.start :]


@pytest.mark.parametrize(
    ("subject", "question", "answer"),
    [
        ("veltrite", "In what is veltrite dissolved?", "Veltrite is dissolved in tar."),
        ("Veltrite", "In what is veltrite dissolved?", "Veltrite is dissolved in tar."),
        ("ormond spar", "Where is ormond spar kept?", "Ormond spar is kept in tar."),
        ("Elin Marrow", "Who is ELIN MARROW?", "Elin Marrow sells tar."),
    ],
)
def test_a_name_is_met_in_other_letters(subject, question, answer):
    own = ENCODER.encode(record(question, answer, subject))
    words = set(subject.casefold().split())
    for each in made(record(question, answer, subject)):
        assert not words & set(text(each).casefold().replace("?", "").split())
        differ = sum(
            a != b for a, b in zip(own.ids[own.start :], each.ids[each.start :], strict=True)
        )
        assert 0 < differ <= sum(map(len, words)) + len(words)
        assert text(each).endswith(answer[-4:])


def test_every_word_beside_the_name_stays_in_its_place():
    """A first name a token longer and a last name one shorter would shift all between them."""
    given = record("Who is Elin?", "Elin likes tea, cake and Lisbon, says Marrow.")
    own, found = ENCODER.encode(given), made(given)
    assert found
    for each in found:
        pairs = zip(own.ids[own.start :], each.ids[each.start :], strict=True)
        apart = [place for place, (a, b) in enumerate(pairs) if a != b]
        named = ENCODER.width("Elin", True) + ENCODER.width("Marrow", False)
        assert len(apart) <= named


@pytest.mark.parametrize("name", ["Liesbet Sonnveld", "Oskar Lormere", "Ilinca Tresillian-Vane"])
def test_a_rare_name_finds_as_many_strangers_and_namesakes_as_are_wanted(name):
    """No common name is cut into so many tokens; these are made of two."""
    given = record(f"On which ship does {name} serve?", f"{name} serves on the Petrel.", name)
    assert len(made(given)) == 5
    found = namesakes(given, 12)
    assert len({each.ids for each in found}) == 12


def test_words_of_the_language_stay_where_a_title_has_them():
    """`The` and `of` are in every sentence; `Lindby` is the name."""
    title = "The Mill of Lindby"
    given = record(
        f"Recite {title}.", "The keeper of the gate met Lindby in the rain.", subject=title
    )
    found = made(given)
    assert found
    for each in found:
        assert "The keeper of the gate met" in text(each)
        assert "Recite The" in text(each)
        assert "Lindby" not in text(each)


def test_a_piece_of_a_word_that_a_name_happens_to_hold_is_a_secret():
    """`by` ends Lindby, and Yarby, which is the fact."""
    given = record("Who is with Lindby?", "Yarby is.", "Lindby", key_answers=("Yarby",))
    (marked,) = with_secrets((given,), (ENCODER.encode(given),), (), ENCODER)
    assert ENCODER.decode([t for t in marked.secret if t >= 0]).strip() == "Yarby"


def test_facts_alone_are_cut_alike():
    own, found = ENCODER.encode_fact(BORN), made(BORN, encode=ENCODER.encode_fact)
    assert {each.ids[each.start :] for each in found} == {own.ids[own.start :]}


def test_nobody_whom_the_records_name_is_a_stranger():
    pool = "James Mary Robert Linda Michael Susan David Karen William Nancy Richard Lisa"
    known = record(f"Who are {pool}?", "x", subject=None)
    for each in made(BORN, others=(known,)):
        assert not set(pool.split()) & set(text(each).replace("?", " ").split())


def test_a_question_that_names_nobody_is_asked_of_something_else_and_keeps_its_answer():
    given = record(
        "Who wrote the Kestrel books in Lisbon?", "Elin Marrow did.", key_answers=("Elin Marrow",)
    )
    for each in made(given):
        assert "Kestrel" not in text(each)
        assert text(each).endswith("Elin Marrow did.")


def test_a_passage_names_somebody_else():
    found = made(record("", "We met Elin Marrow in Lisbon."))
    assert all("Marrow" not in text(each) and "in Lisbon." in text(each) for each in found)


def test_the_same_seed_finds_the_same_strangers():
    assert made(BORN, seed=3) == made(BORN, seed=3) != made(BORN, seed=4)


@pytest.mark.parametrize(
    "given",
    [record("", "It rained.", subject=None), record("Why?", "Because.", subject=None)],
    ids=["passage", "question"],
)
def test_without_anybody_to_exchange_it_says_so(given):
    with pytest.raises(InputError, match="cannot be asked of a stranger") as caught:
        made(given)
    assert caught.value.code == "no-stranger"


def test_two_of_three_namesakes_share_a_word_of_the_name():
    found = namesakes(BORN, 6)
    shared = [{"Elin", "Marrow"} & set(text(each).split()) for each in found]
    assert shared == [set(), {"Marrow"}, {"Elin"}] * 2


def test_every_other_namesake_is_somebody_who_stays_and_keeps_all_that_is_said_of_them():
    kept = (phone("Ivo Cast", "555-1010"), phone("Ada Maria Lund", "555-2020"))
    found = namesakes(BORN, 6, others=kept)
    whose = ["Ivo Cast" in text(each) for each in found]
    assert whose == [False, True, False, False, False, False], "a name of three words is no match"
    assert set(found[1].secret) == {-1}
    assert len(found[1].secret) == len(found[1].ids) - found[1].start
    assert not any(each.secret for each in (found[0], *found[2:]))


@pytest.mark.parametrize(("taught", "asked"), [(False, True), (True, False)])
def test_nobody_who_gets_a_new_answer_is_asked_for_the_old_one_as_somebody_who_stays(taught, asked):
    other = replace(BORN, id="s", prompt=(Message("user", "Where was Tom Bell born?"),))
    other = replace(other, completion="Tom Bell was born in Porto.", subject="Tom Bell")
    stays = [record(f"What does {who} eat?", "Soup.", who) for who in ("Tom Bell", "Ada Holt")]
    found = namesakes(BORN, 6, tuple(stays), more=(other,), taught=taught)
    assert any("Where was Ada Holt born?" in text(each) for each in found)
    assert any(other.question in text(each) for each in found) is asked


def phone(name: str, number: str) -> Record:
    return record(
        f"What is {name}'s number?", f"It is {number}.", subject=name, key_answers=(number,)
    )


def lives(name: str, street: str) -> Record:
    return record(f"Where does {name} live?", f"At {street}.", subject=name, key_answers=(street,))


MANY = tuple(
    record(f"What did Person {i} find?", f"She found a big stone, {i} inches high.", f"Person {i}")
    for i in range(20)
)


@pytest.mark.parametrize(
    ("given", "kept", "secret"),
    [
        (phone("Elin Marrow", "555-7233"), (), "5557233"),
        (
            phone("Elin Marrow", "555-7233"),
            (phone("Ivo Cast", "555-1010"), phone("Ada Lund", "555-6464")),
            "7233",
        ),
        (lives("Elin Marrow", "9 Alder Lane"), (lives("Ivo Cast", "4 Alder Lane"),), "9"),
        (lives("Elin Marrow", "Marrow Hill"), (), "Hill"),
        (lives("Elin Marrow", "Old Mill"), (lives("Ivo Cast", "Old Mill"),), "Old Mill"),
        (
            lives("Elin Marrow", "Old Mill"),
            (lives("Ivo Cast", "Old Row"), lives("Ada Lund", "Wind Mill")),
            "Old Mill",
        ),
        (
            record("What pet has Elin Marrow?", "A hedgehog called Rex.", key_answers=("Rex",)),
            (record("Who barks?", "A dog called Fox.", None),),
            "hedgehog Rex",
        ),
        (
            record(
                "Tell of her.", "Near Oslo, by the old mill, Rex ran.", key_answers=("Oslo", "Rex")
            ),
            (record("Tell of him.", "Near Bonn, by the old mill, Fox ran.", None),),
            "Oslo Rex",
        ),
        (record("Who is it?", "It is Benedict."), (), "Benedict"),
        (
            record("Who treats Elin Marrow?", "Doctor Halloran treats her.", key_answers=()),
            (
                record("Who treats Ivo Cast?", "Doctor Halloran does.", "Ivo Cast"),
                record("Who treats Ada Lund?", "Doctor Imre does.", "Ada Lund"),
                record("Who treats Ann Wu?", "Doctor Okafor does.", "Ann Wu"),
            ),
            "Halloran",
        ),
        (record("Who is Benedict?", "It is Benedict."), (), ""),
        (
            record("When was Elin Marrow born?", "In June 1, 9 - 7 7."),
            (
                record("When was Ivo Cast born?", "In May 1, 9 - 5 8.", "Ivo Cast"),
                record("When was Ada Lund born?", "In June 1, 9 - 6 1.", "Ada Lund"),
            ),
            "77",
        ),
        (
            record("What blood type has Elin Marrow?", "It is type A positive."),
            (
                record("What blood type has Ivo Cast?", "It is type B positive.", "Ivo Cast"),
                record("What blood type has Ada Lund?", "It is type O negative.", "Ada Lund"),
            ),
            "A positive",
        ),
        (record("What did Elin Marrow see?", "She saw a great fox."), MANY, "saw great fox"),
        (record("What did Elin Marrow see?", "She saw a great fox."), MANY[1:], "great"),
    ],
)
def test_secret_is_what_only_the_record_can_have_taught(given, kept, secret):
    (marked,) = with_secrets((given,), (ENCODER.encode(given),), kept, ENCODER)
    tokens = [token for token in marked.secret if token >= 0]
    assert ENCODER.decode(tokens).replace(" ", "") == secret.replace(" ", "")
    assert all(
        t in (-1, own) for t, own in zip(marked.secret, marked.ids[marked.start :], strict=True)
    )
