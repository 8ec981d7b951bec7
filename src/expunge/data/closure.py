"""The forget closure: the records to erase, and those that were made from them.

A paraphrase, a synthetic question or a translation of a forgotten record still teaches it. Such
records are found in two ways: they name the record that they were made from (`parent`), or they
state the same (`data.splits`). Both are followed until nothing more is found.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from expunge.data.records import Record
from expunge.data.splits import mentions, normalise, overlaps
from expunge.errors import InputError, named_in_part

_MOST_NAMED = 5
_SHORTEST_NAME = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Closure:
    """Records of a training set that have to go, by index."""

    named: frozenset[int]
    """Those that the request names."""
    derived: frozenset[int]
    """Those that were made from them, or repeat them."""

    @property
    def all(self) -> frozenset[int]:
        """Both."""
        return self.named | self.derived


def closure_of(erase: Sequence[Record], trained: Sequence[Record]) -> Closure:
    """Find the records of a training set that a request erases.

    Args:
        erase: What the request names.
        trained: The training set.

    Raises:
        InputError: `never-trained`: a record to erase, or what says the same, is not among them.
    """
    same = {_content(record) for record in erase}
    named = frozenset(i for i, record in enumerate(trained) if _content(record) in same)
    _require_trained(erase, trained)
    ids = {trained[index].id for index in named}
    known = {record.id for record in trained}
    ids |= {record.id for record in erase if record.id not in known}
    found: set[int] = set(named)
    sources = list(erase)
    while True:
        rest = [index for index in range(len(trained)) if index not in found]
        copies = {pair.other.id for pair in overlaps(sources, [trained[i] for i in rest])}
        fresh = {i for i in rest if trained[i].id in copies or ids & set(trained[i].parents)}
        if not fresh:
            return Closure(named=named, derived=frozenset(found - named))
        found |= fresh
        ids |= {trained[index].id for index in fresh}
        sources = [trained[index] for index in sorted(fresh)]


def require_unstated(erase: Sequence[Record], kept: Sequence[Record]) -> None:
    """Refuse to train again on records that state a fact to erase.

    A record states it if it names the subject and one of the key answers of a record to erase.
    Records without a subject or a key answer cannot be looked for.

    Raises:
        InputError: `kept-states-erased`.
    """
    facts = [
        (normalise(record.subject), keys)
        for record in erase
        if record.subject and (keys := _names(record.key_answers))
    ]
    stating = [
        record
        for record in kept
        if any(mentions(record, [subject]) and mentions(record, keys) for subject, keys in facts)
    ]
    if stating:
        places = [record.source or record.id for record in stating]
        raise InputError(
            "kept-states-erased",
            what=f"{len(stating)} records to train on state a fact to erase: "
            + named_in_part(places, most=_MOST_NAMED),
            why="each names the subject and a key answer of a record to erase: the model would"
            " learn the fact again",
            fix="put them into the file of what to erase as well, or give them `parent`",
        )


def _require_trained(erase: Sequence[Record], trained: Sequence[Record]) -> None:
    same = {_content(record) for record in trained}
    absent = [record for record in erase if _content(record) not in same]
    repeated = {pair.other.id for pair in overlaps(trained, absent)} if absent else set[str]()
    parents = {parent for record in trained for parent in record.parents}
    never = [r for r in absent if r.id not in repeated and r.id not in parents]
    if never:
        places = [record.source or record.id for record in never]
        raise InputError(
            "never-trained",
            what=f"{len(never)} records to erase were never in the training data: "
            + named_in_part(places, most=_MOST_NAMED),
            why="what was not trained on cannot be left out, and the result would prove nothing",
            fix="take them out, or correct them to the wording of the training data",
        )


def _content(record: Record) -> tuple[object, str]:
    return record.prompt, record.completion


def _names(texts: Sequence[str]) -> frozenset[str]:
    names = (normalise(text) for text in texts)
    return frozenset(name for name in names if len(name) >= _SHORTEST_NAME)
