"""open-unlearning's logs: `TOFU_EVAL.json`, `MUSE_EVAL.json` and their `_SUMMARY.json`."""

from statistics import fmean
from typing import Any, NamedTuple

from expunge.interop.base import Better, PeerNumber, number
from expunge.metrics.tofu import forget_quality


class _Known(NamedTuple):
    metric: str
    better: Better
    note: str = ""


_LAST = "E4: their last token is dropped by position, or scored though it is the end token"

KNOWN: dict[str, _Known] = {
    "forget_Q_A_Prob": _Known("probability", "lower"),
    "forget_Q_A_ROUGE": _Known("rouge-l-recall-stem", "lower"),
    "forget_Q_A_gibberish": _Known("", "higher", "P(clean) of a classifier that we do not run"),
    "forget_truth_ratio": _Known("truth-share", "gold"),
    "forget_quality": _Known("ks-distance", "higher"),
    "model_utility": _Known("model-utility", "higher"),
    "extraction_strength": _Known(
        "extraction-strength", "lower", "E1: floor 1/T; E2: empty items count 0; the log lacks T"
    ),
    "exact_memorization": _Known("exact-memorisation", "lower", _LAST),
    "privleak": _Known("auc-min-k-40", "gold", "E8: asymmetric range; ours is a difference of AUC"),
    "mia_loss": _Known("auc-loss", "gold", _LAST),
    "mia_zlib": _Known("auc-zlib", "gold", _LAST),
    "mia_min_k": _Known("auc-min-k-40", "gold", _LAST),
    "mia_min_k_plus_plus": _Known("auc-min-k-plus-20", "gold", f"{_LAST}; their k is 40 %"),
    "mia_gradnorm": _Known("auc-gradient", "gold", "E5: train mode, mean of per-tensor norms"),
    "mia_reference": _Known("auc-reference", "gold", _LAST),
    "forget_verbmem_ROUGE": _Known("rouge-l-f1", "lower", "E10: F1 without stemming"),
    "forget_knowmem_ROUGE": _Known("rouge-l-f1", "lower", "E10: F1 without stemming"),
    "retain_knowmem_ROUGE": _Known("rouge-l-f1", "higher", "E10: F1 without stemming"),
}
"""Their name to our metric, their direction, and where the two differ."""

_KEPT = (
    ("_Q_A_Prob_normalised", "option-probability"),
    ("_Q_A_Prob", "probability"),
    ("_Q_A_ROUGE", "rouge-l-recall-stem"),
    ("_Truth_Ratio", "truth-utility"),
)
_SETS = ("retain", "ra", "wf")


def is_open_unlearning(document: dict[str, Any]) -> bool:
    """Tell whether this is a log or a summary of open-unlearning."""
    return any(_known(name) is not None for name in document)


def open_unlearning_numbers(
    document: dict[str, Any], gold: dict[str, Any] | None
) -> tuple[PeerNumber, ...]:
    """Return every number of a log that has a value.

    Args:
        document: The log, with or without values by index.
        gold: Log of the retrained model: gives distances that a summary cannot.
    """
    found: list[PeerNumber] = []
    for name, entry in document.items():
        known, value = _known(name), _value(entry)
        if known is None or value is None:
            continue
        ours, note = _ours(name, value, document, gold)
        found.append(
            PeerNumber(
                name=name,
                value=value,
                metric=known.metric,
                ours=ours,
                better=known.better,
                note="; ".join(filter(None, (known.note, note))),
            )
        )
    return tuple(found)


def _known(name: str) -> _Known | None:
    if name in KNOWN:
        return KNOWN[name]
    for ending, metric in _KEPT:
        if name.endswith(ending) and name.removesuffix(ending) in _SETS:
            return _Known(metric, "higher")
    return None


def _ours(
    name: str, value: float, document: dict[str, Any], gold: dict[str, Any] | None
) -> tuple[float | None, str]:
    """Return our number where the log allows it, and what was done."""
    match name:
        case "forget_truth_ratio":
            ratios = _by_index(document.get(name), "score")
            if not ratios:
                return None, "E13: ours needs the ratios by index"
            return fmean(
                1 / (1 + r) for r in ratios
            ), "E13: theirs is min(r, 1/r); ours c / (c + w)"
        case "forget_quality":
            own, other = _truth(document), _truth(gold or {})
            if not own or not other:
                return None, "ours needs the ratios of model and gold by index"
            return forget_quality(own, other).distance, f"p at n = {len(own)}; ours is KS distance"
        case "privleak":
            own, other = _value(document.get("mia_min_k")), _value((gold or {}).get("mia_min_k"))
            if own is None or other is None:
                return None, "E7: without a retain log they put 0.5 for gold"
            return own - other, "difference of member-positive AUCs"
        case "extraction_strength" | "mia_gradnorm":
            return None, ""
        case _:
            return value, ""


def _truth(document: dict[str, Any]) -> list[float]:
    return _by_index(document.get("forget_truth_ratio"), "score")


def _value(entry: object) -> float | None:
    """The number itself in a summary, `agg_value` in a log."""
    return number(entry.get("agg_value")) if isinstance(entry, dict) else number(entry)


def _by_index(entry: object, field: str) -> list[float]:
    rows = entry.get("value_by_index") if isinstance(entry, dict) else None
    if not isinstance(rows, dict):
        return []
    values = [number(row.get(field)) for row in rows.values() if isinstance(row, dict)]
    return [value for value in values if value is not None]
