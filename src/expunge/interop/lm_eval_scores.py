"""What the tasks of `expunge probes` name: how lm-eval reads their questions and scores answers.

lm-eval imports this file through the `utils.py` of a task folder. It loads no model and no torch.

    fact_stated     1 where an answer states the fact in any of its spellings, see `key_fact`
    rouge_l_recall  share of the reference that the answer repeats in order, see `rouge_l_recall`
    verbatim        1 where every token of the reference is the model's first choice
    bits_per_byte   -log2 p(reference) / bytes of the reference
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.evidence.store import Answer, Item
from expunge.metrics.key_facts import key_fact
from expunge.metrics.rouge import rouge_l_recall
from expunge.utils.io import read_jsonl

if TYPE_CHECKING:
    from datasets import Dataset

ANSWERS = ("fact_stated", "rouge_l_recall")
LIKELIHOODS = ("verbatim", "bits_per_byte")


def read_docs(path: Path) -> "dict[str, Dataset]":
    """Return the questions of a task as lm-eval wants them; nothing is copied to a cache.

    Args:
        path: File of the questions, JSON Lines.

    Example:
        >>> read_docs(Path("probes/expunge_forget.jsonl"))  # doctest: +SKIP
    """
    from datasets import Dataset

    return {"test": Dataset.from_list(read_jsonl(path))}


def score_answer(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Score a written answer; a metric that does not apply to a question is left out.

    Args:
        doc: The question.
        results: The answer alone.

    Example:
        >>> doc = {"record": "r1", "question": "Where?", "answer": "In Oslo.", "facts": ["Oslo"]}
        >>> score_answer(doc, ["She lives in Oslo."])
        {'fact_stated': 1.0, 'rouge_l_recall': 1.0}
    """
    item = Item(
        record=doc["record"],
        split="forget",
        question=doc["question"],
        answer=doc["answer"],
        key_answers=tuple(doc["facts"]),
    )
    answer = Answer(record=item.record, text=results[0])
    values = zip(ANSWERS, (key_fact(answer, item), rouge_l_recall(answer, item)), strict=True)
    return {name: value for name, value in values if value is not None}


def score_likelihood(
    doc: Mapping[str, Any], results: Sequence[tuple[float, bool]]
) -> dict[str, float | tuple[float, int]]:
    """Score how likely the reference is.

    Args:
        doc: The question.
        results: Log-probability of the reference, nats, and whether it is the greedy answer.

    Returns:
        `bits_per_byte` as the pair that lm-eval adds up over questions: nats and bytes.

    Example:
        >>> score_likelihood({"answer": "Oslo"}, [(-2.5, True)])
        {'verbatim': 1.0, 'bits_per_byte': (-2.5, 4)}
    """
    nats, greedy = results[0]
    values = (float(greedy), (nats, len(doc["answer"].encode())))
    return dict(zip(LIKELIHOODS, values, strict=True))
