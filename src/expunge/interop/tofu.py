"""TOFU's own evaluation logs (locuslab/tofu): per-record losses, from which all is recomputed."""

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from expunge.interop.base import PeerNumber, broken, number
from expunge.metrics.memorization import from_mean
from expunge.metrics.multiple_choice import option_probability
from expunge.metrics.tofu import (
    Utility,
    forget_quality,
    forget_truth,
    model_utility,
    truth_ratio,
    truth_share,
    utility_truth,
)

FILES = {
    "forget": "eval_log_forget.json",
    "retain": "eval_log.json",
    "real authors": "eval_real_author_wo_options.json",
    "world facts": "eval_real_world_wo_options.json",
}
"""Set to the key (or file) that holds it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """One set of records of a log; log-probabilities are means per token, nats."""

    true: tuple[float, ...]
    restated: tuple[float, ...]
    wrong: tuple[tuple[float, ...], ...]
    rouge: tuple[float, ...]

    @property
    def ratios(self) -> list[float]:
        """Truth ratio of each record, geometric."""
        pairs = zip(self.restated, self.wrong, strict=True)
        return [ratio for c, w in pairs if (ratio := truth_ratio(c, w)) is not None]

    def utility(self, *, options: bool) -> Utility:
        """Return the set's three parts of model utility; `options` for the short-answer sets."""
        pairs = zip(self.true, self.wrong, strict=True)
        chosen = [option_probability(c, w) for c, w in pairs] if options else []
        probabilities = [p for p in chosen if p is not None] or [from_mean(c) for c in self.true]
        return Utility(
            fmean(probabilities), fmean(self.rouge), fmean(map(utility_truth, self.ratios))
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class TofuLog:
    """The sets of one log that are there."""

    sections: dict[str, Section]

    @classmethod
    def parse(cls, document: dict[str, Any], path: Path | str | None) -> "TofuLog":
        """Read the sets of an aggregated log.

        Raises:
            InputError: A field of a set is missing or of another form.
        """
        return cls(
            sections={
                name: _section(document[key], f"{path}: {key}")
                for name, key in FILES.items()
                if key in document
            }
        )

    @property
    def utility(self) -> float | None:
        """Model utility, or None when one of its three sets is missing."""
        if not {"retain", "real authors", "world facts"} <= self.sections.keys():
            return None
        return model_utility(
            self.sections["retain"].utility(options=False),
            self.sections["real authors"].utility(options=True),
            self.sections["world facts"].utility(options=True),
        )


def is_tofu(document: dict[str, Any]) -> bool:
    """Tell whether this is an aggregated log of TOFU."""
    return any(key in document for key in FILES.values())


def tofu_numbers(log: TofuLog, gold: TofuLog | None) -> tuple[PeerNumber, ...]:
    """Return TOFU's numbers of a log, recomputed from its records.

    Args:
        log: The model's log.
        gold: Log of the retrained model; forget quality needs it.
    """
    found: list[PeerNumber] = []
    forget = log.sections.get("forget")
    if forget is not None:
        found += _forgetting(forget)
        reference = gold.sections.get("forget") if gold else None
        if reference is not None:
            found += _quality(forget, reference)
    for name, section in log.sections.items():
        if name != "forget":
            found += _kept(name, section)
    if log.utility is not None:
        found.append(
            PeerNumber(
                name="model utility",
                value=log.utility,
                metric="model-utility",
                ours=log.utility,
                better="higher",
                note="harmonic mean of nine; says nothing of fluency",
            )
        )
    return tuple(found)


def _forgetting(section: Section) -> list[PeerNumber]:
    probability, rouge = fmean(map(from_mean, section.true)), fmean(section.rouge)
    pairs = zip(section.restated, section.wrong, strict=True)
    shares = [share for c, w in pairs if (share := truth_share(c, w)) is not None]
    n = f"n = {len(section.true)}"
    return [
        PeerNumber(
            name="forget probability",
            value=probability,
            metric="probability",
            ours=probability,
            better="lower",
            note=n,
        ),
        PeerNumber(
            name="forget ROUGE-L recall",
            value=rouge,
            metric="rouge-l-recall-stem",
            ours=rouge,
            better="lower",
            note=n,
        ),
        PeerNumber(
            name="forget truth ratio, min(r, 1/r)",
            value=fmean(map(forget_truth, section.ratios)),
            metric="truth-share",
            ours=fmean(shares),
            better="gold",
            note="E11, E13: theirs is not monotone; ours is c / (c + w), lower = forgotten",
        ),
    ]


def _quality(section: Section, gold: Section) -> list[PeerNumber]:
    found = forget_quality(section.ratios, gold.ratios)
    return [
        PeerNumber(
            name="forget quality (p)",
            value=found.p,
            metric="ks-distance",
            ours=found.distance,
            better="higher",
            note=f"E12: p at n = {found.n} only; ours is the KS distance from gold, lower = nearer",
        )
    ]


def _kept(name: str, section: Section) -> list[PeerNumber]:
    parts = section.utility(options=name != "retain")
    words = {
        "probability": ("probability" if name == "retain" else "option-probability", parts[0]),
        "ROUGE-L recall": ("rouge-l-recall-stem", parts[1]),
        "truth ratio, max(0, 1 - r)": ("truth-utility", parts[2]),
    }
    return [
        PeerNumber(name=f"{name} {word}", value=value, metric=metric, ours=value, better="higher")
        for word, (metric, value) in words.items()
    ]


def _section(rows: object, where: str) -> Section:
    if not isinstance(rows, dict):
        raise broken(where, "records")
    true, order = _column(rows, "avg_gt_loss", where)
    restated, _ = _column(rows, "avg_paraphrased_loss", where, order)
    rouge, _ = _column(rows, "rougeL_recall", where, order)
    perturbed = rows.get("average_perturb_loss")
    if not isinstance(perturbed, dict):
        raise broken(where, "average_perturb_loss")
    wrong: list[tuple[float, ...]] = []
    for index in order:
        losses = [number(value) for value in perturbed.get(index) or ()]
        if not losses or None in losses:
            raise broken(where, f"average_perturb_loss.{index}")
        wrong.append(tuple(-loss for loss in losses if loss is not None))
    return Section(
        true=tuple(-x for x in true),
        restated=tuple(-x for x in restated),
        wrong=tuple(wrong),
        rouge=tuple(rouge),
    )


def _column(
    rows: dict[str, Any], field: str, where: str, order: list[str] | None = None
) -> tuple[list[float], list[str]]:
    column = rows.get(field)
    if not isinstance(column, dict) or not column:
        raise broken(where, field)
    keys = order or list(column)
    values = [number(column.get(key)) for key in keys]
    if None in values:
        raise broken(where, field)
    return [value for value in values if value is not None], keys
