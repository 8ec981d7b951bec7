"""Replay: what the original says of the subjects that stay, kept in place beside the retain set.

Before training, the original is asked `replay_questions` and answers greedily. Its answers become
further retain records. It is also asked the forget questions about subjects that stay: a model
that never heard of the subject answers much the same. All answers are kept in the run folder, so
that a resumed run trains on the same texts. Left out are answers without an end, and those that
might state a fact that must go.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import cycle

from expunge.data.records import Record
from expunge.data.replay_questions import (
    ForgottenWords,
    answer_about,
    asked_of_namesakes,
    asked_of_others,
    is_same_answer,
    replay_questions,
)
from expunge.data.subjects import with_subjects
from expunge.data.tokenization import Encoded, Encoder
from expunge.evidence.store import EvidenceStore
from expunge.methods.base import Stream
from expunge.methods.counterfactual import Counterfactual
from expunge.models.generation import greedy
from expunge.models.scoring import score
from expunge.models.transformer import Network
from expunge.preparation.prepare import Prepared
from expunge.training.controller import shown
from expunge.utils.console import Console

REPLAY_FILE = "replayed-answers.jsonl"
"""Name of questions and answers in the evidence."""
OTHERS = 4
"""Most kept subjects that a forget question is asked of."""
_SURE = 0.9
"""Least probability of each token of an answer that the original was taught."""
_ROOM = 1.25
"""Longest answer, in units of the longest kept one."""


def with_replay(
    prepared: Prepared,
    original: Network,
    store: EvidenceStore,
    console: Console,
    *,
    file: str = REPLAY_FILE,
) -> Prepared:
    """Add the original's answers to replay questions to what training keeps.

    And its answers to the forget questions about subjects that stay: what others are told.

    Args:
        prepared: The inputs; come back as they are if the method has no use for it.
        original: The original, before any weight has moved.
        store: Where questions and answers are kept; those of an interrupted run are used again.
        console: Told how many there are.
        file: Their name in the store; two stages of a chain have one each.
    """
    method = prepared.method
    if not isinstance(method, Counterfactual):
        return prepared
    scope, encoder, seed = prepared.scope, prepared.encoder, prepared.settings.train.seed
    kept = shown(scope.keep)  # the controller reads the others: they are what nobody showed
    stay = replay_questions(scope.forget, kept, most=method.replay, seed=seed)
    asked = (*stay, *asked_of_namesakes(scope.forget, kept, most=method.replay, seed=seed))
    each = OTHERS if method.others and not method.teach else 0
    others = asked_of_others(scope.forget, kept, each=each, seed=seed)
    known = {record.question: record.completion for record in kept}
    every = {r.question: r for some in (asked, *others) for r in some if r.question not in known}
    if every and not store.holds(file):
        said = _answers(prepared, original, tuple(every.values()))
        store.write_rows(file, (asdict(each) for each in said))
    forget = with_subjects(scope.forget, scope.keep)
    gone = ForgottenWords.of(forget, kept)
    rows = [_Answer(**row) for row in store.read_rows(file)] if every else []
    taught_of = frozenset(record.question for record in stay)  # nobody was taught of namesakes
    answers = known | _usable(rows, every, gone, taught_of)
    replayed = tuple(
        encoder.encode_with(r, answers[r.question]) for r in asked if r.question in answers
    )
    if asked:
        console.line("replay", f"{len(replayed)} answers of the original about subjects that stay")
    streams = replace(prepared.streams, replay=replayed)
    taught = _taught(encoder, forget, others, known | _usable(rows, every, gone))
    if not taught:
        return replace(prepared, streams=streams, method=replace(method, others=0.0))
    variants = {**streams.variants, Stream.OTHERS: taught}
    return replace(prepared, streams=replace(streams, variants=variants))


def _taught(
    encoder: Encoder,
    forget: Sequence[Record],
    asked: Sequence[Sequence[Record]],
    answers: Mapping[str, str],
) -> tuple[tuple[Encoded, ...], ...]:
    """Return what is answered to each forget question about others, with the subject's name.

    A record for which nothing can be used takes the place of another one. Where nothing can be used
    at all, there is nothing.
    """
    found: list[tuple[Encoded, ...]] = []
    for record, others in zip(forget, asked, strict=True):
        texts = {
            answer_about(record.subject or "", other.subject or "", answers[other.question])
            for other in others
            if other.question in answers
        }
        texts = sorted(text for text in texts if not is_same_answer(record, text))
        found.append(tuple(encoder.encode_with(record, text) for text in texts))
    rest = cycle(some for some in found if some)
    return tuple(some or next(rest) for some in found) if any(found) else ()


def _usable(
    rows: Sequence["_Answer"],
    asked: Mapping[str, Record],
    gone: ForgottenWords,
    taught_of: Collection[str] | None = None,
) -> dict[str, str]:
    """Return the answers that state nothing of the forget set, by question.

    Args:
        rows: The answers.
        asked: By question, with its subject.
        gone: What states something.
        taught_of: Questions whose answers the original may have been taught; None: it does not
            matter how sure it is.
    """
    return {
        row.question: row.answer
        for row in rows
        if row.answer
        and not gone.told_in(
            asked[row.question],
            row.answer,
            sure=row.sure and taught_of is not None,
            taught=taught_of is not None and row.question in taught_of,
        )
    }


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the original answers to one question."""

    question: str
    answer: str
    """Empty where it does not end, or is too long."""
    sure: bool = False
    """Whether each of its tokens has at least `_SURE`."""


def _answers(prepared: Prepared, original: Network, asked: Sequence[Record]) -> list[_Answer]:
    """Ask the original, greedily."""
    encoder, train = prepared.encoder, prepared.settings.train
    longest = max(len(each.ids) - each.start for each in prepared.streams.retain)
    most = round(_ROOM * longest)
    said = greedy(
        original,
        [encoder.prompt_ids(record) for record in asked],
        end_ids=encoder.end_ids,
        max_new_tokens=most,
        tokens_per_pass=train.tokens_per_pass,
    )
    texts = [encoder.decode(answer) if len(answer) < most else "" for answer in said]
    whole = [
        encoder.encode_with(record, text or " ") for record, text in zip(asked, texts, strict=True)
    ]
    scores = score(
        original,
        whole,
        pad_id=encoder.pad_id,
        tokens_per_pass=train.tokens_per_pass,
        with_z=False,
    )
    return [
        _Answer(record.question, text, float(each.logp.min()) >= math.log(_SURE))
        for record, text, each in zip(asked, texts, scores, strict=True)
    ]
