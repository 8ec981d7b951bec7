"""Results and settings of a benchmark, made by hand."""

from expunge.benchmarking.result import BenchResult, Cell, Machine, RunCost
from expunge.benchmarking.search_space import MLP, MethodParameters
from expunge.config.settings import Settings
from expunge.evals.results import Gate
from expunge.metrics.outcomes import Axis, Status

SHAPE = MethodParameters(4, 64, frozenset(MLP))


HERE = Machine(device="cpu", cpu="x", threads=1, versions={"expunge": "0"})


def tree(**others):
    request = {"goal": "removal", "forget": ("f.jsonl",), "gold": ("g0", "g1")}
    return Settings.model_validate({"model": "m", "request": request, **others}).model_dump(
        mode="json", exclude_none=True, exclude={"out"}
    )


def gate(axis, value, *, margin=0.1, name="", wide=0.0, status=Status.PASS):
    return Gate(
        axis=axis,
        name=name or f"{axis} gate",
        value=value,
        low=value - wide,
        high=value + wide,
        margin=margin,
        n=10,
        status=status,
    )


def row(cell, *, erased=0.0, lost=0.0, status="done", numbers=(), columns=None, **others):
    gates = (
        gate(Axis.FORGETTING, erased, wide=0.05),
        gate(Axis.ROBUSTNESS, 0.0, name="leak under int4"),
        gate(Axis.UTILITY, lost, wide=0.01),
    )
    return BenchResult(
        cell=cell,
        suite="tofu",
        status=status,
        ruling="PASS",
        gates=gates if status == "done" else (),
        numbers=tuple(numbers),
        columns=columns or {},
        cost=RunCost(seconds=1.0),
        machine=HERE,
        **others,
    )


def method(name, seed=0, **values):
    return Cell(kind="method", name=name, values=values, seed=seed)
