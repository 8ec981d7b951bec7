"""Whom a document speaks of: names in all spellings, rivals, namesakes, copies, next rows."""

import pytest

from expunge.errors import InputError, UsageError
from expunge.requests.corpus import Corpus, Document
from expunge.requests.index import CorpusIndex
from expunge.requests.names import MentionKind, NameShape, SearchedPerson, searched_person, words_of
from expunge.requests.namesakes import SeveralPeople
from expunge.requests.search import search
from expunge.requests.support import about_same

OTHERS = [
    *(f"Tobias Marrow works for firm {n}." for n in range(3)),
    *(f"Pilar Venn has room {n + 40}." for n in range(6)),
    *(f"The hall was painted on day {n}." for n in range(30)),
]


def index_of(*texts, files=None):
    files = files or ["a.jsonl"] * len(texts)
    pages = [
        Document(text=text, source=f"{file}:{place}", file=file, place=place)
        for place, (text, file) in enumerate(zip(texts, files, strict=True))
    ]
    return CorpusIndex(Corpus(documents=tuple(pages)))


def found(*texts, name="Elin Marrow", others=OTHERS, **asked):
    """Which of the texts are taken; unrelated documents stand between them."""
    spaced = [part for text in texts for part in (text, "The bus was late.", "Nobody came.")]
    result = search(index_of(*spaced, *others), SearchedPerson(name=name, **asked))
    return {each.document // 3 for each in result.taken if each.document < len(spaced)}


@pytest.mark.parametrize(
    ("text", "kind", "edits"),
    [
        ("Elin Marrow sings", MentionKind.EXACT, 0),
        ("MARROW, ELIN", MentionKind.EXACT, 0),
        ("Elin Kristin Marrow", MentionKind.EXACT, 0),
        ("elin.marrow@post.example", MentionKind.EXACT, 0),
        ("Elin Marrows Hund", MentionKind.EXACT, 0),
        ("Elinmarrow wrote", MentionKind.SPELLING, 0),
        ("Elin Marow", MentionKind.SPELLING, 1),
        ("Eiln Marrow", MentionKind.SPELLING, 1),
        ("Elin Mrrwo", MentionKind.SPELLING, 2),
        ("Elin Marr0w", MentionKind.SPELLING, 1),  # as a scan reads it
        ("E. Marrow", MentionKind.INITIALS, 0),
        ("Marrow, E.", MentionKind.INITIALS, 0),
        ("Ms Marrow", MentionKind.SURNAME, 0),
        ("Greta Lindqvist", None, 0),
        ("Elias Mertens", None, 0),
    ],
)
def test_a_name_is_found_however_it_is_written(text, kind, edits):
    kinds = [
        (each.kind, each.edits)
        for each in NameShape("Elin Marrow").mentions(words_of(text))
        if each.kind != MentionKind.GIVEN
    ]
    assert kinds[:1] == ([(kind, edits)] if kind else [])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Anne-Marie Dupont", "Annemarie Dupont called"),
        ("Anne-Marie Dupont", "Anne Marie Dupont called"),
        ("Sinéad O'Brien", "Sinead OBrien called"),
        ("Jürgen Müller", "Juergen Mueller called"),
        ("Ludwig van Aken", "Ludwig van Aken called"),
    ],
)
def test_hyphens_accents_and_particles_do_not_hide_a_name(name, text):
    kinds = [each.kind for each in NameShape(name).mentions(words_of(text))]
    assert kinds[0] in (MentionKind.EXACT, MentionKind.SPELLING)


FACT = "Elin Marrow's phone number is 555-7233."


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("Call Elin Marrow before noon.", True),
        ("Elin Marow lives in Oslo.", True),  # a spelling that nobody else has
        ("E. Marrow lives in Oslo.", True),  # nobody else of the initial
        ("T. Marrow lives in Oslo.", False),
        ("Tobias Marrow lives in Oslo.", False),
        ("Elin Venn lives in Oslo.", False),
        ("Marrow was called on 555-7233.", True),  # last name, and her number
        ("Marrow is good for soup.", False),
        ("The note says 555-7233, in blue ink.", True),  # quoted without the name
        ("Pilar Venn can be reached on 555-7233.", False),  # somebody else's line
        ("The hall was painted again.", False),
    ],
)
def test_a_document_is_judged_by_its_name_and_by_what_else_it_says(text, taken):
    assert (1 in found(FACT, text)) is taken


def test_another_spelling_that_is_a_name_of_its_own_is_left_out():
    barrows = [f"Elin Barrow has desk {n}." for n in range(4)]
    assert found(FACT, *barrows) == {0}


def test_initials_that_several_people_have_need_more():
    rivals = [*OTHERS, *(f"Emil Marrow has desk {n}." for n in range(3))]
    assert found(FACT, "E. Marrow sings.", others=rivals) == {0}
    assert found(FACT, "E. Marrow has 555-7233.", others=rivals) == {0, 1}


def test_a_name_of_ordinary_words_is_found_where_it_is_a_name():
    small = [f"A rose field lay behind mill {n}." for n in range(6)]
    others = [*OTHERS, *small, *(f"The field and the rose of year {n}." for n in range(6))]
    texts = ["Rose Field's phone number is 555-1234.", "the Rose Field Hotel was full", *small[:1]]
    assert found(*texts, name="Rose Field", others=others) == {0}


def test_aliases_and_identifiers_lead_to_documents_without_the_name():
    texts = [FACT, "Nell Arrowby sang.", "Customer 88-1203 paid."]
    assert found(*texts) == {0}
    assert found(*texts, aliases=("Nell Arrowby",), identifiers=("88-1203",)) == {0, 1, 2}


