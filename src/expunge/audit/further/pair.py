"""Two models that are compared on the same tokens, and may take turns in the same memory."""

from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

from torch import Tensor

from expunge.model.interpolate import interpolated
from expunge.model.network import Network


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """A model and the original; each is there only inside its own block."""

    other: Callable[[], AbstractContextManager[Network]]
    original: Callable[[], AbstractContextManager[Network]]

    @classmethod
    def beside(cls, other: Network, original: Network) -> "Pair":
        """Return a pair of which both are loaded."""
        return cls(other=lambda: nullcontext(other), original=lambda: nullcontext(original))

    @classmethod
    def swapped(cls, other: Network, original: Mapping[str, Tensor]) -> "Pair":
        """Return a pair in one network: the original's tensors are put in where they differ."""

        @contextmanager
        def seated() -> Generator[Network]:
            with interpolated(other, original, 0.0):
                yield other

        return cls(other=lambda: nullcontext(other), original=seated)
