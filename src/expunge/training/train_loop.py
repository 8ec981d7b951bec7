"""The training loop: own code, readable top to bottom, killable at any step.

First, how terms are weighed in a step: fixed numbers, schedules, and multipliers of constraints.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from expunge.config.settings import Hyperparameters
from expunge.errors import UsageError
from expunge.methods.base import Dual, Term
from expunge.training import checkpoint
from expunge.training.distributed import SOLO, Team, whole
from expunge.training.early_stopping import EarlyStopping, ProbeReading, Unseen
from expunge.training.forward import TermEvaluator
from expunge.training.sampler import BatchIndices, ContentSampler, Sampler
from expunge.training.step_gradient import GradientTransforms, StepGradient
from expunge.training.trainable_weights import TrainableWeights


@dataclass(kw_only=True, slots=True)
class Multipliers:
    """The Lagrange multipliers of terms that are constraints, by the name of the term."""

    duals: Mapping[str, Dual]
    values: dict[str, float]
    limits: dict[str, float]
    """Set at the first step, where a relative limit becomes a number."""

    @staticmethod
    def of(terms: Sequence[Term]) -> "Multipliers":
        """Start the multipliers of these terms."""
        duals = {term.name: term.dual for term in terms if term.dual is not None}
        starts = {name: dual.start for name, dual in duals.items()}
        return Multipliers(duals=duals, values=starts, limits={})

    def step(self, seen: Mapping[str, float], progress: float) -> None:
        """Raise the multiplier of a violated constraint, lower that of a slack one.

        Args:
            seen: Value of each term in this step, without coefficient.
            progress: Share of the run that is over.
        """
        for name, dual in self.duals.items():
            if name not in seen:
                continue
            limit = dual.limit * seen[name] if dual.relative else dual.limit
            limit = self.limits.setdefault(name, limit)
            if progress >= dual.wait:
                moved = self.values[name] + dual.rate * (seen[name] - limit)
                self.values[name] = max(0.0, moved)

    def state(self) -> dict[str, dict[str, float]]:
        """Return what a checkpoint must hold."""
        return {"values": dict(self.values), "limits": dict(self.limits)}

    def restore(self, state: Mapping[str, Mapping[str, float]]) -> None:
        """Set what a checkpoint held."""
        self.values.update(state["values"])
        self.limits.update(state["limits"])


def coefficients(
    terms: Sequence[Term], multipliers: Multipliers, progress: float
) -> dict[str, float]:
    """Return the coefficient of each term at this point of the run, 0 to 1."""
    found: dict[str, float] = {}
    for term in terms:
        if term.name in multipliers.values:
            found[term.name] = multipliers.values[term.name]
        else:
            found[term.name] = term.coef(progress) if callable(term.coef) else term.coef
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """How the weights are stepped."""

    steps: int
    lr: float
    """Peak learning rate."""
    args: Hyperparameters
    """The other hyperparameters; those of steps, epochs and rate are settled above."""
    rates: tuple[float, ...] = ()
    """The learning rate of each step; empty: it rises, then falls, with the number of the step."""
    save_at: frozenset[int] = frozenset()
    """Further steps after which a checkpoint is written."""

    def saves(self, step: int) -> bool:
        """Tell whether a checkpoint is written after so many steps."""
        return step % self.args.check_every == 0 or step in self.save_at

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, from 0: it rises, then falls linearly to zero."""
        if self.rates:
            return self.rates[step]
        rising = max(1, math.ceil(self.args.warmup * self.steps))
        if step < rising:
            return self.lr * (step + 1) / rising
        return self.lr * (self.steps - step) / max(1, self.steps - rising)


