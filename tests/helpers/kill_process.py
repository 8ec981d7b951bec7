"""Commands in processes of their own, stopped at a chosen moment, and what must come of them."""

import multiprocessing
import os
import runpy
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import expunge

PATIENCE = 120
# A server that has loaded the libraries once, and runs nothing, starts each process.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["expunge.pipeline.forget", "rouge_score.rouge_scorer"])


@dataclass(frozen=True, kw_only=True, slots=True)
class Running:
    """A process, and the file of what it says on stderr, which goes with this object."""

    process: BaseProcess
    stderr: "tempfile._TemporaryFileWrapper[bytes]"

    def ended(self) -> bool:
        """Whether it has ended by itself."""
        return self.process.exitcode is not None

    def wait(self) -> str:
        """Wait until it has ended; return what it said on stderr."""
        self.process.join(PATIENCE)
        assert self.ended(), "it does not end"
        return Path(self.stderr.name).read_text(encoding="utf-8")


def begin(work: Callable[..., object], *given: object) -> Running:
    """Call a function of a helper in a process of its own, in this folder and environment."""
    stderr = tempfile.NamedTemporaryFile(suffix=".stderr")  # noqa: SIM115 (`Running` keeps it)
    process = SERVER.Process(target=_alone, args=(stderr.name, {**os.environ}, work, *given))
    process.start()
    return Running(process=process, stderr=stderr)


def _alone(
    name: str, environment: dict[str, str], work: Callable[..., object], *given: object
) -> None:
    import torch

    os.environ.clear()
    os.environ.update(environment)
    torch.set_num_threads(1)
    for stream, path in ((1, os.devnull), (2, name)):
        handle = os.open(path, os.O_WRONLY)
        os.dup2(handle, stream)
        os.close(handle)
    work(*given)


def call(file: str, name: str, *given: str) -> None:
    """Call a function of a test file, which no other process can import."""
    runpy.run_path(file)[name](*given)


def launch(words: Sequence[str]) -> Running:
    """Start `expunge` with these words."""
    return begin(_expunge, words)


def _expunge(words: Sequence[str]) -> None:
    sys.argv[:] = ["expunge", *words]
    # A shell starts its background jobs deaf to Ctrl-C, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    runpy.run_module("expunge", run_name="__main__", alter_sys=True)


def stop(running: Running, moment: Path, kind: signal.Signals) -> str:
    """Send a signal once a file is there; return what the process said on stderr."""
    deadline = time.monotonic() + PATIENCE
    while not moment.exists():
        assert not running.ended(), f"ended before {moment.name}: {running.wait()}"
        assert time.monotonic() < deadline, f"{moment.name} never came"
        time.sleep(0.002)
    os.kill(running.process.pid, kind)
    said = running.wait()
    expected = 130 if kind is signal.SIGINT else -kind
    assert running.process.exitcode == expected, said
    return said


def finish(running: Running) -> None:
    """Wait until a command has ended well."""
    said = running.wait()
    assert running.process.exitcode == 0, said


def same(whole: Path, run: Path) -> None:
    """Model, scores and every piece of evidence are equal bit for bit; nothing is left over."""
    made, expected = (folder / "model" / "model.safetensors" for folder in (run, whole))
    assert made.read_bytes() == expected.read_bytes()
    assert (run / "results.json").read_bytes() == (whole / "results.json").read_bytes()
    ours, theirs = evidence_of(run), evidence_of(whole)
    assert sorted(ours) == sorted(theirs), set(ours) ^ set(theirs)
    different = [name for name in ours if ours[name] != theirs[name]]
    assert different == [], different
    names = [{p.relative_to(folder) for p in folder.rglob("*")} for folder in (whole, run)]
    assert names[0] == names[1]
    assert expunge.verify(run).problems == ()


TIMED = "preregistration.json"


def evidence_of(run: Path) -> dict[str, bytes | None]:
    """Files of the evidence; those that hold times by name alone: attacks, and the registration."""
    folder = run / "evidence"
    files = [path for path in folder.rglob("*") if path.is_file()]
    plain = {path for path in files if path.parent == folder and path.name != TIMED}
    return {
        str(path.relative_to(folder)): path.read_bytes() if path in plain else None
        for path in files
    }
