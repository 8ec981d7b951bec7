"""The run folder: identity, resumption, refusal, and the lock."""

import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from expunge.config.settings import Settings
from expunge.errors import UsageError
from expunge.pipeline.run_folder import mark_latest, open_run, run_id

NOW = datetime(2027, 1, 14, 9, 30)
LATER = datetime(2027, 2, 1, 8, 0)


def settings(**changes):
    tree = {
        "model": "gpt2",
        "request": {"goal": "removal", "forget": ["secrets.jsonl"], "gold": ["gold"]},
        "method": {"name": "npo", "beta": 0.1},
    }
    for path, value in changes.items():
        *parents, key = path.split("__")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[key] = value
    return Settings.model_validate(tree)


def identity(data_digest="d", model_digest="m", code_version="1", **changes):
    return run_id(
        settings(**changes),
        data_digest=data_digest,
        model_digest=model_digest,
        code_version=code_version,
    )


def begin(root, *, out=None, name="0a1b2c3d", now=NOW):
    return open_run(out, root=root, run_id=name, method="npo", now=now)


@pytest.mark.parametrize(
    "changes",
    [
        {"out": "elsewhere"},
        {"reference_store": "elsewhere"},
        {"offline": True},
        {"report__redact": False},
        {"model": "./copy-of-gpt2"},
        {"request__forget": ["/moved/secrets.jsonl"]},
    ],
)
def test_identity_ignores_what_does_not_change_the_result(changes):
    assert identity(**changes) == identity()


@pytest.mark.parametrize(
    "changes",
    [
        {"data_digest": "other"},
        {"model_digest": "other"},
        {"code_version": "2"},
        {"train__seed": 1},
        {"train__lr": 1e-4},
        {"method__beta": 0.2},
        {"request__goal": "suppression"},
        {"request__gold": ["other"]},
        {"audit__max_new_tokens": 8},
        {"chosen_among": 8},
    ],
)
def test_identity_changes_with_whatever_changes_the_result(changes):
    assert identity(**changes) != identity()


def test_identity_is_eight_hex_digits():
    assert len(identity()) == 8
    assert int(identity(), 16) >= 0


def test_a_new_run_is_named_by_time_method_and_identity(tmp_path):
    with begin(tmp_path / "runs") as run:
        assert run.path == tmp_path / "runs" / "20270114-0930-npo-0a1b2c3d"
        assert json.loads((run.path / "run.json").read_text())["run_id"] == "0a1b2c3d"
        assert not run.finished
        run.manifest.write_text("{}")
        assert run.finished
    assert sorted(path.name for path in run.path.iterdir()) == ["manifest.json", "run.json"]


def test_the_same_command_resumes_and_another_does_not(tmp_path):
    with begin(tmp_path) as first:
        pass
    with begin(tmp_path, now=LATER) as again:
        assert again.path == first.path
    with begin(tmp_path, name="ffffffff", now=LATER) as other:
        assert other.path.name == "20270201-0800-npo-ffffffff"


def test_an_explicit_folder_is_taken_exactly_and_can_be_resumed(tmp_path):
    out = tmp_path / "deep" / "mine"
    for now in (NOW, LATER):
        with begin(tmp_path / "runs", out=out, now=now) as run:
            assert run.path == out
    assert not (tmp_path / "runs").exists()


def test_an_empty_folder_and_one_with_only_a_lock_may_be_used(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "crashed").mkdir()
    (tmp_path / "crashed" / ".lock").write_text("")
    for name in ("empty", "crashed"):
        with begin(tmp_path, out=tmp_path / name) as run:
            assert run.path == tmp_path / name


def test_a_folder_with_a_half_written_name_is_taken(tmp_path):
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / ".run.json.abc.part").write_text("{")
    with begin(tmp_path, out=tmp_path / "killed") as run:
        assert run.path == tmp_path / "killed"


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"run.json": '{"run_id": "ffffffff"}'}, "it holds run ffffffff"),
        ({"thesis.tex": "years of work"}, "files that are not a run"),
        ({"run.json": "not json"}, "files that are not a run"),
        ({"run.json": "[1]"}, "files that are not a run"),
    ],
)
def test_a_folder_with_something_else_is_refused_and_untouched(tmp_path, files, why):
    out = tmp_path / "out"
    out.mkdir()
    for name, text in files.items():
        (out / name).write_text(text)
    with pytest.raises(UsageError, match=why) as caught:
        begin(tmp_path, out=out)
    assert caught.value.code == "folder-in-use"
    assert {path.name: path.read_text() for path in out.iterdir()} == files


def test_a_file_is_not_a_run_folder(tmp_path):
    (tmp_path / "out").write_text("x")
    with pytest.raises(UsageError, match="it is a file, not a folder"):
        begin(tmp_path, out=tmp_path / "out")


def test_a_folder_in_use_by_a_living_process_is_refused(tmp_path):
    with begin(tmp_path) as run:
        with pytest.raises(UsageError, match=f"process {os.getpid()} on .* since 2") as caught:
            begin(tmp_path)
        assert caught.value.code == "run-locked"
        assert (run.path / ".lock").exists()
    begin(tmp_path).close()


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path):
    script = (
        "import os, sys; from pathlib import Path; from datetime import datetime\n"
        "from expunge.pipeline.run_folder import open_run\n"
        "run = open_run(Path(sys.argv[1]), root=Path('.'), run_id='0a1b2c3d', method='npo',"
        " now=datetime(2027, 1, 14))\n"
        "os._exit(0)\n"
    )
    out = tmp_path / "out"
    subprocess.run([sys.executable, "-c", script, str(out)], check=True)
    assert json.loads((out / ".lock").read_text())["pid"] != os.getpid()
    with begin(tmp_path, out=out):
        assert json.loads((out / ".lock").read_text())["pid"] == os.getpid()


def test_closing_twice_frees_once(tmp_path):
    run = begin(tmp_path)
    run.close()
    with begin(tmp_path) as second:
        run.close()
        assert (second.path / ".lock").exists()


def test_prune_removes_checkpoints_only(tmp_path):
    with begin(tmp_path) as run:
        (run.checkpoints / "step-1").mkdir(parents=True)
        run.evidence.mkdir()
        run.prune()
        assert not run.checkpoints.exists()
        assert run.evidence.is_dir()
        run.prune()


def test_latest_follows_the_runs_of_the_root(tmp_path):
    names = []
    for name in ("0a1b2c3d", "ffffffff"):
        with begin(tmp_path, name=name) as run:
            mark_latest(run.path, root=tmp_path)
            assert (tmp_path / "latest").resolve() == run.path.resolve()
            names.append(run.path.name)
    assert sorted(path.name for path in tmp_path.iterdir()) == [*sorted(names), "latest"]
    assert Path((tmp_path / "latest").readlink()) == Path(names[-1])


def test_latest_is_left_alone_for_folders_elsewhere_and_when_it_is_the_users(tmp_path):
    root = tmp_path / "runs"
    with begin(root, out=tmp_path / "mine") as run:
        mark_latest(run.path, root=root)
    assert not root.exists()
    (root / "latest").mkdir(parents=True)
    with begin(root) as run:
        mark_latest(run.path, root=root)
    assert (root / "latest").is_dir()
    assert not (root / "latest").is_symlink()
