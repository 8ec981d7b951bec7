"""The results of an audit: scores with intervals, gates with reasons, one verdict."""

from dataclasses import dataclass
from enum import StrEnum

from expunge.metrics.outcomes import Axis, Status


class Ruling(StrEnum):
    """The possible verdicts."""

    PASS = "PASS"
    PASS_WITH_SCAR = "PASS-WITH-SCAR"
    FAIL_RESIDUAL = "FAIL-RESIDUAL"
    FAIL_DAMAGE = "FAIL-DAMAGE"
    INCONCLUSIVE = "INCONCLUSIVE"
    NOTHING_TO_FORGET = "NOTHING TO FORGET"
    INVALID = "INVALID"


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """One number about one model: value, 95 % interval, sample size and direction.

    When the need of a metric is missing, `value` is None and `reason` says why.
    """

    metric: str
    role: str
    split: str
    attack: str
    """Name of the test, see `Unit.test`: attack, precision, decoding and seed where not usual."""
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    higher_is_better: bool | None = None
    """None when neither direction is better (gold is the aim)."""
    unit: str = ""
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gate:
    """One decision: a statistic with one-sided 95 % bounds against a margin.

    Pass when `high` < margin, fail when `low` > margin, else inconclusive.
    """

    axis: Axis
    name: str
    value: float | None
    low: float | None
    high: float | None
    margin: float
    n: int
    status: Status
    reason: str = ""
    threat: str = "T0"
    """The weakest adversary that can do this: the gate counts from this threat model upwards."""
    needed: int | None = None
    """How many more records would settle an inconclusive gate, where that can be estimated."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SelfTest:
    """One check of the auditor by itself, for example that it fails the original."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """The answer: always a ruling under a threat model at a gold tier, with the reason in words."""

    ruling: Ruling
    threat_model: str
    tier: str
    provisional: bool
    """True at level quick: enough for a training run, not for a release."""
    sentence: str
    """One plain sentence for a reader who is not a researcher."""
    reasons: tuple[str, ...]
    """What decided, weakest link first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Results:
    """Everything an audit concluded; a pure function of the evidence folder."""

    verdict: Verdict
    axes: dict[Axis, Status]
    gates: tuple[Gate, ...]
    scores: tuple[Score, ...]
    self_tests: tuple[SelfTest, ...]
