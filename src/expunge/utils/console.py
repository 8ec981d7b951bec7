"""The console: the only part of expunge that writes to the terminal.

Functions that take long get a `Console` and say what they do through it. The library's own default
is `SilentConsole`; the command line picks a screen by `--format`:

- human: aligned lines, one live region on a terminal, a heartbeat every ten seconds elsewhere;
- json: one JSON object a line on stdout, the human text on stderr;
- quiet: warnings only, on stderr.
"""

import textwrap
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from expunge.utils.io import printable

LABEL_WIDTH = 11
HEARTBEAT_SECONDS = 10.0
_SAMPLES_FOR_ETA = 3


class ProgressMeter:
    """How far one phase has come: done of total, what the last step said, time left.

    Args:
        label: Name of the phase, one word.
        total: Number of units the phase has.
        unit: What is counted, plural.
        clock: Monotonic seconds.
    """

    def __init__(
        self, label: str, *, total: int, unit: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.label = label
        self.total = total
        self.unit = unit
        self.done = 0
        self.detail = ""
        self.values: Mapping[str, float] = {}
        self._samples = 0
        self._clock = clock
        self._started = clock()

    def advance(
        self, count: int = 1, *, detail: str = "", values: Mapping[str, float] | None = None
    ) -> None:
        """Count `count` more units done.

        Args:
            count: Number of units.
            detail: Replaces the text to the right.
            values: The numbers of this step; those of the step before are dropped.
        """
        self.done += count
        self._samples += 1
        self.detail = detail or self.detail
        self.values = values or {}

    @property
    def elapsed(self) -> float:
        """Seconds since the phase began."""
        return self._clock() - self._started

    @property
    def remaining(self) -> float | None:
        """Estimated seconds left; None before three samples or when nothing is known."""
        if self._samples < _SAMPLES_FOR_ETA or not self.done:
            return None
        return self.elapsed / self.done * max(self.total - self.done, 0)

    def text(self) -> str:
        """One line: `104/168 steps   forget nll 4.9   4:12 left`."""
        return self.update().text

    def update(self) -> "ProgressUpdate":
        """The same as a value that does not change; seconds are rounded to tenths."""
        left = self.remaining
        return ProgressUpdate(
            phase=self.label,
            done=self.done,
            total=self.total,
            unit=self.unit,
            detail=self.detail,
            values=dict(self.values),
            elapsed_s=round(self.elapsed, 1),
            remaining_s=None if left is None else round(left, 1),
        )

    def to_dict(self) -> dict[str, object]:
        """The same as data, for JSON events."""
        return asdict(self.update())


@dataclass(frozen=True, kw_only=True, slots=True)
class ProgressUpdate:
    """How far one phase of a run has come.

    Example:
        >>> update = ProgressUpdate(
        ...     phase="train", done=3, total=40, unit="steps", elapsed_s=6.0, remaining_s=74.0
        ... )
        >>> print(update)
        train      3/40 steps   1:14 left
    """

    phase: str
    """Name of the phase, one word: `before`, `train`, `after` and so on."""
    done: int
    total: int
    unit: str
    """What is counted, plural."""
    detail: str = ""
    """What the last step said, such as `loss 2.31`."""
    values: Mapping[str, float] = field(default_factory=dict[str, float])
    """The numbers of the last step, such as `loss` and `gradient_norm`; empty where it has none."""
    elapsed_s: float = 0.0
    remaining_s: float | None = None
    """Estimated seconds left; None where nothing is known yet."""

    @property
    def text(self) -> str:
        """The line that a terminal shows, without the phase."""
        clock = (
            f"{_minutes(self.remaining_s)} left" if self.remaining_s else _minutes(self.elapsed_s)
        )
        parts = (f"{self.done}/{self.total} {self.unit}", self.detail, clock)
        return "   ".join(part for part in parts if part)

    def __str__(self) -> str:
        """Return phase and text in one line, so that `progress=print` works."""
        return aligned(self.phase, self.text, width=None)


class Screen:
    """How a console shows things: this one, not at all. Called under the console's lock."""

    def line(self, label: str, text: str) -> None:
        """Show one aligned `label    text` line."""

    def warn(self, text: str) -> None:
        """Show a warning."""

    def event(self, kind: str, payload: Mapping[str, object]) -> None:
        """Show a result as data, where the screen shows data."""

    def begin(self, meter: ProgressMeter) -> None:
        """A phase begins."""

    def moved(self, meter: ProgressMeter) -> None:
        """A phase has advanced."""

    def beat(self, meter: ProgressMeter) -> None:
        """Ten seconds have passed within a phase."""

    def end(self, meter: ProgressMeter) -> None:
        """A phase is over, well or not."""


class ProgressScreen(Screen):
    """Calls a function when a phase begins, advances and ends; shows nothing else.

    Args:
        report: The function. An exception of it ends the run, which the same call resumes.
    """

    def __init__(self, report: Callable[[ProgressUpdate], None]) -> None:
        self._report = report

    def begin(self, meter: ProgressMeter) -> None:
        """Report the phase with nothing done."""
        self._report(meter.update())

    def moved(self, meter: ProgressMeter) -> None:
        """Report a step."""
        self._report(meter.update())


class Bar:
    """The handle of one running phase."""

    def __init__(
        self, meter: ProgressMeter, screens: Sequence[Screen], lock: threading.RLock
    ) -> None:
        self._meter = meter
        self._screens = screens
        self._lock = lock

    def advance(
        self, count: int = 1, *, detail: str = "", values: Mapping[str, float] | None = None
    ) -> None:
        """Count `count` more units done; the arguments are those of `ProgressMeter.advance`."""
        with self._lock:
            self._meter.advance(count, detail=detail, values=values)
            for screen in self._screens:
                screen.moved(self._meter)

    def extend(self, count: int) -> None:
        """Expect `count` more units than were known before."""
        with self._lock:
            self._meter.total += count


class Console:
    """Says what happens, on one screen and, once `log_to` was called, in one log file.

    Args:
        screen: Where things are shown.
        heartbeat: Seconds between signs of life within a phase.
        clock: Monotonic seconds, for estimates of the time left.
    """

    def __init__(
        self,
        screen: Screen,
        *,
        heartbeat: float = HEARTBEAT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._screens: tuple[Screen, ...] = (screen,)
        self._heartbeat = heartbeat
        self._clock = clock
        self._log: Path | None = None
        self._mask: Callable[[str], str] = str
        self._lock = threading.RLock()  # a screen may warn of itself

    @contextmanager
    def also(self, screen: Screen) -> Generator[None]:
        """Show everything on a second screen as well, for as long as the block runs."""
        before = self._screens
        with self._lock:
            self._screens = (*before, screen)
        try:
            yield
        finally:
            with self._lock:
                self._screens = before

    def log_to(self, path: Path, *, mask: Callable[[str], str] = str) -> None:
        """Append every following line to the text file `path`, with the time in UTC.

        Record texts must never be passed to a console: the log leaves the machine with the run.

        Args:
            path: The file.
            mask: Hides in a line what the file must not hold, such as names in ids and paths.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._log, self._mask = path, mask

    def end_log(self) -> None:
        """Write no more lines to the log file: from now on its digest stands."""
        with self._lock:
            self._log = None

    def line(self, label: str, text: str) -> None:
        """Say one fact: `label` is one word, `text` follows in an aligned column."""
        with self._lock:
            self._write_log(label, text)
            for screen in self._screens:
                screen.line(label, text)

    def note(self, text: str) -> None:
        """Say one remark that belongs to the line before."""
        self.line("", text)

    def warn(self, text: str) -> None:
        """Warn: the run goes on, but the user should know."""
        with self._lock:
            self._write_log("warning", text)
            for screen in self._screens:
                screen.warn(text)

    def event(self, kind: str, payload: Mapping[str, object]) -> None:
        """Say a result as data: one JSON object a line with `--format json`, else nothing.

        Args:
            kind: `plan`, `score`, `verdict`, `done` and so on.
            payload: JSON values; paths and enumerations become strings.
        """
        with self._lock:
            for screen in self._screens:
                screen.event(kind, payload)

    @contextmanager
    def progress(self, label: str, *, total: int, unit: str = "steps") -> Generator[Bar]:
        """Show how far a phase has come, for as long as the block runs; phases may nest.

        Args:
            label: Name of the phase, one word.
            total: Number of units.
            unit: What is counted, plural.
        """
        meter = ProgressMeter(label, total=total, unit=unit, clock=self._clock)
        screens = self._screens  # a phase ends on the screens that it began on
        stop = threading.Event()

        def beat() -> None:
            while not stop.wait(self._heartbeat):
                with self._lock:
                    self._write_log(label, meter.text())
                    for screen in screens:
                        screen.beat(meter)

        pulse = threading.Thread(target=beat, daemon=True)
        with self._lock:
            for screen in screens:
                screen.begin(meter)
        pulse.start()
        try:
            yield Bar(meter, screens, self._lock)
        finally:
            stop.set()
            pulse.join()
            with self._lock:
                for screen in screens:
                    screen.end(meter)
                self._write_log(label, meter.text())

    def _write_log(self, label: str, text: str) -> None:
        if self._log is None:
            return
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with self._log.open("a", encoding="utf-8") as file:
            file.write(f"{now}  {aligned(label, self._mask(text), width=None)}\n")


class SilentConsole(Console):
    """A console without a screen: the default of the Python API. `log_to` still works."""

    def __init__(self) -> None:
        super().__init__(Screen())


def aligned(label: str, text: str, *, width: int | None) -> str:
    """Return `label`, padded, then `text`, wrapped to `width` columns under its own start.

    Control characters, which ids and names of files may hold, are spelled out.
    """
    lines = printable(text).split("\n")
    if width is not None:
        wrapped = (
            textwrap.wrap(line, width - LABEL_WIDTH, break_long_words=False, break_on_hyphens=False)
            for line in lines
        )
        lines = [part for parts in wrapped for part in parts or [""]]
    head = f"{label} ".ljust(LABEL_WIDTH)
    indent = " " * LABEL_WIDTH
    return "\n".join(
        f"{indent if i else head}{line}".rstrip() for i, line in enumerate(lines or [""])
    )


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
