"""`expunge train`: fine-tune a model so that records can be taken out again."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from expunge.cli.session import Given


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True, slots=True)
class RecipeFlags:
    """How to fine-tune; None means: the default of the recipe."""

    full: Annotated[
        bool | None,
        Parameter(
            env_var="EXPUNGE_TRAIN_FULL",
            negative="--lora",
            show_default=False,
            help="train all weights, or LoRA",
        ),
    ] = None
    rank: Annotated[
        int | None,
        Parameter(env_var="EXPUNGE_TRAIN_RANK", show_default=False, help="LoRA rank; default 16"),
    ] = None
    epochs: Annotated[
        int | None,
        Parameter(
            env_var="EXPUNGE_TRAIN_EPOCHS",
            show_default=False,
            help="passes over the data; default 3",
        ),
    ] = None
    lr: Annotated[
        float | None,
        Parameter(
            env_var="EXPUNGE_TRAIN_LR",
            show_default=False,
            help="peak learning rate; default 2e-4, of all weights 2e-5",
        ),
    ] = None
    batch: Annotated[
        int | None,
        Parameter(
            env_var="EXPUNGE_TRAIN_BATCH", show_default=False, help="records of a step; default 8"
        ),
    ] = None
    seed: Annotated[
        int | None,
        Parameter(
            env_var="EXPUNGE_TRAIN_SEED",
            show_default=False,
            help="seed of order and start; default 0",
        ),
    ] = None
    max_length: Annotated[
        int | None,
        Parameter(
            env_var="EXPUNGE_TRAIN_MAX_LENGTH",
            show_default=False,
            help="longest record in tokens; longer text is split",
        ),
    ] = None

    def given(self) -> dict[str, object]:
        """Return the keys of the recipe that were given, with their values."""
        values: dict[str, object] = {
            "full": self.full,
            "rank": self.rank,
            "epochs": self.epochs,
            "lr": self.lr,
            "batch": self.batch,
            "seed": self.seed,
            "max_length": self.max_length,
        }
        return {key: value for key, value in values.items() if value is not None}


def train(
    model: Annotated[str, Parameter(help="Hub id, folder or GGUF file to start from")],
    /,
    *data: Annotated[str, Parameter(help="training data: files, folders or Hub ids", negative="")],
    out: Annotated[
        Path | None,
        Parameter(help="folder of the result", show_default=False, env_var="EXPUNGE_OUT"),
    ] = None,
    recipe: RecipeFlags | None = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda", "mps"],
        Parameter(help="where to compute", env_var="EXPUNGE_DEVICE"),
    ] = "auto",
    precision: Annotated[
        Literal["auto", "fp32", "bf16"],
        Parameter(help="number format of the weights", env_var="EXPUNGE_PRECISION"),
    ] = "auto",
    tracker: Annotated[
        Literal["none", "tensorboard", "wandb", "mlflow", "trackio"],
        Parameter(
            help="experiment tracker that gets the numbers of every step as well",
            env_var="EXPUNGE_TRACKER",
        ),
    ] = "none",
    session: Given,
) -> int:
    """Fine-tune a model; `forget RUN --exact FILE` takes records out again, bit for bit.

    The same command goes on where a killed one stopped.
    """
    console = session.begin()

    from expunge.config.settings import finetune_settings
    from expunge.models.reference import require_model
    from expunge.pipeline.early_checks import check_data
    from expunge.trackers import require_tracker

    settings = finetune_settings(
        {
            "model": model,
            "data": data,
            "device": device,
            "precision": precision,
            "train": (recipe or RecipeFlags()).given(),
        }
    )
    check_data(data)
    require_tracker(tracker)
    require_model(model, offline=session.offline)

    from expunge.pipeline.finetune import train as train_model

    offline = session.offline
    run = train_model(settings, out=out, offline=offline, tracker=tracker, console=console)
    console.event("done", {"folder": run.folder, "files": run.facts.files, "exit": 0})
    console.line("next", f"expunge forget {run.folder} --exact erase.jsonl")
    return 0
