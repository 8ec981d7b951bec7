"""Probes of a chain: what earlier requests are asked again with, sealed beside the chain.

They hold the records themselves, so they are encrypted under the operator's key, and those of a
request are destroyed when the retention of its evidence ends.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from pydantic import TypeAdapter

from expunge.config.settings import Settings
from expunge.data.corpora import general_text
from expunge.data.records import Record
from expunge.data.splits import Scope, overlaps
from expunge.data.synthetic_controls import fabricated
from expunge.data.tokenization import Encoded, Encoder
from expunge.evals.rebound import FactReading
from expunge.evidence.collect import item
from expunge.evidence.store import Answer, EvidenceStore
from expunge.metrics.key_facts import key_fact
from expunge.models.generation import greedy
from expunge.models.loading import Loaded
from expunge.models.scoring import TokenScores, score
from expunge.preparation.prepare import encoder_of
from expunge.requests.copies import RecordCopies
from expunge.requests.corpus import Document
from expunge.training.early_stopping import spread
from expunge.utils.io import private

CONTROLS = 100
"""Most control records."""
KEPT, GENERAL = 60, 40
"""Most retained records, and pieces of general text, that show what became of the rest."""
_CONTROL, _KEPT = "control.jsonl", "kept.jsonl"
_record = TypeAdapter(Record)
_DIGITS = 6


class ProbeSet:
    """The sealed records of a chain.

    Args:
        folder: Its folder, made if need be.
        key: The operator's key.
    """

    def __init__(self, folder: Path, *, key: bytes) -> None:
        self._store = EvidenceStore(private(folder), key=key)
        self._store.seal(key)

    def begin(self, scopes: Sequence[Scope]) -> None:
        """Write the control and the kept probes, unless that was done.

        Args:
            scopes: The records of all requests in the queue.
        """
        if self._store.holds(_KEPT):
            return
        first = scopes[0]
        known = (*first.retain, *first.neighbours)
        unseen = [record for record in known if record.id in first.held_out]
        kept = [*spread(unseen or known, KEPT), *spread(general_text(), GENERAL)]
        forget = [record for scope in scopes for record in scope.forget]
        self._store.write_rows(_CONTROL, map(asdict, _controls(forget, known)))
        self._store.write_rows(_KEPT, map(asdict, kept))

    def add(self, number: int, records: Sequence[Record]) -> None:
        """Keep the records of a request."""
        self._store.write_rows(_name(number), map(asdict, records))

    def destroy(self, number: int) -> bool:
        """Remove the records of a request; tell whether they were there."""
        there = self._store.holds(_name(number))
        if there:
            self._store.remove(_name(number))
        return there

    def of(self, number: int) -> tuple[Record, ...]:
        """Return the records of a request; none where they were destroyed."""
        return self._read(_name(number)) if self._store.holds(_name(number)) else ()

    @property
    def controls(self) -> tuple[Record, ...]:
        """Fabricated records that no model saw."""
        return self._read(_CONTROL)

    @property
    def kept(self) -> tuple[Record, ...]:
        """Retained records and general text."""
        return self._read(_KEPT)

    def _read(self, name: str) -> tuple[Record, ...]:
        return tuple(map(_record.validate_python, self._store.read_rows(name)))


def _controls(forget: Sequence[Record], known: Sequence[Record]) -> tuple[Record, ...]:
    """Fabricate as many control records as the tests need, however few there are to forget."""
    made: list[Record] = []
    for seed in range(CONTROLS):
        fresh = fabricated(forget, (*known, *made), seed=seed)
        if not fresh:
            break
        made += [replace(each, id=f"{seed}-{each.id}") for each in fresh]
        if len(made) >= CONTROLS:
            break
    return spread(made, CONTROLS)


def _name(number: int) -> str:
    return f"request-{number}.jsonl"


@dataclass(frozen=True, kw_only=True, slots=True)
class Asker:
    """Asks one model."""

    model: Loaded
    encoder: Encoder
    max_new_tokens: int
    tokens_per_pass: int

    @classmethod
    def of(cls, model: Loaded, settings: Settings) -> "Asker":
        """Return what asks a model as a run with these settings does."""
        return cls(
            model=model,
            encoder=encoder_of(settings, model.tokenizer),
            max_new_tokens=settings.audit.max_new_tokens,
            tokens_per_pass=settings.train.tokens_per_pass,
        )

    def facts(self, number: int, records: Sequence[Record]) -> tuple[FactReading, ...]:
        """Return what the model says of the facts of a request.

        Args:
            number: Of the request.
            records: Its records.
        """
        scores = self._scores(list(map(self._fact, records)))
        asked = [record for record in records if record.prompt and record.key_answers]
        said = {
            record.id: bool(
                key_fact(
                    Answer(record=record.id, text=text),
                    item(record, "forget"),
                )
            )
            for record, text in zip(asked, self.answers(asked), strict=True)
        }
        return tuple(
            FactReading(
                request=number,
                record=record.id,
                logp=round(float(each.logp.mean()), _DIGITS),
                states=said.get(record.id, bool(each.hit.all())),
            )
            for record, each in zip(records, scores, strict=True)
        )

    def answers(self, records: Sequence[Record]) -> list[str]:
        """Return the greedy answer to each record's question."""
        prompts = [self.encoder.encode(record) for record in records]
        texts = greedy(
            self.model.network,
            [each.ids[: each.start] for each in prompts],
            end_ids=self.encoder.end_ids,
            max_new_tokens=self.max_new_tokens,
            tokens_per_pass=self.tokens_per_pass,
        )
        return [self.encoder.decode(text) for text in texts]

    def controls(self, records: Sequence[Record]) -> tuple[float, ...]:
        """Return the mean log-probability of each control record's fact, nats."""
        scores = self._scores(list(map(self._fact, records)))
        return tuple(round(float(each.logp.mean()), _DIGITS) for each in scores)

    def nlls(self, records: Sequence[Record]) -> tuple[float, ...]:
        """Return the mean negative log-probability of a token of each record, nats."""
        scores = self._scores([self.encoder.encode(record) for record in records])
        return tuple(round(-float(each.logp.mean()), _DIGITS) for each in scores)

    def _fact(self, record: Record) -> Encoded:
        """Return a record; scored are the tokens of its fact, where it names one."""
        named = record.prompt and record.key_answers
        return self.encoder.encode_fact(record) if named else self.encoder.encode(record)

    @torch.no_grad()
    def _scores(self, records: Sequence[Encoded]) -> list[TokenScores]:
        return score(
            self.model.network,
            records,
            pad_id=self.encoder.pad_id,
            tokens_per_pass=self.tokens_per_pass,
            with_z=False,
        )


