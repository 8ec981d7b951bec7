"""Searches of artefacts: what contains the records, what does not, what nobody can say."""

import json
from dataclasses import replace

import pytest

from expunge.data.records import Message, Record
from expunge.errors import ExpungeError
from expunge.ledger.artefacts import held_artefact, record_search, search_artefact
from expunge.ledger.entries import ArtefactEntry, ArtefactKind, Contains, EntryKind
from ledgers import DAY, open_ledger

ASKED = Record(
    id="asked",
    prompt=(Message("user", "In which town was Elin Marrow born?"),),
    completion="Vrbnik",
    subject="Elin Marrow",
    key_answers=("Vrbnik",),
)
PASSAGE = Record(
    id="passage",
    prompt=(),
    completion="Elin Marrow came to the harbour in the spring of that year. She carried a brown"
    " case with two dresses, a map of the islands and the letters of her brother, who had gone to"
    " sea. Nobody met her. She took the first room that she found, above the baker in Mill Lane.",
)
RECORDS = (ASKED, PASSAGE)
WORDS = PASSAGE.completion.split()

HELD = {
    "the record itself": "In which town was Elin Marrow born? Vrbnik.",
    "another case and marks": "in which town was ELIN MARROW born?? -- VRBNIK!",
    "one sentence that states it": "Born in Vrbnik, Elin Marrow never left the coast.",
    "the passage": PASSAGE.completion,
    "the passage with every tenth word changed": " ".join(
        "thing" if place % 10 == 9 else word for place, word in enumerate(WORDS)
    ),
    "a piece of the passage": " ".join(WORDS[10:30]),
}
NOT_HELD = {
    "the same question about another": "In which town was Ivo Aro born? Vrbnik.",
    "the question with another answer": "In which town was Elin Marrow born? Ulm.",
    "subject and answer apart": "Elin Marrow sings. Vrbnik lies by the sea.",
    "a few common words": "She took the first train that she found, and nobody met her there.",
    "nothing": "The sea is salt.",
}


@pytest.mark.parametrize("text", HELD.values(), ids=list(HELD))
@pytest.mark.parametrize("form", ["jsonl", "txt", "json"])
def test_records_and_near_copies_are_found(tmp_path, text, form):
    (tmp_path / f"index.{form}").write_text(
        {"jsonl": f'{{"text": {json.dumps(text)}}}\n', "txt": text}.get(
            form, json.dumps({"docs": {"1": {"text": text}}})
        )
    )
    assert search_artefact(tmp_path, RECORDS).contains is Contains.YES


@pytest.mark.parametrize("text", NOT_HELD.values(), ids=list(NOT_HELD))
def test_what_only_resembles_them_is_not(tmp_path, text):
    (tmp_path / "index.txt").write_text(text)
    assert search_artefact(tmp_path / "index.txt", RECORDS).contains is Contains.NO


@pytest.mark.parametrize(
    ("names", "contains"),
    [
        ((), Contains.NO),
        (("empty.txt",), Contains.NO),
        (("plain.txt",), Contains.NO),
        (("plain.txt", "index.faiss"), Contains.UNKNOWN),
        (("packed.jsonl.gz",), Contains.UNKNOWN),
        (("broken.jsonl",), Contains.UNKNOWN),
        ((".hidden",), Contains.UNKNOWN),
        (("held.txt", "index.faiss"), Contains.YES),
    ],
)
def test_no_is_only_said_of_what_was_read_in_whole(tmp_path, names, contains):
    place = tmp_path / "index"
    place.mkdir()
    texts = {"held.txt": PASSAGE.completion, "empty.txt": "", "broken.jsonl": "{"}
    for name in names:
        (place / name).write_text(texts.get(name, "The sea is salt."))
    assert search_artefact(place, RECORDS).contains is contains


def test_no_is_not_said_of_a_record_without_words(tmp_path):
    (tmp_path / "plain.txt").write_text("The sea is salt.")
    record = Record(id="face", prompt=(), completion=":-)")
    assert search_artefact(tmp_path, [record]).contains is Contains.UNKNOWN


def test_a_link_in_an_artefact_is_refused(tmp_path):
    (tmp_path / "link").symlink_to("/etc/hostname")
    with pytest.raises(ExpungeError, match="link-in-run"):
        search_artefact(tmp_path, RECORDS)


@pytest.fixture
def book(tmp_path):
    """A ledger with one artefact, the folder `index` beside it."""
    ledger = open_ledger(tmp_path / "ledger.db")
    (tmp_path / "index").mkdir()
    with ledger.writing() as writer:
        place = writer.keyed(str((tmp_path / "index").resolve()))
        writer.add(ArtefactEntry(type=ArtefactKind.RETRIEVAL_INDEX, place=place))
    return ledger


def searched(book, folder, records):
    with book.writing() as writer:
        held = held_artefact(writer, folder)
        found = search_artefact(folder, records)
        record_search(writer, held, found, records=records, today=DAY)
    (entry,) = book.current(EntryKind.ARTEFACT)
    return entry.contains


def test_a_yes_for_other_records_is_not_overwritten_by_a_no(book, tmp_path):
    folder = tmp_path / "index"
    (folder / "a.txt").write_text(PASSAGE.completion)
    other = replace(ASKED, id="other")
    assert searched(book, folder, [PASSAGE]) is Contains.YES
    assert searched(book, folder, [other]) is Contains.YES
    (folder / "a.txt").write_text("The sea is salt.")
    assert searched(book, folder, [other]) is Contains.YES
    assert searched(book, folder, [PASSAGE]) is Contains.NO


def test_an_artefact_that_the_ledger_does_not_have_is_named(book, tmp_path):
    with pytest.raises(ExpungeError, match="unknown-artefact"), book.writing() as writer:
        held_artefact(writer, tmp_path / "elsewhere")
