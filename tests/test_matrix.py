"""The matrix: runs that are never repeated, failures that are rows, and the leaderboard."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from expunge.audit.results import Axis, Gate, Score, Status
from expunge.audit.stats import Estimate
from expunge.bench import matrix as matrices
from expunge.bench import start, work
from expunge.bench.board import Related, board, over_seeds, reduced, relative
from expunge.bench.choose import Point, best, front, near_front
from expunge.bench.matrix import Done, Shard, parse_shard, run_cell, run_matrix
from expunge.bench.pages import NONE, drawing, sheet, to_html, to_markdown
from expunge.bench.protocol import Protocol, open_protocol
from expunge.bench.row import Cell, Cost, Machine, Row, read_row, write_row
from expunge.bench.rows import cell_folder, lay_out, read_cell, rows_of
from expunge.bench.space import MLP, Anatomy, Choice, Range, draw, space, trials
from expunge.bench.standing import standing, weakest
from expunge.claim import claim
from expunge.cli import main
from expunge.console import SilentConsole
from expunge.errors import Interrupted, UsageError
from expunge.machine import processor
from expunge.methods import EVERY
from expunge.settings import Settings, TrainSettings

PYTHON = sys.executable
SHAPE = Anatomy(4, frozenset(MLP))
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
    return Row(
        cell=cell,
        suite="tofu",
        status=status,
        ruling="PASS",
        gates=gates if status == "done" else (),
        numbers=tuple(numbers),
        columns=columns or {},
        cost=Cost(seconds=1.0),
        machine=HERE,
        **others,
    )


def method(name, seed=0, **values):
    return Cell(kind="method", name=name, values=values, seed=seed)


def test_the_standing_of_a_model_is_its_worst_gate_on_each_axis():
    found = standing(
        [
            gate(Axis.FORGETTING, 0.1),
            gate(Axis.FORGETTING, 0.4, wide=0.1),
            gate(Axis.PRIVACY, -0.1, wide=0.2),
            gate(Axis.ROBUSTNESS, 1.3),
            gate(Axis.UTILITY, 0.1),
            gate(Axis.LOCALITY, 0.0),
            gate(Axis.LOCALITY, 0.3, status=Status.INCONCLUSIVE),
        ]
    )
    assert found[Axis.FORGETTING] == pytest.approx((0.6, 0.5, 0.7))
    assert found[Axis.PRIVACY] == pytest.approx((0.8, 0.4, 1.0))
    assert found[Axis.ROBUSTNESS] == (0.0, 0.0, 0.0)
    assert found[Axis.UTILITY].value == pytest.approx(0.75), "exactly at the margin"
    assert found[Axis.LOCALITY].value == 1.0, "a relation of few records does not decide"
    assert weakest(found).value == 0.0
    assert standing([]) == {}
    assert weakest({}) is None


def at(erased, kept, wide=0.0):
    return Point(
        Estimate(erased, erased - wide, erased + wide), Estimate(kept, kept - wide, kept + wide)
    )


def test_the_front_is_what_nothing_else_beats_on_both_counts():
    points = [at(0.9, 0.2), at(0.5, 0.5), at(0.5, 0.4), at(0.1, 0.9), at(0.5, 0.5)]
    assert front(points) == [True, True, False, True, True]
    unsure = [at(0.5, 0.5, 0.2), at(0.45, 0.45, 0.2), at(0.0, 0.0, 0.05)]
    assert front(unsure) == [True, False, False]
    assert near_front(unsure) == [True, True, False]


def test_the_setting_that_stands_for_a_method_keeps_what_it_must():
    wild = row(method("npo", a=1), erased=0.0, lost=0.3)
    mild = row(method("npo", a=2), erased=0.3, lost=0.05)
    weak = row(method("npo", a=3), erased=0.6, lost=0.0)
    failure = row(method("npo", a=4), status="failed")
    assert best([wild, mild, weak, failure]) is mild
    assert best([wild, row(method("npo", a=5), erased=0.0, lost=0.2)]).cell.values == {"a": 5}
    assert best([failure]) is None


def test_a_row_survives_being_written(tmp_path):
    score = Score(metric="m", role="unlearned", split="p", attack="plain", value=0.5)
    whole = row(method("npo", **{"train.lr": 1e-3}), numbers=[score], columns={"c": {"r": 1.5}})
    write_row(tmp_path, whole)
    assert read_row(tmp_path) == whole
    assert read_row(tmp_path / "none") is None


def test_a_row_of_before_says_less_of_its_machine(tmp_path):
    write_row(tmp_path, row(method("npo")))
    told = json.loads((tmp_path / "row.json").read_text())
    for late in ("processor", "gpu"):
        del told["machine"][late]
    del told["killed"]
    (tmp_path / "row.json").write_text(json.dumps(told))
    assert read_row(tmp_path) == row(method("npo"))


@pytest.mark.parametrize(("device", "gpu"), [("cuda", "NVIDIA H100"), ("cpu", ""), ("", "")])
def test_a_machine_is_known_by_its_models(tmp_path, monkeypatch, device, gpu):
    monkeypatch.setattr(work, "processor", lambda: "Xeon 8481C")
    monkeypatch.setattr(work.torch.cuda, "get_device_name", lambda: "NVIDIA H100")
    found = work.machine(device)
    assert (found.device, found.processor, found.gpu) == (device, "Xeon 8481C", gpu)
    open_protocol(tmp_path, Protocol(settings=tree()))
    write_row(lay_out(tmp_path, method("npo")), replace(row(method("npo")), machine=found))
    shown = ", ".join(filter(None, (device, gpu, "Xeon 8481C", found.cpu)))
    assert any(f"Measured on {shown}, " in said for said in sheet(board(tmp_path))["sentences"])


def test_the_processor_of_linux_is_read_from_the_system():
    told = Path("/proc/cpuinfo")
    if not told.is_file() or "model name" not in told.read_text():
        pytest.skip("this system does not say")
    assert f"model name\t: {processor()}\n" in told.read_text()


def test_cells_are_named_by_what_is_special_about_them(tmp_path):
    first, again = method("npo", **{"train.lr": 1e-3}), method("npo", **{"train.lr": 1e-3})
    assert first.id == again.id
    assert first.id != replace(first, seed=1).id
    assert first.id != method("npo", **{"train.lr": 2e-3}).id
    listed = method("npo", **{"train.targets": ("a", "b")})
    assert read_cell(lay_out(tmp_path, listed)).id == listed.id
    assert "/" not in method("pkg.mod:Kind").id


def test_a_cell_lays_its_values_over_the_settings_of_the_matrix():
    protocol = Protocol(settings=tree(method={"name": "npo", "beta": 0.5}))
    own = protocol.of(method("npo", 3, **{"train.lr": 1e-3}))
    assert (own.method.knobs, own.train.lr, own.train.seed) == ({"beta": 0.5}, 1e-3, 3)
    other = protocol.of(method("simnpo", **{"method.gamma": 2.0}))
    assert other.method.knobs == {"gamma": 2.0}, "knobs of another method do not carry over"
    gold = protocol.of(Cell(kind="gold", name="gold-1"))
    assert gold.request.gold == ("g0",), "a gold is held against the others"
    assert protocol.of(method("ga")).request.gold == ("g0", "g1")
    with pytest.raises(UsageError, match="not allowed"):
        protocol.of(method("npo", **{"train.lr": -1.0}))


@pytest.mark.parametrize(
    ("name", "left_out"),
    [
        ("npo", set()),
        ("repselect", {"steps", "rank", "targets", "adapter", "forget_tokens"}),
        ("icul", {"steps", "rank", "targets", "adapter", "full"}),
    ],
)
def test_a_method_that_does_not_train_leaves_out_what_only_training_reads(name, left_out):
    shared = {"steps": 9, "rank": 4, "targets": ["q_proj"], "adapter": True, "batch": 3}
    shared |= {"forget_tokens": "fact", "full": True}
    found = Protocol(settings=tree(train=shared)).of(method(name)).train
    usual = TrainSettings()
    given = TrainSettings.model_validate(shared)
    for key in shared:
        assert getattr(found, key) == getattr(usual if key in left_out else given, key), key


def test_a_matrix_keeps_its_protocol(tmp_path):
    protocol = Protocol(settings=tree(), trials=2)
    assert open_protocol(tmp_path / "m", protocol) == open_protocol(tmp_path / "m", protocol)
    assert open_protocol(tmp_path / "m", replace(protocol, trials=3)).trials == 3
    other = open_protocol(tmp_path / "m", replace(protocol, trials=3, floor=0.5))
    assert other.floor == 0.5, "it chooses among what has been run"
    assert open_protocol(tmp_path / "m", replace(protocol, trials=4)).floor == 0.75
    with pytest.raises(UsageError, match=r"begun with trials 4 \(now 2\)"):
        open_protocol(tmp_path / "m", protocol)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="not a matrix"):
        open_protocol(tmp_path, protocol)


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        ({"train": {"batch": 3}}, {"train": {"batch": 4}}, "train.batch 3 (now 4)"),
        ({}, {"train": {"lr": 1e-4}}, "train.lr unset (now 0.0001)"),
        ({"method": {"name": "npo", "beta": 0.5}}, {}, "method.beta 0.5 (now unset)"),
        ({"train": {"targets": ["q"]}}, {}, 'train.targets ["q"] (now [])'),
        (
            {"model": "m" * 99},
            {"model": "n"},
            f'model "{"m" * 38}… (now "n")',
        ),
        (
            {"train": {"batch": 3, "rank": 4, "steps": 5, "clip": 2.0, "seed": 6}},
            {},
            "train.clip 2.0 (now 1.0), and 1 more",
        ),
    ],
)
def test_another_protocol_is_refused_by_what_differs(tmp_path, before, now, said):
    open_protocol(tmp_path, Protocol(settings=tree(**before)))
    with pytest.raises(UsageError, match=re.escape(said)) as caught:
        open_protocol(tmp_path, Protocol(settings=tree(**now), trials=1))
    assert caught.value.code == "another-protocol"


@pytest.mark.parametrize("name", EVERY)
def test_every_method_takes_what_its_space_offers(name):
    settings = Settings.model_validate(tree())
    found = trials(name, settings, SHAPE, count=6)
    assert found[0] == {}, "the defaults come first"
    assert len(found) == 6
    assert trials(name, settings, SHAPE, count=6) == found
    for values in found:
        Protocol(settings=tree()).of(method(name, **values))


def test_the_space_reaches_as_far_for_every_method():
    found = space("npo", Settings.model_validate(tree()), SHAPE._replace(layers=30))
    assert found["method.beta"] == Range(low=0.0125, high=0.8, default=0.1)
    assert found["train.lr"] == Range(low=5e-4 / 8, high=4e-3, default=5e-4)
    assert found["train.epochs"] == Choice(among=(5, 10, 20), default=10)
    assert found["train.last_layer"] == Choice(among=(None, 14), default=None)
    assert found["train.targets"] == Choice(among=((), MLP), default=())
    other = space("npo", Settings.model_validate(tree()), Anatomy(30, frozenset({"fc1"})))
    assert other["train.targets"] == Choice(among=((),), default=()), (
        "layers that the model lacks are no choice"
    )
    full = space(
        "npo", Settings.model_validate(tree(train={"full": True})), SHAPE._replace(layers=30)
    )
    assert "train.last_layer" not in full
    drawn = [draw(found, random.Random(seed)) for seed in range(50)]
    assert all(0.0125 <= values["method.beta"] <= 0.8 for values in drawn)
    assert not any(value in (None, ()) for values in drawn for value in values.values())


@pytest.mark.parametrize(
    ("given", "fixed"),
    [
        ({}, set()),
        (
            {"method": {"name": "npo", "beta": 0.1, "retain": "kl"}},
            {"method.beta", "method.retain"},
        ),
        ({"method": {"name": "simnpo", "beta": 2.0}}, set()),
        ({"train": {"lr": 1e-3, "batch": 3}}, {"train.lr"}),
        ({"train": {"epochs": 3}}, {"train.epochs"}),
        ({"train": {"steps": 3}}, {"train.epochs"}),
        (
            {"train": {"targets": ["q_proj"], "last_layer": 1}},
            {"train.targets", "train.last_layer"},
        ),
    ],
)
def test_what_the_user_fixed_is_not_searched(given, fixed):
    whole = space("npo", Settings.model_validate(tree()), SHAPE)
    found = space("npo", Settings.model_validate(tree(**given)), SHAPE)
    assert whole.keys() - found.keys() == fixed
    assert found.items() <= whole.items()
    values = trials("npo", Settings.model_validate(tree(**given)), SHAPE, count=4)
    assert not any(fixed & each.keys() for each in values)


@pytest.mark.parametrize(
    ("text", "shard"), [("1/1", Shard(0, 1)), ("3/4", Shard(2, 4)), ("4/4", Shard(3, 4))]
)
def test_shards_count_from_one(text, shard):
    assert parse_shard(text) == shard


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

    monkeypatch.setattr(matrices, "run_cell", fake)
    monkeypatch.setattr(matrices, "anatomy", lambda settings: SHAPE)
    protocol = open_protocol(tmp_path, Protocol(settings=tree(), trials=3))
    given = {"methods": ["npo", "ga"], "seeds": [0, 1], "console": SilentConsole()}
    first = run_matrix(tmp_path, protocol, shard=Shard(0, 2), **given)
    assert (first.rows, first.waiting) == (5, 4), "what the other shard has is not there yet"
    run_matrix(tmp_path, protocol, shard=Shard(1, 2), **given)
    last = run_matrix(tmp_path, protocol, shard=Shard(0, 2), **given)
    assert last == Done(rows=11, failed=0, waiting=0)
    assert len({cell.id for cell in ran}) == len(ran)
    assert sorted(cell.name for cell in ran if cell.kind != "method") == [
        "gold-0", "gold-1", "original",
    ]  # fmt: skip
    assert len([cell for cell in ran if cell.kind == "method" and cell.seed == 0]) == 6
    assert {cell.name for cell in ran if cell.seed == 1} == {"npo", "ga"}


def test_a_cell_that_another_process_has_is_waited_for_once(tmp_path, monkeypatch):
    monkeypatch.setattr(matrices, "run_cell", lambda *_: None)
    monkeypatch.setattr(matrices, "anatomy", lambda settings: SHAPE)
    protocol = open_protocol(tmp_path, Protocol(settings=tree(), trials=2))
    given = {"methods": ["npo"], "seeds": [0], "shard": Shard(), "console": SilentConsole()}
    assert run_matrix(tmp_path, protocol, **given) == Done(rows=0, failed=0, waiting=5)


@pytest.mark.parametrize(
    ("failing", "fruitless"), [(("npo", "ga"), "no-layer: ga"), (("npo",), ""), ((), "")]
)
def test_it_is_told_when_every_run_of_a_method_failed(tmp_path, monkeypatch, failing, fruitless):
    """Rows of other commands do not count."""

    def fake(matrix, protocol, cell):
        status = "failed" if cell.name in failing else "done"
        write_row(lay_out(matrix, cell), row(cell, status=status, why=f"no-layer: {cell.name}"))
        return read_row(cell_folder(matrix, cell))

    monkeypatch.setattr(matrices, "run_cell", fake)
    monkeypatch.setattr(matrices, "anatomy", lambda settings: SHAPE)
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
    done = Done(rows=2, failed=1, waiting=0, fruitless=fruitless)
    monkeypatch.setattr(start, "bench", lambda *_, **__: done)
    Path("r.toml").write_text(
        'model = "m"\n[request]\ngoal = "removal"\nforget = ["f.jsonl"]\n', encoding="utf-8"
    )
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
    monkeypatch.setattr(matrices, "anatomy", lambda settings: SHAPE)
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
        "from expunge.bench import matrix\nfrom expunge.bench.protocol import read_protocol\n"
        "from expunge.bench.row import Cell\n"
        f"sys.executable = {str(tmp_path / 'python')!r}\n"
        f"place = Path({str(tmp_path / 'm')!r})\n"
        "matrix.run_cell(place, read_protocol(place), Cell(kind='method', name='npo'))\n"
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
    monkeypatch.setattr(matrices.sys, "executable", str(_stand_in_file(folder, code)))


def test_numbers_against_gold_come_from_two_rows():
    def auc(value):
        return Score(
            metric="auc-min-k-40",
            role="unlearned",
            split="forget",
            attack="plain",
            value=value,
            n=30,
        )

    ratios = {f"r{i}": float(i) for i in range(40)}
    gold = row(
        Cell(kind="gold", name="gold-0"), numbers=[auc(0.5)], columns={"truth-ratio": ratios}
    )
    far = {name: value + 100 for name, value in ratios.items()}
    own = row(method("npo"), numbers=[auc(0.75)], columns={"truth-ratio": far})
    found = relative(own, [gold])
    assert found["ks-distance"] == (1.0, 40)
    assert found["forget-quality"] == pytest.approx((1.86e-23, 40), rel=1e-2)
    assert found["privleak"] == pytest.approx((-50.0, 30))
    assert relative(gold, [gold]) == {}


@pytest.mark.parametrize(
    ("values", "p", "others"),
    [([0.5], 0.5, 0.5), ([1e-8, 1e-2], 1e-5, 0.005), ([0.0, 0.5], 0.0, 0.25), ([], None, None)],
)
def test_numbers_against_gold_are_reduced_over_seeds(values, p, others):
    each = [
        {name: Related(value, 40 + place) for name in ("forget-quality", "privleak")}
        for place, value in enumerate(values)
    ]
    found = reduced([*each, {}])
    if not values:
        assert found == {}
        return
    assert found["forget-quality"] == pytest.approx((p, 40))
    assert found["privleak"] == pytest.approx((others, 40), rel=1e-5)


def test_the_leaderboard_holds_every_seed_against_gold(tmp_path):
    open_protocol(tmp_path, Protocol(settings=tree()))
    ratios = {f"r{n}": float(n) for n in range(40)}
    moved = {name: value + 20 for name, value in ratios.items()}
    gold = Cell(kind="gold", name="gold-0")
    for cell, values in ((gold, ratios), (method("npo"), ratios), (method("npo", 1), moved)):
        write_row(lay_out(tmp_path, cell), row(cell, columns={"truth-ratio": values}))
    found = board(tmp_path)
    told = sheet(found)
    assert found.lines[-1].relative["ks-distance"] == (0.25, 40)
    assert ["ks-distance (against gold)", NONE, "0.25 (n=40)"] in told["numbers"][1]
    assert any("geometric" in sentence for sentence in told["sentences"])


def test_the_leaderboard_shows_seeds_budget_failures_and_golds(tmp_path):
    open_protocol(tmp_path, Protocol(settings=tree(), trials=2))
    rows = [
        row(Cell(kind="original", name="original"), erased=1.0),
        row(Cell(kind="gold", name="gold-0"), erased=0.0),
        row(method("npo"), erased=0.5),
        row(method("npo", **{"train.lr": 1e-3}), erased=0.2),
        row(method("npo", 1, **{"train.lr": 1e-3}), erased=0.4),
        row(method("ga"), erased=0.0, lost=0.4),
        row(method("rmu"), status="failed", why="no-layer: <there> is none"),
    ]
    for each in rows:
        write_row(lay_out(tmp_path, each.cell), each)
    found = board(tmp_path)
    lines = {line.name: line for line in found.lines}
    assert [line.name for line in found.lines] == ["original", "gold-0", "npo", "ga", "rmu"]
    assert lines["npo"].axes[Axis.FORGETTING] == pytest.approx((0.7, 0.55, 0.85))
    assert (lines["npo"].tried, len(lines["npo"].rows), lines["rmu"].failed) == (2, 2, 1)
    assert set(found.on_front) == {"npo", "ga"}
    told = json.loads(json.dumps(sheet(found)))
    text, page = to_markdown(told), to_html(told, drawing=drawing(found))
    assert "train.lr = 0.001" in text
    assert "2 settings" in text
    assert "rmu-s0" in text
    assert "delete its folder" in text
    assert "delete its folder" in page
    assert "leak under int4" in text
    assert "&lt;there&gt;" in page
    assert "<svg" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert over_seeds([]) == {}


@pytest.mark.slow
def test_a_matrix_runs_from_the_command_line_and_is_not_repeated(world, bench, capsys):
    request = world.settings(request={"gold": (world.gold,)}).model_dump(
        mode="json", exclude_none=True
    )
    import tomli_w

    (bench / "request.toml").write_text(tomli_w.dumps(request), encoding="utf-8")
    words = ["bench", "request.toml", "--methods", "npo", "--out", "m", "--offline"]
    assert main(words) == 0, capsys.readouterr()
    found = {each.cell.name: each for each in rows_of(Path("m"))}
    assert {name: each.status for name, each in found.items()} == {
        "original": "done",
        "gold-0": "done",
        "npo": "done",
    }, [each.why for each in found.values()]
    assert found["npo"].standing()[Axis.FORGETTING].value > 0
    assert found["original"].standing()[Axis.FORGETTING].value < 0.1
    assert list(Path("m").rglob("*.safetensors")) == []
    lent = {path.name for path in (Path("m") / "shared").iterdir()}
    assert any(name.startswith("gold-0") for name in lent), "golds are asked once for all runs"
    assert json.loads((Path("m") / "matrix.json").read_text())["trials"] == 1
    assert "npo" in (Path("m") / "leaderboard.md").read_text(encoding="utf-8")
    stamps = {path: path.stat().st_mtime_ns for path in Path("m").rglob("row.json")}
    assert main(words) == 0
    assert {path: path.stat().st_mtime_ns for path in Path("m").rglob("row.json")} == stamps