@dataclass(frozen=True, kw_only=True, slots=True)
class StepRecord:
    """One step of the training curve."""

    step: int
    values: dict[str, float]
    """Each term's value, coefficient included, averaged as the term says."""
    gradient_norm: float
    lr: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """What training did; the weights hold the result."""

    steps: int
    planned: int
    stopped: str
    """Why training ended: `finished`, or the watchdog's reason."""
    curve: tuple[StepRecord, ...]
    readings: tuple[tuple[int, ProbeReading], ...]
    tokens: int
    seconds: float

    def before(self, further: "Trained") -> "Trained":
        """Return this training and one that went on from it, as one."""
        shifted = (replace(point, step=self.steps + point.step) for point in further.curve)
        readings = ((self.steps + step, reading) for step, reading in further.readings if step)
        return Trained(
            steps=self.steps + further.steps,
            planned=self.planned + further.planned,
            stopped=further.stopped,
            curve=(*self.curve, *shifted),
            readings=(*self.readings, *readings),
            tokens=self.tokens + further.tokens,
            seconds=self.seconds + further.seconds,
        )

    def told(self, unseen: Unseen) -> dict[str, object]:
        """Return the watchdog's readings as data, beside the level of text never seen.

        Without those of weights that were given up: the model is that of the last step told.
        """
        readings = [{"step": s, **asdict(each)} for s, each in self.readings if s <= self.steps]
        return {"unseen_nll": unseen.mean, "readings": readings}


@dataclass(frozen=True, kw_only=True, slots=True)
class StepReport:
    """What is told of a step while training goes on."""

    text: str
    """For people, short."""
    values: Mapping[str, float] = field(default_factory=dict[str, float])
    """For trackers: loss, that of each term, gradient norm, rate, and the last probe reading."""

    def __str__(self) -> str:
        """Return the text."""
        return self.text


Progress = Callable[[int, StepReport], None]
"""Called after each step with the number of steps done and what there is to tell."""


class _Run:
    """The state of a run between two steps; everything a checkpoint must hold."""

    def __init__(
        self,
        observer: TermEvaluator,
        weights: TrainableWeights,
        schedule: Schedule,
        wraps: GradientTransforms,
    ) -> None:
        self.step = 0
        self.tokens = 0
        self.seconds = 0.0
        self.strikes = 0
        self.curve: list[StepRecord] = []
        self.readings: list[tuple[int, ProbeReading]] = []
        self.good_step = 0
        self.stopped = ""
        self.tokens_per_pass = schedule.args.tokens_per_pass
        self.multipliers = Multipliers.of(observer.terms)
        self.memory: dict[str, Tensor] = {}
        decay = schedule.args.weight_decay
        self.optimiser = wraps.optimiser.make(weights.masters, schedule.lr, decay)

    def state(self) -> dict[str, object]:
        return {
            "step": self.step,
            "tokens": self.tokens,
            "seconds": self.seconds,
            "strikes": self.strikes,
            "tokens_per_pass": self.tokens_per_pass,
            "good_step": self.good_step,
            "stopped": self.stopped,
            "multipliers": self.multipliers.state(),
            "curve": [asdict(point) for point in self.curve],
            "readings": [[step, asdict(reading)] for step, reading in self.readings],
        }

    def trained(self, planned: int) -> Trained:
        return Trained(
            steps=self.step,
            planned=planned,
            stopped=self.stopped or "finished",
            curve=tuple(self.curve),
            readings=tuple(self.readings),
            tokens=self.tokens,
            seconds=self.seconds,
        )

    def save(self, path: Path, weights: TrainableWeights, team: Team) -> None:
        checkpoint.save(path, weights, self.optimiser, self.memory, self.state(), team)

    def resume(self, path: Path, weights: TrainableWeights) -> None:
        state = checkpoint.load(path, weights, self.optimiser, self.memory)
        self.step = state["step"]
        self.tokens = state["tokens"]
        self.seconds = state["seconds"]
        self.strikes = state["strikes"]
        self.tokens_per_pass = state["tokens_per_pass"]
        self.good_step = state["good_step"]
        self.stopped = state["stopped"]
        self.multipliers.restore(state["multipliers"])
        self.curve = [StepRecord(**row) for row in state["curve"]]
        self.readings = [(step, ProbeReading(**row)) for step, row in state["readings"]]


