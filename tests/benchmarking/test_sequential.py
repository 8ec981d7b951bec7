"""Series: folds forgotten one after the other, or each from the original; kills; the table."""

import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench_results import gate, method, row, tree
from expunge.benchmarking import protocol
from expunge.benchmarking import sequential as serial
from expunge.benchmarking.evaluate import Evaluation
from expunge.benchmarking.job import run_job
from expunge.benchmarking.leaderboard import leaderboard
from expunge.benchmarking.leaderboard_pages import (
    drawing,
    over_folds,
    row_table,
    to_html,
    to_markdown,
)
from expunge.benchmarking.probe_outputs import exact
from expunge.benchmarking.protocol import Protocol, open_protocol, set_file, write_sets
from expunge.benchmarking.result import Cell, FoldResult, RunCost, cell_folder, lay_out, write_row
from expunge.benchmarking.sequential import read_steps, run_series
from expunge.benchmarking.suites.base import Fold, Probe, Series, Spec, Suite, union
from expunge.config.settings import Settings
from expunge.data.readers import read
from expunge.data.records import Record
from expunge.errors import InputError, UsageError
from expunge.evals.results import Ruling
from expunge.metrics.memorization import probability
from expunge.metrics.outcomes import Axis
from expunge.preparation.prepare import require_weights
from expunge.utils.io import read_json
from kill_process import begin, call, stop
from tiny_world import World

CELL = Cell(kind="method", name="npo")
NAMES = ("first", "second")


def record(name):
    return Record(id=name, prompt=(), completion=f"text of {name}")


def folds(sequential, *names):
    each = [Fold(name=name, records=(record(name),)) for name in names or NAMES]
    return Series(folds=tuple(each), sequential=sequential)


def settings(**others):
    return Settings.model_validate(
        {"model": "o", "request": {"goal": "removal", "forget": ("f",), "id": "r"}, **others}
    )


@pytest.fixture
def runs(monkeypatch):
    """A run takes no time: what there is to say of it is the model that it starts from."""
    ran: list[tuple[str, str]] = []
    unknown: set[str] = set()

    def fake(own, *, console):
        name = Path(own.out).parent.name
        ran.append((name, own.model))
        assert own.request.id == f"r {name}"
        assert own.model == "o" or (Path(own.model) / "model.safetensors").is_file()
        if name in unknown:
            raise InputError("nothing-to-forget", what="w", why="y", fix="f")
        folder = Path(own.out)
        folder.mkdir(parents=True)
        for file in ("manifest.json", "model.safetensors"):
            (folder / file).write_text("{}")
        verdict = SimpleNamespace(ruling=Ruling.PASS)
        return SimpleNamespace(results=SimpleNamespace(verdict=verdict, gates=()))

    monkeypatch.setattr(serial, "forget", fake)
    return SimpleNamespace(ran=ran, unknown=unknown)


def go(place, sequential, *names):
    def ask(own, judged, folder, console):
        assert (Path(judged) / "model.safetensors").is_file()
        score = exact("left", "p", float(judged.count("second")), n=1, higher=None)
        return Evaluation(numbers=(score,))

    series = folds(sequential, *names)
    places = {"matrix": place, "shared": place / "shared", "cell": place / "c"}
    return series, run_series(series, settings(), **places, ask=ask)


def run_of(place, name):
    return str(place / "c" / "folds" / name / "run")


def test_each_run_of_a_sequence_starts_where_the_one_before_ended(tmp_path, runs):
    series, last = go(tmp_path, True)
    assert str(last) == run_of(tmp_path, "second")
    assert runs.ran == [("first", "o"), ("second", run_of(tmp_path, "first"))]
    steps = read_steps(series, tmp_path / "c")
    assert [(each.name, each.ruling) for each in steps] == [("first", "PASS"), ("second", "PASS")]
    assert steps[1].number("left", "p").value == 1.0
    assert f'model = "{run_of(tmp_path, "first")}"' in steps[1].settings
    weights = [path.parent.parent.name for path in tmp_path.rglob("*.safetensors")]
    assert weights == ["second"], "those that no run needs any more are gone"


def test_each_run_of_growing_sets_starts_from_the_original(tmp_path, runs):
    go(tmp_path, False)
    assert runs.ran == [("first", "o"), ("second", "o")]


