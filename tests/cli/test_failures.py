"""How commands fail: the exit code, and a message that says what, why and how to fix it."""

import errno
import os
import subprocess
import sys

import huggingface_hub.errors as hub
import pytest
import torch

from expunge.cli import main
from expunge.cli.errors import explain
from expunge.errors import ExpungeError, InputError

FORGET = ["forget", "gpt2", "secrets.jsonl"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["forgt", "m", "d"], 2, 'Unknown command "forgt". Did you mean "forget"?'),
        ([*FORGET, "--epocs", "3"], 2, "Unknown option: --epocs. Did you mean --epochs?"),
        ([*FORGET, "--goal", "x"], 2, 'Choose from: "removal", "suppression", "edit"'),
        ([*FORGET, "--epochs", "many"], 2, "--epochs"),
        ([*FORGET, "--format", "xml"], 2, 'Choose from: "human", "json", "quiet"'),
        (["merge", "run"], 2, "--out"),
        ([*FORGET, "--set", "train.lr"], 2, "error[bad-assignment]: --set 'train.lr'"),
        (["forget", "a.toml", "--config", "b.toml"], 2, "error[two-request-files]"),
        (["audit", "m", "--against", "a.toml", "--config", "b"], 2, "error[two-request-files]"),
        (["verify", "nowhere"], 4, "error[no-run]: nowhere is not a run folder"),
        (["report", "."], 4, "error[no-run]: . is not a run folder"),
    ],
)  # fmt: skip
def test_usage_errors_say_what_why_fix_in_five_lines(calls, words, code, message, capsys):
    assert main(words) == code
    shown = capsys.readouterr()
    assert message in shown.err
    assert len(shown.err.splitlines()) <= 5
    assert [line[:7] for line in shown.err.splitlines()][1:] == ["  why: ", "  fix: "]
    assert calls.asked is None


def hub_error(kind):
    return kind.__new__(kind)


@pytest.mark.parametrize(
    ("error", "code", "name"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), 5, "out-of-memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 5, "out-of-memory"),
        (torch.AcceleratorError("CUDA error: out of memory", 2), 5, "out-of-memory"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when"), 5, "out-of-memory"),
        (RuntimeError("CUDA error: an illegal memory access was"), 1, "bug"),
        (MemoryError(), 5, "out-of-memory"),
        (OSError(errno.ENOSPC, "No space left on device"), 5, "disk-full"),
        (hub_error(hub.GatedRepoError), 4, "gated-repository"),
        (hub_error(hub.RepositoryNotFoundError), 4, "not-on-hub"),
        (hub_error(hub.LocalEntryNotFoundError), 4, "not-cached"),
        (hub.OfflineModeIsEnabled("offline"), 4, "not-cached"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (InputError("empty", what="w", why="y", fix="f"), 4, "empty"),
        (ZeroDivisionError("division by zero"), 1, "bug"),
        (OSError(errno.EIO, "input/output error"), 1, "bug"),
    ],
)
def test_every_failure_has_its_exit_code_and_no_traceback(calls, error, code, name, capsys):
    calls.error = error
    assert main(FORGET) == code
    shown = capsys.readouterr().err
    assert shown.startswith(f"error[{name}]: ")
    assert len(shown.splitlines()) <= 5
    assert main([*FORGET, "--verbose"]) == code
    assert "Traceback" in capsys.readouterr().err


def test_the_cause_explains_a_wrapped_error():
    outer = OSError("cannot load the model")
    outer.__cause__ = hub.OfflineModeIsEnabled("offline")
    assert explain(outer).code == "not-cached"


def test_a_bug_asks_for_the_doctor_and_is_one_short_line(calls, capsys):
    calls.error = ZeroDivisionError("a\nb " + "x" * 5000)
    assert main(FORGET) == 1
    first, _, fix = capsys.readouterr().err.splitlines()
    assert first.startswith("error[bug]: ZeroDivisionError: a b xxx")
    assert len(first) <= 400
    assert "`expunge doctor`" in fix


def test_an_interrupted_run_says_that_the_same_command_resumes(calls, capsys):
    calls.error = KeyboardInterrupt()
    assert main(FORGET) == 130
    assert "run the same command again: it resumes" in capsys.readouterr().err


def test_a_reader_that_leaves_early_is_no_failure_to_talk_about():
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as stdout:
        words = [sys.executable, "-m", "expunge", "version"]
        done = subprocess.run(words, stdout=stdout, stderr=subprocess.PIPE, env=dict(os.environ))
    assert (done.returncode, done.stderr) == (130, b"")


def test_expunge_errors_have_distinct_exit_codes():
    kinds = [ExpungeError, *ExpungeError.__subclasses__()]
    assert sorted(kind.exit_code for kind in kinds) == [1, 2, 3, 4, 5, 130]
