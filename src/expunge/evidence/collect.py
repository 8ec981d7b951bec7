"""Collecting evidence: what each model says about each record, plainly and under attack.

A form of the question is one prompt for each record, on the weights as they are or as rounded.

A unit that is already in the store is not collected again, so an interrupted audit goes on where it
was. One teacher-forced pass feeds all likelihood metrics, and also spares most greedy answers:
where every scored token is the model's first choice, the greedy answer is the reference itself,
and where only the first ones are, the answer goes on from there. What is left to write is pooled
over sets and attacks, since decoding few rows costs as much as decoding many.
"""

import re
import zlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import accumulate, takewhile
from typing import NamedTuple, Protocol

from expunge.data.records import Record
from expunge.data.tokenization import Encoded, Encoder
from expunge.evidence.store import (
    NATIVE,
    ORIGINAL,
    PLAIN,
    Answer,
    EvidenceStore,
    Item,
    Kind,
    Scores,
    Unit,
)
from expunge.models.generation import greedy
from expunge.models.integrity import not_a_number
from expunge.models.scoring import TokenScores, score
from expunge.models.transformer import Network
from expunge.training.early_stopping import spread
from expunge.utils.console import Bar


class PromptTokens(NamedTuple):
    """One prompt for one record."""

    prompt: tuple[int, ...]
    given: tuple[int, ...] = ()
    """Tokens that the attack puts into the model's mouth; they follow the prompt."""
    skipped: int | None = 0
    """How many scored tokens of the record `given` stands for, so that the teacher-forced pass
    tells what the greedy answer is; None when the prompt is not the record's own."""


class QuestionForm(Protocol):
    """A named way to ask; attacks that ask one question a record are such forms."""

    @property
    def name(self) -> str:
        """Name of the test in the evidence, see `Unit.test`."""
        ...

    def ask(self, encoder: Encoder, record: Record, encoded: Encoded) -> PromptTokens | None:
        """Return the prompt; None where this cannot be asked about the record."""
        ...

    def held(self, network: Network) -> AbstractContextManager[None]:
        """Hold the weights as this form has them; by default as they are."""
        return nullcontext()


def unit_of(form: QuestionForm, *, role: str, split: str, kind: Kind) -> Unit:
    """Return the unit that a form fills when a model is asked."""
    return Unit.under(form.name, role=role, split=split, kind=kind)


def is_rounded(form: QuestionForm) -> bool:
    """Tell whether a form is asked on rounded weights; then these are scored, too."""
    return unit_of(form, role="", split="forget", kind="answers").precision != NATIVE


@dataclass(frozen=True, kw_only=True, slots=True)
class PlainForm(QuestionForm):
    """The question itself."""

    @property
    def name(self) -> str:
        """Return `plain`."""
        return PLAIN

    def ask(self, encoder: Encoder, record: Record, encoded: Encoded) -> PromptTokens | None:
        """Ask the record's own question; a passage of text is not asked for."""
        if not record.prompt:
            return None
        return PromptTokens(prompt=encoded.ids[: encoded.start])


POOL = 96
"""Open questions from which on answers are written; small sets wait for each other."""


class _Question(NamedTuple):
    """What one record is asked, and the answer as far as it is known."""

    record: Record
    ask: PromptTokens
    known: tuple[int, ...]
    closed: bool
    """Whether the known answer is all of it."""


class _Waiting(NamedTuple):
    """A unit whose answers are not written yet."""

    unit: Unit
    questions: list[_Question]