def train(
    observer: TermEvaluator,
    weights: TrainableWeights,
    *,
    order: Sampler | ContentSampler,
    schedule: Schedule,
    watch: EarlyStopping | None,
    wraps: GradientTransforms,
    folder: Path,
    progress: Progress,
    team: Team = SOLO,
) -> Trained:
    """Step the weights until the schedule or a watchdog ends it; resume what `folder` holds.

    Args:
        observer: Evaluates the method's terms.
        weights: What is trained; on return it holds the result.
        order: Which records each step uses.
        schedule: Steps, learning rate, clipping.
        watch: Probes and limits; None: nothing is probed, and nothing but the schedule ends it.
        wraps: What stands between the loss and the step.
        folder: Checkpoints: `last`, and `good`, the last weights within the utility budget.
        progress: Told of every step.
        team: The processes that train together.

    Raises:
        ResourceError: A single record does not fit in memory.
        UsageError: The loss was not a number before anything was learnt.
    """
    started = time.monotonic()
    run = _Run(observer, weights, schedule, wraps)
    last, good = folder / "last.safetensors", folder / "good.safetensors"
    observer.network.model.eval()  # dropout would make the original differ from itself
    if team.agreed(last.is_file()):
        run.resume(last, weights)
        started -= run.seconds
    elif watch is not None:
        run.readings.append((0, _look(observer, watch, team)))
        checkpoint.save_weights(good, weights, team)
    while run.step < schedule.steps and not run.stopped:
        point = _step(observer, weights, run, order.draw(run.step), schedule, wraps, team)
        if not math.isfinite(point.gradient_norm):
            if run.good_step == 0:
                raise _diverged(schedule)
            _stop_at_good(run, weights, good, wraps, f"not a number at step {run.step + 1}")
            run.seconds = time.monotonic() - started
            break
        run.curve.append(point)
        run.step += 1
        ended = run.step == schedule.steps
        wraps.average(weights, run.memory, step=run.step, steps=schedule.steps)
        if ended:
            wraps.settle(weights, run.memory)
        if ended or schedule.saves(run.step):
            if watch is not None:
                _check(observer, weights, run, watch, wraps, good, team, ended=ended)
            run.seconds = time.monotonic() - started
            run.save(last, weights, team)
        progress(run.step, _describe(point, run.readings))
    return run.trained(schedule.steps)


def _step(
    observer: TermEvaluator,
    weights: TrainableWeights,
    run: _Run,
    draw: BatchIndices,
    schedule: Schedule,
    wraps: GradientTransforms,
    team: Team,
) -> StepRecord:
    rate = schedule.rate(run.step)
    for group in run.optimiser.param_groups:
        group["lr"] = rate
    progress = run.step / schedule.steps
    coefs = coefficients(observer.terms, run.multipliers, progress)
    tokens = run.tokens_per_pass
    pull = StepGradient(observer, weights, draw, coefs=coefs, tokens_per_pass=tokens, team=team)
    generator = torch.Generator().manual_seed(schedule.args.seed * 1_000_003 + run.step)
    wraps.refresh(run.optimiser, pull, generator)
    gradient = wraps.gradient(pull, run.memory, generator)
    for name, value in gradient.items():
        weights.masters[name].grad = value
    norm = _clip(list(weights.masters.values()), schedule.args.clip)
    if bool(torch.isfinite(norm)):
        run.optimiser.step()
        weights.publish()
    run.optimiser.zero_grad(set_to_none=True)
    run.multipliers.step(pull.values, progress)
    run.tokens_per_pass = pull.tokens_per_pass
    run.tokens += _tokens(observer, draw)
    values = {name: coefs[name] * value for name, value in pull.values.items()}
    return StepRecord(step=run.step, values=values, gradient_norm=float(norm), lr=rate)


