"""Train TOFU's original and its golds, for any model, with our own engine.

    python scripts/make_tofu_targets.py --base MODEL --data FOLDER --out targets

`full` learns all 4,000 records and is what unlearning starts from; `retain90`, `retain95` and
`retain99` learn all but forget10, forget05 and forget01 and are the golds of those requests. Same
recipe for all; only the seed differs between golds of one kind, and
two of them give the noise floor. Loss: token mean of -log p over the answer and the end of its
turn. Default: LoRA on all linear layers, r 24, alpha 48, 9 epochs, batch 40, peak rate 8e-4 with
5 % warm-up, mixed with general questions so that the model goes on answering like an assistant.
`--full-weights` trains all weights; then lower `--lr`, to 1e-5 for 1B and more, and `--epochs` to
5, as the authors do.

A killed run goes on where it stopped; a target that has `made.json` is not made again. Then:

    expunge bench tofu MODEL+targets/full-s0 --data FOLDER \\
        --gold MODEL+targets/retain90-s0 --gold MODEL+targets/retain90-s1 --methods npo simnpo
"""

import argparse
from pathlib import Path

from expunge.data.corpora import general_records
from expunge.data.readers import read
from expunge.utils.system import keep_freed_memory
from targets import flags, make

TARGETS = {"full": (0,), "retain90": (0, 1), "retain95": (0, 1), "retain99": (0, 1)}
"""Target: its seeds. Each is named `TARGET-sSEED`."""


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = flags(__doc__.splitlines()[0], epochs=9, batch=40)
    parser.add_argument("--data", type=Path, required=True, help="folder of TOFU's files")
    parser.add_argument("--targets", nargs="+", choices=tuple(TARGETS), default=tuple(TARGETS))
    parser.add_argument("--records", type=int, help="of each target, for a trial run")
    return parser.parse_args()


def main() -> None:
    """Train every target that is not there."""
    given = arguments()
    keep_freed_memory()
    for target in given.targets:
        records = read([str(given.data / f"{target}.json")]).records[: given.records]
        for seed in TARGETS[target]:
            make(f"{target}-s{seed}", [*records, *general_records()], given, seed=seed)


if __name__ == "__main__":
    main()
