"""A run folder stands for its own request: what its settings lead to elsewhere is another one."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import expunge
from expunge.cli import main
from expunge.config.resolve import resolve
from expunge.errors import UsageError
from expunge.preparation.prepare import prepare
from expunge.provenance.lineage import require_same_request
from expunge.provenance.manifest import Retention, write_body
from expunge.provenance.verify import verify
from expunge.utils.io import read_json, write_json

DATA = "forget.jsonl"


def write(folder, rows):
    (folder / DATA).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture(scope="module")
def made(world, tmp_path_factory):
    """A run whose forget set was named by a relative path, in the folder of its data and key.

    And a folder of attacks on the same request; with a gold, so that it has no control items.
    """
    place = tmp_path_factory.mktemp("made")
    shutil.copy(world.data("forget"), place / DATA)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXPUNGE_CACHE", str(place / "cache"))
        patch.setenv("EXPUNGE_KEY_FILE", str(place / "operator.key"))
        patch.chdir(place)
        request = {"forget": (DATA,)}
        expunge.forget(world.settings(request=request, train={"steps": 2}, out="run"))
        words = ["--against", "run/config.toml", "--only", "plain", "--out", "ladder"]
        assert main(["attack", world.original, "--gold", world.gold, *words]) == 0
    return place


@pytest.fixture
def elsewhere(made, bench, monkeypatch):
    """Another working folder, with the key of the run."""
    monkeypatch.setenv("EXPUNGE_KEY_FILE", str(made / "operator.key"))
    return bench


def held_against(run, original=None, precision=None):
    """Compare what the settings of a run lead to from here."""
    settings = resolve({}, config=run / "config.toml", environ={}, start=Path.cwd()).settings
    prepared = prepare(settings)
    if precision is not None:
        prepared = replace(prepared, source=replace(prepared.source, dtype=precision))
    known = json.loads((run / "manifest.json").read_text())["models"]["original"]
    require_same_request(run, prepared, original=original or known)


CHANGES = {
    "as it was": (lambda rows: rows, None),
    "in another order": (lambda rows: rows[::-1], None),
    "extended": (lambda rows: [*rows, {**rows[0], "id": "new", "prompt": "?"}], "13, 12 the same"),
    "replaced": (lambda rows: [{**row, "prompt": f"Or {row['id']}?"} for row in rows], "12, 0 the"),
    "reworded": (lambda rows: [{**rows[0], "prompt": "Who?"}, *rows[1:]], "12, 11 the same"),
}


@pytest.mark.parametrize("folder", ["run", "ladder"])
@pytest.mark.parametrize("change", CHANGES)
def test_other_forget_records_are_refused(change, folder, made, elsewhere, world):
    changed, told = CHANGES[change]
    write(elsewhere, changed(world.rows("forget")))
    if told is None:
        held_against(made / folder)
        return
    with pytest.raises(UsageError, match=f"12 forget records, now there are {told}") as caught:
        held_against(made / folder)
    assert caught.value.code == "another-request"
    assert "config.toml" in caught.value.fix
    assert [text for text in world.texts() if len(text) > 4 and text in str(caught.value)] == []


@pytest.mark.parametrize("key", ["none", "another"])
def test_without_the_key_of_the_run_records_are_counted(key, made, bench, world):
    if key == "another":
        path = bench.parent / "operator.key"
        path.write_bytes(bytes(32))
        path.chmod(0o600)
    for change, (changed, _) in CHANGES.items():
        write(bench, changed(world.rows("forget")))
        if change == "extended":
            with pytest.raises(UsageError, match="12 forget records, now 13"):
                held_against(made / "run")
        else:
            held_against(made / "run")


@pytest.mark.parametrize("folder", ["run", "ladder"])
def test_another_original_is_refused_where_the_format_is_the_same(folder, made, elsewhere, world):
    write(elsewhere, world.rows("forget"))
    with pytest.raises(UsageError, match="its original had other weights"):
        held_against(made / folder, original="0" * 64)
    held_against(made / folder, original="0" * 64, precision=torch.bfloat16)


def test_a_folder_of_attacks_from_before_still_verifies(made, elsewhere):
    """Neither its rules nor its manifest name a number format."""
    old = Path(shutil.copytree(made / "ladder", elsewhere / "old"))
    assert verify(old).ok
    rules, manifest = (read_json(old / name) for name in ("battery.json", "manifest.json"))
    assert rules.pop("precision") == manifest.pop("precision") == "float32"
    write_json(old / "battery.json", rules)
    del manifest["schema"], manifest["digest"], manifest["files"]
    kept = Retention(**manifest.pop("evidence"))
    write_body(old, manifest, data_fingerprints=manifest.pop("data"), evidence=kept)
    assert verify(old).problems == ()


def test_a_folder_that_is_not_finished_has_nothing_to_compare_with(made, elsewhere, world):
    run = Path(shutil.copytree(made / "run", elsewhere / "run"))
    write(elsewhere, world.rows("forget")[:3])
    prepared = prepare(world.settings(request={"forget": (DATA,)}))
    with pytest.raises(UsageError, match="now there are 3"):
        require_same_request(run, prepared, original="")
    (run / "manifest.json").unlink()
    require_same_request(run, prepared, original="")


@pytest.mark.parametrize("command", [["audit"], ["attack", "--only", "wording"]])
def test_the_commands_refuse_before_they_judge(command, made, elsewhere, world, capsys):
    write(elsewhere, world.rows("forget")[:3])
    name, *flags = command
    assert main([name, world.gold, "--against", str(made / "run"), *flags]) == 2
    assert "error[another-request]" in capsys.readouterr().err
    assert not (elsewhere / "runs").exists()


def test_a_request_file_is_taken_as_it_is_now(made, elsewhere, world):
    write(elsewhere, world.rows("forget")[:3])
    config = str(made / "run" / "config.toml")
    assert main(["attack", world.original, "--against", config, "--only", "plain"]) == 0
