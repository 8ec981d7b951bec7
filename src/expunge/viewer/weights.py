"""How far two runs moved the weights of a model: by block, by module, by tensor."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_IN_BLOCK = re.compile(r"(?:^|\.)(\d+)\.(.+)$")
_EXPERT = re.compile(r"\.\d+(?=\.|$)")
_OUTSIDE = "outside the blocks"

Changes = Mapping[str, float]
"""Tensor to the size of its change, relative to the original's; unchanged tensors are left out."""
_Place = tuple[int, str]
"""Block, -1 outside of them, and module."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LargestChange:
    """The largest change of a group of tensors in one run."""

    size: float
    """Relative to the original's tensor; 0 where none of the group changed."""
    where: str = ""
    """Which of the group that is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChangedGroup:
    """A group of tensors in two runs; None where a run compared no weights."""

    name: str
    first: LargestChange | None
    second: LargestChange | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparedWeights:
    """The changes of the weights in two runs; without rows where neither compared them."""

    blocks: tuple[ChangedGroup, ...]
    modules: tuple[ChangedGroup, ...]
    tensors: tuple[ChangedGroup, ...]
    most: float
    """The largest change of all."""
    known: bool
    """Whether one of the two compared its weights with the original's at all."""


def compared_weights(first: Changes | None, second: Changes | None) -> ComparedWeights:
    """Return the changes of the weights of two runs side by side.

    Args:
        first: Those of the first run; None where it did not compare its weights.
        second: Those of the second.

    Example:
        >>> first = {"model.layers.0.mlp.up_proj.weight": 0.2, "model.norm.weight": 0.01}
        >>> [(row.name, row.first.size, row.second) for row in compared_weights(first, None).blocks]
        [('block 0', 0.2, None), ('outside the blocks', 0.01, None)]
    """
    sides = [None if each is None else _placed(each) for each in (first, second)]
    every = sorted({place for side in sides for place in side or ()}, key=_order)

    def rows(
        group: Callable[[_Place], str], where: Callable[[_Place], str]
    ) -> tuple[ChangedGroup, ...]:
        names = dict.fromkeys(group(place) for place in every)
        found: list[ChangedGroup] = []
        for name in names:
            own = [place for place in every if group(place) == name]
            one, other = (None if side is None else _largest(side, own, where) for side in sides)
            found.append(ChangedGroup(name=name, first=one, second=other))
        return tuple(found)

    return ComparedWeights(
        blocks=rows(_block, lambda place: place[1]),
        modules=rows(lambda place: place[1], _block),
        tensors=rows(lambda place: f"{_block(place)}: {place[1]}", lambda _: ""),
        known=first is not None or second is not None,
        most=max((size for side in sides for size in (side or {}).values()), default=0.0),
    )


def _placed(changes: Changes) -> dict[_Place, float]:
    """Return the largest change of each module by block: experts of a block are one module."""
    found: dict[_Place, float] = {}
    for name, size in changes.items():
        place = _place(name)
        found[place] = max(size, found.get(place, 0.0))
    return found


def _place(name: str) -> _Place:
    name = name.removesuffix(".weight")
    inside = _IN_BLOCK.search(name)
    if inside is None:
        return -1, name
    return int(inside[1]), _EXPERT.sub("", inside[2])


def _order(place: _Place) -> tuple[bool, int, str]:
    block, module = place
    return block < 0, block, module


def _block(place: _Place) -> str:
    return _OUTSIDE if place[0] < 0 else f"block {place[0]}"


def _largest(
    side: Mapping[_Place, float], places: list[_Place], where: Callable[[_Place], str]
) -> LargestChange:
    found = [place for place in places if side.get(place)]
    if not found:
        return LargestChange(size=0.0)
    most = max(found, key=lambda place: side[place])
    return LargestChange(size=side[most], where=where(most))
