"""Collecting evidence: what each model says about each record, plainly and under attack.

A unit that is already in the store is not collected again, so an interrupted audit goes on where it
was. One teacher-forced pass feeds all likelihood metrics, and also spares most greedy answers:
where every scored token is the model's first choice, the greedy answer is the reference itself.
"""

import zlib
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

from expunge.audit.attacks import Ask, Attack, plain
from expunge.audit.evidence import PLAIN, Answer, EvidenceStore, Item, Scores, Unit
from expunge.console import Bar
from expunge.data.encode import Encoded, Encoder
from expunge.data.record import Record
from expunge.errors import InputError
from expunge.model.generate import greedy
from expunge.model.network import Network
from expunge.model.quantise import quantised
from expunge.model.score import TokenScores, score


def item(record: Record, split: str) -> Item:
    """Return what metrics need of a record."""
    return Item(
        record=record.id,
        split=split,
        question=record.question,
        answer=record.completion,
        key_answers=record.key_answers,
        subject=record.subject,
        relation=record.relation,
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

    def write_items(self) -> None:
        """Write the records that the evidence will refer to."""
        rows = [item(record, split) for split, group in self.records.items() for record in group]
        self.store.write_items(rows)

    def model(
        self,
        network: Network,
        role: str,
        *,
        scored: Sequence[str],
        asked: Sequence[str],
        attacks: Sequence[Attack],
        attacked: Sequence[str] = ("forget",),
        bar: Bar,
    ) -> None:
        """Collect the evidence of one model, each unit that is not there yet.

        Args:
            network: The model, in evaluation mode.
            role: Its name in the evidence.
            scored: Sets to score.
            asked: Sets to ask about, plainly.
            attacks: What else to try.
            attacked: Sets to try it on.
            bar: Advanced by one a unit.
        """
        for split in scored:
            self.scores(network, Unit(role=role, split=split, kind="scores"))
            bar.advance(1, detail=f"{role} {split}")
        for split in asked:
            unit = Unit(role=role, split=split, kind="answers")
            self.answers(network, unit, Attack(name=PLAIN, ask=plain))
            bar.advance(1, detail=f"{role} {split} answers")
        for split in attacked:
            for attack in attacks:
                self.attack(network, role, attack, split=split)
                bar.advance(1, detail=f"{role} {attack.name}")

    def attack(self, network: Network, role: str, attack: Attack, *, split: str) -> None:
        """Run one attack on one set, unless that was done."""
        scores = Unit(role=role, split=split, attack=attack.name, kind="scores")
        answers = Unit(role=role, split=split, attack=attack.name, kind="answers")
        wanted = [answers] if attack.bits is None else [scores, answers]
        if all(self.store.has(unit) for unit in wanted):
            return
        with nullcontext() if attack.bits is None else quantised(network, bits=attack.bits):
            if attack.bits is not None:
                self.scores(network, scores)
            self.answers(network, answers, attack)

    def scores(self, network: Network, unit: Unit) -> None:
        """Score one set of records, unless that was done."""
        if self.store.has(unit):
            return
        records = self.records[unit.split]
        tokens = self._encoded(records)
        found = score(
            network,
            tokens,
            pad_id=self.encoder.pad_id,
            tokens_per_pass=self.tokens_per_pass,
        )
        if not all(bool(values.logp.isfinite().all()) for values in found):
            raise _not_a_number(unit.role)
        rows = [
            _evidence(record, encoded, values)
            for record, encoded, values in zip(records, tokens, found, strict=True)
        ]
        self.store.write_scores(unit, rows)

    def answers(self, network: Network, unit: Unit, attack: Attack) -> None:
        """Let a model answer about one set of records, unless that was done."""
        if self.store.has(unit):
            return
        records = self.records[unit.split]
        plain_scores = Unit(
            role=unit.role,
            split=unit.split,
            attack=PLAIN if attack.bits is None else attack.name,
            kind="scores",
        )
        known = {row.record: row for row in self._stored_scores(plain_scores)}
        asked = [
            (record, encoded, ask)
            for record, encoded in zip(records, self._encoded(records), strict=True)
            if (ask := attack.ask(self.encoder, record, encoded)) is not None
        ]
        written: dict[str, tuple[int, ...]] = {}
        for record, encoded, ask in asked:
            if (sure := _certain(encoded, ask, known.get(record.id))) is not None:
                written[record.id] = sure
        open_asks = [(record, ask) for record, _, ask in asked if record.id not in written]
        answers = greedy(
            network,
            [ask.prompt + ask.given for _, ask in open_asks],
            end_ids=self.encoder.end_ids,
            max_new_tokens=self.max_new_tokens,
            tokens_per_pass=self.tokens_per_pass,
        )
        written |= {r.id: tokens for (r, _), tokens in zip(open_asks, answers, strict=True)}
        rows = [
            Answer(
                record=record.id,
                text=self.encoder.decode(written[record.id]),
                given=self.encoder.decode(ask.given),
            )
            for record, _, ask in asked
        ]
        self.store.write_answers(unit, rows)

    def fluency(self, original: Network, role: str, split: str) -> None:
        """Add to plain answers how likely the original finds them, nats per token.

        A model that answers gibberish has not forgotten, it is broken; text that the original finds
        improbable token by token is how that shows.
        """
        unit = Unit(role=role, split=split, kind="answers")
        answers = self.store.answers(unit)
        todo = [answer for answer in answers if answer.text and answer.nll is None]
        if not todo:
            return
        by_id = {record.id: record for record in self.records[split]}
        encoded = [self.encoder.encode_with(by_id[a.record], a.text) for a in todo]
        found = score(
            original,
            encoded,
            pad_id=self.encoder.pad_id,
            tokens_per_pass=self.tokens_per_pass,
        )
        nlls = {
            answer.record: -float(values.logp[: len(values.logp) - int(e.ends)].mean())
            for answer, e, values in zip(todo, encoded, found, strict=True)
        }
        rows = [
            replace(a, nll=round(nlls[a.record], 6)) if a.record in nlls else a for a in answers
        ]
        self.store.write_answers(unit, rows)

    def _encoded(self, records: Sequence[Record]) -> list[Encoded]:
        return [self.encoder.encode(record) for record in records]

    def _stored_scores(self, unit: Unit) -> list[Scores]:
        return self.store.scores(unit) if self.store.has(unit) else []


def _certain(encoded: Encoded, ask: Ask, scores: Scores | None) -> tuple[int, ...] | None:
    """Return the greedy answer where the teacher-forced pass already determines it."""
    if scores is None or ask.skipped is None or not encoded.ends:
        return None
    if not all(scores.hit[ask.skipped :]):
        return None
    return encoded.ids[encoded.start + ask.skipped : -1]


def _not_a_number(role: str) -> InputError:
    return InputError(
        "not-a-number",
        what=f"the {role} model's scores are not numbers",
        why="the weights hold NaN or infinities, or overflow in this number format",
        fix="check the model's files; with bf16, try --set precision=fp32",
    )


def _evidence(record: Record, encoded: Encoded, values: TokenScores) -> Scores:
    return Scores(
        record=record.id,
        logp=tuple(values.logp.tolist()),
        hit=tuple(values.hit.tolist()),
        z=tuple(values.z.tolist()),
        ends=encoded.ends,
        zlib=len(zlib.compress(record.completion.encode())),
    )
