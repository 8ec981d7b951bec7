"""Settings: everything that one command does, resolved once, printed, saved and re-runnable.

One TOML file, the `EXPUNGE_` variables and the flags describe the same tree. A key path such as
`train.lr` is the TOML key `lr` in `[train]`, the variable `EXPUNGE_TRAIN_LR` and the flag
`--set train.lr=...`.

Last, the settings of a fine-tuning: the recipe that `expunge train` records and a replay repeats.
"""

import re
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import ConfigDict, Field, ValidationError, field_validator

from expunge.config.catalogue import Level
from expunge.config.checked import CheckedModel
from expunge.config.request import Request
from expunge.errors import UsageError
from expunge.utils.io import expanded

LARGEST_SEED = 2**32 - 1
"""Every random generator that is seeded takes numbers up to this one."""
MOST_STEPS = 10_000_000
MOST_RECORDS = 65_536
"""Of a step; also the largest rank and the longest answer: more is a slip of the keyboard."""
MOST_TOKENS = 1 << 30
MOST_DAYS = 36_500
"""A century."""


TrackerName = Literal["none", "tensorboard", "wandb", "mlflow", "trackio"]
"""Each is an extra of the same name."""


class NamedChoice(CheckedModel):
    """A choice by name, and the hyperparameters of what is chosen: any key that is not `name`."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

    @property
    def parameters(self) -> dict[str, Any]:
        """The hyperparameters of what is chosen, validated where it is built."""
        return dict(self.model_extra or {})


class MethodSettings(NamedChoice):
    """Which method, and its hyperparameters (`[method]`)."""

    name: str = Field(
        default="auto",
        description="a name from `expunge methods`, module:Class (by flag or variable only, never a"
        " file), retrain, or auto: what the plan finds best",
    )


class RobustSettings(NamedChoice):
    """How the forget gradient is taken (`[robust]`)."""

    name: str = Field(
        default="auto",
        description="none, sam, noise, gradient-norm, mudman, lat, rounding, module:Class, or auto:"
        " what the method names for an adapter",
    )


class CombineSettings(NamedChoice):
    """How the forget and the retain gradient are joined (`[combine]`)."""

    name: str = Field(
        default="none", description="none (their sum), gru, blur, ngdiff, or module:Class"
    )


class MaskSettings(NamedChoice):
    """Which weights may move (`[mask]`)."""

    name: str = Field(
        default="none", description="none, wagle, saliency, memflex, random, or module:Class"
    )


class OptimiserSettings(NamedChoice):
    """What turns a gradient into a step (`[optimiser]`)."""

    name: str = Field(
        default="adamw", description="adamw, adamw8bit, sophia, normalised-sgd, or module:Class"
    )


class Hyperparameters(CheckedModel):
    """How the weights are stepped, whichever move; None means: the method's own default.

    Settings, trainer and loop all use these: each is declared here, and nowhere else.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    init: Literal["default", "fila"] = Field(
        default="default",
        description="default: LoRA starts from nothing; fila: from what the forget set uses",
    )
    epochs: int | None = Field(
        default=None, ge=1, le=MOST_STEPS, description="passes over the forget set"
    )
    steps: int | None = Field(
        default=None, ge=1, le=MOST_STEPS, description="optimiser steps; overrides epochs"
    )
    lr: float | None = Field(default=None, gt=0, description="peak learning rate")
    batch: int = Field(
        default=8, ge=1, le=MOST_RECORDS, description="forget records per optimiser step"
    )
    retain_batch: int | None = Field(
        default=None,
        ge=1,
        le=MOST_RECORDS,
        description="retain records per step; default batch",
    )
    warmup: float = Field(
        default=0.1, ge=0, lt=1, description="share of the steps with rising learning rate"
    )
    weight_decay: float = Field(default=0.0, ge=0, description="decoupled weight decay")
    clip: float = Field(default=1.0, allow_inf_nan=True, gt=0, description="largest gradient norm")
    tokens_per_pass: int = Field(
        default=4096, ge=8, le=MOST_TOKENS, description="padded tokens in one forward pass"
    )
    checkpointing: bool = Field(
        default=False,
        description="compute activations again on the way back: a third slower, far less memory",
    )
    check_every: int = Field(
        default=5, ge=1, le=MOST_STEPS, description="steps between checkpoints and watchdog checks"
    )
    seed: int = Field(
        default=0, ge=0, le=LARGEST_SEED, description="seed of order, initialisation and draws"
    )

    @property
    def retained(self) -> int:
        """Retain records per optimiser step."""
        return self.batch if self.retain_batch is None else self.retain_batch


