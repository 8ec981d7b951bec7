"""Tuning: what a search proposes, spares, resumes and chooses."""

import json
import math
from dataclasses import replace
from importlib.util import find_spec

import pytest

from bench_results import method, row, tree
from expunge.benchmarking import sweep
from expunge.benchmarking import tune as tuning
from expunge.benchmarking.leaderboard import front_of, leaderboard
from expunge.benchmarking.protocol import Protocol
from expunge.benchmarking.pruning import Pruned, Pruner, better, proxies
from expunge.benchmarking.result import lay_out, read_row, rows_of, write_row
from expunge.benchmarking.tune import Budget, Tuned, tune
from expunge.cli.tune import search
from expunge.config.settings import Settings
from expunge.errors import InputError, UsageError
from expunge.methods.rmu import RMU
from expunge.metrics.outcomes import Axis
from expunge.training.early_stopping import ProbeReading, Unseen
from expunge.training.train_loop import Trained
from expunge.utils.console import Console, SilentConsole

needs_optuna = pytest.mark.skipif(
    find_spec("optuna") is None, reason="optuna, an extra, is not installed"
)


def trained(*readings, unseen=4.0):
    rows = [{"forget_nll": nll, "retain_probability": p} for nll, p in readings]
    return {"unseen_nll": unseen, "readings": rows}


def test_proxies_are_how_far_the_forget_set_went_and_what_was_kept():
    found = proxies(trained((1.0, 0.8), (2.0, 0.8), (2.5, 0.6)))
    assert found == pytest.approx({"progress": 0.5, "kept": 0.75})
    assert proxies(trained((1.0, 0.8), (9.0, 0.9))) == {"progress": 1.0, "kept": 1.0}
    assert proxies(trained((5.0, 0.8), (5.0, 0.8)))["progress"] == 1.0
    assert proxies(trained((1.0, 0.8))) == {}


def test_weights_that_were_given_up_are_no_proxy():
    looks = zip((0, 4, 8), (1.0, 2.0, 4.0), (0.8, 0.8, 0.1), strict=True)
    readings = tuple(
        (step, ProbeReading(forget_nll=nll, low_share=0.0, retain_probability=p))
        for step, nll, p in looks
    )
    kept = Trained(
        steps=4,
        planned=9,
        stopped="kept step 4",
        curve=(),
        readings=readings,
        tokens=1,
        seconds=1.0,
    )
    unseen = Unseen(mean=4.0, low=4.0)
    assert proxies(kept.told(unseen)) == pytest.approx({"progress": 1 / 3, "kept": 1.0})


def hurdle_of(rows):
    return Pruner(rows, begun=lambda: None)


def test_evidence_is_lent_once_a_run_has_its_folder():
    lent = []
    console = Console(Pruner([], begun=lambda: lent.append(1)))
    console.event("plan", {})
    console.event("verdict", {})
    assert lent == [1]


def test_a_run_is_spared_its_audit_only_when_three_are_finished_and_one_was_ahead_on_both():
    def done(progress, kept):
        return row(method("npo", p=progress, k=kept), proxies={"progress": progress, "kept": kept})

    ahead, sideways = done(0.9, 0.9), done(0.2, 1.0)
    told = trained((1.0, 1.0), (2.5, 0.8))  # progress 0.5, kept 0.8
    Console(hurdle_of([ahead, sideways])).event("trained", told)
    Console(hurdle_of([sideways, done(0.55, 0.9), done(0.9, 0.81)])).event("trained", told)
    hurdle = hurdle_of([ahead, sideways, done(0.1, 0.1)])
    with pytest.raises(Pruned, match="npo"):
        Console(hurdle).event("trained", told)
    assert hurdle.proxies["progress"] == pytest.approx(0.5)
    Console(hurdle).event("score", {})
    assert better({"progress": 0.6, "kept": 0.5}, {"progress": 0.5, "kept": 0.4})


