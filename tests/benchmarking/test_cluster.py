"""Runs of a matrix on a cluster: Ray, submitit, and clusters that do not answer."""

import json
import os
import signal
import socket
import sys
import threading
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import tomli_w

from bench_results import method, row, tree
from expunge.benchmarking import cluster
from expunge.benchmarking import tune as tuning
from expunge.benchmarking.cluster import RayRunner, RunResources, SlurmRunner
from expunge.benchmarking.cluster_task import CellTask
from expunge.benchmarking.protocol import Protocol, open_protocol
from expunge.benchmarking.result import lay_out, read_row, rows_of, write_row
from expunge.benchmarking.tune import Budget, tune
from expunge.cli import main
from expunge.config.settings import Settings
from expunge.errors import ExpungeError, InputError, ResourceError
from expunge.utils.console import SilentConsole

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="ray, an extra, is not installed")
needs_submitit = pytest.mark.skipif(
    find_spec("submitit") is None, reason="submitit, an extra, is not installed"
)


@pytest.fixture(scope="module")
def address():
    """A cluster of two machines with one core each, on this one."""
    from ray.cluster_utils import Cluster

    patch = pytest.MonkeyPatch()
    patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    machines = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    machines.add_node(num_cpus=1)
    yield machines.address
    machines.shutdown()
    patch.undo()


def killing(folder, killed):
    """Kill the first process that has claimed the cell of a method, once its training has begun."""
    while not killed and not (folder / "stop").exists():
        time.sleep(0.05)
        for place in folder.glob("cells/npo-*"):
            begun = any(place.glob("run/checkpoints/*")) or (place / "run" / "evidence").is_dir()
            lock = next(place.glob("*lock*"), None) or next(place.glob(".*lock*"), None)
            if not begun or lock is None or not lock.read_text():
                continue
            killed.append(json.loads(lock.read_text())["pid"])
            os.kill(killed[0], signal.SIGKILL)
            return


@needs_ray
@pytest.mark.slow
def test_a_bench_on_ray_has_the_rows_of_a_shard_though_a_worker_is_killed(world, bench, address):
    request = world.settings(request={"gold": (world.gold,)}).model_dump(
        mode="json", exclude_none=True
    )
    Path("request.toml").write_text(tomli_w.dumps(request), encoding="utf-8")
    words = ["bench", "request.toml", "--methods", "npo", "--offline"]
    Path("ray").mkdir()
    killed: list[int] = []
    watch = threading.Thread(target=killing, args=(Path("ray"), killed), daemon=True)
    watch.start()
    assert main([*words, "--out", "ray", "--ray", address]) == 0
    (Path("ray") / "stop").touch()
    watch.join()
    assert len(killed) == 1
    assert main([*words, "--out", "shard", "--shard", "1/1"]) == 0
    ray, shard = (
        {each.cell.name: each for each in rows_of(Path(name))} for name in ("ray", "shard")
    )
    assert {name: each.status for name, each in ray.items()} == dict.fromkeys(shard, "done"), ray
    for name, each in shard.items():
        same = ("cell", "ruling", "gates", "numbers", "models", "proxies")
        for part in same:
            assert getattr(ray[name], part) == getattr(each, part), (name, part)
        assert ray[name].settings.replace('"ray/', '"shard/') == each.settings
    assert "npo" in (Path("ray") / "leaderboard.md").read_text(encoding="utf-8")


@needs_ray
@pytest.mark.slow
def test_a_run_that_is_lost_for_good_is_a_row_with_which_the_next_command_goes_on(
    tmp_path, address
):
    import ray

    def dying(task):
        os.kill(os.getpid(), signal.SIGKILL)

    patch = pytest.MonkeyPatch()
    patch.setattr(cluster, "run_task", dying)
    patch.setattr(cluster, "RETRIES", 1)
    protocol = open_protocol(tmp_path / "m", Protocol(settings=tree()))
    with cluster.ray_runner(address, RunResources()) as runner:
        ((cell, lost),) = runner.run(tmp_path / "m", protocol, [method("npo")], at_once=None)
    patch.undo()
    assert (cell, lost.status, lost.killed) == (method("npo"), "failed", True)
    assert lost.why.startswith("its task was lost: WorkerCrashedError")
    assert read_row(lay_out(tmp_path / "m", cell)) == lost
    assert not ray.is_initialized()


