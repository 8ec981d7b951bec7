"""Guards: rules between a user and a model whose weights do not change.

A guard is a frozen dataclass of its paper's parameters. It looks at the records through a
`GuardBench` once and returns `GuardRules`: plain data that say which prompts are meant, what is
read in their place, and how the next token's logits change. With the weights anybody can leave the
rules out and use the original, so a guard is suppression, however good its scores.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from expunge.methods.base import Shape, Stream, Term, Trains
from expunge.methods.edits.base import Passes

Ids = tuple[int, ...]


class Tokens(NamedTuple):
    """A record as a guard sees it."""

    prompt: Ids
    """What comes before the answer, as the model reads it."""
    answer: Ids
    """The scored tokens, the end token included."""


class Frame(NamedTuple):
    """The tokens that the format writes before and after a question: the chat template's own."""

    head: Ids
    tail: Ids


NO_FRAME = Frame((), ())


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptClassifier:
    """Tells prompts about the forget set: a linear score of the mean state of a prompt's tokens."""

    layer: int
    """Block after which states are read."""
    weights: Tensor
    """[d] float32."""
    threshold: float
    """A prompt is meant when its score is above."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shots:
    """Earlier turns of a conversation, put before the question."""

    near: tuple[tuple[Ids, Ids], ...]
    """Question and whole turn of each forget record, with a false answer."""
    number: int
    """How many of these, the nearest to the prompt."""
    always: tuple[Ids, ...]
    """Turns with true answers, put first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Corruption:
    """Replace a share of a prompt's own tokens by others, drawn by seed and prompt."""

    share: float
    pool: Ids
    seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Offset:
    """A small assistant whose logits are added: the lower blocks with a low-rank change."""

    layers: int
    """Number of blocks, from the lowest."""
    weight: float
    floor: float
    """Tokens under this share of the most likely one's probability keep their logits."""
    factors: Mapping[str, tuple[Tensor, Tensor]]
    """A [r, in] and B [out, r] by module, the scale within B: the module's output gets B A x."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GuardRules:
    """All rules of a guard; None or empty: no such rule."""

    frame: Frame = NO_FRAME
    probe: PromptClassifier | None = None
    """Prompts that shots, corruption and reply are for; None: every prompt."""
    shots: Shots | None = None
    corruption: Corruption | None = None
    reply: Ids = ()
    """Written in place of any answer, end token included."""
    blocked: frozenset[Ids] = field(default_factory=frozenset[Ids])
    """Runs of answer tokens, all of one length, that are never completed."""
    offset: Offset | None = None

    @property
    def tells(self) -> str:
        """Text of the forget set that the rules themselves hold; empty: none."""
        shots = self.shots is not None and bool(self.shots.near)
        held = {
            "pieces of the answers": bool(self.blocked),
            "the questions": shots,
            "an assistant that knows the answers by heart": self.offset is not None,
        }
        return " and ".join(what for what, there in held.items() if there)


class GuardBench(Protocol):
    """The services of the engine for a guard; the model stays the original."""

    @property
    def shape(self) -> Shape:
        """The structure of the model."""
        ...

    @property
    def seed(self) -> int:
        """Of every draw."""
        ...

    @property
    def unseen(self) -> float:
        """Mean NLL per token of records that the original never saw, nats."""
        ...

    def tokens(self, stream: Stream) -> Sequence[Tokens]:
        """Return the records of a stream; of a variant, the first of each record."""
        ...

    @property
    def frame(self) -> Frame:
        """What the format of questions begins and ends with."""
        ...

    def features(self, stream: Stream, layer: int) -> Tensor:
        """Return the mean state after a block over the own tokens of each question, [n, d] float32.

        Passages, and questions that do not open a conversation, are left out.
        """
        ...

    def forget_nll(self, rules: GuardRules) -> float:
        """Return the mean over forget records of the mean NLL per token behind rules, nats."""
        ...

    def assistant(
        self, terms: tuple[Term, ...], *, layers: int, rank: int, lr: float, epochs: int
    ) -> Mapping[str, tuple[Tensor, Tensor]]:
        """Train an adapter of the lowest blocks, take it off again, and return its factors."""
        ...

    def progress(self, share: float, text: str) -> None:
        """Report how much of the work is done, 0 to 1."""
        ...


@runtime_checkable
class Guard(Protocol):
    """A named way to guard. Implementations are frozen dataclasses."""

    family: ClassVar[str]
    """A key of `FAMILIES`."""
    advice: ClassVar[str]
    """One line: when to use it."""
    streams: ClassVar[tuple[Stream, ...]]
    """What it reads beside forget and retain."""

    def trains(self, shape: Shape) -> Trains | None:
        """Return None: no weight of the model moves."""
        ...

    def passes(self) -> Passes:
        """Return what fitting costs."""
        ...

    def fit(self, bench: GuardBench) -> GuardRules:
        """Return the rules."""
        ...
