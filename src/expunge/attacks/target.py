"""The target: a model under attack, and the few things that every attack does with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from expunge.attacks.base import Attempt
from expunge.data.records import Message, Record
from expunge.data.tokenization import Encoded, Encoder
from expunge.metrics.memorization import hits_strength
from expunge.models.beam_search import Copy, Wanted, near_copies
from expunge.models.generation import greedy, sample
from expunge.models.loading import Source
from expunge.models.scoring import TokenScores, score
from expunge.models.transformer import Network


class Question(NamedTuple):
    """One prompt for one fact."""

    record: Record
    prompt: tuple[int, ...]
    told: str
    """The text of the prompt, without system turn and template."""
    variant: str = ""
    given: tuple[int, ...] = ()
    """Tokens put into the model's mouth; they follow the prompt."""
    wanted: tuple[str, ...] = ()
    """Spellings of the fact where they are not the record's own."""


@dataclass(kw_only=True, slots=True)
class AttackMeter:
    """What an attack has spent so far."""

    tokens: int = 0
    """Tokens read and written by the model, forward passes only, padding left out."""
    steps: int = 0
    """Optimiser steps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A model under attack."""

    reference: str
    """How the model was named."""
    digest: str
    """Of what it is; see `Loaded.digest`."""
    judged: bool
    """Whether this is the model under judgement, and not the gold it is held against."""
    network: Network
    encoder: Encoder
    source: Source
    original: Mapping[str, Tensor]
    """The original's tensors, as far as they differ from the target's; empty when unknown."""
    retain: tuple[Record, ...]
    """Records that both models know: what retain-only fine-tuning uses."""
    neighbours: tuple[Record, ...]
    strangers: tuple[Record, ...]
    """Records of the same form about others that no model saw (holdout, control)."""
    max_new_tokens: int
    tokens_per_pass: int
    seed: int
    scratch: Path
    """Folder for files of activations; emptied by the caller."""
    meter: AttackMeter = field(default_factory=AttackMeter)

    def plain(self, record: Record, variant: str = "") -> Question | None:
        """Return the record's own question; None for a passage, which is not asked for."""
        if not record.prompt:
            return None
        return Question(record, self.encoder.prompt_ids(record), record.question, variant)

    def worded(
        self,
        record: Record,
        turns: Sequence[Message],
        *,
        variant: str,
        prefill: str = "",
        wanted: tuple[str, ...] = (),
    ) -> Question:
        """Return a question in the given turns, after all that the record has before its own."""
        prompt = (*record.prompt[:-1], *turns)
        asked = Record(id=record.id, prompt=prompt, completion=record.completion)
        ids = self.encoder.prompt_ids(asked)
        whole = self.encoder.prompt_ids(asked, prefill=prefill)
        told = "\n".join(turn.content for turn in turns)
        return Question(record, ids, told, variant, whole[len(ids) :], wanted)

    def asks(self, tested: Sequence[Record], variant: str = "") -> list[Attempt]:
        """Ask every fact plainly; greedy."""
        plain = [self.plain(record, variant) for record in tested]
        return self.ask([question for question in plain if question is not None])

    def ask(self, questions: Sequence[Question]) -> list[Attempt]:
        """Answer every question greedily."""
        texts = greedy(
            self.network,
            [question.prompt + question.given for question in questions],
            end_ids=self.encoder.end_ids,
            max_new_tokens=self.max_new_tokens,
            tokens_per_pass=self.tokens_per_pass,
        )
        self._count(questions, texts)
        return [self._attempt(q, text) for q, text in zip(questions, texts, strict=True)]

    def sample(
        self,
        questions: Sequence[Question],
        *,
        samples: int,
        temperature: float,
        generator: torch.Generator,
    ) -> list[list[Attempt]]:
        """Answer every question several times at a temperature."""
        found = sample(
            self.network,
            [question.prompt + question.given for question in questions],
            samples=samples,
            temperature=temperature,
            generator=generator,
            end_ids=self.encoder.end_ids,
            max_new_tokens=self.max_new_tokens,
            tokens_per_pass=self.tokens_per_pass,
        )
        for question, texts in zip(questions, found, strict=True):
            self._count([question] * len(texts), texts)
        return [
            [self._attempt(question, text) for text in texts]
            for question, texts in zip(questions, found, strict=True)
        ]

    def near_copies(self, wanted: Sequence[Wanted], *, width: int) -> list[list[Copy]]:
        """Search for continuations within a few edits of each text."""
        self.meter.tokens += sum(len(each.prompt) + width * len(each.text) for each in wanted)
        return near_copies(
            self.network,
            wanted,
            width=width,
            end_ids=self.encoder.end_ids,
            tokens_per_pass=self.tokens_per_pass,
        )

    def score(self, encoded: Sequence[Encoded]) -> list[TokenScores]:
        """Score the true answers, teacher forced."""
        self.meter.tokens += sum(len(record.ids) for record in encoded)
        return score(
            self.network,
            encoded,
            pad_id=self.encoder.pad_id,
            tokens_per_pass=self.tokens_per_pass,
        )

    def strengths(self, tested: Sequence[Record], variant: str) -> list[Attempt]:
        """Measure the extraction strength of every fact: a teacher-forced pass, no decoding."""
        encoded = [self.encoder.encode(record) for record in tested]
        found: list[Attempt] = []
        for record, tokens, values in zip(tested, encoded, self.score(encoded), strict=True):
            content = values.hit[: len(values.hit) - int(tokens.ends)].tolist()
            value = hits_strength(content)
            if value is not None:
                found.append(Attempt(record=record.id, variant=variant, value=value))
        return found

    def _attempt(self, question: Question, text: tuple[int, ...]) -> Attempt:
        return Attempt(
            record=question.record.id,
            variant=question.variant,
            told=question.told,
            given=self.encoder.decode(question.given),
            text=self.encoder.decode(text),
            wanted=question.wanted,
        )

    def _count(self, questions: Sequence[Question], texts: Sequence[tuple[int, ...]]) -> None:
        read = sum(len(question.prompt) + len(question.given) for question in questions)
        self.meter.tokens += read + sum(len(text) for text in texts)
