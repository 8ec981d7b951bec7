"""How an audit reads metrics of single records: which evidence goes in, under which id.

These are not the records of the registry. `registry.Metric` describes any metric to a reader, and
takes its id from here where an audit reads it record by record.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from expunge.evidence.store import Answer, Item, Scores
from expunge.metrics import membership, untold_likelihood
from expunge.metrics.answer_quality import form_missed, malformed, own_nll
from expunge.metrics.fact_leak import leaks_fact
from expunge.metrics.fact_matchers import Background
from expunge.metrics.fluency import gibberish, refusal, sequence_repetition
from expunge.metrics.key_facts import key_fact, says_wanted
from expunge.metrics.memorization import (
    discoverable,
    exact_memorisation,
    extraction_strength,
    probability,
)
from expunge.metrics.rouge import rouge_l_f1, rouge_l_recall


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreMetric:
    """A number per record from token log-probabilities; None drops the record, and is counted.

    Example:
        >>> scores = Scores(record="r1", logp=(-1.0,), hit=(False,), z=(), ends=False, zlib=9)
        >>> round(PROBABILITY.of(scores), 3)
        0.368
    """

    id: str
    of: Callable[[Scores], float | None]
    knowledge: bool = True
    """True when more means that the model knows the record better."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerMetric:
    """A number per record from a greedy answer; None drops the record, and is counted.

    Example:
        >>> KEY_FACT.id, KEY_FACT.knowledge
        ('key-fact', True)
    """

    id: str
    of: Callable[[Answer, Item], float | None]
    knowledge: bool = True
    """True when more means that the model knows the record; false when more means damage."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LeakMetric:
    """A number per record from a greedy answer and its background; None drops the record.

    Example:
        >>> FACT_LEAK.id
        'fact-leak'
    """

    id: str
    of: Callable[[Answer, Item, Background], float | None]
    knowledge: bool = True
    """True: more means that the model knows the record."""


RecordMetric = ScoreMetric | AnswerMetric | LeakMetric
"""What gives one number per record."""

PROBABILITY = ScoreMetric(id="probability", of=probability)
EXTRACTION_STRENGTH = ScoreMetric(id="extraction-strength", of=extraction_strength)
EXACT_MEMORISATION = ScoreMetric(id="exact-memorisation", of=exact_memorisation)
DISCOVERABLE = ScoreMetric(id="discoverable-100", of=discoverable)
KEY_FACT = AnswerMetric(id="key-fact", of=key_fact)
SAYS_WANTED = AnswerMetric(id="says-wanted", of=says_wanted)
ROUGE_L_RECALL = AnswerMetric(id="rouge-l-recall-stem", of=rouge_l_recall)
ROUGE_L_F1 = AnswerMetric(id="rouge-l-f1", of=rouge_l_f1)
SEQ_REP = AnswerMetric(
    id="seq-rep-4", of=lambda answer, _: sequence_repetition(answer.text), knowledge=False
)
GIBBERISH = AnswerMetric(
    id="gibberish", of=lambda answer, _: float(gibberish(answer)), knowledge=False
)
FACT_LEAK = LeakMetric(id="fact-leak", of=leaks_fact)
MALFORMED = AnswerMetric(id="malformed", of=malformed, knowledge=False)
OWN_NLL = AnswerMetric(id="own-nll", of=lambda answer, _: own_nll(answer), knowledge=False)
FORM_MISSED = AnswerMetric(id="form-missed", of=form_missed, knowledge=False)
REFUSAL = AnswerMetric(
    id="refusal", of=lambda answer, _: float(refusal(answer.text)), knowledge=False
)

MEMBERSHIP = (
    ScoreMetric(id="loss", of=membership.loss),
    ScoreMetric(id="zlib", of=membership.zlib),
    ScoreMetric(id="min-k-40", of=partial(membership.min_k, share=0.4)),
    ScoreMetric(id="min-k-plus-20", of=partial(membership.min_k_plus, share=0.2)),
)
"""The four membership scores; all say higher = more likely a member."""

BOUNDED = ScoreMetric(id="bounded-loss", of=membership.bounded)
"""Likelihood of an answer in which no single token decides."""

LOG_LOSS = ScoreMetric(id="log-loss", of=membership.log_loss)
"""The scale on which single records are tested where no gold is."""

UNTOLD = ScoreMetric(id="untold-likelihood", of=untold_likelihood.untold_likelihood)
"""What a model knows of an answer beyond what the question tells."""

UNTOLD_MIN_K = ScoreMetric(id="untold-min-k-40", of=untold_likelihood.untold_min_k)
"""The same, of the least likely tokens."""

SHUNNED = ScoreMetric(
    id="untold-min-k-40-unfloored", of=partial(untold_likelihood.untold_min_k, floor=-math.inf)
)
"""The same, however unlikely they are: whether a model shuns an answer."""

UNTOLD_LOG_LOSS = ScoreMetric(id="untold-log-loss", of=untold_likelihood.untold_log_loss)
"""The scale on which single records are tested against golds."""
