"""Trackers: every number of a run arrives, nothing private does, and a broken one costs nothing."""

import io
import json
import sys
import threading
from functools import partial
from types import ModuleType, SimpleNamespace

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import expunge
from expunge.cli.main import main
from expunge.cli.terminal import human_console
from expunge.config.settings import finetune_settings
from expunge.errors import UsageError
from expunge.trackers import open_tracker, require_tracker
from expunge.trackers.base import TrackedRun, TrackerScreen
from expunge.utils.console import Console, Screen

RUN = TrackedRun(name="npo-1a2b3c4d", settings={"train.lr": 1e-4, "method": "npo"})
STEPS = [({"train/loss": 2.0}, 1), ({"train/loss": 1.0}, 2)]


class StandIn(ModuleType):
    """A module that is found, imported and recorded in the place of a tracker's own."""

    def __init__(self, name, **members):
        super().__init__(name)
        self.__spec__ = SimpleNamespace(origin=name)
        self.__dict__.update(members)


def wandb_stand_in(got):
    summary = SimpleNamespace(update=lambda values: got.update(summary=values))
    run = SimpleNamespace(
        log=lambda values, step: got["steps"].append((values, step)),
        summary=summary,
        finish=lambda exit_code: got.update(exit=exit_code),
    )

    def init(**given):
        got.update(name=given["id"], config=given["config"], quiet=given["settings"])
        got["mode"] = given["mode"]
        return run

    return {"wandb": StandIn("wandb", init=init, Settings=dict)}


def trackio_stand_in(got):
    def log(values, step=None):
        if step is None:
            got.update(summary=values)
        else:
            got["steps"].append((values, step))

    def init(**given):
        got.update(name=given["name"], config=given["config"])
        return SimpleNamespace(log=log, finish=lambda: got.update(exit=0))

    return {"trackio": StandIn("trackio", init=init)}


def mlflow_stand_in(got):
    metric = SimpleNamespace
    made = SimpleNamespace(info=SimpleNamespace(run_id="r"))

    def log_batch(run, metrics):
        values = {each.key: each.value for each in metrics}
        if metrics[0].step:
            got["steps"].append((values, metrics[0].step))
        else:
            got["summary"] = values

    client = SimpleNamespace(
        get_experiment_by_name=lambda name: None,
        create_experiment=lambda name: name,
        search_runs=lambda places, query: [],
        create_run=lambda place, run_name, tags: got.update(name=run_name) or made,
        log_param=lambda run, key, value: got["config"].update({key: value}),
        log_batch=log_batch,
        set_tag=lambda run, key, value: got["summary"].update({key: value}),
        set_terminated=lambda run, status: got.update(exit=int(status == "KILLED")),
    )
    entities = StandIn(
        "mlflow.entities",
        Metric=lambda key, value, now, step: metric(key=key, value=value, step=step),
    )
    where = "http://tracking" if got["mode"] == "elsewhere" else "sqlite:///mlflow.db"
    whole = StandIn("mlflow", MlflowClient=lambda: client, get_tracking_uri=lambda: where)
    return {"mlflow": whole, "mlflow.entities": entities}


STAND_INS = {"wandb": wandb_stand_in, "mlflow": mlflow_stand_in, "trackio": trackio_stand_in}


def stand_in(name, monkeypatch, **more):
    got = {"steps": [], "config": {}, "summary": {}, "mode": "", **more}
    for module, found in STAND_INS[name](got).items():
        monkeypatch.setitem(sys.modules, module, found)
    return got


@pytest.mark.parametrize("name", STAND_INS)
def test_a_tracker_gets_steps_settings_and_the_verdict(name, monkeypatch):
    got = stand_in(name, monkeypatch)
    require_tracker(name)
    tracker = open_tracker(name, RUN)
    for values, step in STEPS:
        tracker.log(values, step)
    tracker.finish({"privacy/gap": 0.1}, "PASS")
    assert (got["name"], got["config"], got["steps"]) == (RUN.name, dict(RUN.settings), STEPS)
    assert got["summary"] == {"privacy/gap": 0.1, "verdict": "PASS"}
    assert got["exit"] == 0


def test_wandb_is_told_to_collect_nothing_by_itself_and_offline_to_stay_here(monkeypatch):
    got = stand_in("wandb", monkeypatch)
    open_tracker("wandb", TrackedRun(name="a", offline=True))
    assert got["mode"] == "offline"
    assert got["quiet"]["console"] == "off"
    assert got["quiet"]["x_disable_meta"]
    assert got["quiet"]["disable_git"]


@pytest.mark.parametrize(("name", "variable"), [("mlflow", None), ("trackio", "TRACKIO_SPACE_ID")])
def test_a_tracker_that_is_elsewhere_is_refused_where_the_network_is_closed(
    name, variable, monkeypatch
):
    stand_in(name, monkeypatch, mode="elsewhere")
    if variable:
        monkeypatch.setenv(variable, "owner/space")
    with pytest.raises(UsageError, match="the network is closed for this run"):
        open_tracker(name, TrackedRun(name="a", offline=True))


