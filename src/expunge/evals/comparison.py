"""A comparison: which model is judged, and which models or records it is compared with.

Also the likelihoods of the forget records under all of them, paired record by record.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from expunge.evals.evidence_table import Column, Table, common, mean_column
from expunge.evidence.context import Policy
from expunge.evidence.store import ORIGINAL, PLAIN
from expunge.metrics.base import (
    EXTRACTION_STRENGTH,
    KEY_FACT,
    MEMBERSHIP,
    PROBABILITY,
    UNTOLD,
    UNTOLD_LOG_LOSS,
    RecordMetric,
    ScoreMetric,
)
from expunge.metrics.residual_memory import (
    LEVEL,
    Array,
    Flags,
    ModelNoise,
    change_noise,
    kept_test,
    model_noise,
)
from expunge.metrics.statistics import FEW_CLUSTERS, TWO_SIDED, Sample, difference

CONTROL_STREAM = 1

FORGETTING_METRICS: tuple[RecordMetric, ...] = (EXTRACTION_STRENGTH, PROBABILITY, KEY_FACT)
"""Any of these must show that the original knew the forget set; else there is nothing to forget."""

KNOWN_STRENGTH = 0.5
"""Extraction strength from which on a record counts as known: half of it is recited."""
MOST_UNKNOWN = 0.5
"""Largest share of forget records that a claim may leave out."""


class Baseline(NamedTuple):
    """What never having seen the data looks like: gold on the same records, or control items."""

    column: Column
    split: str
    """`forget` when gold answered the forget records, `control` without gold."""

    @property
    def paired(self) -> bool:
        """Tell whether the anchor has a value for each forget record."""
        return self.split == "forget"


@dataclass(frozen=True, kw_only=True, slots=True)
class HalfTrained:
    """A reference model that was trained on a random half of forget and holdout records."""

    reference: str
    saw: tuple[str, ...]
    """Ids of the forget and holdout records that it was trained on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """One comparison on an evidence table.

    To judge another model (the original, a second gold, a planted failure) in the place of the
    unlearned one, change `subject`; nothing is copied.
    """

    table: Table
    subject: str
    """Role of the model that is judged."""
    golds: tuple[str, ...]
    """Roles of the models that never saw the forget set; their mean per record is the anchor."""
    policy: Policy
    seed: int
    halves: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """Role of each model that was trained on a random half, to the records that it saw."""
    routers: bool = False
    """Whether the original is a mixture of experts."""
    in_turn: int = 1
    """How many models are judged in turn; exact tests share their level among them."""

    def column(self, metric: RecordMetric, role: str, split: str, attack: str = PLAIN) -> Column:
        """Return a metric per record, see `Table.column`."""
        return self.table.column(metric, role, split, attack)

    def gold_columns(self, metric: RecordMetric, split: str, attack: str = PLAIN) -> list[Column]:
        """Return the columns of the golds for which the evidence was collected."""
        columns = [self.column(metric, role, split, attack) for role in self.golds]
        return [column for column in columns if column]

    def anchor(self, metric: RecordMetric, attack: str = PLAIN) -> Baseline | None:
        """Return the anchor of a metric on the forget set; None when there is none.

        Gold where there is one. Without gold, control items under the same attack: for
        likelihoods those of the judged model itself, so that drift of format cancels; for answers
        those of the original, or of the judged model where the original was not asked.
        """
        gold = mean_column(self.gold_columns(metric, "forget", attack))
        if gold:
            return Baseline(gold, "forget")
        if self.golds:
            return None
        roles = (self.subject,) if isinstance(metric, ScoreMetric) else (ORIGINAL, self.subject)
        for role in roles:
            control = self.column(metric, role, "control", attack)
            if control:
                return Baseline(control, "control")
        return None

    def anchor_sample(self, anchor: Baseline, records: Sequence[str]) -> Sample:
        """Return the anchor's values: on `records` when paired, else on all control items."""
        if anchor.paired:
            return self.table.sample(anchor.column, "forget", records=records)
        return self.table.sample(anchor.column, "control", stream=CONTROL_STREAM)

    def shared(self, anchor: Baseline, *columns: Column) -> tuple[str, ...]:
        """Return the forget records that all columns and, when paired, the anchor have."""
        return common(*columns, anchor.column) if anchor.paired else common(*columns)

    def noise_sd(self, metric: RecordMetric, split: str, attack: str = PLAIN) -> float:
        """Return the standard deviation of the golds' means; 0 with fewer than two golds."""
        columns = [self.column(metric, role, split, attack) for role in self.golds]
        columns = [column for column in columns if column]
        if len(columns) < 2:
            return 0.0
        records = common(*columns)
        averages = [float(np.mean([column[name] for name in records])) for column in columns]
        return float(np.std(averages, ddof=1)) if records else 0.0

    def informative(self, metric: RecordMetric) -> bool | None:
        """Tell whether the original measurably held the forget set by this metric.

        `m_o - m_g` is above 0 with its 95 % interval and above 3 SD of the golds. Without gold the
        original's own control items stand for gold. None: there is nothing to compare it with.
        """
        original = self.column(metric, ORIGINAL, "forget")
        gold = mean_column(self.gold_columns(metric, "forget"))
        control = self.column(metric, ORIGINAL, "control")
        anchor = Baseline(gold, "forget") if self.golds else Baseline(control, "control")
        records = self.shared(anchor, original) if original else ()
        if not records or not anchor.column:
            return None
        return measurably_above(
            self.table.sample(original, "forget", records=records),
            self.anchor_sample(anchor, records),
            noise=self.noise_sd(metric, "forget"),
            seed=self.seed,
        )


