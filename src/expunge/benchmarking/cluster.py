"""Runs of a matrix on a cluster: every run is a task of Ray, or a job of SLURM by submitit.

What is dealt out, started again and stopped is the work of these two. A run claims its cell, goes
on from its checkpoints and writes its row, as it does under `--shard`: rows are the same. The
original runs first, then the golds. A run whose machine is lost is tried again by Ray; when it is
lost for good it is a row that failed, with which the next command goes on.
"""

import os
import socket
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from shutil import which
from typing import Any

from expunge.benchmarking.cluster_task import VARIABLES, CellTask, run_task
from expunge.benchmarking.job import failed
from expunge.benchmarking.protocol import Protocol
from expunge.benchmarking.result import (
    BenchResult,
    Cell,
    cell_folder,
    lay_out,
    read_row,
    write_row,
)
from expunge.benchmarking.sweep import Runner, claimed
from expunge.errors import ExpungeError, InputError, UsageError

RETRIES = 3
"""How often Ray starts a run again whose process or machine was lost."""
_SECONDS = 5.0
"""To find out whether a cluster answers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunResources:
    """What one run may use of a machine.

    Example:
        >>> RunResources(gpus=1).cpus
        1
    """

    cpus: int = 1
    gpus: int = 0
    hours: float = 24.0
    """Time limit of a job of SLURM; at its end the job is queued again and goes on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RayRunner(Runner):
    """Runs cells as tasks of the Ray cluster that this process is connected to."""

    resources: RunResources

    def run(
        self, matrix: Path, protocol: Protocol, cells: Iterable[Cell], *, at_once: int | None
    ) -> Iterator[tuple[Cell, BenchResult | None]]:
        """Run cells and yield each with its row as it ends."""
        import ray  # type: ignore[reportMissingImports]

        # One process a run: what a run has changed in its process ends with it.
        start = ray.remote(
            num_cpus=self.resources.cpus,
            num_gpus=self.resources.gpus,
            max_calls=1,
            max_retries=RETRIES,
        )(run_task)
        began = time.monotonic()
        queue, running = iter(cells), dict[Any, Cell]()
        try:
            while True:
                room = None if at_once is None else min(at_once, self._slots()) - len(running)
                for cell in islice(queue, room):
                    running[start.remote(_task(matrix, cell))] = cell
                if not running:
                    return
                (ended,), _ = ray.wait(list(running), num_returns=1)
                cell = running.pop(ended)
                yield cell, _row(matrix, protocol, cell, partial(ray.get, ended), began)
        finally:
            for task in running:
                ray.cancel(task, force=True)

    def _slots(self) -> int:
        """Return how many runs the cluster has room for, at least one: it may still grow."""
        import ray  # type: ignore[reportMissingImports]

        there = ray.cluster_resources()
        slots = there.get("CPU", 0) / self.resources.cpus
        if self.resources.gpus:
            slots = min(slots, there.get("GPU", 0) / self.resources.gpus)
        return max(1, int(slots))


@dataclass(frozen=True, kw_only=True, slots=True)
class SlurmRunner(Runner):
    """Runs cells as jobs of SLURM."""

    resources: RunResources
    partition: str
    cluster: str = "slurm"
    """What submitit starts jobs on; `local` for processes of this machine."""

    def run(
        self, matrix: Path, protocol: Protocol, cells: Iterable[Cell], *, at_once: int | None
    ) -> Iterator[tuple[Cell, BenchResult | None]]:
        """Run cells and yield each with its row as it ends."""
        from submitit.helpers import as_completed  # type: ignore[reportMissingImports]

        executor = self._executor(matrix.resolve() / "slurm")
        began = time.monotonic()
        queue, running = iter(cells), list[tuple[Any, Cell]]()
        try:
            while True:
                room = None if at_once is None else at_once - len(running)
                new = list(islice(queue, room))
                if new:
                    with executor.batch():  # one array of jobs
                        jobs = [executor.submit(_task(matrix, cell)) for cell in new]
                    running += zip(jobs, new, strict=True)
                if not running:
                    return
                ended = next(as_completed([job for job, _ in running], poll_frequency=2))
                cell = next(cell for job, cell in running if job is ended)
                running = [pair for pair in running if pair[0] is not ended]
                yield cell, _row(matrix, protocol, cell, ended.result, began)
        finally:
            for job, _ in running:
                job.cancel()

    def _executor(self, folder: Path) -> Any:  # noqa: ANN401 - submitit need not be installed
        import submitit  # type: ignore[reportMissingImports]

        executor = submitit.AutoExecutor(folder=folder, cluster=self.cluster)
        executor.update_parameters(
            name="expunge",
            timeout_min=int(60 * self.resources.hours),
            cpus_per_task=self.resources.cpus,
            gpus_per_node=self.resources.gpus,
            slurm_partition=self.partition,
        )
        return executor