@pytest.mark.parametrize("folder", [False, True])
def test_a_tracker_that_is_not_installed_is_named_with_its_command(folder, bench, monkeypatch):
    if folder:  # what the tracker once wrote beside the runs
        (bench / "trackio").mkdir()
        monkeypatch.syspath_prepend(str(bench))
    with pytest.raises(UsageError, match=r"pip install 'expunge\[trackio\]'"):
        require_tracker("trackio")


class Slow:
    """A tracker that has no network: it waits, then fails."""

    def __init__(self, run, *, wait, error):
        wait.wait(5)
        raise error

    def log(self, values, step): ...

    def finish(self, summary, verdict): ...


@pytest.mark.parametrize(("answers", "told"), [(True, "no route to host"), (False, "0 s")])
def test_a_tracker_without_network_is_warned_of_once_and_holds_nothing_up(answers, told):
    wait, errors = threading.Event(), io.StringIO()
    if answers:
        wait.set()
    start = partial(Slow, wait=wait, error=ConnectionError("no route\nto host"))
    console = human_console(out=io.StringIO(), errors=errors)
    screen = TrackerScreen("wandb", start, RUN, console.warn, patience=0.05)
    with console.also(screen), console.progress("train", total=2) as bar:
        bar.advance(values={"loss": 1.0})
        bar.advance(values={"loss": 0.5})
    screen.close()
    wait.set()
    said = " ".join(errors.getvalue().split())
    assert said.count("wandb does not have all numbers of this run") == 1
    assert told in said


def test_the_steps_of_a_chain_count_on():
    seen = []

    class Listed(Slow):
        def __init__(self, run):
            seen.append((run.name, 0))

        def log(self, values, step):
            seen.append((values["train/loss"], step))

    screen = TrackerScreen("wandb", Listed, RUN, print)
    console = Console(Screen())
    with console.also(screen):
        for _ in range(2):
            with console.progress("train", total=1) as bar:
                bar.advance(values={"loss": 1.0})
    screen.close()
    assert seen == [(RUN.name, 0), (1.0, 1), (1.0, 2)]


def scalars(folder):
    """Every scalar of the only run below a TensorBoard folder: steps and values by tag."""
    (run,) = folder.iterdir()
    events = EventAccumulator(str(run))
    events.Reload()
    tags = events.Tags()
    texts = b"".join(
        event.tensor_proto.string_val[0] for t in tags["tensors"] for event in events.Tensors(t)
    )
    found = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags["scalars"]}
    return found, texts.decode()


def test_a_run_is_in_tensorboard_and_its_texts_are_not(world, bench, monkeypatch):
    seen = []
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(bench / "boards"))
    settings = world.settings(train={"steps": 4}, tracker="tensorboard", out=str(bench / "run"))
    console = Console(Screen())
    screen = Screen()
    monkeypatch.setattr(screen, "moved", lambda meter: seen.append(meter.update()))
    with console.also(screen):
        outcome = expunge.forget(settings, console=console)
    found, texts = scalars(bench / "boards")
    assert [step for step, _ in found["train/loss"]] == [1, 2, 3, 4]
    updates = [update for update in seen if update.phase == "train"]
    assert [v for _, v in found["train/loss"]] == pytest.approx(
        [update.values["loss"] for update in updates], rel=1e-5
    )
    wanted = {"loss", "loss_forget", "gradient_norm", "lr", "forget_nll", "retain_probability"}
    assert {f"train/{name}" for name in wanted} <= set(found)
    assert outcome.verdict.ruling.value in texts
    assert len([tag for tag in found if "/" in tag and not tag.startswith("train/")]) > 5
    private = {*world.texts(), str(world.folder)} - {""}
    told = texts + " ".join(found)
    assert [text for text in private if len(text) > 6 and text in told] == []


def test_a_training_is_tracked_and_goes_on_with_its_steps(world, bench, monkeypatch):
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(bench / "boards"))
    recipe = {"model": world.original, "data": (world.data("forget"),), "device": "cpu"}
    settings = finetune_settings({**recipe, "train": {"epochs": 2, "batch": 6, "lr": 1e-3}})
    expunge.train(settings, out=bench / "run", offline=True, tracker="tensorboard")
    found, _ = scalars(bench / "boards")
    assert [step for step, _ in found["train/loss"]] == [1, 2, 3, 4]


def test_the_tracker_of_the_command_line_is_a_setting(world, bench, capsys):
    words = world.command("--dry-run", "--tracker", "tensorbord")
    assert main(words) == 2
    assert "tensorboard" in capsys.readouterr().err
    words = world.command("--tracker", "mlflow", "--format", "json")
    assert main(words) == 2
    assert "expunge[mlflow]" in capsys.readouterr().err
    assert not (bench / "runs").exists()


def test_the_tracker_of_a_run_does_not_change_its_identity(world, bench):
    plain = world.settings(train={"steps": 2}, out=str(bench / "run"))
    expunge.forget(plain)
    before = json.loads((bench / "run" / "run.json").read_text())["run_id"]
    expunge.forget(plain.model_copy(update={"tracker": "tensorboard"}))
    assert json.loads((bench / "run" / "run.json").read_text())["run_id"] == before
