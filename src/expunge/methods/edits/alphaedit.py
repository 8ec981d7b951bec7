"""AlphaEdit: rewrite facts where retained keys do not reach (arXiv:2410.02355, arXiv:2210.07229).

    1. goal     z_i = h_L + delta_i at the last token of the subject, after the last edited block L:
                delta_i minimises NLL(alternative answer) + decay (|delta| / |h_L|)^2
    2. per block l of the edited ones, ascending, with K [n, k] the keys there and
                R = (z - h_L) / (number of blocks left), both at the subjects:
                W_l <- W_l + R^T (K P K^T + ridge I)^-1 K P

Keys are inputs of the second MLP matrix W_l. P projects to the directions in which the keys of all
retain tokens have next to no energy, so that W_l maps retain keys as before. The answer that the
facts get is the request's alternative, or a refusal.

Differs from published code: P comes from the retain records, not from 100k texts of Wikipedia, and
keeps directions that together hold the share `nullspace` of the keys' energy, where the code cuts
eigenvalues at 0.02, a number that fits one model; ridge is in units of the mean |k|^2, and lr of
the size of the states, for the same reason. Goals have no KL term. Facts of one request are solved
for together.
"""

from dataclasses import dataclass
from typing import ClassVar

from expunge.methods.base import MLP_OUT, Shape, Stream, Trains
from expunge.methods.edits.base import Bench, Passes
from expunge.methods.edits.closed_form import Search, goal_change, null_space, rewriting
from expunge.methods.hidden_states import blocks


@dataclass(frozen=True, kw_only=True, slots=True)
class AlphaEdit:
    """Write another answer over each fact, in the null space of what is retained."""

    family: ClassVar[str] = "edit"
    advice: ClassVar[str] = "single facts with a subject in the question; needs much retain text"
    streams: ClassVar[tuple[Stream, ...]] = (Stream.ALTERNATIVE,)

    layers: str = ""
    """Blocks, separated by commas; empty: 4/32 to 8/32 of the way up."""
    steps: int = 25
    lr: float = 0.5
    decay: float = 0.5
    clamp: float = 0.75
    """Largest |delta| in units of |h|."""
    nullspace: float = 0.02
    ridge: float = 0.01

    def trains(self, shape: Shape) -> Trains | None:
        """Change the second MLP matrix of the blocks."""
        layers = self._layers(shape)
        return Trains(modules=MLP_OUT, first_layer=layers[0], last_layer=layers[-1])

    def passes(self) -> Passes:
        """The steps to the goals, two forward passes per block, and one over retain."""
        layers = 5
        return Passes(forget=self.steps + 0.7 * layers, retain=0.4 * layers)

    def apply(self, bench: Bench) -> None:
        """Find the goals, then move the blocks towards them one after the other."""
        layers = self._layers(bench.shape)
        top = layers[-1]
        start = bench.states(Stream.FORGET, top, "subject")
        how = Search(steps=self.steps, lr=self.lr, decay=self.decay, clamp=self.clamp)
        with bench.stage(0.0, 0.5):
            goal = start + goal_change(bench, top, start, how)
        with bench.stage(0.5, 1.0):
            for done, layer in enumerate(layers):
                bench.progress(done / len(layers), f"block {layer}")
                keys = bench.keys(Stream.FORGET, layer, "subject")
                left = goal - bench.states(Stream.FORGET, top, "subject")
                second = bench.key_moments(Stream.RETAIN, layer, "all").second
                projector = null_space(second, self.nullspace)
                wanted = left / (len(layers) - done)
                bench.output(layer).add_(rewriting(keys, wanted, projector, self.ridge))

    def _layers(self, shape: Shape) -> tuple[int, ...]:
        low, high = shape.layers * 4 // 32, shape.layers * 8 // 32
        return blocks(shape, self.layers, tuple(range(low, high + 1)))
