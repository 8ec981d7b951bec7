"""Derivation: how the weights of one model came from those of another, from the tensors alone.

    d = W_judged - W_audited         e = W_partner - W_audited        over all tensors
    distance = |d| / |W_audited|     ratio = <d, e> / <e, e>
    merged: |d - ratio e|^2 <= 0.1 |d|^2 + rounding, for the partner that explains most of d
    where rounding is larger than d: |W_judged - round(W_audited + ratio e)|^2 <= 0.1 |d|^2

Merging by (1 - t) audited + t partner (task arithmetic, arXiv:2212.04089) has ratio t. A partner
that nobody names cannot be found: such a merge reads as a fine-tune.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

UNEXPLAINED = 0.1
"""Largest share of |d|^2 that a merge may leave unexplained, beside rounding."""
EXPLAINED = 0.5
"""Smallest share that it must explain, however much rounding adds."""
RELATED = 0.5
"""Largest distance of a fine-tune; two models trained apart have about 1.4."""
ADAPTER_ENERGY = 0.9
"""Least share of |d|^2 that an adapter's rank must hold, however much rounding adds."""
LEFT = 0.001
"""Share of |d|^2 that it may leave beside rounding."""
WHOLE = 0.95
"""Share of a partner from which on nothing of the audited weights is left to speak of."""
EXACT = 0.01
"""Rounding over |d|^2 from which on least squares reads too small a share."""
LARGEST_RANK = 64
SAMPLED = 4
"""Matrices of which the rank is computed: those that changed most."""
ROWS = 64
"""Rows of a matrix of which values are counted, or a share is computed."""
HALVINGS = 12
"""Steps that find the share of a merge: it is known to 1 / 4096."""
FEW_VALUES = 256
"""Most different values in a row of weights rounded to 8 bits."""


class Change(StrEnum):
    """What was done to a model's weights."""

    NONE = "none"
    ROUNDED = "rounded"
    QUANTISED = "quantised"
    PRUNED = "pruned"
    MERGED = "merged"
    ADAPTED = "adapter merged in"
    FINE_TUNED = "fine-tuned"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True, slots=True)
class Derivation:
    """How a model came from an audited one."""

    change: Change
    distance: float
    """|d| / |W_audited|; infinite where names or shapes differ."""
    partner: str = ""
    """Of a merge: the other model."""
    ratio: float | None = None
    """Of a merge: the partner's share."""
    detail: str = ""

    def text(self) -> str:
        """Return it as words.

        Example:
            >>> Derivation(change=Change.MERGED, distance=0.1, partner="org/a", ratio=0.2).text()
            'merged with org/a, whose share is 20%'
        """
        if self.change is Change.MERGED and self.ratio is not None:
            if self.ratio >= WHOLE:
                return f"{self.partner} itself, or made from it: its share is {self.ratio:.0%}"
            return f"merged with {self.partner}, whose share is {self.ratio:.0%}"
        return f"{self.change.value}{f': {self.detail}' if self.detail else ''}"


def derivation(
    judged: Mapping[str, Tensor],
    audited: Mapping[str, Tensor],
    partners: Mapping[str, Mapping[str, Tensor]] | None = None,
) -> Derivation:
    """Say how the weights of a model came from audited ones.

    Args:
        judged: Tensors by name.
        audited: Those of the model that was audited.
        partners: By name, models that could have been merged in: the original, siblings.

    Returns:
        The first that fits: none, rounded, pruned, quantised, merged, an adapter, fine-tuned.

    Example:
        >>> audited = {"w": torch.tensor([[1.0, 2.0]])}
        >>> derivation({"w": torch.tensor([[1.0, 0.0]])}, audited).text()
        'pruned: 50% of the weights are zero now'
    """
    if differing := _other_shapes(judged, audited):
        return Derivation(change=Change.UNKNOWN, distance=float("inf"), detail=differing)
    distance = (_square(judged, audited) / max(_square(audited), 1e-30)) ** 0.5
    if distance == 0:
        return Derivation(change=Change.NONE, distance=0.0)
    if (named := _rounded(judged, audited)) is not None:
        return Derivation(change=Change.ROUNDED, distance=distance, detail=named)
    if (zeros := _pruned(judged, audited)) is not None:
        detail = f"{zeros:.0%} of the weights are zero now"
        return Derivation(change=Change.PRUNED, distance=distance, detail=detail)
    if distance <= RELATED and _few_values(judged, audited):
        return Derivation(change=Change.QUANTISED, distance=distance)
    if (merge := _merged(judged, audited, partners or {})) is not None:
        partner, ratio = merge
        return Derivation(change=Change.MERGED, distance=distance, partner=partner, ratio=ratio)
    if distance > RELATED:
        detail = "trained apart from the audited model, as far as the tensors tell"
        return Derivation(change=Change.UNKNOWN, distance=distance, detail=detail)
    if (rank := _rank(judged, audited)) is not None:
        detail = f"rank {rank}"
        return Derivation(change=Change.ADAPTED, distance=distance, detail=detail)
    return Derivation(change=Change.FINE_TUNED, distance=distance)


def _other_shapes(judged: Mapping[str, Tensor], audited: Mapping[str, Tensor]) -> str:
    if judged.keys() != audited.keys():
        return "its tensors have other names"
    others = [name for name, value in judged.items() if value.shape != audited[name].shape]
    return f"{len(others)} tensors have other shapes" if others else ""