def measurably_above(known: Sample, anchor: Sample, *, noise: float, seed: int) -> bool:
    """Tell whether a model measurably knows more than its anchor, and not just by luck.

    The difference of the means is above 0 with its 95 % interval, and above 3 SD of the golds.

    Args:
        known: What the model knows, one value a fact.
        anchor: What gold knows of the same facts, or of control items.
        noise: Standard deviation of the golds' means.
        seed: Of the bootstrap.
    """
    gap = difference(known, anchor, seed=seed, coverage=TWO_SIDED)
    return gap.low > 0 and gap.value > 3 * noise


def anything_to_forget(case: Comparison) -> bool | None:
    """Tell whether at least one forgetting metric shows that the original held the forget set.

    None: none of them could be compared with anything.
    """
    found = [case.informative(metric) for metric in FORGETTING_METRICS]
    return None if all(each is None for each in found) else any(found)


def claimed(case: Comparison) -> Comparison:
    """Return the case of the records about which there is a claim.

    These are all of the forget set where the original measurably knows it as a whole. Where it does
    not, records that it does not know by themselves (`unknown_records`) are left out, unless they
    are more than half, or what is left is not measurably known either. So one strange record among
    many known ones does not end a run. The rule reads the original and its anchors alone.
    """
    left_out = unknown_records(case)
    records = case.table.items.get("forget", {})
    if not 0 < len(left_out) <= MOST_UNKNOWN * len(records) or anything_to_forget(case):
        return case
    rest = replace(case, table=case.table.without("forget", left_out))
    return rest if anything_to_forget(rest) else case


def unknown_records(case: Comparison) -> tuple[str, ...]:
    """Return the forget records that the original does not know by themselves.

    A record is known if the original recites at least half of it, or states its fact, and the
    golds do not. Without gold a test counts only where no control item passes it: luck would
    otherwise be taken for knowledge.
    """
    known: set[str] = set()
    for metric, least in ((EXTRACTION_STRENGTH, KNOWN_STRENGTH), (KEY_FACT, 1.0)):
        original = case.column(metric, ORIGINAL, "forget")
        golds = case.gold_columns(metric, "forget")
        control = {} if golds else case.column(metric, ORIGINAL, "control")
        if any(value >= least for value in control.values()):
            continue
        known |= {
            name
            for name, value in original.items()
            if value >= least and not any(gold.get(name, 0.0) >= least for gold in golds)
        }
    return tuple(name for name in case.table.items.get("forget", {}) if name not in known)


LIKELIHOOD_OF = MEMBERSHIP[0]
"""Mean log-probability per token of the true answer, for records that are not paired."""

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


def paired(case: Comparison, metric: ScoreMetric = UNTOLD, attack: str = PLAIN) -> Paired | str:
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
        noise = _own_scatter(_matrix([judged, original], records) - matrix.mean(axis=0))
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

    By `expunge.metrics.residual_memory` on the scale of log loss. In nats, too, the record must
    stand out a little: an easy record, of which models that never saw it are nearly sure, may look
    learnt on that scale alone.

    Args:
        case: Who is judged against whom.
        attack: Name of the test.
        level: Chance that any of the records of a true gold is called kept.
        tests: Records that share the level; 0: all that were measured.
    """
    found, plain = paired(case, UNTOLD_LOG_LOSS, attack), paired(case, UNTOLD, attack)
    if isinstance(found, str) or isinstance(plain, str):
        return found if isinstance(found, str) else str(plain)
    scaled = kept_test(found.judged, found.original, found.golds, found.noise)
    nats = kept_test(plain.judged, plain.original, plain.golds, plain.noise)
    count = tests or len(found.records)
    stands_out = nats.p <= IN_NATS
    return Kept(found.records, scaled.kept(count, level=level) & stands_out, scaled.tellable)


SHIFT = 0.02
"""Model-wide shift of a gold, as a share of what the original learnt, where none can be measured.
Between golds of five registers its standard deviation was 0.00 to 0.04."""


def _own_scatter(excess: Array) -> ModelNoise | None:
    """Return the noise of one gold and no unseen record: how the excess itself scatters.

    Its median absolute deviation, so that a few kept records do not hide themselves. A model-wide
    shift cannot be told from memory then, so a usual one is assumed. None with fewer than five
    records.

    Args:
        excess: Of the judged model and of the original over the gold, shape (2, records).
    """
    judged, learnt = excess
    if len(judged) < FEW_CLUSTERS:
        return None
    spread = 1.4826 * float(np.median(np.abs(judged - np.median(judged))))
    shift = SHIFT * max(0.0, float(learnt.mean()))
    return ModelNoise(spread / math.sqrt(2), shift, len(judged) - 1)


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
