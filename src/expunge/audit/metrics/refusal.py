"""Refusal: an answer that declines instead of answering."""

from expunge.audit.metrics.text import contains, normalise

REFUSALS = (
    "i don't know",
    "i do not know",
    "i'm not sure",
    "i am not sure",
    "cannot",
    "can't",
    "unable to",
    "not able to",
    "not aware of",
    "not familiar with",
    "no information",
    "no knowledge",
    "don't have any information",
    "don't have access",
    "do not have access",
    "i'm sorry",
    "i am sorry",
    "i apologize",
    "i apologise",
)
"""Phrases that mark a refusal. A phrase list over-counts a little; only rises are judged."""

_PHRASES = tuple(normalise(phrase) for phrase in REFUSALS)


def refusal(text: str) -> bool:
    """Tell whether `text` holds one of `REFUSALS`, both normalised, on word boundaries."""
    said = normalise(text)
    return any(contains(said, phrase) for phrase in _PHRASES)
