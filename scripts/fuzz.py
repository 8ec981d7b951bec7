"""Try what strangers, accidents and attackers do, and print what was tried and what held.

    python scripts/fuzz.py --class inputs --seed 7      # minutes
    python scripts/fuzz.py --seed 7                     # all four classes

A class is one of inputs, changes, forgeries, kills; see `tests/helpers/fuzzing`. The exit code is 1
where something did not hold.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # read when the libraries are imported
sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "helpers"))

import tiny_world
from expunge.provenance.keys import operator_key
from expunge.provenance.verify import verify
from expunge.utils.io import private
from fuzzing import changes, forgeries, inputs, kills
from fuzzing.trials import PATIENCE, NotHeldError, Tally, Trial, alone, command, tally

MOST = {"inputs": 500, "changes": 300, "forgeries": 100, "kills": 80}
"""Trials of a class, drawn from all."""
KILLS = 4
"""How often each command is killed before it may end."""
Trials = tuple[Iterable[Trial], Path]
"""Trials, and the folder of which each of them has a copy."""


def copies(stock: Path, root: Path) -> Callable[[], Path]:
    """Return what makes the next copy of a folder, and removes the one before."""
    numbers = count()

    def next_copy() -> Path:
        shutil.rmtree(root / "trial", ignore_errors=True)
        place = root / "trial" / f"{next(numbers)}"
        return Path(shutil.copytree(stock, place, symlinks=True))

    return next_copy


def of_inputs(seed: int, most: int, root: Path) -> Trials:
    """Return bad inputs."""
    return inputs.inputs(seed, most=most), inputs.stock(root / "stock")


def signed(root: Path) -> Path:
    """Make a signed run, and a folder of attacks beside it."""
    world = tiny_world.make(private(root / "world"))
    place = root / "signed"
    place.mkdir()
    with alone(place, patience=0):
        forgeries.signed_run(world, place)
        words = ["ladder" if word == "run" else word for word in kills.commands(world)["attack"]]
        said = command(words)
        if said.code:
            raise NotHeldError(said.err)
    return place


def of_changes(seed: int, most: int, root: Path) -> Trials:
    """Return changes of a run, of its model alone, of a run with weights, and of attacks."""
    place = signed(root)
    (place / "run").rename(place / "whole")
    key = operator_key(place / "operator.key", run=place / "whole")
    run = changes.finished_run(place)
    shutil.copytree(run / "model", place / "model")

    def tell(folder: Path) -> changes.Told:
        found = verify(folder, key=key)
        return {(problem.path, problem.what) for problem in found.problems}

    told: dict[str, changes.Tell] = {"whole": tell, "ladder": tell}
    told |= {"run": changes.told_of_run(run), "model": changes.told_of_model}
    every = {name: changes.changes(place / name, how, seed, each=99) for name, how in told.items()}
    # Of a run with weights and plots each verification takes a second.
    shares = {"run": 7, "model": 1, "whole": 1, "ladder": 1}
    drawn = [changes.drawn(every[name], seed, most * share // 10) for name, share in shares.items()]
    return [trial for part in drawn for trial in part], place


def of_forgeries(seed: int, most: int, root: Path) -> Trials:
    """Return forgeries: a table, which no seed changes."""
    return forgeries.forgeries()[:most], signed(root)


def of_kills(seed: int, most: int, root: Path) -> Trials:
    """Return commands that are killed, each some times."""
    world = tiny_world.make(private(root / "world"))
    (root / "empty").mkdir()
    kills.write_key(root / "empty")
    every: list[Trial] = []
    named = kills.commands(world)
    for name, words in named.items():
        whole = root / "whole" / name
        shutil.copytree(root / "empty", whole)
        with alone(whole, patience=0):
            done = kills.measured(name, words, whole)
        for number in range(most // (KILLS * len(named))):
            every.append(kills.kills(done, whole / "run", seed * 1000 + number, each=KILLS))
    return every, root / "empty"


CLASSES = {
    "inputs": of_inputs,
    "changes": of_changes,
    "forgeries": of_forgeries,
    "kills": of_kills,
}


def shown(name: str, found: Tally, seconds: float) -> Iterator[str]:
    """Yield the lines of the table of one class."""
    for kind, tried in found.tried.items():
        yield f"{name:10} {kind:12} {tried:6} {found.held[kind]:6}"
    ways = found.how.most_common(12)
    yield f"  held by: {', '.join(f'{way} {times}' for way, times in ways)}"
    yield f"  in {seconds:.0f} s"


def main() -> int:
    """Run the classes that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--class", dest="classes", action="append", choices=CLASSES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most", type=int, help="trials of a class, drawn from all")
    given = parser.parse_args()
    broken = 0
    print(f"{'class':10} {'kind':12} {'tried':>6} {'held':>6}")
    for name in given.classes or CLASSES:
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            trials, stock = CLASSES[name](given.seed, given.most or MOST[name], root)
            found = tally(
                trials,
                copies(stock, root),
                told=lambda line: print(line, flush=True),
                patience=0 if name == "kills" else PATIENCE,
            )
        print("\n".join(shown(name, found, time.monotonic() - began)), flush=True)
        broken += len(found.broken)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
