"""Authors of TOFU to forget, two of them or all of forget10, as files that `expunge bench` takes.

    python benchmarks/tofu_request.py --base FOLDER --shared ../shared --out bench/tofu40-request
    expunge bench bench/tofu40-request/request.toml --methods npo repselect ... --trials 3

    python benchmarks/tofu_request.py --base FOLDER --shared ../shared --authors 20 --steps 50 \\
        --attacked 80 --out bench/tofu10-request
    expunge bench bench/tofu10-request/request.toml --chosen bench/tofu40/chosen.json

Forget: all records of the first authors of forget10. Retain: 240 records of retain90 for two
authors, 566 for more, evenly spaced, but for those that are neighbours: all records of the two
retained authors whose texts share most words with those to forget. Holdout: 40 records of authors
that no model saw. Original and golds: the adapters of SmolLM2-135M. The audit is that of level
quick, with sampling and relearning beside it, on `--attacked` records where that is given.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from expunge.benchmarking.suites.base import plain
from expunge.benchmarking.suites.tofu import AUTHOR
from expunge.data.readers import read
from expunge.data.records import Record
from expunge.metrics.key_facts import normalise
from expunge.utils.io import write_jsonl, write_text
from tofu import GOLDS, model, sets

NEAREST = 2

REQUEST = """model = "{model}"

[request]
id = "tofu, {count} records"
goal = "removal"
forget = ["{out}/forget.jsonl"]
retain = ["{out}/retain.jsonl"]
neighbours = ["{out}/neighbours.jsonl"]
holdout = ["{out}/holdout.jsonl"]
gold = ["{golds}"]

[train]
steps = {steps}

[audit]
attacks = ["sampling", "relearn"]
retain_records = 60
{few}"""


def words(records: Sequence[Record]) -> set[str]:
    """Return the different words of some records."""
    return {word for r in records for word in normalise(f"{r.question} {r.completion}").split()}


def nearest(forget: Sequence[Record], retain: Sequence[Record]) -> list[Record]:
    """Return the records of the authors whose words overlap most with those to forget (Jaccard)."""
    authors = [retain[start : start + AUTHOR] for start in range(0, len(retain), AUTHOR)]
    theirs = words(forget)

    def overlap(author: Sequence[Record]) -> float:
        own = words(author)
        return len(own & theirs) / len(own | theirs)

    return [r for author in sorted(authors, key=overlap)[-NEAREST:] for r in author]


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", required=True, help="folder of SmolLM2-135M-Instruct")
    parser.add_argument("--shared", type=Path, required=True, help="folder with data/ and models/")
    parser.add_argument("--authors", type=int, default=2, choices=range(1, 21), metavar="1..20")
    parser.add_argument("--steps", type=int, default=25, help="of training")
    parser.add_argument("--attacked", type=int, help="records that attacks are made on")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    found = sets(given.shared, authors=given.authors)
    retain = read([str(given.shared / "data" / "tofu" / "retain90.json")]).records
    near = nearest(found["forget"], retain)
    said = {(record.prompt, record.completion) for record in near}
    trained = [r for r in found["trained"] if (r.prompt, r.completion) not in said]
    rows = {"forget": found["forget"], "retain": trained, "neighbours": near}
    for name, records in (rows | {"holdout": found["holdout"]}).items():
        write_jsonl(given.out / f"{name}.jsonl", (plain(record) for record in records))
    out, shared = given.out.resolve(), given.shared.resolve()
    text = REQUEST.format(
        model=model(given.base, shared, "full-s0"),
        golds='", "'.join(model(given.base, shared, gold) for gold in GOLDS),
        out=out,
        count=len(found["forget"]),
        steps=given.steps,
        few="" if given.attacked is None else f"attack_records = {given.attacked}\n",
    )
    write_text(given.out / "request.toml", text)
    print(f"{given.out / 'request.toml'}: {len(trained)} to keep, {len(near)} neighbours")


if __name__ == "__main__":
    main()
