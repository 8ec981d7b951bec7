"""Fencing: a guard, a model and two streams become rules. The counterpart of `unlearn`."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from expunge.methods.base import Shape, Stream, Term
from expunge.methods.guards.base import Frame, Guard, GuardRules, Tokens
from expunge.models.guarded import features, own_part
from expunge.models.lora import LoraShape, detach, factors
from expunge.models.scoring import score
from expunge.models.transformer import Network
from expunge.training.early_stopping import EarlyStopping, Unseen, spread
from expunge.training.edit_runner import NEVER, SHARES, FixedTerms
from expunge.training.reinforced_model import Tell
from expunge.training.sampler import Streams
from expunge.training.train_loop import Progress, StepReport, Trained
from expunge.training.trainable_weights import shape_of
from expunge.training.trainer import Trainer, TrainingArgs


@dataclass(kw_only=True, slots=True)
class GuardContext:
    """Implements `methods.guards.protocol.GuardBench`."""

    network: Network
    streams: Streams
    options: TrainingArgs
    frame: Frame
    """What the format of questions begins and ends with."""
    pad_id: int
    unseen: float
    folder: Path
    tell: Tell
    trained: list[Trained] = field(default_factory=list[Trained])

    @property
    def shape(self) -> Shape:
        """What there is to know of the model."""
        return shape_of(self.network)

    @property
    def seed(self) -> int:
        """Of every draw."""
        return self.options.seed

    def tokens(self, stream: Stream) -> Sequence[Tokens]:
        """Return the records of a stream; of a variant, the first of each record."""
        if stream in (Stream.FORGET, Stream.RETAIN):
            records = self.streams.forget if stream is Stream.FORGET else self.streams.retain
        else:
            records = [several[0] for several in self.streams.variants[stream] if several]
        return [Tokens(r.ids[: r.start], r.ids[r.start :]) for r in records]

    def features(self, stream: Stream, layer: int) -> Tensor:
        """Return the mean state after a block over each question's own tokens, [n, d] float32."""
        prompts = [r.prompt for r in self.tokens(stream) if own_part(r.prompt, self.frame)]
        tokens = self.options.tokens_per_pass
        return features(self.network, prompts, self.frame, layer, tokens=tokens)

    def forget_nll(self, rules: GuardRules) -> float:
        """Return the mean over forget records of the mean NLL per token behind rules, nats."""
        kept, self.network.guard = self.network.guard, rules
        try:
            rows = score(
                self.network,
                self.streams.forget,
                pad_id=self.pad_id,
                tokens_per_pass=self.options.tokens_per_pass,
            )
        finally:
            self.network.guard = kept
        return -sum(float(row.logp.mean()) for row in rows) / len(rows)

    def assistant(
        self, terms: tuple[Term, ...], *, layers: int, rank: int, lr: float, epochs: int
    ) -> Mapping[str, tuple[Tensor, Tensor]]:
        """Train an adapter of the lowest blocks, take it off again, and return its factors."""
        loop = Trainer(
            method=FixedTerms(fixed=terms),
            network=self.network,
            streams=self.streams,
            options=TrainingArgs(
                lora=LoraShape(rank=rank, alpha=2.0 * rank, last_layer=layers - 1),
                epochs=epochs,
                lr=lr,
                batch=self.options.batch,
                retain_batch=self.options.retain_batch,
                tokens_per_pass=self.options.tokens_per_pass,
                check_every=self.options.check_every,
                utility_budget=1.0,
                seed=self.options.seed,
            ),
            pad_id=self.pad_id,
        )
        done, weights = loop.run(
            unseen=NEVER,
            folder=self.folder / "assistant",
            progress=lambda step, report: self.tell(step / loop.total, f"assistant: {report.text}"),
        )
        weights.publish()
        found = factors(self.network.model)
        detach(self.network.model)
        self.network.model.requires_grad_(False)
        self.trained.append(done)
        return found

    def progress(self, share: float, text: str) -> None:
        """Tell how much of the work is done, 0 to 1."""
        self.tell(share, text)


@dataclass(frozen=True, kw_only=True, slots=True)
class GuardRunner:
    """A run that is ready to fit a guard. The model's weights are the original's throughout."""

    guard: Guard
    network: Network
    streams: Streams
    options: TrainingArgs
    frame: Frame
    """What the format of questions begins and ends with."""
    pad_id: int

    @property
    def total(self) -> int:
        """Units of progress."""
        return SHARES

    def run(
        self, *, unseen: Unseen, folder: Path, progress: Progress
    ) -> tuple[Trained, GuardRules]:
        """Fit the guard and put it around the network.

        Args:
            unseen: How the original scores records like the forget set that it never saw.
            folder: Where checkpoints of an assistant go, if the guard trains one.
            progress: Told of every hundredth of the work.

        Returns:
            What was done, and the rules.

        Raises:
            UsageError: The guard does not suit the records.
        """
        started = time.monotonic()
        self.network.model.eval()
        watch = EarlyStopping(
            forget=spread(self.streams.forget),
            retain=spread(self.streams.retain),
            unseen=unseen,
            utility_budget=self.options.utility_budget,
            pad_id=self.pad_id,
            tokens_per_pass=self.options.tokens_per_pass,
        )
        first = watch.look(self.network)

        def tell(share: float, text: str) -> None:
            progress(min(SHARES, round(SHARES * share)), StepReport(text=text))

        bench = GuardContext(
            network=self.network,
            streams=self.streams,
            options=self.options,
            frame=self.frame,
            pad_id=self.pad_id,
            unseen=unseen.mean,
            folder=folder,
            tell=tell,
        )
        with torch.enable_grad():
            rules = self.guard.fit(bench)
        self.network.guard = rules
        progress(SHARES, StepReport(text="fenced"))
        loops = bench.trained
        steps = sum(loop.steps for loop in loops)
        trained = Trained(
            steps=steps,
            planned=sum(loop.planned for loop in loops),
            stopped="guard fitted, weights unchanged",
            curve=tuple(point for loop in loops for point in loop.curve),
            readings=((0, first), (steps, watch.look(self.network))),
            tokens=sum(loop.tokens for loop in loops),
            seconds=time.monotonic() - started,
        )
        return trained, rules
