"""Train an original and two golds for MUSE News, for any model, with our own engine.

    python scripts/make_muse_targets.py --base MODEL --data FOLDER --out targets [--records 8]

`full` learns the articles to forget and those to keep and is what unlearning starts from;
`retain-s0` and `retain-s1` learn those to keep alone and are golds. With `--records`, the forget
set is that of `expunge bench muse --records`, and as many articles are kept. What was kept is in
`kept.jsonl`. Loss: token mean of -log p. Default: LoRA on all linear layers, r 24, alpha 48, 10
epochs, batch 4, peak rate 8e-4 with 5 % warm-up. `--full-weights` trains all weights; then lower
`--lr`, to 1e-4 for 135M and 1e-5 for 1B and more.

A killed run goes on where it stopped; a target that has `made.json` is not made again. Then:

    expunge bench muse MODEL+targets/full --data FOLDER --keep targets/kept.jsonl [--records 8] \\
        --gold MODEL+targets/retain-s0 --gold MODEL+targets/retain-s1 \\
        --set train.max_length=1024 --methods npo simnpo
"""

import argparse

from expunge.benchmarking.suites import load_suite
from expunge.benchmarking.suites.base import Spec, plain
from expunge.utils.io import write_jsonl
from expunge.utils.system import keep_freed_memory
from targets import flags, make

LENGTH = 1024
"""Longest passage in tokens; most articles are shorter."""


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = flags(__doc__.splitlines()[0], epochs=10, batch=4)
    parser.add_argument("--data", required=True, help="folder of MUSE News, or its Hub id")
    parser.add_argument("--records", type=int, help="of each probe, as for the benchmark")
    return parser.parse_args()


def main() -> None:
    """Train every target that is not there."""
    given = arguments()
    keep_freed_memory()
    suite = load_suite(Spec(name="muse", data=given.data, records=given.records))
    kept = suite.retain if given.records is None else suite.retain[: len(suite.forget)]
    given.out.mkdir(parents=True, exist_ok=True)
    write_jsonl(given.out / "kept.jsonl", (plain(record) for record in kept))
    make("full", (*suite.forget, *kept), given, seed=0, max_length=LENGTH)
    for seed in (0, 1):
        make(f"retain-s{seed}", kept, given, seed=seed, max_length=LENGTH)


if __name__ == "__main__":
    main()