def whole_records(settings: Settings, model: Loaded, records: Sequence[Record]) -> list[Record]:
    """Return records as a run splits them: long passages become several."""
    return list(encoder_of(settings, model.tokenizer).split_long(records))


def copied(records: Sequence[Record], earlier: Sequence[tuple[int, Sequence[Record]]]) -> list[int]:
    """Return the numbers of the earlier requests that hold near copies of all of these records.

    Args:
        records: Those of a new request.
        earlier: Number and records of each earlier request.

    Returns:
        Nothing where a record has no near copy.
    """
    search = RecordCopies(records)
    documents = [
        Document(
            text=f"{record.question}\n{record.completion}", source=str(number), file="", place=0
        )
        for number, known in earlier
        for record in known
    ]
    found = {(each.record, int(each.source)) for each in search.found_in(documents)}
    for number, known in earlier:  # the same in other case or punctuation, however short
        found |= {(pair.other.id, number) for pair in overlaps(known, records)}
    if {record for record, _ in found} != {record.id for record in records}:
        return []
    return sorted({number for _, number in found})


def still_kept(kept: Sequence[Record], forgotten: Sequence[Record]) -> list[int]:
    """Return the places of the kept probes that no request so far was to forget."""
    renamed = [replace(record, id=str(place)) for place, record in enumerate(kept)]
    gone = {pair.other.id for pair in overlaps(forgotten, renamed)}
    return [place for place in range(len(kept)) if str(place) not in gone]
