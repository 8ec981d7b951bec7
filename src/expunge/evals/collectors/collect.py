"""Which further evidence is taken of which model."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from expunge.attacks.internals.activation_patching import collect_inside
from expunge.evals.collectors.choice_likelihoods import collect_options
from expunge.evals.collectors.drift import collect_divergence, collect_weights
from expunge.evals.collectors.membership_inputs import (
    collect_gradient,
    collect_lowercase,
    collect_rarity,
    collect_recall,
)
from expunge.evidence.collect import Collector
from expunge.models.interpolation import ModelPair
from expunge.models.transformer import Network

COMPARED = ("forget", "holdout", "control")
"""Sets between which membership is told."""

KEPT = ("retain", "generic")
"""Sets on which predictions should not have moved."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExtraEvidence:
    """Collects what goes beyond one pass and one answer, each unit that is not there yet."""

    collector: Collector
    deep: bool
    """Whether also to read texts in other ways, take gradients, and look inside the model."""

    def original(self, network: Network) -> None:
        """Take the further evidence of the original."""
        self._alone(network, "original", tuple(self.collector.records))
        if self.deep:
            for split in self._compared():
                collect_rarity(self.collector, split, vocabulary=network.vocabulary)
            collect_inside(self.collector, ModelPair.beside(network, network), "original")

    def gold(self, network: Network, original: Network, role: str, *, first: bool) -> None:
        """Take the further evidence of a gold; the first one also shows what retraining moves."""
        splits = tuple(self.collector.records) if first else self._compared()
        self._alone(network, role, splits)
        if first:
            self._beside(ModelPair.beside(network, original), role, same=alike(network, original))

    def unlearned(self, network: Network, original: Mapping[str, Tensor]) -> None:
        """Take the further evidence of the model that is judged.

        Args:
            network: The model; unchanged on return.
            original: The original's tensors, as far as they differ.
        """
        self._alone(network, "unlearned", tuple(self.collector.records))
        collect_weights(self.collector, network, original)
        self._beside(ModelPair.swapped(network, original), "unlearned", same=True)

    def _alone(self, network: Network, role: str, splits: tuple[str, ...]) -> None:
        for split in splits:
            collect_options(self.collector, network, role, split)
        if self.deep:
            for split in self._compared():
                collect_lowercase(self.collector, network, role, split)
                collect_recall(self.collector, network, role, split)
                collect_gradient(self.collector, network, role, split)

    def _beside(self, pair: ModelPair, role: str, *, same: bool) -> None:
        if not same:
            return
        for split in KEPT:
            collect_divergence(self.collector, pair, role, split)
        if self.deep:
            collect_inside(self.collector, pair, role)

    def _compared(self) -> tuple[str, ...]:
        return tuple(split for split in COMPARED if split in self.collector.records)


def alike(first: Network, second: Network) -> bool:
    """Tell whether two models have the same vocabulary, width and depth.

    Only then can predictions be compared token by token and states be exchanged.
    """
    shapes = [
        (each.vocabulary, len(each.layers), each.head.get_parameter("weight").shape[-1])
        for each in (first, second)
    ]
    return shapes[0] == shapes[1]