@needs_submitit
@pytest.mark.slow
def test_jobs_of_submitit_write_rows_and_bring_home_what_stands_in_the_way(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    protocol = open_protocol(tmp_path / "m", Protocol(settings=tree()))
    runner = SlurmRunner(resources=RunResources(hours=0.1), partition="any", cluster="local")
    ((_, found),) = runner.run(tmp_path / "m", protocol, [method("npo")], at_once=None)
    assert found.status == "failed", "the model of these settings is nowhere"
    assert not found.killed
    assert read_row(lay_out(tmp_path / "m", method("npo"))) == found
    monkeypatch.setattr(cluster, "_task", lambda *_: CellTask(matrix="/no", cell="c", folder="/no"))
    with pytest.raises(InputError, match="/no is not there on"):
        list(runner.run(tmp_path / "m", protocol, [method("ga")], at_once=None))


class Several:
    """Stands for a cluster: takes as many cells as it is let, and ends the last one first."""

    def __init__(self):
        self.most = 0

    def run(self, matrix, protocol, cells, *, at_once):
        cells, running = iter(cells), []
        while True:
            while len(running) < at_once and (cell := next(cells, None)) is not None:
                running.append(cell)
            if not running:
                return
            self.most = max(self.most, len(running))
            cell = running.pop()
            write_row(lay_out(matrix, cell), row(cell, erased=0.5, lost=0.02))
            yield cell, read_row(lay_out(matrix, cell))


@pytest.mark.skipif(find_spec("optuna") is None, reason="optuna, an extra, is not installed")
def test_a_search_on_a_cluster_tries_several_settings_at_once(world, tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "run_cells", lambda *_, **__: None)
    monkeypatch.setattr(tuning, "AT_ONCE", 3)
    request = {"goal": "removal", "forget": [world.data("forget")], "retain": "none"}
    model = {"model": world.original, "device": "cpu", "offline": True, "request": request}
    settings = Settings.model_validate({**tree(method={"name": "npo"}), **model})
    runner, place = Several(), tmp_path / "t"
    given = {"budget": Budget(trials=7), "console": SilentConsole()}
    tune(settings, place, runner=runner, **given)
    states = [each.state.name for each in tuning._study(place).get_trials()]
    assert (states, runner.most) == (["COMPLETE"] * 7, 3)
    assert sum(each.cell.values == {} for each in rows_of(place)) == 1, "the defaults come first"


def test_an_error_is_the_same_in_another_process():
    import copy

    error = ResourceError("disk-full", what="no space", why="it is full", fix="free some")
    again = copy.copy(error)
    assert isinstance(again, ResourceError)
    assert (str(again), again.code, again.fix) == (str(error), "disk-full", "free some")


def test_a_task_says_what_it_misses_on_its_machine(tmp_path, monkeypatch):
    open_protocol(tmp_path / "m", Protocol(settings=tree()))
    monkeypatch.chdir(tmp_path)
    task = cluster._task(Path("m"), method("npo"))
    codes = [
        error.code
        for changed in ({"matrix": "n"}, {"folder": "/no"}, {"version": "0.0.1"})
        if isinstance(error := replace(task, **changed)(), ExpungeError)
    ]
    assert codes == ["not-shared", "not-shared", "other-version"]


def closed_port():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


REFUSED = [
    (("--ray", "auto", "--slurm", "gpu"), 2, "--ray and --slurm were both given"),
    (("--ray", "auto", "--shard", "1/2"), 2, "leave --shard out"),
    (("--ray", "auto", "--run-cpus", "0"), 2, "--run-cpus to 1 or more"),
    pytest.param(("--ray", "127.0.0.1:CLOSED"), 4, "no Ray cluster answers", marks=needs_ray),
    pytest.param(("--slurm", "gpu"), 4, "there is no sbatch", marks=needs_submitit),
]


@pytest.mark.parametrize(("flags", "code", "said"), REFUSED)
def test_a_cluster_that_cannot_be_used_is_refused(flags, code, said, world, bench, capsys):
    Path("request.toml").write_text(
        tomli_w.dumps(world.settings().model_dump(mode="json", exclude_none=True))
    )
    words = [word.replace("CLOSED", str(closed_port())) for word in flags]
    assert main(["bench", "request.toml", "--methods", "npo", *words]) == code
    assert said in capsys.readouterr().err
    assert not list(Path("bench").rglob("row.json"))


@pytest.mark.parametrize(
    ("module", "extra", "flag"), [("ray", "ray", "--ray"), ("submitit", "slurm", "--slurm")]
)
def test_a_missing_extra_is_named(module, extra, flag, monkeypatch):
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    with pytest.raises(ExpungeError, match=f"{flag} needs {module}") as caught:
        cluster._require(module, flag)
    assert caught.value.fix == f"pip install 'expunge[{extra}]'"
    assert RayRunner(resources=RunResources()).resources.cpus == 1
