"""Running the cells of a matrix: shards, claims, deaths, and what a command says in the end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tiny
from bench_results import SHAPE, method, row, tree
from expunge.benchmarking import run as start
from expunge.benchmarking import sweep
from expunge.benchmarking.evaluate import copy_evidence, judged_gold
from expunge.benchmarking.leaderboard import leaderboard
from expunge.benchmarking.leaderboard_pages import row_table, write_pages
from expunge.benchmarking.protocol import Protocol, open_protocol
from expunge.benchmarking.result import Cell, cell_folder, lay_out, read_row, rows_of, write_row
from expunge.benchmarking.search_space import read_chosen
from expunge.benchmarking.sweep import Shard, SweepProgress, parse_shard, run_cell, run_matrix
from expunge.cli import main
from expunge.errors import Interrupted, UsageError
from expunge.pipeline.run_folder import claim
from expunge.utils.console import SilentConsole

PYTHON = sys.executable


@pytest.mark.parametrize(
    ("text", "shard"), [("1/1", Shard(0, 1)), ("3/4", Shard(2, 4)), ("4/4", Shard(3, 4))]
)
def test_shards_count_from_one(text, shard):
    assert parse_shard(text) == shard


def test_methods_run_with_what_was_chosen_and_nothing_else(tmp_path, monkeypatch):
    chosen = {"npo": {"method.beta": 0.3}, "ga": {}, "rmu": {"method.layer": 1}}

    def fake(matrix, protocol, cell):
        write_row(lay_out(matrix, cell), row(cell))

    monkeypatch.setattr(sweep, "run_cell", fake)
    monkeypatch.setattr(sweep, "method_parameters", lambda settings: SHAPE)
    protocol = open_protocol(tmp_path, Protocol(settings=tree(), chosen=chosen))
    run_matrix(
        tmp_path,
        protocol,
        methods=["npo", "ga", "npo+sam"],
        seeds=[0],
        shard=Shard(),
        console=SilentConsole(),
    )
    ran = [each.cell for each in rows_of(tmp_path) if each.cell.kind == "method"]
    assert sorted((cell.name, dict(cell.values)) for cell in ran) == [
        ("ga", {}),
        ("npo", {"method.beta": 0.3}),
        ("npo+sam", {"method.beta": 0.3}),
    ]
    said = " ".join(row_table(leaderboard(tmp_path))["sentences"])
    assert "chosen before, in another matrix" in said
    assert "its defaults" not in said
    write_pages(tmp_path)
    assert read_chosen(tmp_path / "chosen.json") == {cell.name: cell.values for cell in ran}


def test_of_a_judged_gold_everything_is_known_and_the_others_are_its_golds(tmp_path):
    shared, run = tmp_path / "shared", tmp_path / "run"
    for folder in (shared, run):
        folder.mkdir()
    for role in ("original", "gold-0", "gold-1", "gold-2", "unlearned"):
        (shared / f"{role}.forget.plain.scores.jsonl").write_text(role)
    (run / "gold-1.forget.plain.scores.jsonl").write_text("there before")
    copy_evidence(shared, run, names=judged_gold(1, 3))
    found = {path.name.partition(".forget")[0]: path.read_text() for path in run.iterdir()}
    assert found == {
        "original": "original",
        "unlearned": "gold-1",
        "gold-0": "gold-0",
        "gold-1": "there before",
    }
    assert judged_gold(0, 1) == {"gold-0": "unlearned"}


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/0", ""])
def test_what_is_no_shard_is_refused(text):
    with pytest.raises(UsageError, match="i/n"):
        parse_shard(text)


def test_two_shards_run_every_cell_once_and_seeds_follow_the_trials(tmp_path, monkeypatch):
    ran: list[Cell] = []

    def fake(matrix, protocol, cell):
        folder = lay_out(matrix, cell)
        if read_row(folder) is None:
            ran.append(cell)
            write_row(folder, row(cell, erased=cell.values.get("method.beta", 0.9)))
        return read_row(folder)

    monkeypatch.setattr(sweep, "run_cell", fake)
    monkeypatch.setattr(sweep, "method_parameters", lambda settings: SHAPE)
    protocol = open_protocol(tmp_path, Protocol(settings=tree(), trials=3))
    given = {"methods": ["npo", "ga"], "seeds": [0, 1], "console": SilentConsole()}
    first = run_matrix(tmp_path, protocol, shard=Shard(0, 2), **given)
    # This shard has all trials of ga, and so its second seed; the other one's are not there yet.
    assert (first.rows, first.waiting) == (6, 4)
    run_matrix(tmp_path, protocol, shard=Shard(1, 2), **given)
    last = run_matrix(tmp_path, protocol, shard=Shard(0, 2), **given)
    assert last == SweepProgress(rows=11, failed=0, waiting=0)
    assert len({cell.id for cell in ran}) == len(ran)
    assert sorted(cell.name for cell in ran if cell.kind != "method") == [
        "gold-0", "gold-1", "original",
    ]  # fmt: skip
    assert len([cell for cell in ran if cell.kind == "method" and cell.seed == 0]) == 6
    assert {cell.name for cell in ran if cell.seed == 1} == {"npo", "ga"}


def test_a_wrapped_method_is_tried_at_the_settings_of_the_bare_one(tmp_path, monkeypatch):
    asked: list[Cell] = []
    monkeypatch.setattr(sweep, "run_cell", lambda matrix, protocol, cell: asked.append(cell))
    monkeypatch.setattr(sweep, "method_parameters", lambda settings: SHAPE)
    protocol = open_protocol(tmp_path, Protocol(settings=tree(), trials=3))
    given = {"methods": ["npo", "npo+sam"], "seeds": [0], "shard": Shard()}
    run_matrix(tmp_path, protocol, **given, console=SilentConsole())
    bare, wrapped = ([c.values for c in asked if c.name == n] for n in ("npo", "npo+sam"))
    assert bare == wrapped
    assert len(bare) == 3
    # Round by round, so that a matrix that is stopped early has tried every method alike.
    assert [cell.name for cell in asked[3:]] == ["npo", "npo+sam"] * 3
    assert [cell.values for cell in asked[3:5]] == [{}, {}]


def test_a_cell_that_another_process_has_is_waited_for_once(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "run_cell", lambda *_: None)
    monkeypatch.setattr(sweep, "method_parameters", lambda settings: SHAPE)
    protocol = open_protocol(tmp_path, Protocol(settings=tree(), trials=2))
    given = {"methods": ["npo"], "seeds": [0], "shard": Shard(), "console": SilentConsole()}
    assert run_matrix(tmp_path, protocol, **given) == SweepProgress(rows=0, failed=0, waiting=5)


@pytest.mark.parametrize(
    ("failing", "fruitless"), [(("npo", "ga"), "no-layer: ga"), (("npo",), ""), ((), "")]
)
def test_it_is_told_when_every_run_of_a_method_failed(tmp_path, monkeypatch, failing, fruitless):
    """Rows of other commands do not count."""

    def fake(matrix, protocol, cell):
        status = "failed" if cell.name in failing else "done"
        write_row(lay_out(matrix, cell), row(cell, status=status, why=f"no-layer: {cell.name}"))
        return read_row(cell_folder(matrix, cell))

    monkeypatch.setattr(sweep, "run_cell", fake)
    monkeypatch.setattr(sweep, "method_parameters", lambda settings: SHAPE)
    protocol = open_protocol(tmp_path, Protocol(settings=tree()))
    write_row(lay_out(tmp_path, method("rmu")), row(method("rmu")))
    console = SilentConsole()
    said: list[str] = []
    monkeypatch.setattr(console, "warn", said.append)
    given = {"methods": ["npo", "ga"], "seeds": [0], "shard": Shard(), "console": console}
    done = run_matrix(tmp_path, protocol, **given)
    assert (done.failed, done.fruitless) == (len(failing), fruitless)
    assert [
        text.endswith(f"delete {tmp_path / 'cells' / method(name).id}")
        for text, name in zip(said, failing, strict=True)
    ] == [True] * len(failing)


@pytest.mark.parametrize(("fruitless", "code"), [("", 0), ("no-layer: there is none", 4)])
def test_the_exit_code_tells_whether_a_method_could_run(
    bench, monkeypatch, capsys, fruitless, code
):
    done = SweepProgress(rows=2, failed=1, waiting=0, fruitless=fruitless)
    monkeypatch.setattr(start, "bench", lambda *_, **__: done)
    Path("r.toml").write_text(
        'model = "model"\n[request]\ngoal = "removal"\nforget = ["f.jsonl"]\n', encoding="utf-8"
    )
    Path("f.jsonl").write_text('{"text": "One."}', encoding="utf-8")
    tiny.hollow(Path("model"))
    assert main(["bench", "r.toml", "--format", "json", "--out", "m"]) == code
    said = capsys.readouterr()
    assert f'"exit": {code}' in said.out
    assert ("error[nothing-finished]" in said.err) is bool(code)
    assert fruitless in said.err


def test_a_claimed_cell_is_left_to_its_process(tmp_path):
    protocol = open_protocol(tmp_path, Protocol(settings=tree()))
    folder = lay_out(tmp_path, method("npo"))
    with claim(folder):
        assert run_cell(tmp_path, protocol, method("npo")) is None
    assert read_row(folder) is None


KILLED = "os.kill(os.getpid(), 9)"


@pytest.mark.parametrize(
    ("code", "status", "again"),
    [("raise SystemExit(1)", "exit code 1", "exit code 1"), (KILLED, "signal 9", "exit code 3")],
)
def test_a_process_that_dies_leaves_a_failure(tmp_path, monkeypatch, code, status, again):
    """One that was killed is tried again by the next command, no other one."""
    protocol = open_protocol(tmp_path / "m", Protocol(settings=tree()))
    program = f"import os, sys\nsys.stderr.write('last words')\n{code}\n"
    _stand_in(monkeypatch, tmp_path, program)
    for _ in range(2):
        found = run_cell(tmp_path / "m", protocol, method("npo"))
        assert (found.status, found.killed) == ("failed", code == KILLED)
        assert status in found.why
        assert "last words" in found.why
        assert rows_of(tmp_path / "m") == [found], "it is seen meanwhile"
    _stand_in(monkeypatch, tmp_path, "raise SystemExit(3)")
    assert again in run_cell(tmp_path / "m", protocol, method("npo")).why


def test_a_cell_that_is_killed_again_and_again_is_tried_once_a_command(tmp_path, monkeypatch):
    protocol = open_protocol(tmp_path / "m", Protocol(settings=tree()))
    count = f"import os\nopen({str(tmp_path / 'count')!r}, 'a').write('x')\n{KILLED}\n"
    _stand_in(monkeypatch, tmp_path, count)
    monkeypatch.setattr(sweep, "method_parameters", lambda settings: SHAPE)
    console = SilentConsole()
    said: list[str] = []
    monkeypatch.setattr(console, "warn", said.append)
    given = {"methods": ["npo"], "seeds": [0, 1], "shard": Shard(), "console": console}
    for command in (1, 2):
        done = run_matrix(tmp_path / "m", protocol, **given)
        assert (done.rows, done.failed, done.waiting) == (4, 4, 0)
        assert (tmp_path / "count").read_text() == "x" * 4 * command
    assert all(text.endswith("the next command tries it again") for text in said)


def test_an_interrupted_cell_has_no_row(tmp_path, monkeypatch):
    protocol = open_protocol(tmp_path / "m", Protocol(settings=tree()))
    _stand_in(monkeypatch, tmp_path, "raise SystemExit(130)")
    with pytest.raises(Interrupted):
        run_cell(tmp_path / "m", protocol, method("npo"))
    assert rows_of(tmp_path / "m") == []


def test_the_claim_outlives_a_parent_that_is_killed(tmp_path):
    """The child goes on alone, and nobody else begins the cell meanwhile."""
    protocol = open_protocol(tmp_path / "m", Protocol(settings=tree()))
    program = tmp_path / "parent.py"
    _stand_in_file(tmp_path, "import time\ntime.sleep(20)\n")
    program.write_text(
        "import sys\nfrom pathlib import Path\n"
        "from expunge.benchmarking import sweep\n"
        "from expunge.benchmarking.protocol import read_protocol\n"
        "from expunge.benchmarking.result import Cell\n"
        f"sys.executable = {str(tmp_path / 'python')!r}\n"
        f"place = Path({str(tmp_path / 'm')!r})\n"
        "sweep.run_cell(place, read_protocol(place), Cell(kind='method', name='npo'))\n"
    )
    parent = subprocess.Popen([sys.executable, str(program)])
    folder = cell_folder(tmp_path / "m", method("npo"))
    child = _wait_for(tmp_path / "pid")
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    try:
        assert run_cell(tmp_path / "m", protocol, method("npo")) is None
    finally:
        os.kill(child, signal.SIGKILL)
    assert read_row(folder) is None


def _wait_for(path: Path) -> int:
    for _ in range(2400):
        if path.is_file() and path.read_text():
            return int(path.read_text())
        time.sleep(0.05)
    raise AssertionError("the child did not start")


def _stand_in_file(folder: Path, code: str) -> Path:
    """A program that takes the place of the interpreter in which a cell runs."""
    path = folder / "python"
    pid = f"import os\nopen({str(folder / 'pid')!r}, 'w').write(str(os.getpid()))\n"
    path.write_text(f"#!{PYTHON}\n{pid}{code}")
    path.chmod(0o755)
    return path


def _stand_in(monkeypatch, folder: Path, code: str) -> None:
    monkeypatch.setattr(sweep.sys, "executable", str(_stand_in_file(folder, code)))
