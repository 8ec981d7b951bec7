"""Results of the lm-eval harness: `results_*.json`."""

from typing import Any

from expunge.interop.base import Better, PeerNumber, number

_OURS = {
    "acc": ("choice-accuracy", ""),
    "acc_norm": ("choice-accuracy", "normalised by bytes of the option; ours by tokens"),
    "exact_match": ("open-accuracy", ""),
    "word_perplexity": ("perplexity", "per word; ours is per token"),
    "perplexity": ("perplexity", "per scored answer; ours is per token of general text"),
    "bleu_acc": ("", ""),
}
_LOWER = ("perplexity", "bits_per_byte", "loss")


def is_lm_eval(document: dict[str, Any]) -> bool:
    """Tell whether this is a results file of lm-eval."""
    results = document.get("results")
    return isinstance(results, dict) and any(
        "," in str(key) for task in results.values() if isinstance(task, dict) for key in task
    )


def lm_eval_numbers(document: dict[str, Any]) -> tuple[PeerNumber, ...]:
    """Return every metric of every task, with its standard error in the note.

    Keys are `metric,filter`; the direction is the file's own `higher_is_better`, else guessed from
    the name (perplexities and losses are lower-better).
    """
    directions = document.get("higher_is_better")
    found: list[PeerNumber] = []
    for task, metrics in document["results"].items():
        if not isinstance(metrics, dict):
            continue
        said = directions.get(task) if isinstance(directions, dict) else None
        for key, entry in metrics.items():
            name, _, chosen = str(key).partition(",")
            value = number(entry)
            if not chosen or value is None or name.endswith("_stderr"):
                continue
            metric, note = _OURS.get(name, ("", ""))
            error = number(metrics.get(f"{name}_stderr,{chosen}"))
            spread = "" if error is None else f"+-{1.96 * error:.4f} (95 %)"
            found.append(
                PeerNumber(
                    name=f"{task} {name}" + ("" if chosen == "none" else f" ({chosen})"),
                    value=value,
                    metric=metric,
                    ours=value if metric and not note else None,
                    better=_direction(name, said),
                    note="; ".join(filter(None, (spread, note))),
                )
            )
    return tuple(found)


def _direction(name: str, said: object) -> Better:
    higher = said.get(name) if isinstance(said, dict) else None
    if isinstance(higher, bool):
        return "higher" if higher else "lower"
    return "lower" if any(word in name for word in _LOWER) else "higher"