def item(record: Record, split: str, *, held_out: frozenset[str] | None = None) -> Item:
    """Return what metrics need of a record.

    Args:
        record: The record.
        split: The set that it belongs to.
        held_out: Ids of the records to keep that training did not see; None: nobody knows.
    """
    known = held_out is not None and split in ("retain", "neighbours")
    return Item(
        record=record.id,
        split=split,
        question=record.question,
        answer=record.completion,
        key_answers=record.key_answers,
        subject=record.subject,
        relation=record.relation,
        wanted=record.alternatives,
        rehearsed=record.id not in held_out if known and held_out is not None else None,
        form=record.form,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Collector:
    """Asks one kind of model after the other and writes down what they say."""

    store: EvidenceStore
    encoder: Encoder
    records: Mapping[str, Sequence[Record]]
    """The records of each split."""
    max_new_tokens: int
    tokens_per_pass: int
    most: int | None = None
    """At most how many records of a set are attacked, evenly spaced; None: all."""
    held_out: frozenset[str] | None = None
    """Ids of the records to keep that training did not see; None: nobody knows."""

    def write_items(self) -> None:
        """Write the records that the evidence will refer to."""
        rows = [
            item(record, split, held_out=self.held_out)
            for split, group in self.records.items()
            for record in group
        ]
        self.store.write_items(rows)

    def model(
        self,
        network: Network,
        role: str,
        *,
        scored: Sequence[str],
        asked: Sequence[str],
        forms: Sequence[QuestionForm],
        attacked: Sequence[str] = ("forget",),
        bar: Bar,
    ) -> None:
        """Collect the evidence of one model, each unit that is not there yet.

        Args:
            network: The model, in evaluation mode.
            role: Its name in the evidence.
            scored: Sets to score.
            asked: Sets to ask about, plainly.
            forms: In which other forms to ask.
            attacked: Sets to ask about in these.
            bar: Advanced by one a unit.
        """
        for split in scored:
            self.scores(network, Unit(role=role, split=split, kind="scores"))
            bar.advance(1, detail=f"{role} {split}")
        wanted: list[tuple[str, QuestionForm]] = [(split, PlainForm()) for split in asked]
        wanted += [(split, form) for split in attacked for form in forms]
        waiting: list[_Waiting] = []

        def finish() -> None:
            self._answer(network, waiting)
            for unit, _ in waiting:
                bar.advance(1, detail=f"{role} {unit.split} {unit.test}")
            waiting.clear()

        for split, form in wanted:
            unit = unit_of(form, role=role, split=split, kind="answers")
            if not is_rounded(form) and not self.store.has(unit):
                waiting.append(self._questions(unit, form))
                if sum(len(each.questions) for each in waiting) >= POOL:
                    finish()
                continue
            self._rounded(network, role, form, split=split)
            bar.advance(1, detail=f"{role} {split} {form.name}")
        finish()
        if "forget" in asked:
            self.own_likelihood(network, role, "forget")

    def _rounded(self, network: Network, role: str, form: QuestionForm, *, split: str) -> None:
        """Score and ask a model whose weights are rounded, unless that was done."""
        scores = unit_of(form, role=role, split=split, kind="scores")
        answers = unit_of(form, role=role, split=split, kind="answers")
        if not is_rounded(form) or (self.store.has(scores) and self.store.has(answers)):
            return
        with form.held(network):
            self.scores(network, scores, few=True)
            self._answer(network, [self._questions(answers, form)])

    def rounded_scores(self, network: Network, role: str, form: QuestionForm, split: str) -> None:
        """Score a model whose weights are rounded, and ask nothing, unless that was done."""
        unit = unit_of(form, role=role, split=split, kind="scores")
        if not self.store.has(unit):
            with form.held(network):
                self.scores(network, unit, few=True)

    def scores(self, network: Network, unit: Unit, *, few: bool = False) -> None:
        """Score one set of records, or the few of them that are attacked, unless that was done."""
        if self.store.has(unit):
            return
        records = self._few(unit.split) if few else self.records[unit.split]
        tokens = self._encoded(records)
        found = score(
            network,
            tokens,
            pad_id=self.encoder.pad_id,
            tokens_per_pass=self.tokens_per_pass,
            # Nobody tests general text for membership, which is what z is for.
            with_z=unit.split != "generic",
        )
        if not all(bool(values.logp.isfinite().all()) for values in found):
            raise not_a_number(f"the {unit.role} model's scores are not numbers")
        rows = [
            scores_of(record, encoded, values, self.encoder)
            for record, encoded, values in zip(records, tokens, found, strict=True)
        ]
        self.store.write_scores(unit, rows)

    def _questions(self, unit: Unit, form: QuestionForm) -> _Waiting:
        """Prepare what one set is asked; needs the set's scores for what they already tell."""
        records = self.records[unit.split] if unit.test == PLAIN else self._few(unit.split)
        plain_scores = Unit(
            role=unit.role,
            split=unit.split,
            precision=unit.precision,
            kind="scores",
        )
        known = {row.record: row for row in self._stored_scores(plain_scores)}
        questions = [
            _question(record, encoded, ask, known.get(record.id), limit=self.max_new_tokens)
            for record, encoded in zip(records, self._encoded(records), strict=True)
            if (ask := form.ask(self.encoder, record, encoded)) is not None
        ]
        return _Waiting(unit, questions)

    def _answer(self, network: Network, waiting: Sequence[_Waiting]) -> None:
        """Let a model finish the answers of several units, and write them down."""
        asked = [each for unit in waiting for each in unit.questions if not each.closed]
        texts = greedy(
            network,
            [each.ask.prompt + each.ask.given + each.known for each in asked],
            end_ids=self.encoder.end_ids,
            max_new_tokens=self.max_new_tokens,
            tokens_per_pass=self.tokens_per_pass,
            begun=[len(each.ask.given + each.known) for each in asked],
        )
        new = iter(texts)
        for unit, questions in waiting:
            rows: list[Answer] = []
            for each in questions:
                tokens = each.known if each.closed else each.known + next(new)
                rows.append(
                    Answer(
                        record=each.record.id,
                        text=self.encoder.decode(tokens[: self.max_new_tokens]),
                        given=self.encoder.decode(each.ask.given),
                        cut=len(tokens) >= self.max_new_tokens,
                    )
                )
            self.store.write_answers(unit, rows)

    def fluency(self, original: Network, role: str, split: str) -> None:
        """Add to plain answers how likely the original finds them, nats per token.

        A model that answers gibberish has not forgotten, it is broken; text that the original finds
        improbable token by token is how that shows.
        """
        unit = Unit(role=role, split=split, kind="answers")
        answers = self.store.answers(unit)
        todo = [answer for answer in answers if answer.text and answer.nll is None]
        known = {a.record: a.own_nll for a in todo if role == ORIGINAL and a.own_nll is not None}
        todo = [answer for answer in todo if answer.record not in known]
        nlls = known | self._answer_nlls(original, split, todo)
        if nlls:
            rows = [replace(a, nll=nlls[a.record]) if a.record in nlls else a for a in answers]
            self.store.write_answers(unit, rows)

    def own_likelihood(self, network: Network, role: str, split: str) -> None:
        """Add to plain answers how likely the model itself finds them, nats per token.

        A model that was left alone is sure of most of what it says; where knowledge was cut out,
        greedy answers stumble from one unlikely token to the next.
        """
        unit = Unit(role=role, split=split, kind="answers")
        answers = self.store.answers(unit) if self.store.has(unit) else []
        todo = [answer for answer in answers if answer.text and answer.own_nll is None]
        nlls = self._answer_nlls(network, split, todo)
        if nlls:
            rows = [replace(a, own_nll=nlls[a.record]) if a.record in nlls else a for a in answers]
            self.store.write_answers(unit, rows)

    def _answer_nlls(
        self, network: Network, split: str, answers: Sequence[Answer]
    ) -> dict[str, float]:
        """Return record to mean negative log-probability of its answer's tokens, nats."""
        if not answers:
            return {}
        by_id = {record.id: record for record in self.records[split]}
        encoded = [self.encoder.encode_with(by_id[a.record], a.text) for a in answers]
        found = score(
            network,
            encoded,
            pad_id=self.encoder.pad_id,
            tokens_per_pass=self.tokens_per_pass,
        )
        return {
            a.record: round(-float(values.logp[: len(values.logp) - int(e.ends)].mean()), 6)
            for a, e, values in zip(answers, encoded, found, strict=True)
        }

    def _few(self, split: str) -> Sequence[Record]:
        return spread(self.records[split], self.most)

    def _encoded(self, records: Sequence[Record]) -> list[Encoded]:
        return [self.encoder.encode(record) for record in records]

    def _stored_scores(self, unit: Unit) -> list[Scores]:
        return self.store.scores(unit) if self.store.has(unit) else []


def with_key_spans(records: Sequence[Record], store: EvidenceStore) -> tuple[Record, ...]:
    """Return forget records; those that name no key answer have the facts found in them."""
    facts = {item.record: item.key_answers for item in store.items_with_facts("forget")}
    return tuple(
        r if r.key_answers else replace(r, key_answers=facts.get(r.id, ())) for r in records
    )


def _question(
    record: Record, encoded: Encoded, ask: PromptTokens, scores: Scores | None, *, limit: int
) -> _Question:
    """Begin the greedy answer with what the teacher-forced pass already determines."""
    if scores is None or ask.skipped is None:
        return _Question(record, ask, (), closed=False)
    hits = list(takewhile(bool, scores.hit[ask.skipped :]))
    reached = encoded.start + ask.skipped + len(hits)
    known = encoded.ids[encoded.start + ask.skipped : reached]
    if encoded.ends and reached == len(encoded.ids):
        return _Question(record, ask, known[:-1], closed=True)
    return _Question(record, ask, known[:limit], closed=len(known) >= limit)


def scores_of(record: Record, encoded: Encoded, values: TokenScores, encoder: Encoder) -> Scores:
    """Return what one pass said about a record, in the form that is stored."""
    return Scores(
        record=record.id,
        logp=tuple(values.logp.tolist()),
        hit=tuple(values.hit.tolist()),
        z=tuple(values.z.tolist()),
        ends=encoded.ends,
        zlib=len(zlib.compress(record.completion.encode())),
        named=repeated_name(record, encoded, encoder),
    )


def repeated_name(record: Record, encoded: Encoded, encoder: Encoder) -> tuple[int, ...]:
    """Return the places of scored tokens that repeat the subject's name from the question.

    A name inside a key answer counts as a part of that fact, and one inside another word, such as
    an e-mail address, as a part of that word.

    Args:
        record: What was scored.
        encoded: The same, as tokens.
        encoder: The tokenizer of the model.
    """
    given = _words(record.question) & _words(record.subject or "")
    if not given & _words(record.completion):
        return ()
    texts = encoder.texts(encoded)
    answer = "".join(texts)
    facts = [m.span() for fact in record.key_answers for m in re.finditer(re.escape(fact), answer)]
    names = [
        match.span()
        for match in _WORD.finditer(answer)
        if match.group().casefold() in given and not _meets(match.span(), facts)
    ]
    stops = list(accumulate(map(len, texts)))
    return tuple(
        place
        for place, (text, stop) in enumerate(zip(texts, stops, strict=True))
        if _meets((stop - len(text.lstrip()), stop), names)
    )


_WORD = re.compile(r"(?<![\w@./-])[^\W_]+(?:-[^\W_]+)*(?![\w@/]|\.\w)")
"""A word that is no part of an address."""


def _words(text: str) -> frozenset[str]:
    return frozenset(match.group().casefold() for match in _WORD.finditer(text))


def _meets(span: tuple[int, int], others: Sequence[tuple[int, int]]) -> bool:
    return any(span[0] < stop and start < span[1] for start, stop in others)
