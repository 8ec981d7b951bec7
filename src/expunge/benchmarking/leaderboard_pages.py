"""The pages of a leaderboard: Markdown, and one HTML file that asks no network."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from expunge.benchmarking.leaderboard import (
    Leaderboard,
    LeaderboardRow,
    ParetoPoint,
    Related,
    leaderboard,
    over_seeds,
)
from expunge.benchmarking.protocol import Protocol
from expunge.benchmarking.result import AT_MARGIN, ERASED, KEPT, Machine, weakest
from expunge.benchmarking.search_space import CHOSEN_FILE as CHOSEN
from expunge.evals.results import Score
from expunge.metrics.outcomes import Axis
from expunge.metrics.statistics import Estimate
from expunge.reporting import plots
from expunge.utils.io import printable, write_json, write_text

NONE = "–"  # noqa: RUF001 - a dash that stands for nothing
MARKS = "* on the Pareto front; ~ not parted from it by the data."
AGAIN = """To try one again, delete its folder below `cells` and repeat the command; one that was
killed by a signal is tried again in any case."""
FOLDS = """### Fold after fold

Erased and kept are those of each run's own audit, against the model that it started from."""
_HERE = Path(__file__).parent
_STYLE = _HERE.parent / "reporting" / "style.css"


def write_pages(matrix: Path) -> tuple[Path, ...]:
    """Write `leaderboard` as JSON, Markdown and HTML into a matrix, and what was chosen.

    Returns:
        Their paths.

    Raises:
        InputError: There is no matrix, or a row of another version.
    """
    found = leaderboard(matrix)
    shown = row_table(found)
    data, text, page = (matrix / f"leaderboard.{kind}" for kind in ("json", "md", "html"))
    write_json(data, shown)
    write_text(text, f"# {shown['title']}\n\n{to_markdown(shown)}")
    write_text(page, to_html(shown, drawing=drawing(found)))
    taken = matrix / CHOSEN
    write_json(taken, {line.name: dict(line.rows[0].cell.values) for line in _methods(found)})
    return data, text, page, taken


def row_table(found: Leaderboard) -> dict[str, Any]:
    """Return everything on the pages as JSON values; `docs/results.md` is made from them."""
    return {
        "title": title(found),
        "sentences": sentences(found),
        "standings": axis_table(found),
        "numbers": numbers(found),
        "series": over_folds(found),
        "chosen": chosen(found),
        "failures": [[row.cell.id, row.why] for row in found.failures],
    }


def to_markdown(shown: Mapping[str, Any]) -> str:
    """Return a sheet as Markdown, without its title."""
    parts = [*map(_plain, shown["sentences"]), _markdown_table(*shown["standings"]), MARKS]
    if shown["numbers"][1]:
        parts += ["### The suite's own numbers", _markdown_table(*shown["numbers"])]
    if shown["series"][1]:
        parts += [FOLDS, _markdown_table(*shown["series"])]
    parts += ["### Chosen settings", _markdown_table(*shown["chosen"])]
    if shown["failures"]:
        failed = [f"- `{_plain(name)}`: {_plain(why)}" for name, why in shown["failures"]]
        parts += ["### Failures", "\n".join(failed), AGAIN]
    return "\n\n".join(parts) + "\n"


def to_html(shown: Mapping[str, Any], *, drawing: str) -> str:
    """Return a sheet as one HTML page.

    Args:
        shown: The sheet.
        drawing: The front as SVG; empty where no model could be placed.
    """
    made = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return made.get_template("leaderboard.html.j2").render(
        shown,
        marks=MARKS,
        again=AGAIN.replace("`", ""),
        style=Markup(_STYLE.read_text(encoding="utf-8")),
        drawing=Markup(drawing),
    )


def drawing(found: Leaderboard) -> str:
    """Return the front: what each model erased against what it kept."""
    places = [_plotted(line, line.at) for line in found.lines if line.at is not None]
    if not places:
        return ""
    return plots.frontier(
        tuple(places),
        kept="kept (weaker of utility, locality)",
        forgotten="erased (weakest of three)",
    )


def title(found: Leaderboard) -> str:
    """Return the heading."""
    spec = found.protocol.suite
    name = "own request" if spec is None else " ".join(filter(None, (spec.name, spec.part)))
    return f"Leaderboard: {name}"