class TrainSettings(Hyperparameters):
    """How the weights are trained (`[train]`); None means: the method's own default."""

    full: bool = Field(default=False, description="train all weights instead of LoRA")
    adapter: bool = Field(
        default=False, description="keep the adapter unmerged: suppression, not removal"
    )
    rank: int = Field(default=16, ge=1, le=MOST_RECORDS, description="LoRA rank")
    alpha: float | None = Field(
        default=None, gt=0, description="LoRA alpha; default twice the rank"
    )
    first_layer: int = Field(
        default=0, ge=0, description="training starts at this block; those below stay as they are"
    )
    last_layer: int | None = Field(
        default=None, ge=0, description="training ends at this block; default the top"
    )
    targets: tuple[str, ...] = Field(
        default=(),
        description="modules of the blocks that get LoRA or, with full, train: names such as"
        " down_proj or regular expressions such as self_attn\\.[qk]_proj; default all",
    )
    forget_tokens: Literal["answer", "fact"] = Field(
        default="answer",
        description="what is forgotten of a record: its answer, or from it the key answers alone",
    )
    average_last: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of the steps, the last ones, at least two, whose weights are averaged",
    )
    max_length: int = Field(
        default=512,
        ge=8,
        le=MOST_TOKENS,
        description="longest record in tokens; longer text is split",
    )

    @field_validator("targets")
    @classmethod
    def _readable(cls, targets: tuple[str, ...]) -> tuple[str, ...]:
        for each in targets:
            try:
                re.compile(each)
            except re.error as error:
                raise ValueError(f"{each!r} is no regular expression: {error}") from None
        return targets


class AuditSettings(CheckedModel):
    """How hard to look (`[audit]`)."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    level: Level = Field(
        default="quick", description="how hard the audit tries; above quick it runs `attack`, too"
    )
    attacks: tuple[str, ...] = Field(
        default=(),
        description="attacks to make beside those of the level, such as sampling and relearn;"
        " `expunge attack` has them all",
    )
    prompts: str = Field(
        default="", description="a file of your own prompts, which are an attack as well"
    )
    translator: str = Field(
        default="",
        description="module:function(text, language) for the attack translation; by flag or"
        " variable only, never a file",
    )
    sibling: str = Field(default="", description="a model of the same shape for the attack merge")
    max_new_tokens: int = Field(
        default=32, ge=1, le=MOST_RECORDS, description="longest greedy answer in tokens"
    )
    attack_records: int | None = Field(
        default=None,
        ge=2,
        description="forget records that are attacked, evenly spaced; all are asked about plainly;"
        " default all",
    )
    retain_records: int = Field(
        default=100, ge=1, description="retain records that the audit asks about"
    )
    further: bool = Field(
        default=False,
        description="also membership by lowercase, ReCaLL, gradient and rarity, and where in the"
        " layers the fact is; some six passes more",
    )
    seal: bool = Field(
        default=False, description="encrypt the evidence; the operator's key opens it"
    )
    retention_days: int = Field(
        default=365,
        ge=0,
        le=MOST_DAYS,
        description="days after which the evidence is to be destroyed",
    )

    def expires(self, today: date) -> date:
        """Return the date from which evidence that is written today is to be destroyed."""
        return today + timedelta(self.retention_days)


class ReportSettings(CheckedModel):
    """What the report shows (`[report]`)."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    redact: bool = Field(default=True, description="mask personal text in the report and the card")
    license: str | None = Field(
        default=None,
        pattern=r"^[\w.+-]{1,60}$",
        description="licence for the card, an identifier of the Hub such as apache-2.0; default:"
        " what the card of the base declares, else unknown",
    )


