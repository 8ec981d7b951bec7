"""A safety net for moves of the code: the same commands on tiny models must give the same values.

    python scripts/safety_net TREE --out before.json            # TREE/src holds the package
    python scripts/safety_net TREE --out before.json --quick    # a few cases
    python scripts/safety_net --compare before.json after.json  # exit code 1 where they differ
    python scripts/safety_net --compare before.json after.json --quick  # cases of both alone

It knows the command line, the run folder and the tiny models of the tree's tests, and no module of
the package, so that it runs unchanged before and after modules are renamed. It teaches the models,
runs every method, edit, guard, wrapper and attack for a few steps, and records what comes out:
digests of weights, results, gates, attacks, plans, and the numbers that the pages show. Times,
memory, paths, versions and wording are left out. One process imports torch and transformers and is
forked for every command, which is then `python -m expunge` with the imports already made.

Values are equal on the same machine with the same libraries only; `world` says whether they are.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cases import Case, cases
from commands import begin, finished, forked, kill_while_training, warm
from compare import compare
from values import Value, gathered, weights
from world import make_world


def run_case(case: Case, work: Path) -> int:
    """Run the commands of a case and write what came of them as `NAME.json`."""
    folder = work / case.name
    folder.mkdir()
    if case.request:
        (folder / "request.toml").write_text(case.request, encoding="utf-8")
    values: dict[str, Value] = {}
    commands = case.commands
    if case.killed:
        words = commands[0]
        values["killed while it trained"] = kill_while_training(words, folder)
        whole = ["whole" if word == "run" else word for word in words]
        commands = (words, tuple(whole))
    for place, words in enumerate(commands):
        log = f"{place}-{words[0]}"
        code = finished(begin(words, folder, log))
        values[f"{log} exit code"] = code
        if code not in (0, 3):
            print(f"{case.name}: {' '.join(words)} ended with {code}", file=sys.stderr)
            print((folder / f"{log}.err").read_text()[-600:], file=sys.stderr)
    values |= gathered(folder, str(work))
    if case.killed:
        ends = [weights(folder / name / "model" / "model.safetensors") for name in ("run", "whole")]
        values["ends in the weights of a run that was not killed"] = ends[0] == ends[1]
    text = json.dumps(values, indent=1, sort_keys=True)
    (work / f"{case.name}.json").write_text(text, encoding="utf-8")
    return 0


def run_all(chosen: Sequence[Case], work: Path, *, jobs: int) -> None:
    """Run cases, some at a time."""
    waiting, running = list(chosen), dict[int, tuple[str, float]]()
    while waiting or running:
        while waiting and len(running) < jobs:
            case = waiting.pop(0)
            child = forked(lambda case=case: run_case(case, work))
            running[child] = (case.name, time.monotonic())
        child, _, used = os.wait4(-1, 0)
        name, began = running.pop(child)
        spent = used.ru_utime + used.ru_stime
        passed = time.monotonic() - began
        print(f"{name:20} {passed:6.1f} s, {spent:5.1f} s of processor time", flush=True)


def record(tree: Path, chosen: Sequence[Case], *, jobs: int, keep: Path | None) -> dict[str, Any]:
    """Run cases on the package of a tree; return all their values."""
    source = (tree / "src").resolve()
    work = keep or Path(tempfile.mkdtemp(prefix="safety-net-"))
    work.mkdir(exist_ok=True)
    work = work.resolve()
    home = work / "home"
    home.mkdir()
    own = {"HOME": home, "XDG_CACHE_HOME": home / "cache", "XDG_CONFIG_HOME": home / "config"}
    own |= {"HF_HOME": home / "hf", "EXPUNGE_KEY_FILE": home / "key", "PYTHONPATH": source}
    for name in [name for name in os.environ if name.startswith("EXPUNGE_")]:
        del os.environ[name]
    os.environ.update({name: str(value) for name, value in own.items()})
    os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", COLUMNS="100")
    os.environ.update(TOKENIZERS_PARALLELISM="false", NO_COLOR="1")
    (home / "key").write_bytes(bytes(range(32)))
    (home / "key").chmod(0o600)
    sys.path[:1] = [str(source), str(tree.resolve() / "tests" / "helpers")]
    require_tree(source)
    warm()
    if finished(forked(lambda: make_world(work / "world") or 0)) != 0:
        sys.exit("the world could not be made")
    try:
        run_all(chosen, work, jobs=jobs)
        found: dict[str, Any] = {"world": gathered(work / "world", str(work))}
        for case in chosen:
            path = work / f"{case.name}.json"
            done = path.exists()
            found[case.name] = json.loads(path.read_text()) if done else {"no values": True}
        return found
    finally:
        if keep is None:
            shutil.rmtree(work, ignore_errors=True)


def require_tree(source: Path) -> None:
    """Stop where `import expunge` would find another package than that of the tree."""
    asked = [sys.executable, "-c", "import expunge; print(expunge.__file__)"]
    found = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    if not found or not Path(found).resolve().is_relative_to(source):
        sys.exit(f"expunge is found at {found or 'no place'}, not in {source}")


def main() -> int:
    """Record the values of a tree, or compare two records."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("tree", type=Path, nargs="?", help="folder whose src holds the package")
    parser.add_argument("--out", type=Path, help="where the values go, JSON")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a few cases only; with --compare: those that both have",
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="CASE", help="these cases only")
    parser.add_argument("--jobs", type=int, default=2, help="cases at a time")
    parser.add_argument("--keep", type=Path, help="work in this new folder, and keep it")
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("BEFORE", "AFTER"))
    given = parser.parse_args()
    if given.compare:
        return compare(*given.compare, shared=given.quick or bool(given.only))
    if given.tree is None or given.out is None:
        parser.error("name a tree and --out, or two files with --compare")
    chosen = [
        case
        for case in cases()
        if (case.quick or not given.quick) and (case.name in given.only or not given.only)
    ]
    found = record(given.tree, chosen, jobs=given.jobs, keep=given.keep)
    given.out.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
