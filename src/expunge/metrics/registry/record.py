"""The record of one metric: what it means, needs and costs, and which way is better."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from expunge.metrics.outcomes import Axis


class Need(StrEnum):
    """What a metric cannot do without, in words that finish "needs ..."."""

    SCORES = "token log-probabilities"
    ANSWERS = "written answers"
    SAMPLES = "several sampled answers"
    KEY_FACTS = "records that name their key facts"
    RESTATED = "perturbed answers of the record (`perturbed_answer`, `choices`)"
    GOLD = "a gold model"
    ORIGINAL = "the original model"
    HOLDOUT = "holdout or control records"
    RETAIN = "retained records"
    GENERIC = "general text"
    CANARIES = "planted secrets and the space of their candidates"
    WEIGHTS = "the weights of both models"
    ROUTERS = "a mixture of experts whose routers name the experts they choose"
    SHADOWS = "shadow models"
    PREFIX = "records that no model was trained on, to put before the text"
    LONG = "texts of at least 100 tokens"


Better = Literal["higher", "lower", "gold"]
"""On the forget set, of the unlearned model; `gold` when the aim is what gold gives."""

SAME_PASS = "none beyond the same pass"
"""Cost of what is read off a pass that the audit makes anyway."""

_DIRECTION = {"higher": "higher is better", "lower": "lower is better", "gold": "as gold is best"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """One metric as the command line, the report and the documents describe it.

    A metric whose need is missing is `not computable`, with the need as the reason. No metric has a
    default value.
    """

    id: str
    title: str
    meaning: str
    """One sentence for a reader who is not a researcher."""
    axis: Axis | None
    """None for what is reported beside the axes (efficiency)."""
    of: Callable[..., Any]
    """The function that computes it; its docstring is the definition."""
    needs: tuple[Need, ...]
    better: Better
    cost: str
    """Per record and model: TF one teacher-forced pass, GEN one greedy answer."""
    gated: bool = False
    """Whether a gate of the verdict reads it; the others are shown for comparison."""
    where: str = "audits"
    """Who computes it: an audit, a command, a script, or whoever calls the function."""
    source: str = ""
    """The paper that defines it; empty for a definition of this package."""

    @property
    def direction(self) -> str:
        """The direction of the metric in words."""
        return _DIRECTION[self.better]
