"""Looking at what a module puts out, and changing it."""

from collections.abc import Callable, Generator
from contextlib import contextmanager

from torch import Tensor, nn


@contextmanager
def hooked(module: nn.Module, change: Callable[[Tensor], Tensor | None]) -> Generator[None]:
    """Show a module's output to `change`, and replace it by what that returns, if anything."""

    def hook(_module: nn.Module, _inputs: object, output: Tensor | tuple[Tensor, ...]) -> object:
        if isinstance(output, Tensor):
            return change(output)
        changed = change(output[0])
        return None if changed is None else (changed, *output[1:])

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
