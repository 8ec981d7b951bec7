"""Flags that several commands share, each beside the key path and the variable it stands for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from expunge.cli.ledger_flags import LEDGER_VARIABLES
from expunge.errors import UsageError

Model = Annotated[
    str | None,
    Parameter(
        help="Hub id, folder, GGUF file or adapter folder; or a request file ending in .toml"
    ),
]
Data = Annotated[
    str,
    Parameter(
        help="data to forget: files, folders, Hub ids, or one sentence or question in quotes",
        negative="",
    ),
]
KnownModel = Annotated[str, Parameter(help="the model: Hub id, folder, GGUF file or BASE+ADAPTER")]
Erase = Annotated[
    tuple[str, ...],
    Parameter(
        name="--for",
        negative="",
        consume_multiple=True,
        env_var="EXPUNGE_REQUEST_FORGET",
        help="records to forget: files, folders, Hub ids; repeatable",
    ),
]
Gate = Annotated[
    bool,
    Parameter(
        negative="",
        env_var="EXPUNGE_GATE",
        show_default=False,
        help="exit with 3 unless the verdict is PASS (or, with margins.allow_scar, PASS-WITH-SCAR) "
        "and reaches the T2 or T3 that was asked for (level quick: a provisional pass will do); "
        "needs a retain set that is named",
    ),
]
OpenPage = Annotated[
    bool,
    Parameter(
        name="--open",
        negative="",
        show_default=False,
        env_var="EXPUNGE_OPEN",
        help="open it in the browser",
    ),
]
GateFiles = Annotated[
    tuple[Path, ...],
    Parameter(
        name="--gates",
        negative="",
        env_var="EXPUNGE_GATES",
        show_default=False,
        consume_multiple=False,
        help="also write the gates to this file, for CI: JUnit XML (.xml) or JSON (.json);"
        " repeatable",
    ),
]

_NOT_SETTINGS = (
    "GATES",
    "FORMAT",
    "VERBOSE",
    "GATE",
    "DRY_RUN",
    "EXACT",
    "SAVE",
    "AGAINST",
    "LEVEL",
    "ONLY",
    "ACCESS",
    "PROMPTS",
    "TRANSLATOR",
    "SIBLING",
    "RELATED",
    "CHECK",
    "ROLLBACK_TO",
    "REAPPLY_TO",
    "PLANT_SEED",
    "PLANT_PAIRS",
    "CANARIES",
    "OPEN",
    "SHORT",
    "EXPIRED",
    "YES",
    "DATA",
    "PART",
    "RECORDS",
    "CORPUS",
    "ALIAS",
    "IDENTIFIER",
    "CHOOSE",
    "KEEP",
    "BESIDE",
    "METHODS",
    "SEEDS",
    "HALVES",
    "UNSEEN",
    "TOP",
    "TRACE_SEED",
    "LOCATE_SEED",
    "TRIALS",
    "SHARD",
    "RAY",
    "SLURM",
    "RUN_CPUS",
    "RUN_GPUS",
    "RUN_HOURS",
    "MINUTES",
    "FLOOR",
    "SEARCH",
    "CHOSEN",
    "COMPAT_GOLD",
    "SIGNER",
    "APPROVER",
    "TO",
    "CONTROLLER",
    "AUTHORITY",
    "PRODUCT",
    "REFERENCE",
    "EFFECTIVE",
    "DECLARE",
    "BY",
    "ROLE",
    "UNSIGNED",
    "UNTIL",
    "CERTIFICATE",
    "ASK",
    "ANSWER",
    "CHAT_MODEL",
    "PORT",
    "PUBLIC",
    "FAMILY",
    "RECIPE_BASE",
    "RECIPE_SEED",
    "MONITOR",
    "EVERY",
    "TIMES",
    "SERVED",
    "REMOTE",
    "ORDERS",
)
COMMAND_VARIABLES = LEDGER_VARIABLES | frozenset(f"EXPUNGE_{name}" for name in _NOT_SETTINGS)
"""Variables that stand for flags of commands, not for keys of the settings tree."""


def _flag(path: str, text: str) -> Parameter:
    """Describe the flag that stands for the key `path` of the settings tree."""
    variable = "EXPUNGE_" + path.replace(".", "_").upper()
    return Parameter(
        help=f"{text} [env: {variable}]", negative="", show_default=False, consume_multiple=False
    )


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True, slots=True)
class RequestFlags:
    """What to forget and what to keep; None or empty means: not given."""

    goal: Annotated[
        Literal["removal", "suppression", "edit"] | None,
        _flag("request.goal", "what forgotten means; there is no default"),
    ] = None
    retain: Annotated[
        tuple[str, ...], _flag("request.retain", "data to keep, or auto, or none; repeatable")
    ] = ()
    neighbours: Annotated[
        tuple[str, ...],
        _flag("request.neighbours", "data near the target that must survive; repeatable"),
    ] = ()
    holdout: Annotated[
        tuple[str, ...],
        _flag("request.holdout", "data like the forget set, never trained on; repeatable"),
    ] = ()
    gold: Annotated[
        tuple[str, ...],
        _flag("request.gold", "model trained the same way without the forget set; repeatable"),
    ] = ()
    out: Annotated[Path | None, _flag("out", "run folder, exactly this one")] = None
    tracker: Annotated[
        Literal["none", "tensorboard", "wandb", "mlflow", "trackio"] | None,
        _flag("tracker", "experiment tracker that gets the numbers of the run as well"),
    ] = None
    seed: Annotated[int | None, _flag("train.seed", "seed of order, initialisation, draws")] = None
    config: Annotated[
        Path | None,
        Parameter(
            show_default=False,
            help="request file, TOML, laid over the nearest expunge.toml in this folder or above "
            "[env: EXPUNGE_CONFIG]",
        ),
    ] = None
    set: Annotated[
        tuple[str, ...],
        Parameter(
            name="--set",
            negative="",
            show_default=False,
            consume_multiple=False,
            help="KEY=VALUE, any key of the request file, for example train.batch=4; repeatable "
            "[env: EXPUNGE_KEY, for example EXPUNGE_TRAIN_BATCH]",
        ),
    ] = ()

    def paths(self) -> dict[str, object]:
        """Return the key paths that were given, with their values."""
        given: dict[str, object] = {
            "request.goal": self.goal,
            "request.retain": _data_or_word(self.retain),
            "request.neighbours": list(self.neighbours) or None,
            "request.holdout": list(self.holdout) or None,
            "request.gold": list(self.gold) or None,
            "out": None if self.out is None else str(self.out),
            "tracker": self.tracker,
            "train.seed": self.seed,
        }
        return {**_known(given), **dict(_assignment(text) for text in self.set)}


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True, slots=True)
class TrainFlags:
    """How to train; None means: not given."""

    method: Annotated[
        str | None,
        _flag("method.name", "unlearning method, retrain, or auto"),
    ] = None
    base: Annotated[
        str | None, _flag("base", "model that the original was fine-tuned from, if merged")
    ] = None
    recipe: Annotated[
        str | None,
        _flag("recipe", "how the original was trained: training.toml, or folder of a TRL run"),
    ] = None
    trained_on: Annotated[
        tuple[str, ...],
        _flag("trained_on", "all data that the original was trained on; repeatable"),
    ] = ()
    epochs: Annotated[int | None, _flag("train.epochs", "passes over the forget set")] = None
    lr: Annotated[float | None, _flag("train.lr", "peak learning rate")] = None
    full: Annotated[bool | None, _flag("train.full", "train all weights instead of LoRA")] = None
    adapter: Annotated[
        bool | None, _flag("train.adapter", "keep the adapter unmerged: suppression, not removal")
    ] = None

    def paths(self) -> dict[str, object]:
        """Return the key paths that were given, with their values."""
        return _known(
            {
                "method.name": self.method,
                "base": self.base,
                "recipe": self.recipe,
                "trained_on": list(self.trained_on) or None,
                "train.epochs": self.epochs,
                "train.lr": self.lr,
                "train.full": self.full,
                "train.adapter": self.adapter,
            }
        )


def _known(paths: dict[str, object]) -> dict[str, object]:
    return {path: value for path, value in paths.items() if value is not None}


def _data_or_word(values: tuple[str, ...]) -> object:
    if values in {("auto",), ("none",)}:
        return values[0]
    return list(values) or None


def _assignment(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UsageError(
            "bad-assignment",
            what=f"--set {text!r} is not KEY=VALUE",
            why="--set gives one key of the request file, by its dotted path, a value",
            fix="write for example --set train.batch=4",
        )
    return key.strip(), value if value.isspace() else value.strip()
