"""The replay log: what every step of a fine-tuning used, one JSON object a line.

    {"step": 0, "epoch": 0, "records": ["5f0c...", ...], "lr": 2e-05, "seed": 0,
     "loss": 3.1, "gradient_norm": 1.7}

Records are named by keyed fingerprints alone, in the order in which the step used them; a part of a
long passage adds its number, `5f0c...#2`. The log is a function of data, recipe and stack: it holds
no time of day, so that two runs that did the same have the same log, byte for byte.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter

from expunge.errors import InputError
from expunge.training.sampler import ContentSampler
from expunge.training.train_loop import Trained
from expunge.utils.io import read_jsonl, write_jsonl


@dataclass(frozen=True, kw_only=True, slots=True)
class LoggedStep:
    """One optimiser step."""

    step: int
    epoch: int
    records: tuple[str, ...]
    lr: float
    seed: int
    """Of every draw of the run; the step's own numbers follow from it and `step`."""
    loss: float
    gradient_norm: float
    """Before clipping."""


_adapter = TypeAdapter(LoggedStep)


def logged(
    trained: Trained, order: ContentSampler, marks: Sequence[str], *, seed: int
) -> tuple[LoggedStep, ...]:
    """Return the log of a training that has ended.

    Args:
        trained: What it did.
        order: Which records each step used.
        marks: Keyed fingerprint of each record.
        seed: Of the training.
    """
    return tuple(
        LoggedStep(
            step=point.step,
            epoch=order.draw(point.step).epoch,
            records=tuple(marks[index] for index in order.draw(point.step).forget),
            lr=point.lr,
            seed=seed,
            loss=sum(point.values.values()),
            gradient_norm=point.gradient_norm,
        )
        for point in trained.curve
    )


def write_log(path: Path, steps: Sequence[LoggedStep]) -> None:
    """Write a log, atomically."""
    write_jsonl(path, [asdict(step) for step in steps])


def read_log(path: Path) -> tuple[LoggedStep, ...]:
    """Read a log.

    Raises:
        InputError: It is not there, or damaged.
    """
    try:
        return tuple(_adapter.validate_python(row) for row in read_jsonl(path))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            "damaged-log",
            what=f"{path} is not a replay log",
            why=f"it is missing, cut short or of another version ({type(error).__name__})",
            fix="restore the file from a backup, or train again with `expunge train`",
        ) from None


def record_marks(steps: Sequence[LoggedStep]) -> frozenset[str]:
    """Return the fingerprints of all records that a log names, parts joined."""
    return frozenset(mark.partition("#")[0] for step in steps for mark in step.records)
