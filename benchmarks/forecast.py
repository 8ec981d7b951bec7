"""Forecast: does anything known before a run say which records to keep will suffer?

    python benchmarks/forecast.py RUN...

For each finished run, the rank correlation (Spearman) over the retain records between the measured
rise of the NLL, nats per token, and what was known before:

    text    BM25 with the forget set, mean of the twenty highest
    loss    the record's own NLL at the original

A forecast would need 0.6 over at least twenty runs, and more than `text` has.
"""

import argparse
import json
import statistics
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from expunge.attribution.ranking import NEAREST
from expunge.attribution.similarity import bm25
from expunge.utils.io import read_jsonl


def correlations(run: Path) -> dict[str, float]:
    """Return mean rise and both correlations of one run."""
    evidence = run / "evidence"
    texts: dict[str, dict[str, str]] = {}
    for item in read_jsonl(evidence / "items.jsonl"):
        texts.setdefault(item["split"], {})[item["record"]] = f"{item['question']} {item['answer']}"
    before, after = (_losses(evidence / f"{role}.retain.plain.scores.jsonl") for role in ROLES)
    ids = [each for each in before if each in texts["retain"]]
    rise = [after[each] - before[each] for each in ids]
    scores = bm25(list(texts["forget"].values()), [texts["retain"][each] for each in ids])
    near = np.sort(scores, axis=0)[::-1][:NEAREST].mean(0)
    return {
        "records": len(ids),
        "rise": statistics.fmean(rise),
        "text": float(spearmanr(near, rise).statistic),
        "loss": float(spearmanr([before[each] for each in ids], rise).statistic),
    }


ROLES = ("original", "unlearned")


def _losses(path: Path) -> dict[str, float]:
    return {row["record"]: -statistics.fmean(row["logp"]) for row in read_jsonl(path)}


def main() -> None:
    """Print one JSON object a run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path)
    for run in parser.parse_args().runs:
        found = {key: round(value, 3) for key, value in correlations(run).items()}
        print(json.dumps({"run": run.name, **found}))


if __name__ == "__main__":
    main()
