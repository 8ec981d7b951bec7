"""Paraphrase: the same question in words that the forget set does not contain.

Protocol: the first paraphrase of each record, greedy. Budget: one answer a record. Forgetting that
is tied to a template fails here; paraphrases can raise scores tenfold (arXiv:2506.12618).
"""

from expunge.data.records import Record
from expunge.data.tokenization import Encoded, Encoder
from expunge.evidence.question import PromptTokens


def paraphrase(encoder: Encoder, record: Record, encoded: Encoded) -> PromptTokens | None:
    """Ask in other words; None for a record without a paraphrase."""
    if not record.paraphrases or not record.prompt:
        return None
    return PromptTokens(
        prompt=encoder.prompt_ids(record, question=record.paraphrases[0]), skipped=None
    )
