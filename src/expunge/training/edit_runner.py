"""Editing: an edit, a model and two streams become new weights. The counterpart of `unlearn`."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from expunge.methods.base import Recipe, Shape, Stream, Term, Trains
from expunge.methods.edits.base import Edit
from expunge.models.transformer import Network
from expunge.training.early_stopping import EarlyStopping, Unseen, spread
from expunge.training.edit_context import EditContext, Training
from expunge.training.reinforced_model import Tell
from expunge.training.sampler import Streams
from expunge.training.train_loop import Progress, StepRecord, StepReport, Trained
from expunge.training.trainable_weights import TrainableWeights, chosen, everything, shape_of
from expunge.training.trainer import Trainer, TrainingArgs

SHARES = 100
"""Units in which the progress of an edit is told."""
NEVER = Unseen(mean=float("inf"), low=float("inf"))
"""Nothing counts as unseen: the loop runs to its end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FixedTerms:
    """The terms of a training loop that an edit or a guard asks for, as a method."""

    family: ClassVar[str] = "edit"
    advice: ClassVar[str] = "part of an edit"
    recipe: ClassVar[Recipe] = Recipe(epochs=1, lr=1e-5, lr_lora=1e-4)

    fixed: tuple[Term, ...]

    def terms(self, shape: Shape) -> tuple[Term, ...]:
        """Return the terms."""
        return self.fixed

    def trains(self, shape: Shape) -> Trains | None:
        """Train all weights."""
        return None


@dataclass(frozen=True, kw_only=True, slots=True)
class EditRunner:
    """A run that is ready to edit. It keeps nothing half done: to resume is to begin again."""

    edit: Edit
    network: Network
    streams: Streams
    options: TrainingArgs
    pad_id: int
    base_weights: Callable[[], Mapping[str, Tensor]] | None = None
    """Loads the weights of the base model; None: it is not known."""

    @property
    def total(self) -> int:
        """Units of progress."""
        return SHARES

    def shape(self) -> Shape:
        """Return what an edit may know of the model."""
        return shape_of(self.network)

    def run(
        self, *, unseen: Unseen, folder: Path, progress: Progress
    ) -> tuple[Trained, TrainableWeights]:
        """Edit the weights.

        Args:
            unseen: How the original scores records like the forget set that it never saw.
            folder: Where checkpoints of training loops go, if the edit has any.
            progress: Told of every hundredth of the work.

        Returns:
            What was done, and the weights, which the model already has.

        Raises:
            UsageError: The edit does not suit the model or the records.
        """
        started = time.monotonic()
        wanted = self.edit.trains(self.shape())
        weights = everything(self.network) if wanted is None else chosen(self.network, wanted)
        self.network.model.eval()
        watch = self._watch(unseen)
        first = watch.look(self.network)
        loops: list[Trained] = []
        told = _Told(progress)

        def trainer(training: Training, tell: Tell) -> None:
            loops.append(self._train(training, weights, unseen, folder, tell))

        bench = EditContext(
            network=self.network,
            shape=self.shape(),
            streams=self.streams,
            trained=weights,
            watch=watch,
            first=first,
            pad_id=self.pad_id,
            tokens_per_pass=self.options.tokens_per_pass,
            seed=self.options.seed,
            tell=told.tell,
            trainer=trainer,
            base_weights=self.base_weights,
        )
        with torch.enable_grad():
            self.edit.apply(bench)
        weights.publish()
        progress(SHARES, StepReport(text="edited"))
        steps = sum(loop.steps for loop in loops)
        trained = Trained(
            steps=steps,
            planned=sum(loop.planned for loop in loops),
            stopped="weights edited",
            curve=_joined(loops),
            readings=((0, first), (steps, watch.look(self.network))),
            tokens=bench.tokens_seen + sum(loop.tokens for loop in loops),
            seconds=time.monotonic() - started,
        )
        return trained, weights

    def finish(self, weights: TrainableWeights) -> None:
        """Freeze the model again; it has the weights already."""
        weights.release()
        self.network.model.requires_grad_(False)

    def _watch(self, unseen: Unseen) -> EarlyStopping:
        return EarlyStopping(
            forget=spread(self.streams.forget),
            retain=spread(self.streams.retain),
            unseen=unseen,
            utility_budget=self.options.utility_budget,
            pad_id=self.pad_id,
            tokens_per_pass=self.options.tokens_per_pass,
        )

    def _train(
        self,
        training: Training,
        weights: TrainableWeights,
        unseen: Unseen,
        folder: Path,
        tell: Tell,
    ) -> Trained:
        streams = {stream for term in training.terms for stream in term.streams}
        pool, batch = len(self.streams.forget), self.options.batch
        if streams == {Stream.RETAIN}:
            pool, batch = len(self.streams.retain), self.options.retained
        steps = training.epochs * -(-pool // batch)
        changes: dict[str, object] = {"lora": None, "steps": steps, "lr": training.lr}
        if not training.watched:
            changes["utility_budget"] = 1.0
        options = self.options.model_copy(update=changes)
        loop = Trainer(
            method=FixedTerms(fixed=training.terms),
            network=self.network,
            streams=self.streams,
            options=options,
            pad_id=self.pad_id,
            weights=weights,
            before=training.before,
        )
        trained, _ = loop.run(
            unseen=unseen if training.watched else NEVER,
            folder=folder / training.name,
            progress=lambda step, report: tell(step / steps, f"{training.name}: {report.text}"),
        )
        return trained


class _Told:
    """Progress that never falls back, whatever the parts of an edit tell."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._reached = 0.0

    def tell(self, share: float, text: str) -> None:
        self._reached = max(self._reached, share)
        self._progress(min(SHARES, round(SHARES * self._reached)), StepReport(text=text))


def _joined(loops: list[Trained]) -> tuple[StepRecord, ...]:
    points = [point for loop in loops for point in loop.curve]
    return tuple(replace(point, step=index) for index, point in enumerate(points))
