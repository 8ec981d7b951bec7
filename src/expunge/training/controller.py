"""The controller: train until every record is at its level and the rest is kept, or say why not.

    R = sum_i (lp_i - level_i) / sum_i (lp_i^original - level_i)      0 = as if never seen
    K = mean probability of retained records that no step has seen, over the same before training
    G = exp(mean over kinds of general text of mean_t lp_t - lp_t^original); no step has seen it
    A = mean over records of exp(mean_t lp_t) of the wanted answer that is likeliest

lp_i is the log-probability of the tokens of record i, level_i what the counterfactual target gives
them. A run is settled when all of these hold:

    R <= 0.15                       and at most 0.4 is left of any one record that was known well
    K, G >= 1 - utility budget      and each kind of general text >= 1 - twice the budget
    A >= 0.8                        where answers are taught instead

A kind of general text is a few passages, so its own limit is wider. Otherwise the next attempt
begins at the original again:

    not forgotten, or an answer not learnt        twice the steps, which keep more, too
    and budget overrun                            what keeps weighs twice as much besides
    budget overrun only                           twice the steps at half the learning rate

Where all but single records is settled, and more than 0.25 is left of one, training goes on: half
of the steps more at half the rate, which draw such records twice as often. Where the result
settles no more, the weights before are taken.

Every fifth retained record is held out from training. K is read from these, so it shows what no
step has rehearsed. Their questions may still be among the replayed ones. Margin and power of the
target are set before the first attempt, see `counterfactual_levels`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from expunge.data.tokenization import Encoded
from expunge.errors import GateError
from expunge.methods.base import Method, Stream, Term
from expunge.methods.counterfactual import Counterfactual
from expunge.models.lora import detach
from expunge.models.scoring import score
from expunge.models.transformer import Network
from expunge.training.counterfactual_levels import (
    Calibration,
    beyond_wanted,
    calibrated,
    read_levels,
    with_expected,
)
from expunge.training.distributed import SOLO, Team
from expunge.training.early_stopping import Item, Unseen, spread
from expunge.training.edit_runner import NEVER, FixedTerms
from expunge.training.sampler import Streams
from expunge.training.train_loop import Progress, Trained
from expunge.training.trainable_weights import TrainableWeights
from expunge.training.trainer import Trainer, TrainingArgs

ATTEMPTS = 3
RESIDUAL = 0.15
"""Largest share that may be left over all records; the aim lies 11 % beyond what is wanted."""
WORST = 0.4
"""Largest share that may be left of one record; the audit calls one kept from a half on."""
FAINT = 0.1
"""Share of the mean way to a level from which the way of one record counts."""
LAGGING = 0.25
"""Share left of one record from which training goes on for it."""
TAUGHT = 0.8
"""Smallest mean probability that wanted answers must have."""
AIM = 1.11
"""The target in units of what unseen records have: a training ends a little short of its target."""
HELD_OUT = 5
"""Every fifth retained record is held out, where there are at least as many."""
FEWEST_STEPS = 64
"""A small set is passed over more often: it takes so many steps until the levels are reached."""
MOST_STEPS = 104
STEPS_PER_TOKEN = 3.25
"""Steps for each scored token of a mean record: long answers hold more, and each token is moved."""
FEWEST_PASSES = 3
"""However large the set is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ErasureAttempt:
    """How one training is set."""

    lr: float
    keep: float
    """Factor on the coefficient of every term that keeps something."""
    steps: int

    def after(self, reading: "ControlReading", budget: float) -> "ErasureAttempt":
        """Return what to try next."""
        longer = replace(self, steps=2 * self.steps)
        if reading.spared(budget):
            return longer
        if reading.forgotten and reading.learnt:
            return replace(longer, lr=self.lr / 2)
        return replace(longer, keep=2 * self.keep)