def test_a_finished_run_of_a_series_is_not_repeated(tmp_path, runs, monkeypatch):
    fake = serial.forget

    def dies(own, *, console):
        raise KeyboardInterrupt

    def second_dies(own, *, console):
        return (dies if own.out.endswith("second/run") else fake)(own, console=console)

    monkeypatch.setattr(serial, "forget", second_dies)
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path, True)
    monkeypatch.setattr(serial, "forget", fake)
    go(tmp_path, True)
    assert [name for name, _ in runs.ran] == ["first", "second"]
    go(tmp_path, True)
    assert [name for name, _ in runs.ran] == ["first", "second"]


def test_what_the_runs_before_took_along_is_passed_over(tmp_path, runs):
    runs.unknown.add("second")
    series, last = go(tmp_path, True, "first", "second", "third")
    assert runs.ran[2] == ("third", run_of(tmp_path, "first"))
    assert str(last) == run_of(tmp_path, "third")
    rulings = [each.ruling for each in read_steps(series, tmp_path / "c")]
    assert rulings == ["PASS", "NOTHING TO FORGET", "PASS"]
    runs.unknown.add("first")
    with pytest.raises(InputError, match="nothing-to-forget"):
        go(tmp_path / "other", True)


@pytest.mark.parametrize(
    ("given", "fix"),
    [
        ({"method": {"name": "refusal_guard"}}, "leave the guard out"),
        ({"train": {"adapter": True}}, "leave --adapter out"),
    ],
)
def test_what_leaves_no_weights_cannot_be_gone_on_from(tmp_path, runs, given, fix):
    with pytest.raises(UsageError, match=fix):
        require_weights(settings(**given))
    require_weights(settings())


def test_a_record_of_two_folds_is_forgotten_once():
    shared = Record(id="x", prompt=(), completion="text of first")
    both = (*folds(True).folds, Fold(name="third", records=(shared, record("new"))))
    assert [each.completion for each in union(both)] == [
        "text of first",
        "text of second",
        "text of new",
    ]
    suite = Suite(
        name="s",
        forget=union(both),
        series=Series(folds=both, sequential=True),
        numbers=lambda heard: [],
    )
    few = suite.limited(1)
    assert [len(fold.records) for fold in few.series.folds] == [1, 1, 1]
    assert len(few.forget) == 2, "what all folds hold"


def test_sets_that_grow_still_do_where_records_are_few():
    texts = tuple(record(f"a{n}") for n in range(9))
    grown = tuple(Fold(name=f"f{n}", records=texts[: 2 * n + 1]) for n in range(1, 5))
    suite = Suite(
        name="s",
        forget=texts,
        series=Series(folds=grown, sequential=False),
        numbers=lambda heard: [],
    )
    few = suite.limited(2)
    assert [len(fold.records) for fold in few.series.folds] == [2, 4, 6, 8]
    assert few.forget == texts[:8]


def step(name, kept, erased=0.1):
    return FoldResult(
        name=name,
        ruling="PASS",
        gates=(gate(Axis.FORGETTING, erased), gate(Axis.UTILITY, 0.0)),
        numbers=(exact("rouge-l-f1", "knowmem-retain", kept, n=1, higher=True),),
        cost=RunCost(seconds=1.0),
        models={},
        settings="",
    )


def test_the_leaderboard_shows_every_fold(tmp_path):
    open_protocol(tmp_path, Protocol(settings=tree()))
    original = [exact("rouge-l-f1", "knowmem-retain", 0.5, n=1, higher=True)]
    rows = [
        row(Cell(kind="original", name="original"), numbers=original),
        row(method("npo"), steps=(step("sust-1", 0.4), step("sust-2", 0.2))),
        row(method("npo", 1), steps=(step("sust-1", 0.3), step("sust-2", 0.1, erased=0.3))),
        row(method("rmu"), steps=(step("sust-1", 0.5), step("sust-2", 0.5))),
    ]
    for each in rows:
        write_row(lay_out(tmp_path, each.cell), each)
    head, lines = over_folds(leaderboard(tmp_path))
    assert head == ["number", "after", "npo", "rmu"]
    assert [line[:2] for line in lines[:4]] == [
        ["erased", "sust-1"],
        ["erased", "sust-2"],
        ["kept", "sust-1"],
        ["kept", "sust-2"],
    ]
    assert [cell[:4] for cell in lines[1][2:]] == ["0.80", "0.90"]
    assert lines[4:] == [
        ["rouge-l-f1 knowmem-retain", "nothing", "0.500", "0.500"],
        ["rouge-l-f1 knowmem-retain", "sust-1", "0.350", "0.500"],
        ["rouge-l-f1 knowmem-retain", "sust-2", "0.150", "0.500"],
    ]
    told = row_table(leaderboard(tmp_path))
    assert "| rouge-l-f1 knowmem-retain | sust-2 | 0.150 | 0.500 |" in to_markdown(told)
    assert "Fold after fold" in to_html(told, drawing=drawing(leaderboard(tmp_path)))


