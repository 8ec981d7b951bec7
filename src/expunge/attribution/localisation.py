"""Localisation: rank the parts of a model three ways, and test whether the ranking is worth it.

    window     w = round(share * blocks) neighbouring blocks, attention or MLP
    candidate  of each ranking, the window with the highest mean score
    control    the same number of blocks, drawn by lot, the same kind of part
    helps      damage(candidate) < each control, < half their mean, and < damage(all parts)

`expunge.attribution.masked_step` has the damage. Rankings: traced, patched
(`expunge.attribution.causal_trace`) and saliency (`expunge.attribution.saliency`). A window is what
`train.first_layer`, `train.last_layer` and `train.targets` can say. The retain records that the
saliency saw are not those that the damage is measured on.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from expunge.attribution.causal_trace import TracedRecord, TraceEffects, trace_effects
from expunge.attribution.masked_step import MaskedStep, SetLosses
from expunge.attribution.parts import KINDS, ModelPart, PartKind, part_matrices
from expunge.attribution.saliency import GradientSaliency, gradient_saliency, nll_gradient
from expunge.data.tokenization import Encoded
from expunge.models.transformer import Network
from expunge.utils.console import Console

SHARE = 0.2
"""Share of the blocks that a window has."""
CONTROLS = 8
"""Random masks of each kind of part."""
FEWEST = 3
"""Controls without which nothing is said to help."""
_CLEAR = 0.5
"""Largest share of the controls' mean damage that a candidate may have."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskTrial:
    """A mask and what forgetting in it costs."""

    name: str
    """The ranking that chose it, `random` or `all`."""
    kind: PartKind | None
    """None: both."""
    blocks: tuple[int, ...]
    damage: float | None
    """Nats that the retain loss rises per nat of the forget loss; None: it cannot forget enough."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Localisation:
    """Scores of all parts, and the test."""

    effects: TraceEffects | None
    """None where no record is a question."""
    saliency: GradientSaliency
    before: SetLosses
    candidates: tuple[MaskTrial, ...]
    controls: tuple[MaskTrial, ...]
    everything: MaskTrial

    @property
    def rankings(self) -> dict[str, Mapping[ModelPart, float]]:
        """Scores of all parts by the name of the ranking."""
        return _rankings(self.effects, self.saliency)

    def control(self, kind: PartKind) -> tuple[float, ...]:
        """Return the damages of the random masks, those that cannot forget enough left out."""
        own = [each.damage for each in self.controls if each.kind == kind]
        return tuple(damage for damage in own if damage is not None)

    def helps(self, trial: MaskTrial) -> bool:
        """Tell whether a candidate is clearly better than random masks, and better than all."""
        if trial.damage is None or trial.kind is None:
            return False
        random, whole = self.control(trial.kind), self.everything.damage
        if len(random) < FEWEST or (whole is not None and trial.damage >= whole):
            return False
        return trial.damage < min(random) and trial.damage < _CLEAR * statistics.fmean(random)

    @property
    def best(self) -> MaskTrial | None:
        """The candidate that helps most; None: localisation does not help."""
        able = [each for each in self.candidates if self.helps(each)]
        return min(able, key=lambda each: each.damage or 0.0, default=None)


def best_window(
    scores: Mapping[ModelPart, float], *, width: int, kind: PartKind
) -> tuple[tuple[int, ...], float] | None:
    """Return the blocks of the window with the highest mean score, and that score.

    Example:
        >>> scores = {ModelPart(block, "mlp"): float(block == 2) for block in range(4)}
        >>> best_window(scores, width=1, kind="mlp")
        ((2,), 1.0)
    """
    blocks = sorted(part.block for part in scores if part.kind == kind)
    windows = [tuple(blocks[i : i + width]) for i in range(len(blocks) - width + 1)]
    found = [
        (window, statistics.fmean(scores[ModelPart(block, kind)] for block in window))
        for window in windows
    ]
    return max(found, key=lambda each: each[1], default=None)


def localised(
    network: Network,
    *,
    traced: Sequence[TracedRecord],
    forget: Sequence[Encoded],
    retain: Sequence[Encoded],
    pad_id: int,
    seed: int,
    console: Console,
) -> Localisation:
    """Rank all parts of a model, and test the best window of each ranking.

    Args:
        network: The model, in float32.
        traced: Questions of the forget set with their subjects; none: nothing is traced.
        forget: All records of the forget set, their facts scored.
        retain: What stays: every second one is for the saliency, the others for the damage.
        pad_id: Any token id.
        seed: Of the noise and the random masks.
        console: Where to say how far it is.
    """
    weights = part_matrices(network)
    effects = None
    if traced:
        with console.progress("trace", total=len(traced), unit="records") as bar:
            effects = trace_effects(network, traced, pad_id=pad_id, seed=seed, done=bar.advance)
    slopes = nll_gradient(network, forget, weights, pad_id=pad_id)
    other = nll_gradient(network, retain[::2], weights, pad_id=pad_id)
    saliency = gradient_saliency(slopes, other)
    step = MaskedStep(network=network, forget=forget, retain=retain[1::2], pad_id=pad_id)
    before = step.losses()
    width = max(1, round(SHARE * len(network.layers)))
    rankings = _rankings(effects, saliency)
    masks = [_candidate(name, scores, width) for name, scores in rankings.items()]
    random = _random_masks(masks, weights, width, seed)
    everything = _Mask("all", None, tuple(range(len(network.layers))))
    trials: list[MaskTrial] = []
    with console.progress("test", total=len(masks) + len(random) + 1, unit="masks") as bar:
        for mask in (*masks, *random, everything):
            chosen = [part for part in weights if mask.holds(part)]
            moved = [(weights[part][n], slopes[part][n]) for part in chosen for n in weights[part]]
            damage = step.damage([w for w, _ in moved], [s for _, s in moved], before)
            trials.append(
                MaskTrial(name=mask.name, kind=mask.kind, blocks=mask.blocks, damage=damage)
            )
            bar.advance()
    return Localisation(
        effects=effects,
        saliency=saliency,
        before=before,
        candidates=tuple(trials[: len(masks)]),
        controls=tuple(trials[len(masks) : -1]),
        everything=trials[-1],
    )


def _rankings(
    effects: TraceEffects | None, saliency: GradientSaliency
) -> dict[str, Mapping[ModelPart, float]]:
    traced = {} if effects is None else {"traced": effects.traced, "patched": effects.patched}
    return {**traced, "saliency": saliency.parts}


class _Mask(NamedTuple):
    """Parts of one kind, or of both, in some blocks."""

    name: str
    kind: PartKind | None
    blocks: tuple[int, ...]

    def holds(self, part: ModelPart) -> bool:
        """Tell whether a part may move."""
        return part.block in self.blocks and self.kind in (None, part.kind)


def _candidate(name: str, scores: Mapping[ModelPart, float], width: int) -> _Mask:
    """Return the better of the best window of attention and that of MLPs."""
    able: dict[PartKind, tuple[tuple[int, ...], float]] = {}
    for kind in KINDS:
        window = best_window(scores, width=width, kind=kind)
        if window is not None:
            able[kind] = window
    best = max(able, key=lambda each: able[each][1])
    return _Mask(name, best, able[best][0])


def _random_masks(
    masks: Sequence[_Mask], weights: Mapping[ModelPart, object], width: int, seed: int
) -> list[_Mask]:
    """Draw blocks by lot, no choice twice, and none that a ranking made."""
    generator = torch.Generator().manual_seed(seed)
    taken = {(mask.kind, mask.blocks) for mask in masks}
    found: list[_Mask] = []
    for kind in KINDS:
        blocks = sorted(part.block for part in weights if part.kind == kind)
        draws = (torch.randperm(len(blocks), generator=generator) for _ in range(CONTROLS))
        choices = {tuple(sorted(blocks[int(i)] for i in drawn[:width])) for drawn in draws}
        if any(mask.kind == kind for mask in masks):
            own = [each for each in sorted(choices) if (kind, each) not in taken]
            found += [_Mask("random", kind, each) for each in own]
    return found