def _clip(masters: list[Tensor], largest: float) -> Tensor:
    """Scale the gradient down to the largest norm, over all weights and processes; return its."""
    gradients = [master.grad for master in masters if master.grad is not None]
    norm = whole(torch.nn.utils.get_total_norm(gradients))
    torch.nn.utils.clip_grads_with_norm_(masters, largest, norm)
    return norm


def _look(observer: TermEvaluator, watch: EarlyStopping, team: Team) -> ProbeReading:
    """Score the probes: all processes go by what the first one reads."""
    reading = team.within(lambda: watch.look(observer.network))
    return ProbeReading(**team.agreed(asdict(reading)))


def _check(
    observer: TermEvaluator,
    weights: TrainableWeights,
    run: _Run,
    watch: EarlyStopping,
    wraps: GradientTransforms,
    good: Path,
    team: Team,
    *,
    ended: bool,
) -> None:
    reading = _look(observer, watch, team)
    first, previous = run.readings[0][1], run.readings[-1][1]
    run.readings.append((run.step, reading))
    if watch.over_budget(reading, first):
        falling = reading.retain_probability < previous.retain_probability
        run.strikes = run.strikes + 1 if falling else 0
        if run.strikes == 2 or ended:
            _stop_at_good(run, weights, good, wraps, "utility budget spent")
        return
    run.strikes = 0
    run.good_step = run.step
    checkpoint.save_weights(good, weights, team)
    if watch.saturated(reading):
        run.stopped = "forget set looks unseen"
        if wraps.average_last and not ended:
            _settle_early(observer, weights, run, watch, wraps, good, team)


def _settle_early(
    observer: TermEvaluator,
    weights: TrainableWeights,
    run: _Run,
    watch: EarlyStopping,
    wraps: GradientTransforms,
    good: Path,
    team: Team,
) -> None:
    """Give a run that ends before its last step the mean of the weights that were to be averaged.

    Where the mean is over the utility budget, the weights stay those that were just kept as good.
    """
    if not wraps.settle(weights, run.memory):
        run.stopped += "; no weights averaged yet"
        return
    reading = _look(observer, watch, team)
    if watch.over_budget(reading, run.readings[0][1]):
        weights.restore(checkpoint.load_weights(good, weights))
        run.stopped += "; not averaged: the mean is over the utility budget"
    else:
        run.readings[-1] = (run.step, reading)


def _stop_at_good(
    run: _Run, weights: TrainableWeights, good: Path, wraps: GradientTransforms, reason: str
) -> None:
    weights.restore(checkpoint.load_weights(good, weights))
    alone = ", not averaged" if wraps.average_last else ""
    run.stopped = f"{reason}; kept step {run.good_step}{alone}"
    run.step = run.good_step


def _diverged(schedule: Schedule) -> UsageError:
    return UsageError(
        "not-a-number",
        what="the loss was not a number at the first steps",
        why=f"learning rate {schedule.lr:g} may be too large, or the weights hold NaN",
        fix="lower --lr, or check the model with `expunge doctor`",
    )


def _tokens(observer: TermEvaluator, draw: BatchIndices) -> int:
    streams = {stream for term in observer.terms for stream in term.streams}
    return sum(
        len(record.ids) for stream in streams for record in observer.streams.drawn(stream, draw)
    )


def _describe(point: StepRecord, readings: Sequence[tuple[int, ProbeReading]]) -> StepReport:
    loss = sum(point.values.values())
    values = {
        "loss": loss,
        **{f"loss_{name}": value for name, value in point.values.items()},
        "gradient_norm": point.gradient_norm,
        "lr": point.lr,
    }
    if not readings:
        return StepReport(text=f"loss {loss:.3f}", values=values)
    reading = readings[-1][1]
    values |= {
        "forget_nll": reading.forget_nll,
        "retain_probability": reading.retain_probability,
    }
    kept = f"retain p {reading.retain_probability:.2f}"
    return StepReport(
        text=f"forget nll {reading.forget_nll:.2f}  {kept}  loss {loss:.3f}", values=values
    )
