"""Ten fixed worlds of invented records: make them, measure forgetting on them, print the table.

    export PYTHONPATH=scripts
    python benchmarks/worlds.py make --world people-20 --seed 0 --out worlds
    python benchmarks/worlds.py run --world people-20 --seed 0 --worlds worlds --out runs \\
        --arm npo -- --method npo
    python benchmarks/worlds.py table --out runs

`make` writes the records and trains the original and its golds on SmolLM2-135M-Instruct. `run`
types `expunge forget` as a user would; what stands behind `--` are flags of it, in which `{base}`,
`{train}` and `{recipe}` name the base model, all that the original was taught, and how. Without
`--world` both take all worlds of `worlds.toml`. Every command can be killed and typed again.

    ... run --arm retrain -- --method retrain --recipe {recipe}

Seeds 0 to 4 are for development. A confirmation is one run of all worlds with a seed that nobody
has used; its table is published whatever it says.
"""

import argparse
import json
import sys
from pathlib import Path

from expunge.demo.run import base_model
from expunge.utils.console import SilentConsole
from expunge.utils.io import write_json
from expunge.utils.system import cache_folder
from registers import worlds
from world_models import GOLDS, Made, make, model_names, quality, world_folder
from world_runs import Arm, read_rows, run, table


def main() -> None:
    """Do what the command line says."""
    words, flags = _split(sys.argv[1:])
    given = _parser().parse_args(words)
    if given.verb == "table":
        rows = read_rows(given.out)
        write_json(given.out / "rows.json", rows)
        print(table(rows))
        return
    base = Path(given.base or base_model(cache_folder(), offline=False, console=SilentConsole()))
    folder = given.out if given.verb == "make" else given.worlds
    chosen = [
        Made(world=w, seed=given.seed, folder=world_folder(folder, w.name, given.seed), base=base)
        for w in worlds().values()
        if not given.world or w.name in given.world
    ]
    if given.verb == "make":
        _make(chosen, given.golds)
    else:
        arm = Arm(name=given.arm, flags=tuple(flags))
        for made in chosen:
            row = run(made, arm, golds=given.golds, out=given.out)
            print(table([] if row is None else [row]), flush=True)


def _make(chosen: list[Made], golds: int) -> None:
    """Train the originals of all worlds first: forgetting can be tried before golds are there."""
    for name in model_names(golds):
        for made in chosen:
            make(made, name)
            print(f"{made.folder.name} {name}: {json.dumps(quality(made, name))}", flush=True)


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """Return our own words, and the flags of `expunge forget` behind `--`."""
    place = words.index("--") if "--" in words else len(words)
    return words[:place], words[place + 1 :]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    making = verbs.add_parser("make", help="write the records and train original and golds")
    running = verbs.add_parser("run", help="forget on worlds that were made")
    running.add_argument("--worlds", type=Path, required=True, help="folder that make wrote")
    running.add_argument("--arm", required=True, help="name of this way of forgetting")
    for verb in (making, running):
        verb.add_argument("--world", action="append", choices=sorted(worlds()))
        verb.add_argument("--seed", type=int, default=0)
        verb.add_argument("--golds", type=int, default=GOLDS, choices=(2, 3))
        verb.add_argument("--base", help="folder of SmolLM2-135M-Instruct; default the demo's")
        verb.add_argument("--out", type=Path, required=True)
    tabling = verbs.add_parser("table", help="print all rows as Markdown")
    tabling.add_argument("--out", type=Path, required=True, help="folder that run wrote")
    return parser


if __name__ == "__main__":
    main()
