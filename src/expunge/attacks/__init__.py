"""The attacks: each a small file that says what is asked, or what is done to the weights."""

from expunge.attacks.quick.paraphrase import paraphrase
from expunge.attacks.quick.prefill import prefill_affirm, prefill_share
from expunge.attacks.quick.quantise import INT4, INT8
from expunge.evidence.question import PromptTokens, QuestionForm, plain

QUICK: tuple[QuestionForm, ...] = (
    QuestionForm(name="paraphrase", ask=paraphrase),
    QuestionForm(name="prefill-affirm", ask=prefill_affirm),
    QuestionForm(name="prefill-25", ask=prefill_share(0.25)),
    QuestionForm(name="prefill-50", ask=prefill_share(0.50)),
    INT8,
    INT4,
)
"""The attacks of level quick."""

__all__ = ["INT4", "INT8", "QUICK", "PromptTokens", "QuestionForm", "plain"]