def test_the_pareto_set_has_the_most_erased_first():
    first = row(method("npo", a=1), erased=0.1, lost=0.2)
    second = row(method("npo", a=2), erased=0.5, lost=0.05)
    worse = row(method("npo", a=3), erased=0.6, lost=0.1)
    protocol = Protocol(settings=tree())
    assert front_of([second, worse, first], protocol=protocol) == (first, second)


@pytest.fixture
def world_of_two_settings(monkeypatch):
    """A run takes no time: what it erases is known from its learning rate."""
    ran: list[str] = []

    def fake(matrix, protocol, cell):
        folder = lay_out(matrix, cell)
        if read_row(folder) is None:
            ran.append(cell.id)
            lr = cell.values.get("train.lr", 5e-4)
            off = abs(math.log10(lr / 2e-3))
            status = "failed" if cell.name == "ga" else "done"
            write_row(folder, row(cell, erased=min(1.0, off), lost=0.02, status=status, why="x"))
        return read_row(folder)

    monkeypatch.setattr(sweep, "run_cell", fake)
    monkeypatch.setattr(tuning, "run_cells", lambda *_, **__: None)
    return ran


@pytest.fixture
def request_of(world):
    def made(name="npo", **method):
        return Settings.model_validate({**tree(method={"name": name, **method}), **_model(world)})

    return made


def _model(world):
    request = {"goal": "removal", "forget": [world.data("forget")], "retain": "none"}
    return {"model": world.original, "device": "cpu", "offline": True, "request": request}


@needs_optuna
def test_a_search_ends_at_its_budget_and_goes_on_without_repeating(
    tmp_path, world_of_two_settings, request_of
):
    given = {"console": SilentConsole()}
    first = tune(request_of(), tmp_path / "t", budget=Budget(trials=4), **given)
    assert len(world_of_two_settings) == 4
    again = tune(request_of(), tmp_path / "t", budget=Budget(trials=4), **given)
    assert len(world_of_two_settings) == 4
    assert again == first
    more = tune(request_of(), tmp_path / "t", budget=Budget(trials=9), **given)
    assert len(world_of_two_settings) == len(set(world_of_two_settings)) == 9
    assert any(each.cell.values == {} for each in rows_of(tmp_path / "t")), (
        "the defaults come first"
    )
    assert more.chosen in more.pareto
    values = [each.gates[0].value for each in rows_of(tmp_path / "t")]
    assert more.chosen.gates[0].value == min(values)
    assert more.settings.method.name == "npo"
    assert more.settings.chosen_among == 9
    given["budget"] = Budget(trials=1)
    anew = tune(more.settings, tmp_path / "anew", **given)
    assert anew.settings.chosen_among is None, "one alone is no choice"
    assert (tmp_path / "t" / "leaderboard.html").is_file()


@needs_optuna
def test_the_study_hears_the_defaults_under_their_own_values(
    tmp_path, world_of_two_settings, request_of
):
    given = {"budget": Budget(trials=3), "console": SilentConsole()}
    tune(request_of(), tmp_path / "t", methods=("npo", "rmu"), **given)
    trials = tuning._study(tmp_path / "t").get_trials()
    cells = [json.loads(each.user_attrs["cell"]) for each in trials]
    methods, values, _ = zip(*cells, strict=True)
    assert methods[:2] == ("npo", "rmu")
    assert values[:2] == ({}, {})
    assert values[2] != {}
    assert trials[0].params == {
        "method": "npo",
        "npo:method.beta": 0.1,
        "npo:method.gamma": 1.0,
        "npo:method.alpha": 1.0,
        "npo:method.retain": '"nll"',
        "npo:train.lr": 5e-4,
        "npo:train.epochs": "10",
        "npo:train.last_layer": "null",
        "npo:train.targets": "[]",
    }
    assert trials[1].params["rmu:train.lr"] == RMU().recipe.lr


