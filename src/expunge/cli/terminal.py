"""The screens of the command line: for people, for programs, and none."""

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TextIO

from expunge.utils.console import LABEL_WIDTH, Console, ProgressMeter, Screen, aligned

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

WIDEST = 100
"""Columns; a wider terminal is not used further, for lines that wide are hard to read."""


def human_console(*, out: TextIO | None = None, errors: TextIO | None = None) -> Console:
    """Return a console for people.

    Args:
        out: Where lines go; default stdout. A terminal gets a live region.
        errors: Where warnings go; default stderr.
    """
    target = sys.stdout if out is None else out
    return Console(_HumanScreen(target, errors or sys.stderr, live=target.isatty()))


def json_console(*, out: TextIO | None = None, errors: TextIO | None = None) -> Console:
    """Return a console that writes JSON Lines to `out` (stdout) and text to `errors` (stderr)."""
    return Console(_JsonScreen(out or sys.stdout, errors or sys.stderr))


def quiet_console(*, errors: TextIO | None = None) -> Console:
    """Return a console that shows warnings only, on `errors` (stderr)."""
    return Console(_QuietScreen(errors or sys.stderr))


def confirmed(question: str) -> bool:
    """Ask a question on the terminal and tell whether the answer is yes; without one it is no."""
    if not sys.stdin.isatty():
        return False
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def chosen(title: str, options: Sequence[str]) -> int | None:
    """Ask on the terminal for one of several options, from 1; None without terminal or answer."""
    if not sys.stdin.isatty():
        return None
    lines = [f"  {number}  {text}\n" for number, text in enumerate(options, start=1)]
    sys.stderr.write(f"{title}:\n{''.join(lines)}which one? [1-{len(options)}] ")
    sys.stderr.flush()
    said = sys.stdin.readline().strip()
    return int(said) if said.isdecimal() and 1 <= int(said) <= len(options) else None


class _QuietScreen(Screen):
    """Shows warnings only."""

    def __init__(self, errors: TextIO) -> None:
        self._errors = errors

    def warn(self, text: str) -> None:
        _put(self._errors, aligned("warning", text, width=WIDEST))


class _HumanScreen(Screen):
    """Aligned lines; on a terminal one live region below them."""

    def __init__(self, out: TextIO, errors: TextIO, *, live: bool) -> None:
        self._out = out
        self._errors = errors
        self._live = live
        self._width = min(shutil.get_terminal_size().columns, WIDEST) if live else WIDEST
        self._region: Progress | None = None
        self._tasks: dict[int, TaskID] = {}

    def line(self, label: str, text: str) -> None:
        self._show(self._out, aligned(label, text, width=self._width))

    def warn(self, text: str) -> None:
        self._show(self._errors, aligned("warning", text, width=self._width))

    def begin(self, meter: ProgressMeter) -> None:
        if not self._live:
            return
        if self._region is None:
            self._region = _live_region(self._out, self._width)
            self._region.start()
        self._tasks[id(meter)] = self._region.add_task(
            f"{meter.label} ".ljust(LABEL_WIDTH), total=meter.total, text=meter.text()
        )

    def moved(self, meter: ProgressMeter) -> None:
        if self._region is not None:
            self._region.update(self._tasks[id(meter)], completed=meter.done, text=meter.text())

    def beat(self, meter: ProgressMeter) -> None:
        if self._region is None:
            self.line(meter.label, meter.text())
        else:
            self.moved(meter)

    def end(self, meter: ProgressMeter) -> None:
        if self._region is not None:
            self._region.remove_task(self._tasks.pop(id(meter)))
            if not self._tasks:
                self._region.stop()
                self._region = None
        self.line(meter.label, meter.text())

    def _show(self, stream: TextIO, text: str) -> None:
        if self._region is None:
            _put(stream, text)
        else:
            self._region.console.print(text, markup=False, highlight=False, soft_wrap=True)


class _JsonScreen(Screen):
    """Events on stdout, at most one of a phase's a second; the same text on stderr."""

    def __init__(self, out: TextIO, errors: TextIO) -> None:
        self._out = out
        self._text = _HumanScreen(errors, errors, live=False)
        self._shown: dict[int, float] = {}

    def line(self, label: str, text: str) -> None:
        self.event("note", {"label": label, "text": text})
        self._text.line(label, text)

    def warn(self, text: str) -> None:
        self.event("note", {"label": "warning", "text": text})
        self._text.warn(text)

    def event(self, kind: str, payload: Mapping[str, object]) -> None:
        row = {"event": kind, **payload}
        _put(self._out, json.dumps(row, ensure_ascii=False, allow_nan=False, default=str))

    def begin(self, meter: ProgressMeter) -> None:
        self._shown[id(meter)] = meter.elapsed
        self.event("progress", meter.to_dict())

    def moved(self, meter: ProgressMeter) -> None:
        if meter.elapsed - self._shown[id(meter)] >= 1.0:
            self._shown[id(meter)] = meter.elapsed
            self.event("progress", meter.to_dict())

    def beat(self, meter: ProgressMeter) -> None:
        self.event("progress", meter.to_dict())

    def end(self, meter: ProgressMeter) -> None:
        del self._shown[id(meter)]
        self.event("progress", meter.to_dict())
        self._text.end(meter)


def _live_region(out: TextIO, width: int) -> "Progress":
    from rich.console import Console as RichConsole
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        SpinnerColumn("line"),
        TextColumn("{task.fields[text]}", markup=False),
        console=RichConsole(file=out, width=width, no_color=bool(os.environ.get("NO_COLOR"))),
        transient=True,
        refresh_per_second=4,
    )


def _put(stream: TextIO, text: str) -> None:
    stream.write(text + "\n")
    stream.flush()
