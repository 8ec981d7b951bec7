"""`expunge explain`: what a gate means, and what it came to in a run."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from expunge.cli.session import Given
from expunge.cli.settings import run_folder
from expunge.errors import InputError
from expunge.utils.console import Console


def explain(
    gate: Annotated[
        str | None, Parameter(help="name of a gate, such as 'residual memory'; none: list all")
    ] = None,
    run: Annotated[Path | None, Parameter(help="a run folder: also what the gate came to")] = None,
    /,
    *,
    session: Given,
) -> int:
    """Say what a gate measures, when it passes, and what a failure says."""
    from expunge.evals.plain_words import SUBJECTS
    from expunge.metrics.outcomes import Axis
    from expunge.reporting.gate_text import GATE_NAMES, RULE
    from expunge.reporting.gate_text import explain as explain_gate

    console = session.console
    if gate is None:
        texts = [explain_gate(name) for name in GATE_NAMES]
        for axis in Axis:
            console.line(axis.value, "")
            for text in (each for each in texts if each.axis is axis):
                console.note(f"{text.name}: {SUBJECTS.get(text.name, text.title)}")
        console.line("rule", RULE)
        console.line("attacks", "leak under ATTACK, recovery by ATTACK: `expunge attack --help`")
        console.event("gates", {"names": list(GATE_NAMES)})
        return 0
    text = explain_gate(gate)
    console.line(text.name, text.title)
    console.line("axis", text.axis.value)
    console.line("value", text.compares)
    if text.meaning:
        console.line("metric", f"{text.metric}: {text.meaning}")
    if text.attack:
        console.line("attack", text.attack)
    console.line("limit", text.limit)
    console.line("rule", RULE)
    console.line("failure", text.fails)
    console.event("gate", {"name": text.name, "axis": text.axis, "metric": text.metric})
    if run is not None:
        _show_in(run_folder(run, linked=True), text.name, console)
    return 0


def _show_in(run: Path, name: str, console: Console) -> None:
    """Say what a gate came to in a run.

    Raises:
        InputError: The run has no such gate.
    """
    from expunge.evals.plain_words import measured, plain
    from expunge.reporting.schema import read_results

    gates = [gate for gate in read_results(run).gates if gate.name == name]
    if not gates:
        raise InputError(
            "gate-not-in-run",
            what=f"{run} has no gate {name!r}",
            why="an audit judges what its level, its goal and its data allow",
            fix=f"see the gates of the run: expunge report {run} --open",
        )
    for gate in gates:
        console.line("here", f"{gate.status}: {measured(gate)}")
        if gate.reason:
            console.line("because", plain(gate.reason))
        if gate.needed is not None:
            console.line("settles", f"{gate.needed} more records")
        elif gate.settle:
            console.line("settles", gate.settle)
