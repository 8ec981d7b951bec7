"""Copies: which documents hold given records, word for word, nearly so, or as one statement.

    copy        half of the runs of four words of a long answer, or of what the question asks
                together with its short answer
    piece       half of the runs of a longer document are of one record: an index cuts texts up
    statement   one sentence with the subject of the record and one of its key answers

Case, accents and punctuation do not count. What is said in other words, or in another language,
is not found. Where a script has no spaces between words, only whole phrases are.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from expunge.data.records import Record
from expunge.data.subjects import with_subjects
from expunge.requests.corpus import Document, sentences
from expunge.requests.names import words_of

_RUN = 4
"""Words of a run."""
_SHARE = 0.5
"""Of the runs of a record, or of a piece of it, that make a copy."""
_LONG = 8
"""Words from which on an answer is known by its own runs, and a piece by its."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordCopy:
    """A record that a document holds."""

    record: str
    """Its id."""
    source: str
    """Where the document is, for people."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Wanted:
    """What of one record is looked for, folded; phrases have a space at both ends."""

    record: str
    runs: frozenset[str]
    needed: tuple[str, ...]
    """One of which must stand beside the runs; empty: these are enough."""
    subject: str
    keys: tuple[str, ...]
    """One of which, in one sentence with the subject, states the fact."""


class RecordCopies:
    """Finds copies of records; made once for any number of documents.

    Args:
        records: What is looked for.

    Example:
        >>> from expunge.data.records import Message
        >>> asked = Message("user", "Where does Lin Aro live?")
        >>> record = Record(id="1", prompt=(asked,), completion="In Oslo.", subject="Lin Aro",
        ...                 key_answers=("Oslo",))
        >>> page = Document(text="Today LIN ARO moved to Oslo.", source="a.txt", file="a", place=0)
        >>> [each.source for each in RecordCopies([record]).found_in([page])]
        ['a.txt']
    """  # fmt: skip

    def __init__(self, records: Sequence[Record]) -> None:
        self._wanted = [_wanted(each) for each in with_subjects(records, ())]
        self._of_run: defaultdict[str, list[int]] = defaultdict(list)
        # By the first word of the subject.
        self._of_subject: defaultdict[str, list[int]] = defaultdict(list)
        for number, each in enumerate(self._wanted):
            for run in each.runs:
                self._of_run[run].append(number)
            if each.subject and each.keys:
                self._of_subject[each.subject.split()[0]].append(number)

    @property
    def unsearchable(self) -> tuple[str, ...]:
        """Ids of the records without a word that could be looked for."""
        return tuple(each.record for each in self._wanted if not each.runs)

    def found_in(self, documents: Iterable[Document]) -> Iterator[RecordCopy]:
        """Yield the records that documents hold, in the order of the documents."""
        for document in documents:
            for number in sorted(self._copied(document) | self._stated(document)):
                yield RecordCopy(record=self._wanted[number].record, source=document.source)

    def _copied(self, document: Document) -> set[int]:
        """Return the records that a document repeats, or is a piece of."""
        text = _phrase(document.text)
        runs = _runs(text.split())
        shared = Counter(number for run in runs for number in self._of_run.get(run, ()))
        found: set[int] = set()
        for number, count in shared.items():
            wanted = self._wanted[number]
            whole = count >= _SHARE * len(wanted.runs)
            answered = not wanted.needed or any(each in text for each in wanted.needed)
            piece = len(runs) > _LONG - _RUN and count >= _SHARE * len(runs)
            if (whole and answered) or (piece and not wanted.needed):
                found.add(number)
        return found

    def _stated(self, document: Document) -> set[int]:
        """Return the records whose subject and key answer stand in one sentence of a document."""
        found: set[int] = set()
        for sentence in map(_phrase, sentences(document.text)):
            near = {
                number for word in sentence.split() for number in self._of_subject.get(word, ())
            }
            for wanted, number in ((self._wanted[number], number) for number in near):
                keys = any(each in sentence for each in wanted.keys)
                if keys and wanted.subject in sentence:
                    found.add(number)
        return found


def _wanted(record: Record) -> _Wanted:
    """Return what is looked for: a long answer itself; else question and answer."""
    said = _phrase(record.completion)
    length = len(said.split())
    keys = tuple(filter(None, map(_phrase, record.key_answers)))
    # Few words may be those of a form that many answers have: then the fact must be there, too.
    needed = keys if length < 2 * _LONG and record.prompt else ()
    runs = _runs(said.split())
    if length < _LONG and record.prompt:
        runs, needed = _runs(_phrase(record.question).split()), keys or (said,)
    return _Wanted(
        record=record.id,
        runs=runs,
        needed=needed,
        subject=_phrase(record.subject or ""),
        keys=keys or ((said,) if said and length < _LONG else ()),
    )


def _phrase(text: str) -> str:
    """Return the folded words of a text, with a space on both sides of each."""
    words = " ".join(word.folded for word in words_of(text))
    return f" {words} " if words else ""


def _runs(words: Sequence[str]) -> frozenset[str]:
    """Return the runs of a text; a shorter text is one run."""
    last = max(1, len(words) - _RUN + 1)
    return frozenset(" ".join(words[i : i + _RUN]) for i in range(last) if words)