@needs_optuna
def test_a_search_keeps_its_methods(tmp_path, world_of_two_settings, request_of):
    def go(*methods, trials):
        given = {"budget": Budget(trials=trials), "console": SilentConsole()}
        tune(request_of(), tmp_path / "t", methods=methods, **given)

    go("npo", "ga", "npo", trials=3)
    go("ga", "npo", trials=4)
    with pytest.raises(UsageError, match="one of npo, ga; now npo, rmu") as caught:
        go("npo", "rmu", trials=5)
    assert caught.value.code == "another-search"
    assert len(world_of_two_settings) == 4


@needs_optuna
@pytest.mark.parametrize(("floor", "erased"), [(0.75, 0.4), (0.5, 0.9)])
def test_the_pages_choose_by_the_floor_of_the_search(
    tmp_path, world_of_two_settings, request_of, floor, erased
):
    place = tmp_path / "t"
    given = {"budget": Budget(trials=1, floor=floor), "console": SilentConsole()}
    tune(request_of(), place, **given)
    wild = row(method("npo", **{"train.lr": 1e-3}), erased=0.1, lost=0.15)
    write_row(lay_out(place, wild.cell), wild)
    found = tune(request_of(), place, **given)
    (line,) = leaderboard(place).lines
    assert line.rows == (found.chosen,)
    assert line.axes[Axis.FORGETTING].value == pytest.approx(erased, abs=0.01)
    assert f"at least {floor}" in (place / "leaderboard.md").read_text(encoding="utf-8")


@needs_optuna
def test_a_stopped_search_finishes_the_trial_it_had_begun(
    tmp_path, world_of_two_settings, request_of, monkeypatch
):
    fake, stop = sweep.run_cell, iter([False, True])

    def stopping(matrix, protocol, cell):
        if next(stop):
            raise KeyboardInterrupt
        return fake(matrix, protocol, cell)

    given = {"console": SilentConsole(), "budget": Budget(trials=3)}
    with monkeypatch.context() as patched:
        patched.setattr(sweep, "run_cell", stopping)
        with pytest.raises(KeyboardInterrupt):
            tune(request_of(), tmp_path / "t", **given)
    assert len(world_of_two_settings) == 1
    tune(request_of(), tmp_path / "t", **given)
    assert len(world_of_two_settings) == 3, "the interrupted trial counts once and was run"


@needs_optuna
def test_a_search_goes_on_with_a_run_that_was_killed(
    tmp_path, world_of_two_settings, request_of, monkeypatch
):
    fake, killed = sweep.run_cell, [True]

    def killing(matrix, protocol, cell):
        if not killed:
            return fake(matrix, protocol, cell)
        killed.clear()
        return row(cell, status="failed", killed=True)

    monkeypatch.setattr(sweep, "run_cell", killing)
    given = {"console": SilentConsole(), "budget": Budget(trials=2)}
    tune(request_of(), tmp_path / "t", **given)
    assert len(world_of_two_settings) == 1
    tune(request_of(), tmp_path / "t", **given)
    assert len(world_of_two_settings) == 2
    trials = tuning._study(tmp_path / "t").get_trials()
    assert [each.state.name for each in trials] == ["COMPLETE", "COMPLETE"]


@needs_optuna
def test_auto_searches_what_suits_the_data_and_failures_do_not_end_it(
    tmp_path, world_of_two_settings, request_of
):
    assert tuning._suited(request_of("auto")) == tuning.FOR_QUESTIONS
    given = {"console": SilentConsole(), "budget": Budget(trials=8)}
    found = tune(request_of("auto"), tmp_path / "t", methods=("npo", "ga"), **given)
    assert found.chosen.cell.name == "npo"
    with pytest.raises(InputError, match="could be finished"):
        tune(request_of("ga"), tmp_path / "g", **given)