class Stage(CheckedModel):
    """One stage of a chain: its method, its wrappers, and how it trains (`[[stage]]`)."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    method: MethodSettings
    robust: RobustSettings = Field(default_factory=RobustSettings)
    combine: CombineSettings = Field(default_factory=CombineSettings)
    mask: MaskSettings = Field(default_factory=MaskSettings)
    optimiser: OptimiserSettings = Field(default_factory=OptimiserSettings)
    train: TrainSettings = Field(default_factory=TrainSettings)


class Settings(CheckedModel):
    """The whole tree: one TOML file.

    Example:
        >>> request = Request(goal="removal", forget=("forget.jsonl",))
        >>> method = MethodSettings(name="npo", beta=0.2)
        >>> settings = Settings(model="org/model", request=request, method=method)
        >>> settings.method.parameters, settings.train.batch
        ({'beta': 0.2}, 8)
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    model: str = Field(description="Hub id, folder, GGUF file or adapter folder")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        default="auto", description="where to compute"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto", description="number format of weights"
    )
    template: Literal["auto", "plain"] = Field(
        default="auto", description="chat template, or plain Q and A"
    )
    trust_remote_code: bool = Field(
        default=False,
        description="run code that comes with the model; only by --set or a variable, never a file",
    )
    offline: bool = Field(default=False, description="never use the network")
    first_original: str | None = Field(
        default=None,
        description="model that retained answers keep to, where the method compares them with a"
        " reference; default the original. `expunge chain` sets it: small losses do not add up",
    )
    out: str | None = Field(default=None, description="run folder; default runs/DATE-METHOD-ID")
    tracker: TrackerName = Field(
        default="none", description="experiment tracker that gets the numbers of the run as well"
    )
    attack_store: str | None = Field(
        default=None,
        description="folder where attacks on original and golds are kept for other runs",
    )
    reference_store: str | None = Field(
        default=None,
        description="folder where what the original says of training records is kept for other"
        " runs: log-probabilities and hidden states",
    )
    base: str | None = Field(
        default=None,
        description="model that the original was fine-tuned from, where its weights are merged:"
        " levels then follow how hard each text is for it; known where the original is BASE+ADAPTER"
        " or comes from `expunge train`",
    )
    recipe: str | None = Field(
        default=None,
        description="how the original was trained: a training.toml with base, data and settings, or"
        " the folder of a LoRA run of TRL or PEFT; the route `retrain` repeats it without the"
        " forget set",
    )
    trained_on: tuple[str, ...] = Field(
        default=(),
        description="all data that the original was trained on, where the recipe is the folder of a"
        " run; default folder: the adapter of the original",
    )
    chosen_among: int | None = Field(
        default=None,
        ge=2,
        description="how many runs on these records an audit judged to choose these settings: the"
        " report then says that they look better than they are. `expunge tune` writes it; leave it"
        " out where other records are judged",
    )
    request: Request
    method: MethodSettings = Field(default_factory=MethodSettings)
    robust: RobustSettings = Field(default_factory=RobustSettings)
    combine: CombineSettings = Field(default_factory=CombineSettings)
    mask: MaskSettings = Field(default_factory=MaskSettings)
    optimiser: OptimiserSettings = Field(default_factory=OptimiserSettings)
    train: TrainSettings = Field(default_factory=TrainSettings)
    stage: Annotated[tuple[Stage, ...], Field(min_length=1)] | None = Field(
        default=None,
        description="tables [[stage]] instead of [method]: methods that run one after another, each"
        " on the weights that the one before left",
    )
    audit: AuditSettings = Field(default_factory=AuditSettings)
    report: ReportSettings = Field(default_factory=ReportSettings)


class FinetuneSettings(CheckedModel):
    """Everything that decides the result of a fine-tuning but the texts of the records.

    Example:
        >>> settings = FinetuneSettings(model="org/base", data=("facts.jsonl",))
        >>> settings.precision, settings.train.rank
        ('auto', 16)
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    model: str = Field(description="Hub id, folder or GGUF file to start from")
    data: tuple[str, ...] = Field(
        min_length=1, description="training data: files, folders, Hub ids"
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        default="auto", description="where to compute"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto", description="number format of weights"
    )
    template: Literal["auto", "plain"] = Field(
        default="auto", description="chat template, or plain Q and A"
    )
    train: TrainSettings = Field(default_factory=TrainSettings)

    def anywhere(self) -> "FinetuneSettings":
        """Return the same settings with full paths, so that they hold in any working folder."""
        data = tuple(_full_path(source) for source in self.data)
        return self.model_copy(update={"model": _full_path(self.model), "data": data})

    def to_toml(self) -> str:
        """Return the recipe as TOML; None is left out."""
        return tomli_w.dumps(self.model_dump(exclude_none=True))


def finetune_settings(values: Mapping[str, object]) -> FinetuneSettings:
    """Return the settings that these values make.

    Raises:
        UsageError: `no-data`: no training data is named. `invalid-value`: a value is not allowed.
    """
    if not values.get("data"):
        raise UsageError(
            "no-data",
            what="no training data is named",
            why="there is nothing to train on",
            fix="give a file: expunge train MODEL DATA --out FOLDER",
        )
    try:
        return FinetuneSettings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(
            "invalid-value",
            what=f"`{first['loc'][-1]}` has a value that is not allowed",
            why=first["msg"][0].lower() + first["msg"][1:],
            fix="see `expunge train --help`",
        ) from None


def _full_path(reference: str) -> str:
    path = expanded(reference)
    return str(path.resolve()) if path.exists() else reference
