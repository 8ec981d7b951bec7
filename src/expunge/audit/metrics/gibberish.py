"""Gibberish: an answer that no reader would take for language."""

from expunge.audit.evidence import Answer
from expunge.audit.metrics.repetition import character_repetition, sequence_repetition

LIMIT = 6.0
"""Nats per token under the original model above which an answer counts as gibberish."""

LOOP = 0.5
"""Share of repeated n-grams above which an answer counts as a loop."""


def gibberish(answer: Answer, limit: float = LIMIT) -> bool:
    """Tell whether the answer is empty, a loop, or very unlikely under the original model.

    The rule: no visible character, or seq-rep-4 > 0.5, of words or, by runs of eight, of
    characters (a loop may hold no space), or, where measured, mean negative log-probability under
    the original above `limit` nats per token.
    """
    return (
        not answer.text.strip()
        or sequence_repetition(answer.text) > LOOP
        or character_repetition(answer.text) > LOOP
        or (answer.nll is not None and answer.nll > limit)
    )
