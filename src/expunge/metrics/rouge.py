"""ROUGE-L between answer and reference; the variant is part of the metric's name."""

from functools import lru_cache
from typing import Any

from expunge.evidence.store import Answer, Item


@lru_cache(maxsize=2)
def _scorer(stemmer: bool) -> Any:  # noqa: ANN401 - rouge_score is not typed
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], use_stemmer=stemmer)


def rouge_l_recall(answer: Answer, item: Item) -> float | None:
    """Return ROUGE-L recall with stemming, in [0, 1] (TOFU variant, arXiv 2401.06121).

    It rewards wording, not facts: a wrong city in the right sentence scores higher than the right
    city alone. So no gate reads it.

    None when the reference answer is empty.

    Example:
        >>> item = Item(record="r1", split="forget", question="Where?", answer="She lives in Oslo.")
        >>> rouge_l_recall(Answer(record="r1", text="She lives in Rome."), item)
        0.75
    """
    if not item.answer.strip():
        return None
    return float(_scorer(True).score(item.answer, answer.text)["rougeL"].recall)


def rouge_l_f1(answer: Answer, item: Item) -> float | None:
    """Return ROUGE-L F1 without stemming, in [0, 1] (MUSE variant, arXiv 2407.06460).

    None when the reference answer is empty.

    Example:
        >>> item = Item(record="r1", split="forget", question="Where?", answer="She lives in Oslo.")
        >>> rouge_l_f1(Answer(record="r1", text="She lives in Rome."), item)
        0.75
    """
    if not item.answer.strip():
        return None
    return float(_scorer(False).score(item.answer, answer.text)["rougeL"].fmeasure)