def sentences(found: Leaderboard) -> list[str]:
    """Say what was done, by which rule methods were chosen, and what the table cannot say."""
    machines = {_hardware(machine) for line in found.lines for machine in _machines(line)}
    where = "; ".join(sorted(machines))
    versions = {
        f"{n} {v}" for line in found.lines for m in _machines(line) for n, v in m.versions.items()
    }
    floor = f"{found.protocol.floor:g}"
    if found.protocol.floor == AT_MARGIN:
        floor += " (all preservation gates at their margins)"
    lines = [
        _budget(found.protocol),
        *_chosen(found.protocol.trials, floor),
        "Each axis runs from 0 to 1 (gold is 1 on the first three); brackets are one-sided 95 % "
        "bounds on each side, the widest over seeds. The weakest axis ranks, where it is equal the "
        "next.",
        f"On the Pareto front of erased and kept: {_listed(found.on_front)}. Not on it, but no "
        f"other method is surely better: {_listed(found.near)}.",
        f"Measured on {where or 'nothing yet'}; {', '.join(sorted(versions))}.",
    ]
    lines += _below(found)
    if found.protocol.shared.request.assume_known:
        lines.append(
            "No model need know by heart what was forgotten. Forgetting and robustness are "
            "therefore read off the suite's own numbers: 1 - the share that is left of what the "
            "original reached above chance, where it surely did. The ruling is that of an audit of "
            "the records."
        )
    if any(line.relative for line in found.lines):
        lines.append(
            "Numbers against gold are means over seeds (of forget quality, a p-value, geometric "
            "ones); n is how many records of the model they rest on."
        )
    return [*lines, *(f"Note: {note}." for note in found.notes)]


def _below(found: Leaderboard) -> list[str]:
    """Say why some methods rank below the others, where there are such."""
    lines: list[str] = []
    covering = [line.name for line in found.lines if line.covers]
    if covering:
        lines.append(
            "Below the others and never on the front, because removal was requested and a guard or "
            f"an unmerged adapter leaves the weights unchanged: {_listed(covering)}."
        )
    if found.invalid:
        lines.append(
            f"INVALID, because the auditor failed its own test: "
            f"{_listed([row.cell.id for row in found.invalid])}. Numbers of such runs decide "
            "nothing: they are never chosen, and a method without others stands last."
        )
    return lines


def _budget(protocol: Protocol) -> str:
    count = protocol.trials
    if protocol.chosen is not None:
        return (
            "Every method ran with settings that were chosen before, in another matrix: the audit "
            "that is shown has not chosen them."
        )
    if not count:
        return "Settings were searched, with more trials where they paid."
    if count == 1:
        return "Every method ran with its defaults."
    return (
        f"Every method had the same tuning budget: {count} settings, its defaults first, the "
        "others drawn from one rule."
    )


def _chosen(count: int, floor: str) -> list[str]:
    if count == 1:
        return []
    return [
        "Shown is the setting that erased most among those that keep at least "
        f"{floor}, or else the one that kept most.",
        "The audit that is shown also chose the setting, so the best of several looks better than "
        "a new audit would find it; the more were tried, the more.",
    ]


def axis_table(found: Leaderboard) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of the table of axes, with one column per attack of robustness."""
    attacks = list(
        dict.fromkeys(
            gate.name
            for line in found.lines
            for row in line.rows
            for gate in row.gates
            if gate.axis is Axis.ROBUSTNESS and gate.value is not None
        )
    )
    head = [
        "model",
        "weakest",
        *(axis.value for axis in Axis),
        *attacks,
        "ruling",
        "seeds",
        "tried",
        "failed",
        "train s",
        "GiB",
    ]
    return head, [_axis_row(line, attacks, found) for line in found.lines]


def _axis_row(line: LeaderboardRow, attacks: Sequence[str], found: Leaderboard) -> list[str]:
    name = f"{line.name} *" if line.name in found.on_front else line.name
    name = f"{name} ~" if line.name in found.near else name
    under: list[str] = []
    for attack in attacks:
        values = [
            gate.value
            for row in line.rows
            for gate in row.gates
            if gate.name == attack and gate.value is not None
        ]
        under.append(f"{fmean(values):.2f}" if values else NONE)
    rulings = dict.fromkeys(row.ruling for row in line.rows if row.ruling)
    method = line.kind == "method"
    return [
        name,
        _shown(line.weakest),
        *(_shown(line.axes.get(axis)) for axis in Axis),
        *under,
        ", ".join(rulings) or NONE,
        str(len(line.rows)) if method else NONE,
        str(line.tried) if method else NONE,
        str(line.failed) if method else NONE,
        f"{fmean(row.cost.train_seconds for row in line.rows):.0f}" if line.rows else NONE,
        f"{max(row.cost.peak_gib for row in line.rows):.1f}" if line.rows else NONE,
    ]


def numbers(found: Leaderboard) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of the suite's own numbers, a row per number and a column per model."""
    shown = [line for line in found.lines if line.rows]
    keys = list(dict.fromkeys((s.metric, s.split) for line in shown for s in line.rows[0].numbers))
    rows: list[list[str]] = []
    for metric, probe in keys:
        cells: list[str] = []
        for line in shown:
            cells.append(_mean([row.number(metric, probe) for row in line.rows]))
        rows.append([f"{metric} {probe}", *cells])
    for name in dict.fromkeys(name for line in shown for name in line.relative):
        cells = [_related(line.relative.get(name)) for line in shown]
        rows.append([f"{name} (against gold)", *cells])
    return ["number", *(line.name for line in shown)], rows


