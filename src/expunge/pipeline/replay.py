"""Replay: what the original says of the subjects that stay, kept in place beside the retain set.

Before training, the original is asked `replay_questions` and answers greedily. Its answers become
further retain records. They are kept in the run folder, so that a resumed run trains on the same
texts. Left out are answers without an end, and those that might state a fact that must go.
"""

from dataclasses import replace

from expunge.data.replay_questions import ForgottenWords, replay_questions
from expunge.data.tokenization import Encoded
from expunge.evidence.store import EvidenceStore
from expunge.methods.counterfactual import Counterfactual
from expunge.models.generation import greedy
from expunge.models.transformer import Network
from expunge.preparation.prepare import Prepared
from expunge.training.controller import shown
from expunge.utils.console import Console

REPLAY_FILE = "replayed-answers.jsonl"
"""Name of questions and answers in the evidence."""
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

    Args:
        prepared: The inputs; come back as they are if the method replays nothing.
        original: The original, before any weight has moved.
        store: Where questions and answers are kept; those of an interrupted run are used again.
        console: Told how many there are.
        file: Their name in the store; two stages of a chain have one each.
    """
    method = prepared.method
    if not isinstance(method, Counterfactual) or not method.replay:
        return prepared
    scope, encoder, seed = prepared.scope, prepared.encoder, prepared.settings.train.seed
    kept = shown(scope.keep)  # the controller reads the others: they are what nobody showed
    asked = replay_questions(scope.forget, kept, most=method.replay, seed=seed)
    if not asked:
        return prepared
    if not store.holds(file):
        said = _answers(prepared, original, [encoder.prompt_ids(record) for record in asked])
        rows = zip(asked, said, strict=True)
        store.write_rows(file, ({"question": r.question, "answer": text} for r, text in rows))
    gone = ForgottenWords.of(scope.forget, scope.keep)
    answers = [str(row["answer"]) for row in store.read_rows(file)]
    replayed: list[Encoded] = []
    for record, text in zip(asked, answers, strict=True):
        if text and not gone.told_in(text):
            replayed.append(encoder.encode_with(record, text))
    console.line("replay", f"{len(replayed)} answers of the original about subjects that stay")
    return replace(prepared, streams=replace(prepared.streams, replay=tuple(replayed)))


def _answers(prepared: Prepared, original: Network, prompts: list[tuple[int, ...]]) -> list[str]:
    """Return the greedy answers; an answer that does not end, or is too long, is empty."""
    encoder, train = prepared.encoder, prepared.settings.train
    longest = max(len(each.ids) - each.start for each in prepared.streams.retain)
    most = round(_ROOM * longest)
    said = greedy(
        original,
        prompts,
        end_ids=encoder.end_ids,
        max_new_tokens=most,
        tokens_per_pass=train.tokens_per_pass,
    )
    return [encoder.decode(answer) if len(answer) < most else "" for answer in said]
