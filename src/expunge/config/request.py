"""The request: one typed record of what to forget and what counts as done."""

from enum import StrEnum
from typing import Literal

from pydantic import ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from expunge.config.checked import CheckedModel

UTILITY_BUDGET = 0.05
"""Share of the retained answers' probability whose loss ends a training."""
RECORD_SETS = ("forget", "unstated", "retain", "neighbours", "holdout", "control")
"""Fields of a request that name records."""


class Goal(StrEnum):
    """What "forgotten" means. Each class is judged by its own rule; there is no default."""

    REMOVAL = "removal"
    """The influence of the data is gone: judged against a model never trained on it."""
    SUPPRESSION = "suppression"
    """It is not said any more."""
    EDIT = "edit"
    """It says something else instead."""


class ThreatModel(StrEnum):
    """Who might try to get it back, and with what access."""

    T0 = "T0"
    """Ordinary use."""
    T1 = "T1"
    """Repeated and adversarial queries."""
    T2 = "T2"
    """Fine-tuning or quantising."""
    T3 = "T3"
    """Open weights."""


class Tier(StrEnum):
    """What stands for a model that never saw the data."""

    G1 = "G1"
    """Full retraining without the forget set."""
    G2 = "G2"
    """The last training stage repeated without the forget set."""
    G3 = "G3"
    """The base model and fabricated control items."""
    G4 = "G4"
    """Fabricated control items only."""


class Response(StrEnum):
    """What the model should do when asked about the forgotten data."""

    ANY = "any"
    """Whatever a model would say that never saw the data."""
    REFUSAL = "refusal"
    """Say that it does not know."""
    ALTERNATIVE = "alternative"
    """Say the alternative given with each record."""


class Margins(CheckedModel):
    """Policy margins that differ from the defaults of the erasure scorecard; fractions of one."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    residual: float = Field(
        default=0.10, gt=0, lt=1, description="residual knowledge, forgetting and robustness"
    )
    residual_t2: float = Field(
        default=0.20, gt=0, lt=1, description="excess recovery after further training"
    )
    residual_t3: float = Field(
        default=0.25, gt=0, lt=1, description="excess recovery with the weights at hand"
    )
    leak_excess: float = Field(
        default=0.05, gt=0, lt=1, description="key-fact leak rate above the anchor"
    )
    privacy: float = Field(
        default=0.10, gt=0, lt=0.5, description="residual of the least likely tokens, either way"
    )
    residual_cap: float = Field(
        default=0.25, gt=0, lt=1, description="widest margin that the noise of few records makes"
    )
    utility: float = Field(default=0.03, gt=0, lt=1, description="relative loss on general text")
    retain: float = Field(
        default=0.05, gt=0, lt=1, description="relative loss on retained questions"
    )
    fluency: float = Field(
        default=0.03, gt=0, lt=1, description="rise of gibberish, repetition, refusals"
    )
    neighbours: float = Field(
        default=0.05, gt=0, lt=1, description="loss on neighbours beyond gold's"
    )
    wanted: float = Field(
        default=0.10, gt=0, lt=1, description="edit: questions without the wanted answer"
    )
    allow_scar: bool = Field(
        default=False, description="whether a gate lets PASS-WITH-SCAR through"
    )


class Request(CheckedModel):
    """What to forget, what to keep, and what counts as done (`[request]` in the TOML file).

    Example:
        >>> request = Request(goal="removal", forget=("forget.jsonl",), retain=("retain.jsonl",))
        >>> request.threat_model.value, request.hold_out
        ('T1', 0.25)
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    goal: Goal = Field(description="removal, suppression or edit; there is no default")
    id: str = Field(
        default="request", description="name of the request in the report and the ledger"
    )
    forget: tuple[str, ...] = Field(
        min_length=1, description="data to forget: files, folders, Hub ids"
    )
    unstated: tuple[str, ...] = Field(
        default=(),
        description="facts that the model does not state, or guesses: asked before and after,"
        " never trained on",
    )
    retain: tuple[str, ...] | Literal["auto", "none"] = Field(
        default="auto", description="data to keep: files, folders, Hub ids, `auto` or `none`"
    )
    neighbours: tuple[str, ...] = Field(
        default=(), description="near the target, must survive; also trained on"
    )
    rehearse: bool = Field(
        default=True,
        description="train on the neighbours; false: only ask about them, which shows what becomes"
        " of what was not rehearsed",
    )
    hold_out: float = Field(
        default=0.25,
        ge=0,
        lt=1,
        description="share of the retain set and of the neighbours that training never sees: what"
        " is kept is judged on it",
    )
    shared: Literal["forget", "keep"] = Field(
        default="forget",
        description="facts of the forget set that a record to keep states of the same subject, in"
        " other words: forget them, too, or keep them",
    )
    assume_known: bool = Field(
        default=False,
        description="begin though the model does not know the forget set by heart, where other"
        " questions ask for what it knows",
    )
    holdout: tuple[str, ...] = Field(
        default=(), description="like the forget set, never trained on"
    )
    control: tuple[str, ...] | Literal["auto", "none"] = Field(
        default="auto",
        description="records that no model ever saw; `auto` fabricates them where there is no gold",
    )
    gold: tuple[str, ...] = Field(
        default=(), description="models trained the same way without the forget set"
    )
    tier: Tier | None = Field(
        default=None, description="what the gold is; default G2 with gold, else G4"
    )
    response: Response = Field(
        default=Response.ANY, description="what to say instead; an edit teaches the alternative"
    )
    refusals: tuple[str, ...] = Field(
        default=(), description="refusal sentences; default: a built-in list"
    )
    threat_model: ThreatModel = Field(
        default=ThreatModel.T1, description="the promise that is asked for"
    )
    utility_budget: float = Field(
        default=UTILITY_BUDGET,
        gt=0,
        lt=1,
        description="training stops when retained answers lose more than this",
    )
    margins: Margins = Field(default_factory=Margins, description="policy margins of the verdict")

    @field_validator("tier")
    @classmethod
    def _has_its_gold(cls, tier: Tier | None, info: ValidationInfo) -> Tier | None:
        """Refuse a verdict that would claim a comparison which nobody made."""
        if tier in (Tier.G1, Tier.G2) and not info.data.get("gold"):
            raise PydanticCustomError(
                "no-gold", "a tier of G1 or G2 is that of a gold, and request.gold names none"
            )
        return tier