def test_a_row_that_goes_on_about_the_person_is_found_and_one_that_says_nothing_is_not():
    texts = ["We met Elin Marrow.", "Her doctor is Dr Halloran.", "She left.", *OTHERS]
    taken = search(index_of(*texts), SearchedPerson(name="Elin Marrow")).taken
    assert [(each.document, each.kind) for each in taken] == [
        (0, MentionKind.EXACT),
        (1, MentionKind.FOLLOWS),
    ]
    files = ["a.txt", "b.txt", "b.txt", *["c.txt"] * len(OTHERS)]
    apart = search(index_of(*texts, files=files), SearchedPerson(name="Elin Marrow")).taken
    assert [each.document for each in apart] == [0]


def test_two_people_of_one_name_are_told_apart_or_asked_about():
    first = ["Elin Marrow was born on 8 March 1962.", "Elin Marrow was born on 8. März 1962."]
    second = ["Elin Marrow was born on 2 May 1990.", "Elin Marrow was born on 2 May 1990 in Oslo."]
    index = index_of(*first, *second, *OTHERS)
    with pytest.raises(SeveralPeople) as error:
        search(index, SearchedPerson(name="Elin Marrow"))
    assert [len(group.documents) for group in error.value.groups] == [2, 2]
    assert "1962" not in str(error.value)  # no text of a record
    by_number = search(index, SearchedPerson(name="Elin Marrow"), choose=2)
    by_value = search(index, SearchedPerson(name="Elin Marrow", identifiers=("2 May 1990",)))
    for result in (by_number, by_value):
        assert {each.document for each in result.taken} == {2, 3}
        assert [group.group for group in result.namesakes] == [2, 1]


BIRTHS = ("8 March 1962", "2 May 1990")


@pytest.mark.parametrize("births", [BIRTHS, ("8 March 1962", "18 March 1962")])
def test_single_documents_with_other_births_are_of_two_people(births):
    index = index_of(*(f"Elin Marrow was born on {day}." for day in births), *OTHERS)
    with pytest.raises(SeveralPeople, match="1 document such as"):
        search(index, SearchedPerson(name="Elin Marrow"))
    chosen = search(index, SearchedPerson(name="Elin Marrow"), choose=2)
    assert {each.document for each in chosen.taken} == {1}


@pytest.mark.parametrize(
    ("texts", "choose", "code"),
    [
        ([FACT, FACT], 1, None),
        ([FACT, FACT], 2, "no-such-person"),
        ([f"Elin Marrow was born on {day}." for day in BIRTHS], 3, "two-people"),
    ],
)
def test_a_person_beyond_those_that_were_found_cannot_be_chosen(texts, choose, code):
    index = index_of(*texts, *OTHERS)
    if code is None:
        assert search(index, SearchedPerson(name="Elin Marrow"), choose=choose).taken
    else:
        with pytest.raises(UsageError) as error:
            search(index, SearchedPerson(name="Elin Marrow"), choose=choose)
        assert error.value.code == code


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("1962-03-08", "1962-03-18", False),
        ("1962-03-08", "1962-03-09", False),
        ("5557233", "5557238", False),
        ("5557233", "55572334", False),
        ("475557233", "5557233", True),  # with the code of the country
        ("klm482", "klm483", False),
        ("klm482", "kln482", True),
        ("12alderlane", "112alderlane", False),
        ("12alderlane", "12aldrelane", True),
        ("corvane", "corvaneoptics", True),
    ],
)
def test_other_figures_are_another_value_and_no_misspelling(one, other, same):
    assert about_same(one, other) is about_same(other, one) is same


def test_an_identifier_within_a_longer_number_is_another_one():
    texts = [
        FACT,
        "Call 555.72.33 at noon.",
        "Call 1555-7233.",
        "Call 555-72334.",
        "Call 555-7238.",
    ]
    assert found(*texts, identifiers=("555-7233",)) == {0, 1}


def test_a_name_that_is_a_common_word_is_found_where_it_begins_large():
    texts = ["Rose's phone number is 555-1234.", "The rose in the garden needs water."]
    assert found(*texts, name="Rose") == {0}


def test_one_person_with_two_telephones_stays_one():
    texts = [FACT, FACT, "Elin Marrow's phone number is 555-0001."]
    assert found(*texts) == {0, 1, 2}


@pytest.mark.parametrize(
    ("name", "code", "kind"),
    [
        ("Zora Quill", "name-not-found", InputError),
        ("Hall", "name-is-a-word", UsageError),
        ("...", "no-name", UsageError),
        ("I", "name-too-short", UsageError),
    ],
)
def test_a_name_that_leads_nowhere_ends_in_a_sentence(name, code, kind):
    with pytest.raises(kind) as error:
        search(index_of(FACT, *OTHERS), searched_person(name))
    assert error.value.code == code
    assert FACT not in str(error.value)


def test_a_mistyped_name_is_answered_with_the_near_one():
    with pytest.raises(InputError) as error:
        search(index_of(FACT, FACT, *OTHERS), searched_person("Elin Marroow"))
    assert "Elin Marrow (2)" in error.value.fix


def test_a_name_in_too_many_documents_is_a_domain(monkeypatch):
    monkeypatch.setattr("expunge.requests.search.MOST_FOUND", 3)
    with pytest.raises(UsageError, match="name-too-broad"):
        search(index_of(*[FACT] * 4, *OTHERS), SearchedPerson(name="Elin Marrow"))


def test_a_file_names_the_person_aliases_and_identifiers(tmp_path):
    path = tmp_path / "who.txt"
    path.write_text("Elin Marrow\nNell\nelin@post.example\n555-7233\n")
    assert searched_person(str(path)) == SearchedPerson(
        name="Elin Marrow", aliases=("Nell",), identifiers=("elin@post.example", "555-7233")
    )
