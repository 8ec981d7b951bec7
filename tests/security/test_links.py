"""Links are not followed out of a run folder: what they point to is neither read nor changed."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bench_results import method
from expunge.benchmarking.protocol import Protocol
from expunge.benchmarking.result import cell_folder
from expunge.benchmarking.sweep import run_cell
from expunge.cli.main import main
from expunge.errors import UsageError
from expunge.pipeline.run_folder import claim, open_run
from expunge.provenance.verify import verify
from expunge.utils.io import write_json
from synthetic_run import build_run

PRIVATE = "what somebody else keeps"


@pytest.fixture
def outside(tmp_path):
    """A file and a folder that no command may touch."""
    path = tmp_path / "outside"
    path.mkdir()
    (path / "diary.txt").write_text(PRIVATE)
    yield path
    assert (path / "diary.txt").read_text() == PRIVATE
    assert [each.name for each in path.iterdir()] == ["diary.txt"]


def plant(run: Path, place: str, outside: Path) -> None:
    """Put a link where a run writes or reads."""
    path = run / place
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = place in ("evidence", "checkpoints")
    path.symlink_to(outside if whole else outside / "diary.txt", target_is_directory=whole)


PLACES = (".lock", "log.txt", "config.toml", "evidence", "checkpoints", "evidence/items.jsonl")


@pytest.mark.parametrize("place", PLACES)
def test_a_run_does_not_begin_over_a_planted_link(place, outside, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    write_json(run / "run.json", {"run_id": "4f1c0a2b"})
    plant(run, place, outside)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    with pytest.raises(UsageError, match="link-in-run"):
        open_run(run, root=tmp_path, run_id="4f1c0a2b", method="npo", now=now)


@pytest.mark.parametrize("kind", ["symbolic", "hard", "pipe"])
def test_a_lock_is_a_file_of_its_own(kind, outside, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    if kind == "symbolic":
        (run / ".lock").symlink_to(outside / "diary.txt")
    elif kind == "hard":
        (run / ".lock").hardlink_to(outside / "diary.txt")
    else:
        os.mkfifo(run / ".lock")
    with pytest.raises(UsageError, match="link-in-run"):
        claim(run)
    if kind == "hard":
        (run / ".lock").unlink()


def test_a_cell_does_not_begin_over_a_planted_link(outside, tmp_path):
    cell = method("npo")
    plant(cell_folder(tmp_path, cell), "log.txt", outside)
    with pytest.raises(UsageError, match="link-in-run"):
        run_cell(tmp_path, Protocol(settings={}), cell)


@pytest.mark.parametrize(
    "words",
    [
        ["report", "run"],
        ["evidence", "show", "run"],
        ["evidence", "destroy", "run"],
        ["merge", "run", "--out", "merged"],
        ["compat", "run"],
        ["audit", "model", "--against", "run"],
        ["attack", "model", "--against", "run"],
    ],
)
@pytest.mark.parametrize("place", ["evidence/more.jsonl", "more", "a pipe"])
def test_no_command_reads_a_run_with_links(words, place, outside, bench, capsys):
    run = build_run(bench / "run")
    (run / "run.json").write_text("{}")
    if place == "a pipe":
        os.mkfifo(run / place)
    else:
        plant(run, place, outside)
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "error[link-in-run]" in said
    assert place in said
    assert PRIVATE not in said


@pytest.mark.parametrize("place", ["manifest.json", "results.json", "evidence", "more.lock"])
def test_verify_names_every_link_and_follows_none(place, outside, tmp_path):
    run = build_run(tmp_path / "run")
    (run / "manifest.json").write_text("{}")
    target = run / place
    if target.is_dir():
        target.rename(tmp_path / "away")
    target.unlink(missing_ok=True)
    plant(run, place, outside)
    found = verify(run)
    assert [(each.path, each.what) for each in found.problems] == [(place, "is a link, not a file")]


@pytest.mark.parametrize("place", ["results.json", "evidence/more.jsonl"])
def test_verify_waits_for_no_pipe(place, tmp_path):
    run = build_run(tmp_path / "run")
    (run / "manifest.json").write_text("{}")
    (run / place).unlink(missing_ok=True)
    os.mkfifo(run / place)
    assert [(each.path, each.what) for each in verify(run).problems] == [
        (place, "is no ordinary file")
    ]


def test_the_folder_itself_may_be_named_by_a_link(bench, capsys):
    """So runs/latest works."""
    run = build_run(bench / "run")
    (run / "run.json").write_text("{}")
    Path("latest").symlink_to(run)
    assert main(["evidence", "show", "latest"]) == 0
