"""Sides of a benchmark that work in turns, each in a process of its own.

What one side has left in memory then neither helps the other nor stands in its way, and a noisy
minute of the machine meets both.
"""

import multiprocessing
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self


class Side:
    """One side; it waits until it is asked, and works alone then.

    Args:
        make: Builds what answers; imported by name in the other process, as are `given`.
        given: What `make` is called with.
    """

    def __init__(self, make: Callable[..., Callable[..., Any]], *given: object) -> None:
        spawned = multiprocessing.get_context("spawn")
        self._pipe, there = spawned.Pipe()
        self._process = spawned.Process(target=_serve, args=(there, make, given), daemon=True)
        self._process.start()
        there.close()

    def __call__(self, *asked: object) -> Any:  # noqa: ANN401 - what `make` built says
        """Ask, and wait for the answer."""
        self._pipe.send(asked)
        return self._pipe.recv()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._pipe.close()  # which ends it
        self._process.join()


def _serve(pipe: Any, make: Callable[..., Callable[..., Any]], given: tuple[object, ...]) -> None:  # noqa: ANN401 - a Connection is of another class on each system
    answer = make(*given)
    while True:
        try:
            asked = pipe.recv()
        except EOFError:
            return
        pipe.send(answer(*asked))
