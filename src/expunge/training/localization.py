"""Where a set of records lives in the weights: statistics of gradients, taken once at the original.

Two things are made of them before the first step: the mask of weights that may move, and the
importance of rows from which FILA starts an adapter. Both are kept beside the checkpoints, so that
a resumed run has the same ones bit for bit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from expunge.errors import UsageError
from expunge.methods.base import Likelihood, Side, Stream
from expunge.methods.retain_losses import nll
from expunge.models.lora import LoraShape, adaptable, by_output
from expunge.models.transformer import Network
from expunge.optim.base import Mask
from expunge.training.early_stopping import spread
from expunge.training.forward import TermEvaluator
from expunge.training.reference_model import precompute
from expunge.training.sampler import BatchIndices, Streams
from expunge.training.step_gradient import StepGradient
from expunge.training.trainable_weights import TrainableWeights, adapted
from expunge.utils.io import atomic

RECORDS = 256
"""Largest number of records of a set whose gradients are taken."""
_RIDGE = 1e-5


@dataclass(frozen=True, kw_only=True, slots=True)
class Localiser:
    """Takes gradients of the mean NLL per token of the forget and the retain set."""

    network: Network
    streams: Streams
    pad_id: int
    tokens_per_pass: int
    folder: Path
    """Where results are kept."""

    def mask(self, choose: Mask, weights: TrainableWeights, *, seed: int) -> dict[str, Tensor]:
        """Return the weights that may move, boolean, by name.

        Raises:
            UsageError: None may move.
        """

        def make() -> dict[str, Tensor]:
            kept = choose.keep(
                {name: master.detach() for name, master in weights.masters.items()},
                self._gradient(weights, "forget"),
                self._gradient(weights, "retain"),
                torch.Generator().manual_seed(seed),
            )
            if not any(bool(tensor.any()) for tensor in kept.values()):
                raise UsageError(
                    "empty-mask",
                    what="the mask leaves no weight that may move",
                    why="no weight of this model passes its thresholds on these records",
                    fix="lower its thresholds in [mask]",
                )
            return kept

        return self._kept("mask.safetensors", make)

    def importance(self, shape: LoraShape) -> dict[str, Tensor]:
        """Return the importance of each output of the layers that an adapter would correct.

            F(w) = sum_i n_i g_i(w)^2 / sum_i n_i       g_i: slope of the mean NLL of record i
            importance of row j = sqrt( sum over w in row j of F_f(w) / (F_r(w) + 1e-5) )

        n_i is the number of scored tokens of record i. The rows of one layer are scaled to mean
        square one: only their ratio matters for what is chosen, and so A and B come out of similar
        size (FILA, arXiv:2408.06621, card E5; published code takes F over batches, not records).
        """

        def make() -> dict[str, Tensor]:
            weights = adapted(self.network, shape)
            forget, retain = self._fisher(weights, "forget"), self._fisher(weights, "retain")
            rows: dict[str, Tensor] = {}
            for name, layer in adaptable(self.network, shape).items():
                ratio = forget[f"{name}.weight"] / (retain[f"{name}.weight"] + _RIDGE)
                row = by_output(layer, ratio).sum(1).sqrt()
                size = row.square().mean().sqrt()
                rows[name] = row / size if size > 0 else torch.ones_like(row)
            return rows

        return self._kept("importance.safetensors", make)

    def _gradient(self, weights: TrainableWeights, side: Side) -> dict[str, Tensor]:
        records = len(self._sample().forget if side == "forget" else self._sample().retain)
        return self._pull(weights, side, range(records))(side)

    def _fisher(self, weights: TrainableWeights, side: Side) -> dict[str, Tensor]:
        sample = self._sample().forget if side == "forget" else self._sample().retain
        total = {name: torch.zeros_like(master) for name, master in weights.masters.items()}
        tokens = sum(len(record.ids) - record.start for record in sample)
        for index, record in enumerate(sample):
            share = (len(record.ids) - record.start) / tokens
            for name, slope in self._pull(weights, side, [index])(side).items():
                total[name].addcmul_(slope, slope, value=share)
        return total

    def _sample(self) -> Streams:
        return Streams(
            forget=spread(self.streams.forget, RECORDS), retain=spread(self.streams.retain, RECORDS)
        )

    def _pull(self, weights: TrainableWeights, side: Side, indices: Sequence[int]) -> StepGradient:
        stream = Stream.FORGET if side == "forget" else Stream.RETAIN
        term = Likelihood(name=side, streams=(stream,), coef=1.0, per="token", loss=nll)
        chosen = tuple(indices)
        references = precompute(
            self.network, (term,), {}, pad_id=self.pad_id, tokens_per_pass=self.tokens_per_pass
        )
        return StepGradient(
            TermEvaluator(
                network=self.network,
                terms=(term,),
                streams=self._sample(),
                references=references,
                pad_id=self.pad_id,
            ),
            weights,
            BatchIndices(
                forget=chosen if side == "forget" else (), retain=chosen if side == "retain" else ()
            ),
            coefs={side: 1.0},
            tokens_per_pass=self.tokens_per_pass,
        )

    def _kept(self, name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Compute once, then read: gradients on a GPU are not the same bits every time."""
        path = self.folder / name
        if not path.is_file():
            with atomic(path) as file:
                file.write(safetensors_bytes(make()))
        device = self.network.device
        return {key: value.to(device) for key, value in load_file(path).items()}
