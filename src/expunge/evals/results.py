"""The results of an audit: scores with intervals, gates with reasons, one verdict."""

from dataclasses import dataclass, field
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


PASSES = frozenset({Ruling.PASS, Ruling.PASS_WITH_SCAR})
"""Verdicts that are a pass, without a trace or with one."""


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

    Most pass when `high` <= margin and fail when `low` > margin; what else a gate goes by stands in
    `reason`.
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
    two_sided: bool = False
    """Whether the value must not lie below minus the margin either: print both bounds."""
    policy: float | None = None
    """Margin of the policy where noise has widened it; None where the margin is the policy's."""
    settle: str = ""
    """What else would settle an inconclusive gate; empty when it is records, or nothing can."""
    part: bool = False
    """Whether it judges a part of what another gate judges: then only a failure counts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SelfTest:
    """One check of the auditor by itself, for example that it fails the original."""

    name: str
    passed: bool
    detail: str


class Executed(StrEnum):
    """What became of an attack."""

    EXECUTED = "executed"
    NOT_RUN = "not run"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True, kw_only=True, slots=True)
class AttackStatus:
    """Whether an attack was made on the judged model, and on how many facts."""

    attack: str
    status: Executed
    reason: str = ""
    """Why not; empty when it was executed."""
    facts: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What is settled about one question of the headline."""

    axis: Axis
    question: str
    """For example `Forgotten`."""
    answer: str
    """`yes`, `yes, with a trace`, `no`, `not settled`, `not tested` or `not applicable`."""
    detail: str
    """One sentence with the counts behind the answer."""
    settle: str = ""
    """What would settle it, and whether that is possible for this request; empty when settled."""


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
    findings: tuple[Finding, ...] = ()
    """The headline: one finding for each of its questions."""
    notices: tuple[str, ...] = ()
    """What must be said first, for example that the judged model is a gold; in `sentence`, too."""
    claim: str = ""
    """Claim class: `E1` (judged by tests) or `E0` (suppression). What tests cannot show, that a
    training was repeated, stands in the facts of the run."""

    def __str__(self) -> str:
        """Return the ruling with its threat model and tier, and the sentence."""
        level = ", provisional" if self.provisional else ""
        return f"{self.ruling.value} ({self.threat_model}, {self.tier}{level}): {self.sentence}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Results:
    """Everything an audit concluded; a pure function of the evidence folder.

    Example:
        >>> verdict = Verdict(
        ...     ruling=Ruling.PASS,
        ...     threat_model="T1",
        ...     tier="G2",
        ...     provisional=False,
        ...     sentence="The facts are gone.",
        ...     reasons=(),
        ... )
        >>> results = Results(verdict=verdict, axes={}, gates=(), scores=(), self_tests=())
        >>> results.verdict.ruling.value
        'PASS'
    """

    verdict: Verdict
    axes: dict[Axis, Status]
    gates: tuple[Gate, ...]
    scores: tuple[Score, ...]
    self_tests: tuple[SelfTest, ...]
    attacks: tuple[AttackStatus, ...] = ()
    """What became of every attack that was registered."""
    models: dict[str, str] = field(default_factory=dict[str, str])
    """Role to the digest of the tensors that were audited."""
    precision: str = ""
    """Number format of these tensors."""

    def of(self, axis: Axis) -> list[Gate]:
        """Return the gates of one axis, in their order."""
        return [gate for gate in self.gates if gate.axis is axis]
