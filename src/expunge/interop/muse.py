"""MUSE's results: the table of its `eval.py`, and `auc.json` of PrivLeak."""

import csv
from pathlib import Path
from typing import Any

from expunge.errors import InputError
from expunge.interop.base import Better, PeerNumber, number
from expunge.metrics.muse import privleak

COLUMNS: dict[str, tuple[str, Better]] = {
    "verbmem_f": ("rouge-l-f1", "lower"),
    "knowmem_f": ("rouge-l-f1", "lower"),
    "knowmem_r": ("rouge-l-f1", "higher"),
    "privleak": ("auc-min-k-40", "gold"),
}
"""Column of the table to our metric and its direction."""

_ATTACKS = {
    "PPL": "auc-loss",
    "PPL/zlib": "auc-zlib",
    "PPL/lower": "auc-lowercase",
    "PPL/Ref": "auc-reference",
    "Min-20%": "auc-min-k-20",
    "Min-40%": "auc-min-k-40",
    "Min-60%": "auc-min-k-60",
}
_PAIRS = ("forget_holdout_", "forget_retain_", "retain_holdout_", "holdout_retain_")


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read a table with a `name` column and at least one of MUSE's.

    Raises:
        InputError: The file cannot be read, or has none of the columns.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error):
        rows = []
    if not any(column in row for row in rows for column in COLUMNS):
        raise InputError(
            "not-a-muse-table",
            what=f"{path} is not a table of MUSE's eval.py",
            why=f"it has none of the columns {', '.join(COLUMNS)}, or no row",
            fix="give the file that was written to --out_file",
        )
    return rows


def table_numbers(rows: list[dict[str, str]]) -> tuple[PeerNumber, ...]:
    """Return the numbers of every model of a table; percent become shares in ours."""
    found: list[PeerNumber] = []
    for row in rows:
        for column, (metric, better) in COLUMNS.items():
            value = _parsed(row.get(column))
            if value is None:
                continue
            relative = column == "privleak"
            note = "E8: no AUC can be had back from it without gold's; give auc.json"
            found.append(
                PeerNumber(
                    name=f"{row.get('name') or 'model'} {column}",
                    value=value,
                    metric=metric,
                    ours=None if relative else value / 100,
                    better=better,
                    note=note if relative else "E10: F1 without stemming, percent; E9: 8-bit",
                )
            )
    return tuple(found)


def is_auc(document: dict[str, Any]) -> bool:
    """Tell whether this is an `auc.json`."""
    return any(_attack(name) for name in document)


def auc_numbers(document: dict[str, Any], gold: dict[str, Any] | None) -> tuple[PeerNumber, ...]:
    """Return AUCs in our direction, and PrivLeak beside the difference of AUCs.

    Args:
        document: `auc.json` of the model.
        gold: `auc.json` of the retrained model.
    """
    found: list[PeerNumber] = []
    for name, entry in document.items():
        value, metric = number(entry), _attack(name)
        if value is None or metric is None:
            continue
        members = name.startswith("forget_holdout_")
        found.append(
            PeerNumber(
                name=name,
                value=value,
                metric=metric if members else "",
                ours=1 - value if members else None,
                better="gold",
                note="E16: their positive class is the second set; ours is 1 - theirs"
                if members
                else "another pair of sets",
            )
        )
        other = number((gold or {}).get(name))
        if members and name.endswith("Min-40%") and other:
            found.append(
                PeerNumber(
                    name="privleak",
                    value=privleak(value, other),
                    metric="auc-min-k-40",
                    ours=other - value,
                    better="gold",
                    note="E8: percent of gold's; ours is a difference of member-positive AUCs",
                )
            )
    return tuple(found)


def _attack(name: str) -> str | None:
    pair = next((pair for pair in _PAIRS if name.startswith(pair)), None)
    return None if pair is None else _ATTACKS.get(name.removeprefix(pair), "auc")


def _parsed(text: str | None) -> float | None:
    try:
        return number(float(text)) if text else None
    except ValueError:
        return None
