"""TOFU: forget 1, 5 or 10 % of 200 invented authors (arXiv 2401.06121).

Original fine-tuned on `full`, gold on `retainNN`. Records of one author are one cluster. Sixty
retain records, evenly spaced, are kept out of training and used as `retain-apart`, and by the
audit as neighbours, so that the table shows more than rehearsal; TOFU's own retain set is `retain`.

Forget quality and PrivLeak need gold: the report computes them from the columns of two rows.
"""

from expunge.benchmarking.probe_outputs import (
    Column,
    ProbeOutputs,
    absent,
    exact,
    means,
    membership,
    ratio,
    share,
)
from expunge.benchmarking.suites.base import (
    Probe,
    Spec,
    Suite,
    SuiteLocation,
    chosen,
    records,
    wrong_release,
)
from expunge.data.records import Record
from expunge.evals.results import Score
from expunge.evidence.store import Choices
from expunge.metrics.base import rouge_l_recall
from expunge.metrics.membership import min_k
from expunge.metrics.memorization import exact_memorisation, extraction_strength, probability
from expunge.metrics.tofu import Utility, model_utility, truth_share, utility_truth
from expunge.training.early_stopping import spread

PARTS = {"forget10": ("retain90", 400), "forget05": ("retain95", 200), "forget01": ("retain99", 40)}
FULL = 4000
AUTHOR = 20
"""Questions about each author, one after the other."""
APART = 60
ANSWER = 200
"""Longest answer in tokens, as TOFU has it."""
REAL = ("real-authors", "world-facts")


def load(spec: Spec) -> Suite:
    """Read one split of TOFU.

    Args:
        spec: `part` is `forget10` (default), `forget05` or `forget01`.

    Raises:
        UsageError: There is no such split.
        InputError: A file is missing or not the published one.
    """
    part = chosen(spec.part, tuple(PARTS), suite="tofu")
    kept, size = PARTS[part]
    place = SuiteLocation(root=spec.data, offline=spec.offline)

    def read(name: str, count: int, *, authors: bool = True) -> tuple[Record, ...]:
        rows = place.rows(f"{name}.json", f"{name}:train", count=count)
        about = [f"{name} author {n // AUTHOR}" for n in range(count)] if authors else None
        return records(name, rows, subjects=about)

    forget = read(f"{part}_perturbed", size)
    retain = read(kept, FULL - size)
    forgotten = {(record.prompt, record.completion) for record in forget}
    if forgotten & {(record.prompt, record.completion) for record in retain}:
        raise wrong_release(f"{part} of {spec.data}", f"it shares records with {kept}")
    apart = spread(retain, APART)
    kept_out = set(apart)
    holdout = read(part.replace("forget", "holdout"), size)
    suite = Suite(
        name=f"tofu {part}",
        forget=forget,
        retain=tuple(record for record in retain if record not in kept_out),
        neighbours=apart,
        holdout=holdout,
        probes=(
            _whole("forget", forget),
            Probe(name="holdout", records=holdout, scored=True),
            _whole("retain", read("retain_perturbed", 400)),
            Probe(name="retain-apart", records=apart, scored=True),
            _whole(REAL[0], read("real_authors_perturbed", 100, authors=False)),
            _whole(REAL[1], read("world_facts_perturbed", 117, authors=False)),
        ),
        numbers=numbers,
        columns=columns,
        notes=(f"{APART} of the {kept} records were kept out of training (retain-apart)",),
    )
    return suite.limited(spec.records)


def _whole(name: str, questions: tuple[Record, ...]) -> Probe:
    return Probe(name=name, records=questions, scored=True, answer=ANSWER, options=True)


def numbers(outputs: ProbeOutputs) -> list[Score]:
    """Return TOFU's numbers of one model, with its nine-fold utility and what resists better."""
    found = [
        outputs.mean("extraction-strength", p, outputs.scored(p, extraction_strength), higher=high)
        for p, high in (("forget", False), ("retain-apart", True))
    ]
    memorised = outputs.scored("forget", exact_memorisation)
    found.append(outputs.mean("exact-memorisation", "forget", memorised, higher=False))
    parts: list[Utility] = []
    for probe in ("forget", "retain", *REAL):
        forgotten = probe == "forget"
        real = probe in REAL
        likely = outputs.weighed(probe, share) if real else outputs.scored(probe, probability)
        of_truth = _share if forgotten else _utility
        columns = {
            "option-probability" if probe in REAL else "probability": likely,
            "rouge-l-recall-stem": outputs.answered(probe, rouge_l_recall),
            "truth-share" if forgotten else "truth-utility": outputs.weighed(probe, of_truth),
        }
        row = [outputs.mean(m, probe, c, higher=not forgotten) for m, c in columns.items()]
        found += row
        values = [score.value for score in row if score.value is not None]
        if not forgotten and len(values) == len(row):
            parts.append(Utility(*values))
    found.append(_model_utility(parts))
    apart = outputs.scored("retain-apart", probability)
    found.append(outputs.mean("probability", "retain-apart", apart, higher=True))
    found.append(membership(outputs, "auc-min-k-40", "forget", "holdout", min_k))
    return found


def _model_utility(parts: list[Utility]) -> Score:
    if len(parts) < 3:
        return absent("model-utility", "retain", "needs all three retained sets", higher=True)
    value = model_utility(*parts)
    return exact("model-utility", "retain", value, n=len(parts), higher=True)


def columns(outputs: ProbeOutputs) -> dict[str, Column]:
    """Return the truth ratios of the forget records, for forget quality against gold."""
    return {"truth-ratio": outputs.weighed("forget", ratio)}


def _share(row: Choices) -> float | None:
    return truth_share(*means(row))


def _utility(row: Choices) -> float | None:
    found = ratio(row)
    return None if found is None else utility_truth(found)
