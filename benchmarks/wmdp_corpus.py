"""A stand-in for WMDP's forget corpus, which its authors do not publish: open text of the domain.

    python benchmarks/wmdp_corpus.py --shared ../shared --out bench/wmdp
    expunge bench wmdp MODEL --data ../shared/data/wmdp --corpus bench/wmdp/corpus.jsonl \\
        --keep bench/wmdp/keep.jsonl --beside utility=../shared/data/utility

To forget: the questions of MMLU about virology with their right answers, none of which is WMDP's.
To keep: paragraphs of WikiText-2, as RMU's authors do (arXiv 2403.03218).
"""

import argparse
from pathlib import Path
from typing import Any

from expunge.data.readers import read_rows
from expunge.utils.io import write_jsonl

SUBJECT = "virology_test"
PARAGRAPHS = 160
LEAST = 400
"""Characters of a paragraph."""


def main() -> None:
    """Write the two files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, required=True, help="folder with data/")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    utility = given.shared / "data" / "utility"
    rows: list[Any] = [row.value for row in read_rows(str(utility / "mmlu_test.jsonl.gz"))]
    asked = [row for row in rows if row["dataset"] == SUBJECT]
    corpus = [{"question": r["question"], "answer": r["choices"][r["answer"]]} for r in asked]
    text = (utility / "wikitext2_valid.txt").read_text(encoding="utf-8")
    paragraphs = [line.strip() for line in text.split("\n") if len(line) >= LEAST]
    write_jsonl(given.out / "corpus.jsonl", corpus)
    write_jsonl(given.out / "keep.jsonl", ({"text": each} for each in paragraphs[:PARAGRAPHS]))
    print(f"{given.out}: {len(corpus)} records to forget, {PARAGRAPHS} to keep")


if __name__ == "__main__":
    main()
