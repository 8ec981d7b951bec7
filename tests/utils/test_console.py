"""The console: what people, programs and log files are shown."""

import io
import json
import re
import threading

import pytest

from expunge.cli.terminal import human_console, json_console, quiet_console
from expunge.utils.console import (
    Console,
    ProgressMeter,
    ProgressScreen,
    Screen,
    SilentConsole,
    aligned,
)


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


class SignsOfLife(Screen):
    """Tells a test that a heartbeat came."""

    def __init__(self):
        self.texts = []
        self.came = threading.Event()

    def beat(self, meter):
        self.texts.append(meter.text())
        self.came.set()


def events(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("label", "text", "width", "shown"),
    [
        ("model", "gpt2", 100, "model      gpt2"),
        ("neighbours", "12", 100, "neighbours 12"),
        ("explanation", "x", 100, "explanation x"),
        ("", "a remark", 100, "           a remark"),
        ("cost", "one two three", 19, "cost       one two\n           three"),
        ("cost", "one two three", None, "cost       one two three"),
        ("wrote", "/a/very-long/path", 20, "wrote      /a/very-long/path"),
        ("rows", "a\nb", 100, "rows       a\n           b"),
        ("empty", "", 100, "empty"),
    ],
)
def test_lines_are_aligned_and_wrapped(label, text, width, shown):
    assert aligned(label, text, width=width) == shown


def test_time_left_is_told_from_the_third_sample_on():
    clock = Clock()
    meter = ProgressMeter("train", total=10, unit="steps", clock=clock)
    left = []
    for _ in range(4):
        clock.now += 30
        meter.advance(detail="forget nll 4.9")
        left.append(meter.remaining)
    assert left == [None, None, 210.0, 180.0]
    assert meter.text() == "4/10 steps   forget nll 4.9   3:00 left"


def test_a_finished_phase_shows_the_time_it_took_and_hours_where_needed():
    clock = Clock()
    meter = ProgressMeter("train", total=3, unit="steps", clock=clock)
    for _ in range(3):
        clock.now += 1241
        meter.advance()
    assert meter.text() == "3/3 steps   1:02:03"


def test_human_lines_without_a_terminal_have_no_bar_and_no_codes():
    out, errors = io.StringIO(), io.StringIO()
    console = human_console(out=out, errors=errors)
    console.line("model", "gpt2")
    console.note("494 M params")
    console.warn("only 3 records")
    console.event("plan", {"steps": 3})
    with console.progress("train", total=2) as bar:
        bar.advance(detail="nll [bold]1.5")
        bar.advance()
    assert re.sub(r"\d:\d\d", "0:00", out.getvalue()) == (
        "model      gpt2\n           494 M params\ntrain      2/2 steps   nll [bold]1.5   0:00\n"
    )
    assert errors.getvalue() == "warning    only 3 records\n"


def test_a_terminal_has_one_live_region_even_when_phases_nest(monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setenv("NO_COLOR", "1")
    out = Terminal()
    console = human_console(out=out, errors=out)
    with console.progress("audit", total=1) as outer:
        with console.progress("score", total=4, unit="records") as inner:
            inner.advance(4, detail="model [0]")
            console.line("note", "said meanwhile")
            console.warn("and a warning")
        outer.advance()
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
    for text in (
        "note       said meanwhile\n",
        "warning    and a warning\n",
    ):
        assert text in plain
    # A busy machine may need seconds.
    assert re.search(r"score      4/4 records   model \[0\]   \d:\d\d\n", plain)
    assert re.search(r"audit      1/1 steps   \d:\d\d\n", plain)
    assert max(len(line) for line in re.split(r"[\r\n]", plain)) <= 100
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", out.getvalue()), "NO_COLOR forbids colour"


def test_json_events_are_on_stdout_and_text_is_on_stderr():
    out, errors = io.StringIO(), io.StringIO()
    console = json_console(out=out, errors=errors)
    console.line("model", "gpt2")
    console.warn("careful")
    console.event("score", {"metric": "rouge", "value": 0.5})
    with console.progress("train", total=3) as bar:
        for _ in range(3):
            bar.advance()
    shown = events(out)
    assert [row["event"] for row in shown] == ["note", "note", "score", "progress", "progress"]
    assert shown[0] == {"event": "note", "label": "model", "text": "gpt2"}
    assert shown[2] == {"event": "score", "metric": "rouge", "value": 0.5}
    assert (shown[3]["done"], shown[4]["done"], shown[4]["phase"]) == (0, 3, "train")
    assert errors.getvalue().startswith("model      gpt2\nwarning    careful\ntrain      3/3")


def test_json_events_refuse_not_a_number():
    with pytest.raises(ValueError, match="JSON compliant"):
        json_console(out=io.StringIO(), errors=io.StringIO()).event(
            "score", {"value": float("nan")}
        )


def test_quiet_shows_warnings_only():
    errors = io.StringIO()
    console = quiet_console(errors=errors)
    console.line("model", "gpt2")
    console.event("done", {})
    with console.progress("train", total=1) as bar:
        bar.advance()
    assert errors.getvalue() == ""
    console.warn("careful")
    assert errors.getvalue() == "warning    careful\n"


def test_a_function_is_told_how_far_a_phase_has_come():
    said = []
    console = Console(ProgressScreen(lambda update: said.append(str(update))))
    console.line("model", "gpt2")
    with console.progress("train", total=3, unit="steps") as bar:
        bar.advance(2, detail="loss 1.5")
    assert said == ["train      0/3 steps   0:00", "train      2/3 steps   loss 1.5   0:00"]


def test_an_error_of_that_function_ends_the_phase():
    def stop(update):
        if update.done:
            raise RuntimeError("enough")

    console = Console(ProgressScreen(stop))
    with pytest.raises(RuntimeError, match="enough"), console.progress("train", total=3) as bar:
        bar.advance()


def test_a_phase_that_hangs_still_gives_signs_of_life(tmp_path):
    screen = SignsOfLife()
    console = Console(screen, heartbeat=0.001)
    console.log_to(tmp_path / "log.txt")
    with console.progress("load", total=5) as bar:
        bar.advance(2)
        screen.came.clear()  # a sign that came before says nothing of the two steps
        assert screen.came.wait(timeout=10)
    assert screen.texts[-1].startswith("2/5 steps")
    assert "load       2/5 steps" in (tmp_path / "log.txt").read_text()


def test_a_phase_that_fails_is_closed_and_the_error_passes():
    out = io.StringIO()
    console = human_console(out=out, errors=out)

    def fails_in_the_middle():
        with console.progress("train", total=2) as bar:
            bar.advance()
            raise KeyError

    before = threading.active_count()
    with pytest.raises(KeyError):
        fails_in_the_middle()
    assert out.getvalue().startswith("train      1/2 steps")
    assert threading.active_count() == before


def test_a_silent_console_still_keeps_the_log(tmp_path, capfd):
    console = SilentConsole()
    console.line("before", "not logged")
    console.log_to(tmp_path / "run" / "log.txt")
    console.line("model", "gpt2")
    console.warn("careful")
    lines = (tmp_path / "run" / "log.txt").read_text().splitlines()
    assert [re.sub(r"^\S+\+00:00  ", "", line) for line in lines] == [
        "model      gpt2",
        "warning    careful",
    ]
    assert capfd.readouterr() == ("", "")
