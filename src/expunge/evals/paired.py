"""Paired likelihoods: the forget records under the judged model, the original and every gold."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from expunge.evals.comparison import Comparison
from expunge.evals.evidence_table import Column, common
from expunge.evidence.store import ORIGINAL, PLAIN
from expunge.metrics.base import LOG_LOSS, MEMBERSHIP, ScoreMetric
from expunge.metrics.likelihood_ratio import LEVEL, Flags, kept_test
from expunge.metrics.residual_memory import Array, ModelNoise, change_noise, model_noise
from expunge.metrics.statistics import FEW_CLUSTERS

LIKELIHOOD_OF = MEMBERSHIP[0]
"""Mean log-probability per token of the true answer."""

IN_NATS = 0.1
"""Chance at most of a kept record's likelihood in nats, under a model that never saw it."""

NUMBER_FORMATS = ("fp32", "bf16", "fp16")
"""Number formats in which tools load a model. Golds are not scored in these: rounding moves the
likelihood of a record by far less than golds differ."""

UNSEEN = ("holdout", "control")
"""Sets that no model was trained on."""

NO_NOISE = (
    "nothing tells how models differ that never saw the data; give holdout or control records, or "
    "a second gold model"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Paired:
    """One likelihood per record and model; all arrays are in the order of `records`."""

    records: tuple[str, ...]
    judged: Array
    """Shape (records,)."""
    original: Array
    """Shape (records,)."""
    golds: Array
    """Shape (golds, records)."""
    noise: ModelNoise


def paired(
    case: Comparison, metric: ScoreMetric = LIKELIHOOD_OF, attack: str = PLAIN
) -> Paired | str:
    """Return the likelihoods of the forget records, or the reason why there are none.

    Under an attack, the judged model and the golds are taken under it and the original is not: it
    is the scale.

    Args:
        case: Who is judged against whom.
        metric: Likelihood of a record; higher means better known.
        attack: Name of the test.
    """
    judged = case.column(metric, case.subject, "forget", attack)
    original = case.column(metric, ORIGINAL, "forget")
    same = PLAIN if attack in NUMBER_FORMATS else attack
    golds = [case.column(metric, role, "forget", same) for role in case.golds]
    if not judged or not original:
        return "the original or the model was not measured on this"
    if not golds or not all(golds):
        return "no gold model was measured on this"
    records = common(judged, original, *golds)
    if not records:
        return "no record was measured on all models"
    matrix = _matrix(golds, records)
    plain = [case.column(metric, role, "forget") for role in case.golds]
    unmoved = [] if attack == PLAIN or not all(plain) else [_matrix(plain, common(*golds, *plain))]
    noise = model_noise(*(unmoved or [matrix]), *unseen_groups(case, metric))
    if noise is None:
        noise = _own_scatter(_matrix([judged], records)[0] - matrix.mean(axis=0))
    if noise is None:
        return NO_NOISE
    if unmoved:
        moved = _matrix(golds, common(*golds, *plain))
        noise = noise.plus(change_noise(unmoved[0], moved))
    return Paired(
        records=records,
        judged=_matrix([judged], records)[0],
        original=_matrix([original], records)[0],
        golds=matrix,
        noise=noise,
    )


class Kept(NamedTuple):
    """Which records are kept, in the order given."""

    records: tuple[str, ...]
    kept: Flags
    tellable: Flags
    """Whether a record kept whole would be found."""


def kept_records(
    case: Comparison, attack: str = PLAIN, *, level: float = LEVEL, tests: int = 0
) -> Kept | str:
    """Return which records the judged model kept, or the reason why nobody can tell.

    By `expunge.metrics.likelihood_ratio` on the scale of log loss. In nats, too, the record must
    stand out a little: an easy record, of which models that never saw it are nearly sure, may look
    learnt on that scale alone.

    Args:
        case: Who is judged against whom.
        attack: Name of the test.
        level: Chance that any of the records of a true gold is called kept.
        tests: Records that share the level; 0: all that were measured.
    """
    found, plain = paired(case, LOG_LOSS, attack), paired(case, LIKELIHOOD_OF, attack)
    if isinstance(found, str) or isinstance(plain, str):
        return found if isinstance(found, str) else str(plain)
    scaled = kept_test(found.judged, found.original, found.golds, found.noise)
    nats = kept_test(plain.judged, plain.original, plain.golds, plain.noise)
    count = tests or len(found.records)
    stands_out = nats.p <= IN_NATS
    return Kept(found.records, scaled.kept(count, level=level) & stands_out, scaled.tellable)


def _own_scatter(excess: Array) -> ModelNoise | None:
    """Return the noise of one gold and no unseen record: how the excess itself scatters.

    Its median absolute deviation, so that a few kept records do not hide themselves. A model-wide
    shift cannot be told from memory then. None with fewer than five records.
    """
    if len(excess) < FEW_CLUSTERS:
        return None
    spread = 1.4826 * float(np.median(np.abs(excess - np.median(excess))))
    return ModelNoise(spread / math.sqrt(2), 0.0, len(excess) - 1)


def unseen_groups(case: Comparison, metric: ScoreMetric) -> list[Array]:
    """Return the likelihoods of records that neither the original nor a gold saw, set by set.

    Each of shape (models, records): the original first, then the golds.
    """
    found: list[Array] = []
    for split in UNSEEN:
        columns = [case.column(metric, role, split) for role in (ORIGINAL, *case.golds)]
        columns = [column for column in columns if column]
        if len(columns) > 1 and (records := common(*columns)):
            found.append(_matrix(columns, records))
    return found


def _matrix(columns: list[Column], records: tuple[str, ...]) -> Array:
    return np.array([[column[name] for name in records] for column in columns], dtype=np.float64)