def over_folds(found: Leaderboard) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of how methods do from fold to fold; no rows without a series.

    A row for each number and fold, the original's number before the first one, and the means over
    seeds.
    """
    original = next((line.rows[0] for line in found.lines if line.kind == "original"), None)
    shown = [line for line in found.lines if line.rows and line.rows[0].steps]
    folds = list(dict.fromkeys(step.name for line in shown for step in line.rows[0].steps))
    steps = {
        (line.name, fold): [step for row in line.rows for step in row.steps if step.name == fold]
        for line in shown
        for fold in folds
    }
    rows: list[list[str]] = []
    for side, axes in (("erased", ERASED), ("kept", KEPT)):
        for fold in folds:
            each = [over_seeds([s.axis_scores() for s in steps[line.name, fold]]) for line in shown]
            rows.append([side, fold, *(_shown(weakest(scores, axes)) for scores in each)])
    first = shown[0].rows[0].steps[0].numbers if shown else ()
    for metric, probe in [(score.metric, score.split) for score in first]:
        name = f"{metric} {probe}"
        if original is not None:
            rows.append(
                [name, "nothing", *([_mean([original.number(metric, probe)])] * len(shown))]
            )
        for fold in folds:
            cells = [
                _mean([step.number(metric, probe) for step in steps[line.name, fold]])
                for line in shown
            ]
            rows.append([name, fold, *cells])
    return ["number", "after", *(line.name for line in shown)], rows


def _related(found: Related | None) -> str:
    return NONE if found is None else f"{found.value:.3g} (n={found.n})"


def _mean(scores: Sequence[Score | None]) -> str:
    values = [score.value for score in scores if score is not None and score.value is not None]
    if values:
        return f"{fmean(values):.3f}"
    reasons = [score.reason for score in scores if score is not None and score.reason]
    return f"not computable: {reasons[0]}" if reasons else NONE


def chosen(found: Leaderboard) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of the settings that stand for each method."""
    rows: list[list[str]] = []
    for line in _methods(found):
        row = line.rows[0]
        values = ", ".join(f"{path} = {value}" for path, value in row.cell.values.items())
        steps = f"{row.cost.steps} steps, {row.cost.stopped}" if row.cost.steps else NONE
        rows.append([line.name, values or "the method's defaults", steps])
    return ["method", "settings", "training"], rows


def _methods(found: Leaderboard) -> list[LeaderboardRow]:
    """Return the methods of which settings were chosen."""
    return [
        line for line in found.lines if line.kind == "method" and line.rows and not line.invalid
    ]


def _machines(line: LeaderboardRow) -> list[Machine]:
    return [row.machine for row in line.rows]


def _hardware(machine: Machine) -> str:
    parts = (machine.device, machine.gpu, machine.processor, machine.cpu)
    threads = f"{machine.threads} thread{'s' * (machine.threads != 1)}"
    return ", ".join((*filter(None, parts), threads))


def _plotted(line: LeaderboardRow, at: ParetoPoint) -> plots.FrontierPoint:
    kind: plots.Kind = "unlearned"
    if line.kind == "original":
        kind = "original"
    elif line.kind == "gold":
        kind = "gold"
    return plots.FrontierPoint(
        label=line.name,
        kind=kind,
        kept=plots.PlottedInterval(value=at.kept.value, low=at.kept.low, high=at.kept.high),
        forgotten=plots.PlottedInterval(
            value=at.erased.value, low=at.erased.low, high=at.erased.high
        ),
    )


def _shown(estimate: Estimate | None) -> str:
    if estimate is None:
        return NONE
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _plain(text: str) -> str:
    """Return a text that is no HTML in Markdown, on one line; names come from files of others."""
    one = printable(" ".join(text.split())).replace("`", "'")
    return one.replace("&", "&amp;").replace("<", "&lt;")


def _markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(_plain(cell).replace('|', '/') for cell in cells)} |"

    return "\n".join([line(head), line(["---"] * len(head)), *(line(row) for row in rows)])
