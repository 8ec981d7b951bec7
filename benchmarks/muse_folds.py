"""Both series of MUSE small enough for two cores: the articles of a short run, dealt to four folds.

    python benchmarks/muse_folds.py --shared ../shared --records 4 --out bench/news
    expunge bench muse MODEL+targets/full --data bench/news --part sust --records 4 \\
        --keep targets/kept.jsonl --methods npo
    expunge bench muse MODEL+targets/full --data bench/news --part scal --records 4 \\
        --keep targets/kept.jsonl --methods npo

The published folds are 889 articles each. These are the articles that
`scripts/make_muse_targets.py --records` has taught, each in one fold (`sust`); the growing sets
(`scal`) are the first fold, the first two, three and all. All else is MUSE News itself.
"""

import argparse
from pathlib import Path

from expunge.benchmarking.suites import load_suite
from expunge.benchmarking.suites.base import Spec
from expunge.benchmarking.suites.muse import FOLDS
from expunge.utils.io import write_json


def main() -> None:
    """Write the folds and link the rest."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, required=True, help="folder with data/")
    parser.add_argument("--records", type=int, required=True, help="of each probe")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    news = given.shared.resolve() / "data" / "muse" / "news"
    articles = load_suite(Spec(name="muse", data=str(news), records=given.records)).forget
    grown: list[str] = []
    for number, fold in enumerate(FOLDS):
        texts = [article.completion for article in articles[number :: len(FOLDS)]]
        grown += texts
        write_json(given.out / "sust" / f"forget_{fold}.json", texts)
        write_json(given.out / "scal" / f"forget_{fold}.json", grown)
    for folder in ("raw", "knowmem", "verbmem", "privleak"):
        link = given.out / folder
        if not link.is_symlink():
            link.symlink_to(news / folder)
    print(f"{given.out}: {len(articles)} articles in {len(FOLDS)} folds")


if __name__ == "__main__":
    main()