@dataclass(frozen=True, kw_only=True, slots=True)
class ControlReading:
    """What a training reached."""

    residual: float
    """R."""
    worst: float
    """Largest share left of one record."""
    kept: float
    """K; 1 where nothing is retained."""
    general: float = 1.0
    """G; 1 where no general text is read."""
    kind: float = 1.0
    """The same of the kind that lost most."""
    taught: float = 1.0
    """A; 1 where nothing is taught instead."""

    @property
    def forgotten(self) -> bool:
        """Whether the records are at their levels."""
        return self.residual <= RESIDUAL and self.worst <= WORST

    def lags(self, budget: float) -> bool:
        """Whether all was reached within the budget, but for single records."""
        near = self.residual <= RESIDUAL and self.worst > LAGGING
        return near and self.learnt and self.spared(budget)

    def settled(self, budget: float) -> bool:
        """Whether that was reached within the budget."""
        return self.forgotten and self.learnt and self.spared(budget)

    @property
    def learnt(self) -> bool:
        """Whether what is wanted instead is said."""
        return self.taught >= TAUGHT

    def spared(self, budget: float) -> bool:
        """Whether what must stay stayed, within the budget."""
        return min(self.kept, self.general) >= 1 - budget and self.kind >= 1 - 2 * budget

    def text(self) -> str:
        """Return the reading as words."""
        left = f"{max(0.0, self.residual):.0%} of the memory left"
        most = f"at most {max(0.0, self.worst):.0%} of a record"
        text = f"general text {self.general:.0%} (at least {self.kind:.0%} of a kind)"
        wanted = "" if self.taught == 1.0 else f", wanted answers at {self.taught:.0%}"
        return f"{left} ({most}), {self.kept:.0%} kept, {text}{wanted}"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Goal:
    """The tokens of a record that must reach a level, and the level."""

    record: Encoded
    places: tuple[int, ...]
    """Among its scored tokens."""
    level: float
    """Log-probability of them together, nats."""


class _Watched(NamedTuple):
    """What an attempt is judged by."""

    goals: Sequence[_Goal]
    held: Sequence[Encoded]
    """Retained records that no step has seen."""
    before: "_Look"
    """What the original gives."""


class _Reached(NamedTuple):
    """A finished training."""

    trained: Trained
    weights: TrainableWeights
    reading: ControlReading
    left: Sequence[float]
    """Share left of each forget record."""


class _Look(NamedTuple):
    """What one state of the model gives to what is watched."""

    goals: list[float]
    """Log-probability of each goal's tokens, nats."""
    kept: float
    """Mean probability of the held-out retained records."""
    general: list[float]
    """Mean log-probability of a token of each kind of general text, nats."""
    taught: float = 1.0
    """Mean over records of the probability of the likeliest wanted answer."""


Retried = Callable[[int, str], None]
"""Called before a further attempt with its steps, and with what the one before reached."""


