"""Changes of a finished folder: `verify` must name every file that was touched."""

import os
import random
from collections.abc import Callable, Set
from dataclasses import replace
from pathlib import Path

from expunge.errors import InputError
from expunge.provenance.signature import SigningKey
from expunge.provenance.verify import verify, verify_published
from expunge.reporting.build import build_reports
from expunge.reporting.card import build_card
from expunge.reporting.schema import read_results, write_facts
from fuzzing.mutations import BYTES, FIELDS, Mutation, again
from fuzzing.trials import NotHeldError, Trial
from synthetic_run import build_run, facts, write_run_manifest

KEY = bytes(range(32))
SIGNING = SigningKey(seed=KEY)

Told = Set[tuple[str, str]]
Tell = Callable[[Path], Told]
"""Returns what is said of a folder: paths, and what is wrong with them."""
Change = Callable[[Path, Path, random.Random], set[str]]
"""Changes a file of a folder, and returns the paths that must be named."""


def finished_run(place: Path) -> Path:
    """Write a finished run, signed, with a model to publish, and return its folder."""
    folder = build_run(place / "run", kept=False)
    (folder / "model").mkdir()
    (folder / "model" / "weights.bin").write_bytes(bytes(range(64)))
    made = replace(facts(), versions={"expunge": "0.0.0"})  # then pages are not written again
    write_facts(folder, made)
    build_reports(folder)
    build_card(folder)
    write_run_manifest(folder, key=KEY, told=made, signing=SIGNING)
    return folder


def told_of_run(run: Path) -> Tell:
    """Return what tells of changes of that run; its numbers are not computed again."""
    saved = read_results(run)

    def tell(folder: Path) -> Told:
        found = verify(folder, assess=lambda store: saved, key=KEY, signer=SIGNING.public)
        return {(problem.path, problem.what) for problem in found.problems}

    return tell


def told_of_model(folder: Path) -> Told:
    """Return what is said of the model folder of that run alone."""
    found = verify_published(folder, signer=SIGNING.public)
    return {(problem.path, problem.what) for problem in found.problems}


def files(folder: Path) -> list[str]:
    """Return the files below a folder, sorted."""
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


def _in_bytes(mutation: Mutation) -> Change:
    def change(folder: Path, path: Path, draw: random.Random) -> set[str]:
        data = path.read_bytes()
        changed = mutation(data, draw) if data else b"\n"
        while changed == data:
            changed = BYTES["one bit"](data, draw)
        path.write_bytes(changed)
        return {path.relative_to(folder).as_posix()}

    return change


def _removed(folder: Path, path: Path, draw: random.Random) -> set[str]:
    path.unlink()
    return {path.relative_to(folder).as_posix()}


def _renamed(folder: Path, path: Path, draw: random.Random) -> set[str]:
    new = path.with_name(draw.choice((f"{path.name}.bak", path.name.upper(), f".{path.name}")))
    path.rename(new)
    return {each.relative_to(folder).as_posix() for each in (path, new)}


def _swapped(folder: Path, path: Path, draw: random.Random) -> set[str]:
    others = [folder / name for name in files(folder)]
    others = [each for each in others if each.read_bytes() != path.read_bytes()]
    other = draw.choice(others)
    data = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(data)
    return {each.relative_to(folder).as_posix() for each in (path, other)}


def _linked(folder: Path, path: Path, draw: random.Random) -> set[str]:
    away = folder.parent / "elsewhere"
    path.rename(away)
    path.symlink_to(os.path.relpath(away, path.parent))
    return {path.relative_to(folder).as_posix()}


def _folder_instead(folder: Path, path: Path, draw: random.Random) -> set[str]:
    path.unlink()
    path.mkdir()
    return {path.relative_to(folder).as_posix()}


NAMES = (
    "a.lock",
    ".lock",
    "checkpoints/state.json",
    "evidence/more.lock",
    "evidence/unlearned.forget.plain.scores.jsonl.bak",
    "evidence/.items.jsonl.0a1b.part",
    "report-masked.html",
    "report-in-full.html",
    "model/more.txt",
    "model/.hidden",
    "model/pytorch_model.bin",
    "model/modeling_x.py",
    "evidence-destroyed.json",
    "training/training.json",
    "guard/guard.json",
    "config.toml.orig",
    "results (copy).json",
)
"""Names of files that somebody adds: usual ones, hidden ones, and those that mean something."""


def _added(folder: Path, path: Path, draw: random.Random) -> set[str]:
    name = draw.choice([name for name in NAMES if not (folder / name).exists()])
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(path.read_bytes() if draw.random() < 0.5 else b"{}")
    return {name}


CHANGES: dict[str, Change] = {
    **{what: _in_bytes(mutation) for what, mutation in BYTES.items()},
    "a line twice": _in_bytes(again),
    "removed": _removed,
    "renamed": _renamed,
    "swapped with another": _swapped,
    "a link instead": _linked,
    "a folder instead": _folder_instead,
    "a file beside it": _added,
}


def changes(folder: Path, tell: Tell, seed: int, *, each: int = 1, kind: str = "") -> list[Trial]:
    """Return changes of every file of a folder.

    Args:
        folder: A finished folder, of which each trial has a copy under the same name.
        tell: What is said of it.
        seed: Of what is drawn.
        each: How many changes of every file; they go round through all kinds.
        kind: Its line in the table; default: the name of the folder.
    """
    draw, usual = random.Random(seed), tell(folder)
    found: list[Trial] = []
    for name in files(folder):
        known = dict(CHANGES)
        if fields := FIELDS.get(Path(name).suffix):
            known["a field"] = _in_bytes(fields)
        kinds = draw.sample([*known], min(each, len(known)))
        for what in kinds:
            seeded = draw.getrandbits(32)
            found.append(
                Trial(
                    what=f"{name}: {what}, {seeded}",
                    kind=kind or folder.name,
                    run=lambda name=name, change=known[what], seeded=seeded: _named(
                        Path(folder.name), name, change, seeded, tell, usual
                    ),
                )
            )
    return found


def _named(folder: Path, name: str, change: Change, seed: int, tell: Tell, usual: Told) -> str:
    wanted = change(folder, folder / name, random.Random(seed))
    try:
        said = {path for path, _ in tell(folder) - usual}
    except InputError as error:
        if "manifest.json" not in wanted or error.code != "no-manifest":
            raise NotHeldError(f"no finding but {error}") from error
        return error.code
    if missed := wanted - said:
        raise NotHeldError(f"not named: {sorted(missed)}; said of {sorted(said)}")
    return "named"


def drawn(trials: list[Trial], seed: int, most: int) -> list[Trial]:
    """Return some of the trials, every file among them as evenly as chance has it."""
    return random.Random(seed).sample(trials, min(most, len(trials)))