@contextmanager
def ray_runner(address: str, resources: RunResources) -> Generator[RayRunner]:
    """Connect to a Ray cluster for as long as the block runs.

    Args:
        address: As `ray.init` has it: `auto`, `HOST:PORT`, or `ray://HOST:PORT`.
        resources: What one run may use.

    Raises:
        UsageError: Ray is not installed.
        InputError: No cluster answers there.
    """
    _require("ray", "--ray")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray  # type: ignore[reportMissingImports]

    _require_answer(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise _no_cluster(address, str(error)) from error
    try:
        yield RayRunner(resources=resources)
    finally:
        ray.shutdown()


def slurm_runner(partition: str, resources: RunResources) -> SlurmRunner:
    """Return what runs cells on a partition of SLURM.

    Raises:
        UsageError: submitit is not installed.
        InputError: This machine submits no jobs.
    """
    _require("submitit", "--slurm")
    if which("sbatch") is None:
        raise InputError(
            "no-slurm",
            what="there is no sbatch on this machine",
            why="--slurm submits every run as a job of SLURM",
            fix="run the command on a login node, or leave --slurm out",
        )
    return SlurmRunner(resources=resources, partition=partition)


def _task(matrix: Path, cell: Cell) -> CellTask:
    lay_out(matrix, cell)
    given = {name: value for name, value in os.environ.items() if name.startswith(VARIABLES)}
    return CellTask(
        matrix=str(matrix),
        cell=cell.id,
        folder=str(Path.cwd()),
        variables=tuple(given.items()),
    )


def _row(
    matrix: Path,
    protocol: Protocol,
    cell: Cell,
    result: Callable[[], ExpungeError | None],
    began: float,
) -> BenchResult | None:
    """Return the row of a task that has ended; one that was lost is a row that failed.

    Raises:
        ExpungeError: What stands in the way of the whole matrix.
    """
    try:
        error = result()
    except Exception as lost:
        why = f"{type(lost).__name__}: {' '.join(str(lost).split())[:200]}"

        def written(_: object) -> BenchResult:
            row = failed(protocol, cell, f"its task was lost: {why}", began=began)
            row = replace(row, killed=True)
            write_row(cell_folder(matrix, cell), row)
            return row

        return claimed(matrix, cell, written)
    if error is not None:
        raise error
    return read_row(cell_folder(matrix, cell))


def _require(module: str, flag: str) -> None:
    if find_spec(module) is None:
        extra = {"submitit": "slurm"}.get(module, module)
        raise UsageError(
            f"no-{module}",
            what=f"{flag} needs {module}, which is not installed",
            why="it is an extra: most runs do not need it",
            fix=f"pip install 'expunge[{extra}]'",
        )


def _require_answer(address: str) -> None:
    """Refuse an address where nobody answers: Ray itself would wait for it for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon:
        return
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS):
            return
    except (OSError, ValueError, OverflowError) as error:
        raise _no_cluster(address, str(error)) from error


def _no_cluster(address: str, why: str) -> InputError:
    return InputError(
        "no-ray-cluster",
        what=f"no Ray cluster answers at {address}",
        why=" ".join(why.split())[:200],
        fix="start one (`ray start --head`) and give its address, or leave --ray out",
    )