def _pairs(
    judged: Mapping[str, Tensor], audited: Mapping[str, Tensor]
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield the tensors of both in float32, one pair at a time: whole copies would not fit."""
    for name, value in audited.items():
        yield name, judged[name].float(), value.float()


def _square(judged: Mapping[str, Tensor], audited: Mapping[str, Tensor] | None = None) -> float:
    if audited is None:
        return sum(float(value.float().square().sum()) for value in judged.values())
    return sum(float((new - old).square().sum()) for _, new, old in _pairs(judged, audited))


def _rounded(judged: Mapping[str, Tensor], audited: Mapping[str, Tensor]) -> str | None:
    """Return the number format that the audited weights were rounded to; None: they were not."""
    for kind in (torch.bfloat16, torch.float16):
        if all(torch.equal(new, old.to(kind).float()) for _, new, old in _pairs(judged, audited)):
            return str(kind).removeprefix("torch.")
    return None


def _pruned(judged: Mapping[str, Tensor], audited: Mapping[str, Tensor]) -> float | None:
    """Return the share of weights that became zero, where all others stayed."""
    zeros = count = 0
    for _, new, old in _pairs(judged, audited):
        gone = (new == 0) & (old != 0)
        if not torch.equal(torch.where(gone, old, new), old):
            return None
        zeros += int(gone.sum())
        count += new.numel()
    return zeros / count


def _few_values(judged: Mapping[str, Tensor], audited: Mapping[str, Tensor]) -> bool:
    """Tell whether rows of most changed matrices have as few values as 8 bits or less give."""
    found: list[bool] = []
    for _, new, old in _pairs(judged, audited):
        if new.dim() == 2 and not torch.equal(new, old):
            after, before = _values(new[:ROWS]), _values(old[:ROWS])
            found.append(after <= min(FEW_VALUES, 0.7 * before))
    return sum(found) > len(found) / 2


def _values(rows: Tensor) -> float:
    """Return the mean number of different values in a row, [r, n]."""
    ordered = rows.sort(dim=1).values  # [r, n]
    return float((ordered[:, 1:] != ordered[:, :-1]).sum(dim=1).float().mean()) + 1


def _merged(
    judged: Mapping[str, Tensor],
    audited: Mapping[str, Tensor],
    partners: Mapping[str, Mapping[str, Tensor]],
) -> tuple[str, float] | None:
    """Return the partner that explains most of the change, and its share."""
    found: list[tuple[float, str, float]] = []
    for partner, weights in partners.items():
        if _other_shapes(weights, audited):
            continue
        dd = de = ee = rounding = 0.0
        for name, new, old in _pairs(judged, audited):
            change, way = new - old, weights[name].float() - old
            dd += float(change.square().sum())
            de += float((change * way).sum())
            ee += float(way.square().sum())
            rounding += _rounding(new, judged[name].dtype)
        if ee == 0 or de <= 0:
            continue
        explained, ratio = de * de / (dd * ee), de / ee
        fits = explained >= max(EXPLAINED, 1 - UNEXPLAINED - rounding / dd) and rounding <= dd
        if rounding > EXACT * dd:
            ratio = _rounded_ratio(judged, audited, weights)
        if not fits:
            left = sum(
                float((new - _merge(old, weights[name], ratio, judged[name].dtype)).square().sum())
                for name, new, old in _pairs(judged, audited)
            )
            explained = 1 - left / dd
        if fits or explained >= 1 - UNEXPLAINED:
            found.append((explained, partner, ratio))
    if not found:
        return None
    _, partner, ratio = max(found)
    return partner, ratio


def _rounding(weights: Tensor, kind: torch.dtype) -> float:
    """Return what |d|^2 is where weights differ by the rounding of a number format alone.

    A value is off by at most half a step, and by the variance of that on average.
    """
    return torch.finfo(kind).eps ** 2 / 12 * float(weights.square().sum())


def _merge(audited: Tensor, partner: Tensor, ratio: float, kind: torch.dtype) -> Tensor:
    """Return a merge of two tensors as a file of a number format holds it, in float32."""
    return torch.lerp(audited.float(), partner.float(), ratio).to(kind).float()


def _rounded_ratio(
    judged: Mapping[str, Tensor], audited: Mapping[str, Tensor], partner: Mapping[str, Tensor]
) -> float:
    """Return the share of a partner, from a merge of which rounding took a large part.

    Steps smaller than half the distance of two numbers are lost, so that least squares reads too
    little. The sum of the way gone, sign(e) round(W_audited + ratio e), rises with the ratio: the
    one that reaches the judged weights is found by bisection, on the first rows of each tensor.
    """
    rows = [
        (new[:ROWS], old[:ROWS], partner[name][:ROWS].float(), judged[name].dtype)
        for name, new, old in _pairs(judged, audited)
        if new.dim() > 0
    ]
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        ratio = (low + high) / 2
        ahead = sum(
            float(((other - old).sign() * (_merge(old, other, ratio, kind) - new)).sum())
            for new, old, other, kind in rows
        )
        low, high = (low, ratio) if ahead > 0 else (ratio, high)
    return (low + high) / 2


def _rank(judged: Mapping[str, Tensor], audited: Mapping[str, Tensor]) -> int | None:
    """Return the rank of what was added; None where it is no adapter's."""
    changes = [
        (new - old, _rounding(new, judged[name].dtype))
        for name, new, old in _pairs(judged, audited)
        if new.dim() == 2 and not torch.equal(new, old)
    ]
    largest = sorted(changes, key=lambda pair: -float(pair[0].square().mean()))[:SAMPLED]
    ranks: list[int] = []
    for change, rounding in largest:
        energy = torch.linalg.svdvals(change).square()
        held = energy.cumsum(0) / energy.sum()
        needed = max(ADAPTER_ENERGY, 1 - LEFT - 2 * rounding / float(energy.sum()))
        ranks.append(int((held < needed).sum()) + 1)
        if ranks[-1] > min(LARGEST_RANK, min(change.shape) // 4):
            return None
    return max(ranks, default=None)
