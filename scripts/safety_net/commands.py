"""Commands in child processes: one process with the imports made is forked for each."""

import os
import runpy
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

PATIENCE = 3600
"""Seconds that one command may take."""


def warm() -> None:
    """Import what commands need of other packages, so that every command finds it loaded."""
    import safetensors.torch
    import scipy.stats
    import tokenizers
    import torch
    import transformers

    torch.set_num_threads(1)
    named = ("AutoModelForCausalLM", "AutoTokenizer", "PreTrainedTokenizerFast", "AutoConfig")
    kinds = ("LlamaForCausalLM", "GPT2LMHeadModel", "MixtralForCausalLM")
    for name in (*named, *kinds):
        getattr(transformers, name)
    assert safetensors.torch
    assert scipy.stats
    assert tokenizers


def forked(work: Callable[[], int]) -> int:
    """Do a piece of work in a child process; return its process id."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        code = work()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def finished(child: int) -> int:
    """Wait for a child process; return its exit code, or -9 where it took too long."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -9


def begin(words: Sequence[str], folder: Path, log: str) -> int:
    """Start `python -m expunge` with these words in a folder; return its process id."""

    def run() -> int:
        os.chdir(folder)
        for stream, name in ((1, f"{log}.out"), (2, f"{log}.err")):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.argv = ["expunge", *words]
        runpy.run_module("expunge", run_name="__main__", alter_sys=True)
        return 0

    return forked(run)


def kill_while_training(words: Sequence[str], folder: Path) -> bool:
    """Start a command, kill it once it has written a checkpoint; return whether it was in time."""
    child = begin(words, folder, "killed")
    while not list(folder.glob("run/checkpoints/*")):
        found, _ = os.waitpid(child, os.WNOHANG)
        if found:
            return False
        time.sleep(0.002)
    time.sleep(0.2)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return not (folder / "run" / "manifest.json").exists()
