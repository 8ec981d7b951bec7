"""Pulling gradients: the gradient of one step's terms at the weights, or at a point near them."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from torch import Tensor

from expunge.engine.adversary import Adversary
from expunge.engine.curvature import curvature_terms
from expunge.engine.observe import Observer, Part
from expunge.engine.parallel import SOLO, Team
from expunge.engine.shape import shape_of
from expunge.engine.streams import Draw
from expunge.engine.weights import Weights
from expunge.errors import ResourceError, is_out_of_memory
from expunge.methods.retain import nll
from expunge.methods.terms import Likelihood, Shape, Side, Stream

_RELEARN = Likelihood(name="nll", streams=(Stream.FORGET,), coef=1.0, per="token", loss=nll)


class StepPull:
    """The gradients of one optimiser step.

    Args:
        observer: Evaluates the terms.
        weights: What is trained.
        draw: The records of the step.
        coefs: Coefficient of each term.
        tokens_per_pass: Largest number of padded tokens in one forward pass.
        team: The processes that take this step together.
    """

    def __init__(
        self,
        observer: Observer,
        weights: Weights,
        draw: Draw,
        *,
        coefs: Mapping[str, float],
        tokens_per_pass: int,
        team: Team = SOLO,
    ) -> None:
        self._observer = observer
        self._weights = weights
        self._draw = draw
        self._coefs = coefs
        self._team = team
        self.tokens_per_pass = tokens_per_pass
        """Becomes smaller where memory was full."""
        self.values: dict[str, float] = {}
        """Each term's value where it was first pulled, without coefficient."""

    @property
    def weights(self) -> dict[str, Tensor]:
        """The trained weights as they are, float32."""
        return {name: master.detach() for name, master in self._weights.masters.items()}

    def __call__(
        self, side: Side | None = None, *, at: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Return the gradient of the terms on one side, or of all; see `wrappers.protocols.Pull`.

        Raises:
            ResourceError: A single record does not fit in memory.
        """
        gradient, values = self._at(at, lambda: self._gradient(self._observer, self._coefs, side))
        self.values = values | self.values
        return gradient

    @property
    def shape(self) -> Shape:
        """What there is to know of the model."""
        return shape_of(self._observer.network)

    def latent(self, layer: int, *, radius: float, steps: int) -> dict[str, Tensor]:
        """Return the forget gradient while an adversary moves states after a block.

        Raises:
            ResourceError: A single record does not fit in memory.
        """
        adversary = Adversary(
            network=self._observer.network, layer=layer, radius=radius, steps=steps
        )
        observer = replace(self._observer, lower=None, push=adversary.push)
        gradient, values = self._gradient(observer, self._coefs, "forget")
        self.values = values | self.values
        return gradient

    def relearn(self, *, at: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Return the gradient of the mean NLL per token of the forget records.

        Raises:
            ResourceError: A single record does not fit in memory.
        """
        observer = replace(self._observer, terms=(_RELEARN,))
        return self._at(at, lambda: self._gradient(observer, {_RELEARN.name: 1.0}, None))[0]

    def curvature(self, seed: int) -> dict[str, Tensor]:
        """Return an estimate of the diagonal of the Gauss-Newton matrix of the step's mean NLL.

        Raises:
            ResourceError: A single record does not fit in memory.
        """
        terms = curvature_terms(seed)
        drawn = {t.name: self._observer.streams.drawn(t.streams[0], self._draw) for t in terms}
        counts = {name: sum(len(r.ids) - r.start for r in rows) for name, rows in drawn.items()}
        total = sum(counts.values())
        shares = {name: count / total for name, count in counts.items()}
        gradient, _ = self._gradient(replace(self._observer, terms=terms), shares, None)
        return {name: total * value.square() for name, value in gradient.items()}

    def _at(
        self,
        offset: Mapping[str, Tensor] | None,
        pulled: Callable[[], tuple[dict[str, Tensor], dict[str, float]]],
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Pull at an offset from the weights, which come back bit for bit."""
        if offset is None:
            return pulled()
        here = {name: weight.clone() for name, weight in self.weights.items()}
        self._weights.restore({n: w + offset[n] if n in offset else w for n, w in here.items()})
        try:
            return pulled()
        finally:
            self._weights.restore(here)

    def _gradient(
        self, observer: Observer, coefs: Mapping[str, float], side: Side | None
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Accumulate over micro-batches; if memory is full, start again in smaller parts."""
        team = self._team
        while True:
            values: dict[str, float] = {}
            part: Part | None = None  # one whose way back failed must not be held any longer
            parts = observer.step_loss(
                self._draw, coefs=coefs, tokens_per_pass=self.tokens_per_pass, side=side
            )
            try:
                while (part := team.within(lambda parts=parts: next(parts, None))) is not None:
                    team.backward(part.loss)
                    for name, value in part.values.items():
                        values[name] = values.get(name, 0.0) + value
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._take()
                self._shrink(error)
                continue
            return team.added_up(self._take(), values, self._weights.masters)

    def _take(self) -> dict[str, Tensor]:
        taken: dict[str, Tensor] = {}
        for name, master in self._weights.masters.items():
            if master.grad is not None:
                taken[name] = master.grad
                master.grad = None
        return taken

    def _shrink(self, error: BaseException) -> None:
        if self._team.root is not None:
            raise ResourceError(
                "out-of-memory",
                what=f"{self.tokens_per_pass} tokens in one pass do not fit in memory",
                why="the weights are spread over processes, which must all run the same passes",
                fix=f"halve --set train.tokens_per_pass={self.tokens_per_pass // 2}, and run again:"
                " it resumes",
            ) from error
        streams = self._observer.streams
        longest = max(len(record.ids) for record in (*streams.forget, *streams.retain))
        if self.tokens_per_pass <= longest:
            raise ResourceError(
                "out-of-memory",
                what=f"one record of {longest} tokens does not fit in memory",
                why="the batch was already reduced to a single record",
                fix="lower train.max_length or train.rank, or use a larger machine",
            ) from error
        self.tokens_per_pass = max(longest, self.tokens_per_pass // 2)
