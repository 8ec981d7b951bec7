"""Blocks: how a method says which blocks of a model it works on."""

from expunge.errors import UsageError
from expunge.methods.terms import Shape


def block(shape: Shape, layer: int, default: int) -> int:
    """Return the block that a knob names; -1 stands for `default`.

    Raises:
        UsageError: The model has no such block.
    """
    chosen = default if layer == -1 else layer
    if not 0 <= chosen < shape.layers:
        raise UsageError(
            "no-such-layer",
            what=f"the model has no block {layer}",
            why=f"its blocks are 0 to {shape.layers - 1}",
            fix="choose one of these, or leave the layer out",
        )
    return chosen


def blocks(shape: Shape, text: str, default: tuple[int, ...]) -> tuple[int, ...]:
    """Return the blocks that a knob such as `10,20` names, ascending; empty stands for `default`.

    Raises:
        UsageError: No list of numbers, or the model has no such block.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not all(word.isdecimal() for word in words):
        raise UsageError(
            "no-such-layer",
            what=f"{text} is no list of blocks",
            why=f"blocks are numbers from 0 to {shape.layers - 1}",
            fix='separate them by commas: layers = "10,20"',
        )
    named = [block(shape, int(word), 0) for word in words]
    return tuple(sorted(set(named or default)))
