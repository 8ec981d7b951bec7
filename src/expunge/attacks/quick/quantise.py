"""Quantisation: round the weights to 8 or 4 bits and ask again.

Protocol: `expunge.models.quantization`, round to nearest, no calibration; teacher-forced scores and
greedy answers. Budget: one pass and one answer a record. Updates smaller than a quantisation step
vanish: 21 % of forgotten knowledge kept became 83 % at 4 bits (arXiv:2410.16454).
"""

from expunge.evidence.question import QuestionForm, plain
from expunge.evidence.store import PLAIN

INT8 = QuestionForm(name=PLAIN, ask=plain, bits=8)
INT4 = QuestionForm(name=PLAIN, ask=plain, bits=4)
