"""The application: what a recipe file defines, and the rules by which any model is accepted.

    value(model) <= limit                       "at most"
    value(model) >= limit                       "at least"
    limit = margin                              a fixed number
          = value(gold) + margin                a retrained model (gold) is the reference
          = value(original) + margin            what the original could do
          = min(original, gold) + margin        what must stay; chance alone costs a gold some of it
          = value of another measure + margin   records that no model saw, in the same model

A measure that could not be computed is never a pass.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from expunge.benchmarking.probe_outputs import ProbeOutputs
from expunge.benchmarking.suites.base import Probe
from expunge.config.request import Goal, Response
from expunge.config.settings import TrainSettings
from expunge.data.records import Record
from expunge.evals.results import Score, Verdict

ORIGINAL, UNLEARNED, GOLD = "original", "unlearned", "gold"
COLLAPSED, REFUSING = "collapsed", "refusing"
STAND_INS = (COLLAPSED, REFUSING)
"""Models that nobody may accept: one that is broken, and one that only refuses."""

Reference = Literal["fixed", "gold", "original", "kept"]
"""`kept`: the lower value of original and gold. Two trainings never keep quite the same."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AcceptanceRule:
    """One condition on one measure."""

    metric: str
    at_least: bool = False
    """Whether the value must reach the limit; else it must not exceed it."""
    margin: float
    against: Reference = "fixed"
    """Whose value the margin is added to; of `fixed`, the margin is the limit."""
    other: str = ""
    """Another measure of the same model whose value the margin is added to as well."""


def keeps(metric: str, *, loss: float) -> AcceptanceRule:
    """Return the rule that a measure stays near the lower of original and gold.

    Example:
        >>> in_words(keeps("accuracy", loss=0.03))
        'at least the lower of original and gold - 0.03'
    """
    return AcceptanceRule(metric=metric, at_least=True, margin=-loss, against="kept")


@dataclass(frozen=True, kw_only=True, slots=True)
class ApplicationData:
    """Everything that a seed decides."""

    forget: tuple[Record, ...]
    retain: tuple[Record, ...]
    neighbours: tuple[Record, ...] = ()
    holdout: tuple[Record, ...] = ()
    """Records like those to forget; no model is taught them."""
    taught: tuple[Record, ...]
    """What the original and the retrained model (gold) are taught."""
    planted: tuple[Record, ...]
    """What the original alone is taught: the problem."""
    instead: tuple[Record, ...] = ()
    """What the gold is taught in the place of `planted`, where a clean training has it."""
    probes: tuple[Probe, ...]
    """What is asked. Scores of an answer that is known by heart spare writing it again."""

    def lessons(self, *, gold: bool) -> tuple[Record, ...]:
        """Return the training data of the gold or of the original."""
        return (*(self.instead if gold else self.planted), *self.taught)


TRAIN = TrainSettings(rank=16, first_layer=14, epochs=6, lr=2.5e-3, batch=4, warmup=0.05)
"""LoRA by which SmolLM2-135M knows planted facts by heart."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Application:
    """A recipe: its data, its measures and its acceptance."""

    name: str
    goal: Goal
    response: Response = Response.ANY
    refusals: tuple[str, ...] = ()
    """Sentences by which to refuse; empty: those that ship with expunge."""
    method: str = "auto"
    draw: Callable[[int], ApplicationData]
    """Makes all data from a seed."""
    measure: Callable[[ProbeOutputs], tuple[Score, ...]]
    """Computes the measures from the outputs of one model."""
    problem: AcceptanceRule
    """What must be true of the original, or there is nothing to remove."""
    rules: tuple[AcceptanceRule, ...]
    refused: frozenset[str]
    """Names of the probes that a model refuses which only refuses."""
    shown: tuple[str, ...]
    """Names of the probes whose answers are written side by side for a reader."""
    train: TrainSettings = TRAIN
    """How the original and the gold are trained."""
    longest_answer: int = 24
    """Longest greedy answer of the audit in tokens."""
    shared: Literal["forget", "keep"] = "forget"
    """What becomes of facts that records to keep state, too."""


class AppliedRule(NamedTuple):
    """One rule, applied to one model."""

    rule: AcceptanceRule
    value: float | None
    limit: float | None
    passed: bool


Table = Mapping[str, Mapping[str, Score]]
"""Measures by role and metric."""


def by_metric(scores: Sequence[Score]) -> dict[str, Score]:
    """Return scores by the name of their metric."""
    return {score.metric: score for score in scores}


def judge(rule: AcceptanceRule, role: str, table: Table) -> AppliedRule:
    """Apply a rule to one model.

    Args:
        rule: The rule.
        role: The model; a key of `table`.
        table: The measures of this model, and of the references that the rule names.

    Returns:
        The judgement; it is not passed where a value is missing.
    """
    own = table[role][rule.metric].value
    limit: float | None = rule.margin
    if rule.against == "kept":
        both = [_sum(limit, table.get(each, {}).get(rule.metric)) for each in (ORIGINAL, GOLD)]
        known = [each for each in both if each is not None]
        limit = min(known) if len(known) == len(both) else None
    elif rule.against != "fixed":
        limit = _sum(limit, table.get(rule.against, {}).get(rule.metric))
    if rule.other:
        limit = _sum(limit, table[role].get(rule.other))
    if own is None or limit is None:
        return AppliedRule(rule, own, limit, passed=False)
    passed = own >= limit - _ROUNDING if rule.at_least else own <= limit + _ROUNDING
    return AppliedRule(rule, own, limit, passed)


_ROUNDING = 1e-9
"""Shares of counts are not exact: 0.9 is not 1 - 0.1."""


def _sum(limit: float | None, score: Score | None) -> float | None:
    if limit is None or score is None or score.value is None:
        return None
    return limit + score.value


def judge_all(application: Application, role: str, table: Table) -> tuple[AppliedRule, ...]:
    """Apply every rule of an application to one model."""
    return tuple(judge(rule, role, table) for rule in application.rules)


def in_words(rule: AcceptanceRule) -> str:
    """Return a rule as a short sentence.

    Example:
        >>> in_words(AcceptanceRule(metric="facts", at_least=True, margin=-0.03, against="gold"))
        'at least gold - 0.03'
    """
    start = "at least" if rule.at_least else "at most"
    against = "the lower of original and gold" if rule.against == "kept" else rule.against
    named = [against] if rule.against != "fixed" else []
    named += [rule.other] if rule.other else []
    if not named:
        return f"{start} {rule.margin:g}"
    sign = "-" if rule.margin < 0 else "+"
    amount = f" {sign} {abs(rule.margin):g}" if rule.margin else ""
    return f"{start} {' + '.join(named)}{amount}"


@dataclass(frozen=True, kw_only=True, slots=True)
class RecipeOutcome:
    """What a recipe found.

    Example:
        >>> from expunge import recipe
        >>> recipe("person").accepted("unlearned")  # doctest: +SKIP
    """

    application: Application
    folder: Path
    table: Table
    judgements: Mapping[str, tuple[AppliedRule, ...]]
    """Acceptance by role."""
    verdict: Verdict
    """Of the audit, about the unlearned model."""

    def accepted(self, role: str) -> bool:
        """Tell whether a model meets every rule."""
        return all(each.passed for each in self.judgements[role])

    @property
    def honest(self) -> bool:
        """Whether the rules refuse the original and both stand-ins, and accept the gold."""
        return self.accepted(GOLD) and not any(map(self.accepted, (ORIGINAL, *STAND_INS)))