def small(world, *, sequential=True):
    """The world's forget set in two folds."""
    forget, retain = (read([world.data(name)]).records for name in ("forget", "retain"))
    each = (Fold(name="first", records=forget[:6]), Fold(name="second", records=forget[6:]))
    return Suite(
        name="small",
        forget=forget,
        retain=retain,
        series=Series(folds=each, sequential=sequential),
        probes=(Probe(name="kept", records=retain, scored=True),),
        numbers=lambda heard: [
            heard.mean("probability", "kept", heard.scored("kept", probability), higher=True)
        ],
    )


def laid(world, matrix, suite):
    sets = {name: (str(set_file(matrix, name)),) for name in ("forget", "retain")}
    # Gently: what the first fold does must leave the second one something to forget.
    gently = {"train": {"steps": 4, "lr": 1e-3}, "method": {"alpha": 5.0}}
    tables = world.settings(request=sets, **gently).model_dump(
        mode="json", exclude_none=True, exclude={"out"}
    )
    open_protocol(matrix, Protocol(settings=tables, suite=Spec(name="small", data="")))
    write_sets(matrix, suite)
    lay_out(matrix, CELL)
    return matrix


def work_on(world: str, matrix: str) -> None:
    """Work on the cell, in a process that is killed."""
    suite = small(World(folder=Path(world)))
    protocol.load_suite = lambda spec: suite
    run_job(Path(matrix), CELL)


@pytest.mark.slow
def test_a_killed_sequence_ends_as_one_that_was_not(world, bench, monkeypatch):
    suite = small(world)
    monkeypatch.setattr(protocol, "load_suite", lambda spec: suite)
    whole = run_job(laid(world, bench / "whole", suite), CELL)
    assert whole.status == "done", whole.why
    first, second = whole.steps
    assert second.models["original"] == first.models["unlearned"] != first.models["original"]
    assert whole.models["original"] == first.models["original"]
    assert whole.models["unlearned"] == second.models["unlearned"]
    assert whole.numbers == second.numbers != first.numbers
    assert {each.axis for each in whole.gates} >= {Axis.FORGETTING, Axis.UTILITY}
    assert list((bench / "whole").rglob("*.safetensors")) == []

    place = laid(world, bench / "killed", suite)
    kept = cell_folder(place, CELL) / "folds" / "first" / "step.json"
    working = begin(call, __file__, "work_on", str(world.folder), str(place))
    stop(working, kept, signal.SIGKILL)
    assert not (kept.parents[2] / "row.json").exists(), "killed too late to prove anything"
    stamp = kept.stat().st_mtime_ns
    again = run_job(place, CELL)
    assert kept.stat().st_mtime_ns == stamp, "the first fold is not repeated"
    assert [each.models for each in again.steps] == [each.models for each in whole.steps]
    assert (again.models, again.numbers) == (whole.models, whole.numbers)
    assert again.gates == whole.gates
    assert read_json(kept)["name"] == "first"


@pytest.mark.slow
def test_growing_sets_are_each_forgotten_from_the_original(world, bench, monkeypatch):
    suite = small(world, sequential=False)
    monkeypatch.setattr(protocol, "load_suite", lambda spec: suite)
    found = run_job(laid(world, bench / "m", suite), CELL)
    assert found.status == "done", found.why
    first, second = found.steps
    assert first.models["original"] == second.models["original"]
    assert found.gates == second.gates
    lent = {path.name for path in (bench / "m" / "shared" / "float32" / "first").iterdir()}
    assert any(name.startswith("original") for name in lent), "the original is asked once a fold"
