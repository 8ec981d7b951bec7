"""What autograd keeps between the two ways through an operation of our own."""

from typing import Protocol

from torch import Tensor


class Context(Protocol):
    """The part that every such operation uses; those that keep more add it."""

    saved_tensors: tuple[Tensor, ...]
    needs_input_grad: tuple[bool, ...]

    def save_for_backward(self, *tensors: Tensor) -> None:
        """Keep tensors for the way back."""
        ...