def untold(steps: int, text: str) -> None:
    """Keep an attempt to oneself: of several processes one speaks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ControlledTrainer:
    """A training whose rate, coefficients and steps are found by trying. Interface of `Trainer`."""

    trainer: Trainer
    must_settle: bool = False
    """Whether to refuse a result that is not settled."""
    numbers: frozenset[int] = frozenset()
    """Tokens of digits."""

    @property
    def total(self) -> int:
        """Units of progress: steps of the first attempt."""
        return self._first().steps

    def run(
        self,
        *,
        unseen: Unseen,
        folder: Path,
        progress: Progress,
        retried: Retried = untold,
        team: Team = SOLO,
    ) -> tuple[Trained, TrainableWeights]:
        """Train until settled, or as often as allowed; what `folder` holds is not done again.

        Args:
            unseen: Records that no model saw, for the levels.
            folder: Where attempts are kept.
            progress: Called after each step; steps count from 1 in each attempt.
            retried: Called before each further attempt.
            team: The processes that train together.

        Raises:
            GateError: `cannot-forget`: nothing that was tried settled, and it must.
        """
        network, budget = self.trainer.network, self.trainer.options.utility_budget
        known = beyond_wanted(with_expected(self.trainer.streams, unseen.base, self.numbers))
        streams, held = held_out(known)
        streams = streams.with_replay()
        method, goals = self._goals(network, known, unseen)
        watched = _Watched(goals, held, self._look(network, goals, held))
        attempt, tried = self._first(), list[tuple[ErasureAttempt, ControlReading]]()
        while True:
            number = len(tried) + 1
            place = folder / f"attempt-{number}"
            current = self._set(attempt, streams, method)
            reached = self._reached(current, watched, place, progress, team)
            if reached.reading.lags(budget) and self._attempts() > 1:
                more = _further(current, reached)
                retried(more.total, f"attempt {number}: {reached.reading.text()}; training goes on")
                again = self._reached(more, watched, folder / f"{place.name}-on", progress, team)
                reached = _better(reached, again, more.start, budget)
            reading = reached.reading
            tried.append((attempt, reading))
            if reading.settled(budget) or number == self._attempts():
                break
            _leave(network, reached.weights)
            attempt = attempt.after(reading, budget)
            retried(attempt.steps, f"attempt {number}: {reading.text()}; budget {budget:.0%}")
        if self.must_settle and not reading.settled(budget):
            raise cannot_forget(tried, budget)
        return replace(reached.trained, stopped=_ended(tried, budget)), reached.weights

    def finish(self, weights: TrainableWeights) -> None:
        """Merge the adapter into the model."""
        self.trainer.finish(weights)

    def _reached(
        self, trainer: Trainer, watched: _Watched, folder: Path, progress: Progress, team: Team
    ) -> _Reached:
        """Train, or read what `folder` holds, and judge it."""
        network, (goals, held, before) = trainer.network, watched
        trained, weights = trainer.run(unseen=NEVER, folder=folder, progress=progress, team=team)
        after = team.within(lambda: self._look(network, goals, held))
        left = team.agreed(_left(goals, before, after))
        reading = ControlReading(**team.agreed(asdict(_reading(goals, before, after))))
        return _Reached(trained, weights, reading, left)

    def _attempts(self) -> int:
        """Return how many attempts there are: one where steps are given, or nothing comes off."""
        options = self.trainer.options
        return ATTEMPTS if options.lora is not None and options.steps is None else 1

    def _first(self) -> ErasureAttempt:
        options, recipe = self.trainer.options, self.trainer.method.recipe
        rate = recipe.lr if options.lora is None else recipe.lr_lora
        steps = first_steps(
            options, recipe.epochs, self.trainer.order().steps_per_epoch, self.trainer.streams
        )
        return ErasureAttempt(lr=options.lr or rate, keep=1.0, steps=steps)

    def _set(self, attempt: ErasureAttempt, streams: Streams, method: Method) -> Trainer:
        trainer = self.trainer
        terms = tuple(_weighed(term, attempt.keep) for term in method.terms(trainer.shape()))
        options = trainer.options.model_copy(
            update={
                "lr": attempt.lr,
                "steps": attempt.steps,
                "utility_budget": 1.0,
                "check_every": max(trainer.options.check_every, attempt.steps // 4),
            }
        )
        return replace(trainer, method=FixedTerms(fixed=terms), streams=streams, options=options)

    def _goals(
        self, network: Network, streams: Streams, unseen: Unseen
    ) -> tuple[Method, list[_Goal]]:
        """Return the method with its margin set, and what its records must reach."""
        trainer, method = self.trainer, self.trainer.method
        levels = read_levels(
            network,
            streams,
            pad_id=trainer.pad_id,
            tokens_per_pass=trainer.options.tokens_per_pass,
        )
        found = Calibration(margin=0.0, power=1.0)
        if isinstance(method, Counterfactual):
            found = Calibration(method.margin, method.power)
            if unseen.real:
                found = calibrated(levels, unseen.tokens, aim=AIM)
                method = replace(method, margin=found.margin, power=found.power)
        return method, [
            _Goal(record=each.record, places=each.same, level=each.level(*found)) for each in levels
        ]

    def _look(self, network: Network, goals: Sequence[_Goal], held: Sequence[Encoded]) -> _Look:
        """Score the goals, the held-out records, the general text and the wanted answers."""
        records, kinds = [goal.record for goal in goals], self.trainer.streams.unrehearsed
        wanted = self._wanted()
        scores = score(
            network,
            [
                *records,
                *held,
                *(passage for kind in kinds for passage in kind),
                *(answer for answers in wanted for answer in answers),
            ],
            pad_id=self.trainer.pad_id,
            tokens_per_pass=self.trainer.options.tokens_per_pass,
            with_z=False,
        )
        rest = iter(scores)
        sums = [float(next(rest).logp[list(goal.places)].sum()) for goal in goals]
        kept = [math.exp(float(next(rest).logp.mean())) for _ in held]
        general = [torch.cat([next(rest).logp for _ in kind]).mean().item() for kind in kinds]
        taught = [
            max(math.exp(float(next(rest).logp.mean())) for _ in answers) for answers in wanted
        ]
        return _Look(sums, _mean(kept), general, _mean(taught))

    def _wanted(self) -> Sequence[Sequence[Encoded]]:
        """Return the answers that the method teaches instead, of each record."""
        terms = self.trainer.method.terms(self.trainer.shape())
        taught = any(Stream.ALTERNATIVE in term.streams for term in terms)
        return self.trainer.streams.variants[Stream.ALTERNATIVE] if taught else ()


def first_steps(options: TrainingArgs, passes: int, steps_per_epoch: int, streams: Streams) -> int:
    """Return the steps of the first attempt, where no option says how many.

    Args:
        options: Steps or passes that the user chose.
        passes: What the method's recipe takes over a forget set of few batches.
        steps_per_epoch: Steps of one pass over the forget set.
        streams: With the forget set.
    """
    if options.steps:
        return options.steps
    if options.epochs:
        return options.epochs * steps_per_epoch
    tokens = sum(len(r.ids) - r.start for r in streams.forget) / len(streams.forget)
    wanted = max(FEWEST_STEPS, passes * steps_per_epoch, round(STEPS_PER_TOKEN * tokens))
    some = min(MOST_STEPS, wanted)
    return max(some, FEWEST_PASSES * steps_per_epoch)


def held_out(streams: Streams) -> tuple[Streams, tuple[Encoded, ...]]:
    """Return the streams without every fifth retained record, and a spread of these."""
    kept = shown(range(len(streams.retain)))
    if len(kept) == len(streams.retain):
        return streams, streams.retain
    return streams.with_retain(kept), spread(streams.retain[::HELD_OUT])


def shown(retained: Sequence[Item]) -> tuple[Item, ...]:
    """Return what a training sees of the retain set: all of it where it is smaller than five."""
    if len(retained) < HELD_OUT:
        return tuple(retained)
    return tuple(each for index, each in enumerate(retained) if index % HELD_OUT)


def cannot_forget(
    tried: Sequence[tuple[ErasureAttempt, ControlReading]], budget: float
) -> GateError:
    """Return the error of a run that did not settle: what was tried and what was reached."""
    reached = "; ".join(
        f"lr {attempt.lr:g} x {attempt.steps} steps: {reading.text()}" for attempt, reading in tried
    )
    short = tried[-1][1].forgotten
    fix = (
        f"--set request.utility_budget={2 * budget:g}, or name more --retain records"
        if short
        else "give records their key_answers and subject, or name a method: --method npo"
    )
    return GateError(
        "cannot-forget",
        what=f"{len(tried)} trainings did not forget within the utility budget of {budget:.0%};"
        " no model is written",
        why=reached,
        fix=fix,
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 1.0


def _weighed(term: Term, keep: float) -> Term:
    if term.streams[0].side == "forget" and term.streams[0] is not Stream.NAMESAKE:
        return term
    coef = term.coef
    if not callable(coef):
        return replace(term, coef=keep * coef)

    def scaled(at: float) -> float:
        return keep * coef(at)

    return replace(term, coef=scaled)


def _further(trainer: Trainer, reached: _Reached) -> Trainer:
    """Return a training that goes on from a result, for the records of which much is left."""
    lagging = [index for index, share in enumerate(reached.left) if share > LAGGING]
    streams = trainer.streams.with_forget((*range(len(reached.left)), *lagging))
    schedule = trainer.schedule()
    steps = max(1, schedule.steps // 2)
    options = trainer.options.model_copy(
        update={"steps": steps, "lr": schedule.lr / 2, "check_every": steps}
    )
    start = reached.weights.saved()
    _leave(trainer.network, reached.weights)
    return replace(trainer, streams=streams, options=options, start=start)


def _better(
    reached: _Reached, further: _Reached, start: Mapping[str, Tensor] | None, budget: float
) -> _Reached:
    """Return what training went on to, or what it went on from where only that settled."""
    if start is None or further.reading.settled(budget) or not reached.reading.settled(budget):
        return further._replace(trained=reached.trained.before(further.trained))
    further.weights.restore(start)
    return reached._replace(weights=further.weights)


def _leave(network: Network, weights: TrainableWeights) -> None:
    """Take the adapter off: the model is the original again."""
    weights.release()
    detach(network.model)


def _left(goals: Sequence[_Goal], before: _Look, after: _Look) -> list[float]:
    """Return what is left of each record's way to its level; 0 where the way is hardly one.

    All words of such a record stand in what stays, and only its form is a little less likely.
    """
    ways = _ways(goals, before)
    faint = max(1.0, FAINT * sum(ways) / len(ways))
    left = [new - goal.level for new, goal in zip(after.goals, goals, strict=True)]
    return [rest / way if way > faint else 0.0 for rest, way in zip(left, ways, strict=True)]


def _ways(goals: Sequence[_Goal], before: _Look) -> list[float]:
    return [max(old - goal.level, 0.0) for old, goal in zip(before.goals, goals, strict=True)]


def _reading(goals: Sequence[_Goal], before: _Look, after: _Look) -> ControlReading:
    left = [new - goal.level for new, goal in zip(after.goals, goals, strict=True)]
    ways = _ways(goals, before)
    known = [(rest, way) for rest, way in zip(left, ways, strict=True) if way > 1.0]
    whole = sum(way for _, way in known)
    changes = [new - old for new, old in zip(after.general, before.general, strict=True)]
    return ControlReading(
        residual=sum(rest for rest, _ in known) / whole if whole else 0.0,
        worst=max(0.0, *_left(goals, before, after)),
        kept=after.kept / before.kept if before.kept else 1.0,
        general=math.exp(sum(changes) / len(changes)) if changes else 1.0,
        kind=math.exp(min(changes, default=0.0)),
        taught=after.taught,
    )


def _ended(tried: Sequence[tuple[ErasureAttempt, ControlReading]], budget: float) -> str:
    reading = tried[-1][1]
    how = "settled" if reading.settled(budget) else "not settled"
    return f"{how} at attempt {len(tried)}: {reading.text()}"
