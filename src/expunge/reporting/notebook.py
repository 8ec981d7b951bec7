"""The results of an audit as a data frame, and as the small table that a notebook shows."""

from dataclasses import asdict
from html import escape
from typing import TYPE_CHECKING, Literal

from expunge.errors import UsageError
from expunge.evals.results import Gate, Results
from expunge.metrics.outcomes import Axis, Status
from expunge.reporting.wording import number

if TYPE_CHECKING:
    from pandas import DataFrame

Rows = Literal["gates", "scores"]
"""What a data frame of results has a row for."""

_COLOURS = {
    Status.PASS: "#1a7f37",
    Status.FAIL: "#cf222e",
    Status.INCONCLUSIVE: "#9a6700",
    Status.SCAR: "#9a6700",
    Status.NOT_COMPUTABLE: "#6e7781",
}
_GATE_COLUMNS = (
    "axis",
    "name",
    "status",
    "value",
    "low",
    "high",
    "margin",
    "n",
    "threat",
    "reason",
)
_LONGEST_REASON = 160


def results_table(results: Results, rows: Rows = "gates") -> "DataFrame":
    """Return the gates, or the scores, of an audit as a pandas data frame.

    Args:
        results: What the audit concluded.
        rows: `gates`: one row a decision; `scores`: one row a number about one model.

    Raises:
        UsageError: `no-pandas`: pandas is not installed. `unknown-rows`: neither gates nor scores.
    """
    if rows not in ("gates", "scores"):
        raise UsageError(
            "unknown-rows",
            what=f"there is no table of {rows}",
            why="results have gates, which decide, and scores, which are numbers about one model",
            fix='use table("gates") or table("scores")',
        )
    try:
        from pandas import DataFrame
    except ImportError as error:
        raise UsageError(
            "no-pandas",
            what="a table is a pandas data frame, and pandas is not installed",
            why="expunge needs it for nothing else",
            fix="pip install pandas, or read outcome.results.gates, which are plain objects",
        ) from error
    if rows == "scores":
        return DataFrame([asdict(score) for score in results.scores])
    table = [asdict(gate) for gate in results.gates]
    named = [{column: row[column] for column in _GATE_COLUMNS} for row in table]
    return DataFrame(named, columns=list(_GATE_COLUMNS)).astype({"axis": str, "status": str})


def results_html(results: Results, *, folder: str) -> str:
    """Return the verdict and the gates by axis as a piece of HTML for a notebook.

    It is escaped throughout, holds no script and loads nothing.

    Args:
        results: What the audit concluded.
        folder: The run folder, shown below the table.
    """
    verdict = results.verdict
    provisional = ", provisional" if verdict.provisional else ""
    head = f"{verdict.ruling} ({verdict.threat_model}, {verdict.tier}{provisional})"
    rows = "".join(_axis_rows(axis, results) for axis in Axis)
    return (
        f'<div style="max-width:60em"><p><strong>{escape(head)}</strong><br>'
        f"{escape(verdict.sentence)}</p>"
        "<table><thead><tr><th>axis</th><th>gate</th><th>result</th><th>value</th>"
        f"<th>bounds</th><th>limit</th></tr></thead><tbody>{rows}</tbody></table>"
        f"<p><code>{escape(folder)}</code></p></div>"
    )


def _axis_rows(axis: Axis, results: Results) -> str:
    gates = results.of(axis)
    status = results.axes.get(axis)
    if not gates and status is None:
        return ""
    shown = "" if status is None else f": {status.value}"
    title = f'<th rowspan="{max(len(gates), 1)}" scope="rowgroup">{escape(axis.value + shown)}</th>'
    if not gates:
        return f'<tr>{title}<td colspan="5">no gate</td></tr>'
    first, *others = map(_cells, gates)
    return f"<tr>{title}{first}</tr>" + "".join(f"<tr>{cells}</tr>" for cells in others)


def _cells(gate: Gate) -> str:
    colour = _COLOURS[gate.status]
    result = f'<td style="color:{colour}">{escape(gate.status.value)}</td>'
    bounds = "" if gate.low is None else f"{number(gate.low)} to {_number(gate.high)}"
    if gate.value is None:
        return f'<td>{escape(gate.name)}</td>{result}<td colspan="3">{_reason(gate)}</td>'
    limit = number(gate.margin)
    return (
        f"<td>{escape(gate.name)}</td>{result}<td>{number(gate.value)}</td>"
        f"<td>{escape(bounds)}</td><td>{limit}</td>"
    )


def _number(value: float | None) -> str:
    return "" if value is None else number(value)


def _reason(gate: Gate) -> str:
    reason = gate.reason
    short = reason if len(reason) <= _LONGEST_REASON else f"{reason[: _LONGEST_REASON - 1]}…"
    return escape(short)
