"""Flags of `bench` and `tune` that run every run on a cluster."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from expunge.errors import UsageError

if TYPE_CHECKING:
    from expunge.benchmarking.sweep import Runner


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterFlags:
    """Where the runs of a matrix take place."""

    ray: Annotated[
        str | None,
        Parameter(
            show_default=False,
            env_var="EXPUNGE_RAY",
            help="address of a Ray cluster (auto, HOST:PORT, ray://HOST:PORT): one task a run",
        ),
    ] = None
    slurm: Annotated[
        str | None,
        Parameter(
            show_default=False,
            env_var="EXPUNGE_SLURM",
            help="partition of SLURM: one job a run, by submitit",
        ),
    ] = None
    run_cpus: Annotated[
        int, Parameter(env_var="EXPUNGE_RUN_CPUS", help="cores for each run on a cluster")
    ] = 1
    run_gpus: Annotated[
        int, Parameter(env_var="EXPUNGE_RUN_GPUS", help="GPUs for each run on a cluster")
    ] = 0
    run_hours: Annotated[
        float, Parameter(env_var="EXPUNGE_RUN_HOURS", help="time limit of a job of SLURM")
    ] = 24.0


def runner_of(flags: ClusterFlags | None) -> "AbstractContextManager[Runner | None]":
    """Return what runs the cells: Ray, SLURM, or None for this machine.

    Raises:
        UsageError: Two clusters were named, a run would get no core, or an extra is missing.
        InputError: The cluster does not answer.
    """
    if flags is None or (flags.ray is None and flags.slurm is None):
        return nullcontext()
    if flags.ray is not None and flags.slurm is not None:
        raise UsageError(
            "two-clusters",
            what="--ray and --slurm were both given",
            why="a run takes place on one cluster",
            fix="leave one of them out",
        )
    if flags.run_cpus < 1 or flags.run_gpus < 0 or flags.run_hours <= 0:
        raise UsageError(
            "invalid-value",
            what="--run-cpus, --run-gpus or --run-hours leaves a run nothing to run on",
            why="a run needs a core and some time",
            fix="set --run-cpus to 1 or more, --run-gpus to 0 or more, --run-hours above 0",
        )

    from expunge.benchmarking.cluster import RunResources, ray_runner, slurm_runner

    resources = RunResources(cpus=flags.run_cpus, gpus=flags.run_gpus, hours=flags.run_hours)
    if flags.ray is not None:
        return ray_runner(flags.ray, resources)
    assert flags.slurm is not None
    return nullcontext(slurm_runner(flags.slurm, resources))