@needs_optuna
def test_what_is_invalid_is_not_chosen_and_the_study_does_not_hear_it(
    tmp_path, world_of_two_settings, request_of, monkeypatch
):
    fake = sweep.run_cell
    rulings = iter(["INVALID", "FAIL-DAMAGE", "PASS", "INVALID"])

    def ruling(matrix, protocol, cell):
        found = replace(fake(matrix, protocol, cell), ruling=next(rulings), why="")
        write_row(lay_out(matrix, cell), found)
        return found

    monkeypatch.setattr(sweep, "run_cell", ruling)
    given = {"console": SilentConsole(), "budget": Budget(trials=3)}
    found = tune(request_of(), tmp_path / "t", **given)
    judged = [each for each in rows_of(tmp_path / "t") if each.ruling != "INVALID"]
    assert len(judged) == 2
    assert found.settings.chosen_among == 2, "its report says so"
    assert found.chosen in judged
    assert all(each in judged for each in found.pareto)
    trials = tuning._study(tmp_path / "t").get_trials()
    assert [each.state.name for each in trials] == ["FAIL", "COMPLETE", "COMPLETE"]
    with pytest.raises(InputError, match="its auditor failed its own test"):
        tune(request_of(), tmp_path / "i", console=SilentConsole(), budget=Budget(trials=1))


def test_what_was_chosen_is_told_with_its_ruling(tmp_path, monkeypatch):
    chosen = replace(row(method("npo"), erased=0.4), ruling="FAIL-RESIDUAL")
    found = Tuned(pareto=(chosen,), chosen=chosen, settings=Settings.model_validate(tree()))
    monkeypatch.setattr(tuning, "tune", lambda *_, **__: found)
    console, said = SilentConsole(), {}
    monkeypatch.setattr(console, "line", said.__setitem__)
    monkeypatch.setattr(console, "note", lambda text: said.update(note=text))
    search(found.settings, tmp_path, budget=Budget(), console=console)
    assert said["chosen"] == "npo (its defaults): FAIL-RESIDUAL"
    assert said["note"].endswith("erased 0.60, kept 1.00, FAIL-RESIDUAL")


@needs_optuna
def test_time_ends_a_search(tmp_path, world_of_two_settings, request_of):
    budget = Budget(trials=50, minutes=3.5 / 60)
    tune(request_of(), tmp_path / "t", budget=budget, console=SilentConsole())
    assert len(world_of_two_settings) == 4, "each takes a second"


def test_without_optuna_the_error_names_the_command(tmp_path, monkeypatch, request_of):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'expunge\[tune\]'"):
        tune(request_of(), tmp_path, budget=Budget(), console=SilentConsole())


@needs_optuna
def test_a_chain_is_not_searched(tmp_path):
    chain = Settings.model_validate(tree(stage=[{"method": {"name": "rmu"}}]))
    with pytest.raises(UsageError, match="chain-in-a-matrix"):
        tune(chain, tmp_path / "t", budget=Budget(), console=SilentConsole())
    assert not (tmp_path / "t").exists()


@needs_optuna
def test_method_values_a_method_that_is_not_searched_are_refused(tmp_path, request_of):
    given = {"budget": Budget(), "console": SilentConsole()}
    for settings, methods in (
        (request_of("npo", beta=9), ("simnpo",)),
        (request_of("auto", beta=9), ()),
    ):
        with pytest.raises(UsageError, match="beta is set for method") as caught:
            tune(settings, tmp_path / "t", methods=methods, **given)
        assert caught.value.code == "unread-parameter"


@needs_optuna
def test_two_processes_side_by_side_propose_different_settings(tmp_path):
    studies = [tuning._study(tmp_path), tuning._study(tmp_path)]
    trials = [study.ask() for study in studies]
    for study, trial in zip(studies, trials, strict=True):
        tuning._reseed(study, 0, trial)
    first, second = (trial.suggest_float("x", 0, 1) for trial in trials)
    assert first != second
