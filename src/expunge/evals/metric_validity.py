"""Fitness: which metrics may decide, by how well they tell models that know from those that do not.

`fitness.json` is written by `scripts/meta_evaluation.py` from a pool of models whose knowledge is
known. A metric whose faithfulness lies below the threshold, or that was never evaluated, is shown
and never gated.
"""

from functools import cache
from pathlib import Path
from typing import Any

from expunge.utils.io import read_json

FILE = Path(__file__).with_name("metric_validity.json")

THRESHOLD = 0.75
"""Least faithfulness (AUC over models) of a metric that may decide."""


@cache
def _table() -> dict[str, Any]:
    return read_json(FILE)["metrics"]


def unfit(metric: str) -> str:
    """Return why a metric may not decide; an empty string when it may."""
    row = _table().get(metric)
    if row is None:
        return f"{metric} was never meta-evaluated, so it is shown and decides nothing"
    value = float(row["faithfulness"]["value"])
    if value >= THRESHOLD:
        return ""
    return (
        f"{metric} told models that know from models that do not with AUC {value:.2f} only; "
        f"{THRESHOLD:.2f} is needed to decide"
    )
