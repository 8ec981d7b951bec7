"""Settings of a fine-tuning: the recipe that `expunge train` records and a replay repeats."""

from collections.abc import Mapping
from typing import Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from expunge.config.settings import TrainSettings
from expunge.errors import UsageError
from expunge.utils.io import expanded


class FinetuneSettings(BaseModel):
    """Everything that decides the result of a fine-tuning but the texts of the records.

    Example:
        >>> settings = FinetuneSettings(model="org/base", data=("facts.jsonl",))
        >>> settings.precision, settings.train.rank
        ('auto', 16)
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

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
