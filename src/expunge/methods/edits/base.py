"""Edits: operations on weights that need no training loop of terms.

An edit is a frozen dataclass of its paper's parameters. It asks a `Bench` for what it needs, a
gradient, a second moment, a displacement, and changes the weights on the bench in place. Like a
method it never loads a model, copies one, or draws a number without a seed.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from expunge.methods.base import Shape, Stream, Term, Trains

Place = Literal["all", "scored", "end", "subject"]
"""Positions of a record: every one; those that predict scored tokens; the last one before the
answer; the last token of the subject in the question, or of the question."""
State = Literal["going on", "forgotten", "damaged"]
"""`forgotten`: forget answers look unseen. `damaged`: retained answers are over the budget."""


MEMORISED = 64
"""Largest number of records in one step of learning by heart."""
WEIGHED = 256
"""Largest number of records of a set whose Fisher information is taken."""


class Passes(NamedTuple):
    """What an edit costs: how often it runs forward and back over each set."""

    forget: float
    retain: float
    memorising: int = 0
    """Steps in which a part of the forget set is learnt by heart, see `memorising_steps`."""
    parts: int = 1
    """Parts of the forget set that are learnt one after the other."""
    weighed: tuple[Stream, ...] = ()
    """Sets whose Fisher information is taken, from `WEIGHED` records at most."""

    @property
    def needs_retain(self) -> bool:
        """Whether there must be retain records."""
        return self.retain > 0 or Stream.RETAIN in self.weighed

    def memorised(self, records: int) -> float:
        """Return how often a forget set of so many records is read to learn it by heart."""
        if not self.memorising:
            return 0.0
        return memorising_passes(-(-records // self.parts), self.memorising)


def memorised_at_once(records: int) -> int:
    """Return how many records a step of learning by heart takes: even parts of the set."""
    return -(-records // -(-records // MEMORISED))


def memorising_steps(records: int, wanted: int) -> int:
    """Return the steps of learning by heart: `wanted`, or as many as use each record once."""
    return max(wanted, -(-records // MEMORISED))


def memorising_passes(records: int, wanted: int) -> float:
    """Return how often these steps read each record, on average."""
    return memorising_steps(records, wanted) * memorised_at_once(records) / records


class Reinforce(NamedTuple):
    """How to teach a throw-away adapter forget records by heart: AdamW, `MEMORISED` a step."""

    steps: int
    lr: float
    rank: int
    seed: int


class Moments(NamedTuple):
    """Mean over vectors x, and mean of x x^T; float64."""

    mean: Tensor
    """[k]"""
    second: Tensor
    """[k, k]"""
    number: int


class Steered(NamedTuple):
    """Answers while something is added to the states of one block; float32."""

    nll: Tensor
    """[n] mean NLL per scored token of each record, nats."""
    gradient: Tensor
    """[n, d] of the sum of `nll` with respect to what was added."""


Visit = Callable[[str, Tensor, Tensor], None]
"""Receives the name of a matrix, inputs [n, k], and gradients of the loss at its outputs [n, m]."""


class Bench(Protocol):
    """The services of the engine for an edit; all refer to the weights at that moment.

    `weights` holds float32 masters of the weights that the edit may change, by name; `matrix` gives
    the same numbers as [out, in], whatever the architecture stores. Both are changed in place.
    """

    @property
    def shape(self) -> Shape:
        """The structure of the model."""
        ...

    @property
    def seed(self) -> int:
        """Of every draw."""
        ...

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """Float32 masters by name, without gradient."""
        ...

    def matrix(self, name: str) -> Tensor:
        """Return a view of a weight as [out, in]."""
        ...

    def output(self, layer: int) -> Tensor:
        """Return a view of the matrix with which the MLP of a block writes, [d, k]."""
        ...

    def size(self, stream: Stream) -> int:
        """Return the number of records of the forget or the retain set."""
        ...

    def scored(self, stream: Stream) -> int:
        """Return the number of their scored tokens."""
        ...

    def gradient(self, stream: Stream, *, after: Reinforce | None = None) -> dict[str, Tensor]:
        """Return the gradient of the mean NLL per scored token, float32 by name.

        Args:
            stream: The records.
            after: Take it while the model wears an adapter that knows the forget set by heart.
        """
        ...

    def fisher(self, stream: Stream) -> dict[str, Tensor]:
        """Return the diagonal of the empirical Fisher information per scored token.

        It is (1/N) sum_i (grad S_i)^2 with S_i the summed NLL of record i and N scored tokens: an
        estimate of the curvature of the mean NLL. Of more than `WEIGHED` records, that many stand
        for all, evenly spaced.
        """
        ...

    def displacement(self, part: Sequence[int], how: Reinforce) -> dict[str, Tensor]:
        """Return what memorising some forget records, given by index, adds to each weight."""
        ...

    def keys(self, stream: Stream, layer: int, place: Place) -> Tensor:
        """Return inputs of the MLP's output matrix of a block, [n, k] float32."""
        ...

    def key_moments(self, stream: Stream, layer: int, place: Place) -> Moments:
        """Return the moments of these inputs without keeping them."""
        ...

    def states(self, stream: Stream, layer: int, place: Place) -> Tensor:
        """Return states after a block, [n, d] float32; of a variant, those of all its records."""
        ...

    def steer(self, stream: Stream, layer: int, change: Tensor) -> Steered:
        """Add `change`, [n, d], to the states after a block at each forget record's subject.

        The answers are those of the first variant of each record in `stream`.
        """
        ...

    def tokens(self, stream: Stream, visit: Visit) -> None:
        """Run forward and back once and show inputs and gradients of every matrix that may change.

        The loss is the summed NLL of the scored tokens; all positions that are no padding are
        shown, as the gradients arrive.
        """
        ...

    def train(
        self,
        terms: tuple[Term, ...],
        *,
        name: str,
        epochs: int,
        lr: float,
        before: Callable[[], None] | None = None,
        watched: bool = True,
    ) -> None:
        """Run a training loop over all weights.

        Args:
            terms: The loss; the original that they refer to is the model as it is now.
            name: Of the folder of the checkpoints.
            epochs: Passes over the forget set, or over the retain set if no term reads the former.
            lr: Peak learning rate.
            before: Called once the references are known and before the first step.
            watched: Whether the run may stop early: when all is forgotten, or too much is lost.
        """
        ...

    def state(self) -> State:
        """Look at the probes."""
        ...

    def unseen(self) -> bool:
        """Tell whether forget answers look unseen, whatever is lost beside them."""
        ...

    def base(self) -> Mapping[str, Tensor]:
        """Return the weights of the model from which the original was trained, by name.

        Raises:
            UsageError: No base model is named.
            InputError: It has another architecture.
        """
        ...

    def stage(self, start: float, end: float) -> AbstractContextManager[None]:
        """Map progress inside to this part of the work, each from 0 to 1.

        Fisher information, learning by heart and training loops report their progress.
        """
        ...

    def progress(self, share: float, text: str) -> None:
        """Report how much of the work, or of the stage, is done, 0 to 1."""
        ...


@runtime_checkable
class Edit(Protocol):
    """A named operation on weights. Implementations are frozen dataclasses."""

    family: ClassVar[str]
    """A key of `FAMILIES`."""
    advice: ClassVar[str]
    """One line: when to use it."""
    streams: ClassVar[tuple[Stream, ...]]
    """What it reads beside forget and retain."""

    def trains(self, shape: Shape) -> Trains | None:
        """Return the weights that it may change; None for all."""
        ...

    def passes(self) -> Passes:
        """Return what it costs."""
        ...

    def apply(self, bench: Bench) -> None:
        """Change the weights."""
        ...
