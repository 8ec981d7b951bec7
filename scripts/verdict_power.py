"""Power and false alarms of the verdict: how often it rules what, for models whose truth is known.

    python scripts/verdict_power.py --resamples 200 --out benchmarks/results/verdict_power.json
    python scripts/verdict_power.py --given bare --golds 1 --out ...
    python scripts/verdict_power.py --evidence RUN/evidence --out ...

In each resample a model with a known truth stands in the place of the unlearned one, and the whole
verdict is computed: every gate of every axis, the anchor checks and the self-tests. The models:

- a gold that is not among the anchors;
- that gold with one fact, or two, as the original knows it, under every attack too;
- that gold with a fifth of the original's memory in every record;
- that gold made to shun the records.

Simulated evidence (`null_models`) differs by the noise that was measured between real golds of the
demo. `--given bare` leaves out holdout records and neighbours, as users do. Models then differ by a
model-wide shift too (`SHIFT`), which nothing measures. With `--evidence` the evidence of a real run
is resampled instead: records are drawn with replacement, and each of its golds is judged against
others. The JSON holds counts with exact two-sided 95 % intervals. A case that is in it is not
computed again.
"""

import argparse
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from expunge.evals.assess import case_of, judge_case
from expunge.evals.evidence_table import Table
from expunge.evidence.context import AuditContext
from expunge.evidence.store import EvidenceStore, Row, Scores, Unit
from expunge.metrics.statistics import clopper_pearson
from expunge.utils.io import read_json, write_json
from null_models import World, null_context, null_table

MEMORY = 0.2
SHUNNED = 1.0
"""Nats per token by which a model that shuns the records lies below a gold."""

SHIFT = 0.02
"""Model-wide shift of models in a bare world, as a share of what the original learnt, SD."""

SIZES = (5, 10, 20, 60, 200)
GOLDS = (1, 2, 3)


class Truth(NamedTuple):
    """A model with a known truth."""

    kept: int = 0
    memory: float = 0.0
    shunned: float = 0.0


TRUTHS: Mapping[str, Truth] = {
    "gold": Truth(),
    "one fact kept": Truth(kept=1),
    "two facts kept": Truth(kept=2),
    "a fifth of the memory": Truth(memory=MEMORY),
    "shunned": Truth(shunned=SHUNNED),
}


Audit = tuple[Table, AuditContext]
"""Evidence, and what was audited by which rules."""

RowT = TypeVar("RowT", bound=Row)
Units = Mapping[Unit, Mapping[str, RowT]]


class Outcome(NamedTuple):
    """One judged model."""

    ruling: str
    failed: tuple[str, ...]


def with_truth(table: Table, truth: Truth, *, draw: int = 0) -> Table:
    """Return evidence in which the judged model is a gold changed as the truth says."""
    # Spread over the set, not its first ones: the first questions about a person are the easiest.
    names = list(table.items["forget"])
    places = np.random.default_rng(len(names) + draw).permutation(len(names))[: truth.kept]
    kept = {names[place] for place in places}
    scores, answers = dict(table.scores), dict(table.answers)
    for unit in [u for u in table.scores if (u.role, u.split) == ("unlearned", "forget")]:
        known = (
            table.scores.get(replace(unit, role="original"))
            or table.scores[Unit(role="original", split="forget", kind="scores")]
        )
        scores[unit] = {
            name: known[name] if name in kept else _mixed(row, known[name], truth)
            for name, row in table.scores[unit].items()
        }
    for unit in [u for u in table.answers if (u.role, u.split) == ("unlearned", "forget")]:
        known = (
            table.answers.get(replace(unit, role="original"))
            or table.answers[Unit(role="original", split="forget", kind="answers")]
        )
        answers[unit] = {
            name: known[name] if name in kept else row for name, row in table.answers[unit].items()
        }
    return replace(table, scores=scores, answers=answers, known={})


def _mixed(row: Scores, known: Scores, truth: Truth) -> Scores:
    pairs = zip(row.logp, known.logp, strict=True)
    logp = [
        min(-1e-4, (1 - truth.memory) * own + truth.memory * other - truth.shunned)
        for own, other in pairs
    ]
    return replace(row, logp=tuple(logp))


def judged(table: Table, context: AuditContext) -> Outcome:
    """Return the ruling on a table, and the gates and self-tests that failed."""
    found = judge_case(case_of(table, context), context)
    failed = [gate.name for gate in found.gates if gate.status in ("fail", "inconclusive", "scar")]
    failed += [f"self-test: {test.name}" for test in found.self_tests if not test.passed]
    return Outcome(str(found.verdict.ruling), tuple(failed))


def simulated(
    records: int, golds: int, *, resamples: int, seed: int, bare: bool = False
) -> Iterator[Audit]:
    """Yield tables and contexts of simulated worlds about one person, or one per 20 facts."""
    world = World(
        records=records,
        subjects=max(1, records // 20),
        retain=36,
        neighbours=24,
        golds=golds,
        guess=0.01,
        shift=SHIFT if bare else 0.0,
        bare=bare,
    )
    for index in range(resamples):
        draw = seed * 100_000 + index
        yield null_table(world, seed=draw), null_context(world, seed=draw)


def resampled(
    store: EvidenceStore, records: int, golds: int, *, resamples: int, seed: int
) -> Iterator[Audit]:
    """Yield tables of real evidence whose records are drawn with replacement.

    Each gold of the run is judged in turn, against others of its golds.
    """
    table, context = Table.read(store), store.context()
    rng = np.random.default_rng(seed)
    for index in range(resamples):
        roles = list(rng.permutation(context.golds))
        subject, anchors = roles[0], roles[1 : 1 + golds]
        if len(anchors) < golds:
            raise SystemExit(f"{golds} golds and a judged one need {golds + 1} golds in the run")
        drawn = _drawn(table, rng, records)
        renamed = {subject: "unlearned"} | {a: f"gold-{i}" for i, a in enumerate(anchors)}
        yield (
            _renamed(drawn, {"original": "original", **renamed}),
            replace(
                context,
                golds=tuple(f"gold-{i}" for i in range(golds)),
                models={},
                battery=(),
                seed=index,
            ),
        )


def _drawn(table: Table, rng: np.random.Generator, records: int) -> Table:
    """Draw the records of every set with replacement; `records` of the forget set."""
    chosen = {
        split: rng.choice(list(items), size=records if split == "forget" else len(items))
        for split, items in table.items.items()
    }
    items = {
        split: {
            f"{name}#{place}": replace(table.items[split][name], record=f"{name}#{place}")
            for place, name in enumerate(names)
        }
        for split, names in chosen.items()
    }

    def rows(units: Units[RowT]) -> dict[Unit, dict[str, RowT]]:
        return {
            unit: {
                f"{name}#{place}": replace(own[name], record=f"{name}#{place}")
                for place, name in enumerate(chosen[unit.split])
                if name in own
            }
            for unit, own in units.items()
            if unit.split in chosen
        }

    return Table(items=items, scores=rows(table.scores), answers=rows(table.answers))


def _renamed(table: Table, names: Mapping[str, str]) -> Table:
    def rows(units: Units[RowT]) -> dict[Unit, dict[str, RowT]]:
        return {
            replace(unit, role=names[unit.role]): dict(own)
            for unit, own in units.items()
            if unit.role in names
        }

    return replace(table, scores=rows(table.scores), answers=rows(table.answers), known={})


def measure(worlds: Iterator[Audit], truth: Truth) -> dict[str, object]:
    """Judge a model of this truth in each world, and count rulings and gates that do not pass."""
    rulings: Counter[str] = Counter()
    gates: Counter[str] = Counter()
    for draw, (table, context) in enumerate(worlds):
        found = judged(with_truth(table, truth, draw=draw), context)
        rulings[found.ruling] += 1
        gates.update(found.failed)
    total = sum(rulings.values())
    passed = sum(n for name, n in rulings.items() if name == "PASS")
    failed = sum(n for name, n in rulings.items() if name.startswith("FAIL"))
    return {
        "resamples": total,
        "passed": _rate(passed, total),
        "failed": _rate(failed, total),
        "rulings": dict(rulings.most_common()),
        "not_passed_by_gate": dict(gates.most_common(12)),
    }


def _rate(count: int, total: int) -> dict[str, float]:
    low, high = clopper_pearson(count, total, confidence=0.975)
    return {"rate": count / total, "low": low, "high": high}


def main() -> None:
    """Run every size, number of golds and truth, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--golds", type=int, nargs="+", default=GOLDS)
    parser.add_argument("--truths", nargs="+", choices=tuple(TRUTHS), default=tuple(TRUTHS))
    parser.add_argument("--given", choices=("all", "bare"), default="all", help="sets of records")
    parser.add_argument("--evidence", type=Path, help="evidence of a real run with golds")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    found: dict[str, object] = read_json(given.out)["cells"] if given.out.is_file() else {}
    bare = given.given == "bare"
    for golds in given.golds:
        for records in given.sizes:
            for name in given.truths:
                sets = ", no holdout, no neighbours" if bare else ""
                key = f"{records} records, {golds} golds{sets}, {name}"
                if key in found:
                    continue
                options = {"resamples": given.resamples, "seed": given.seed}
                worlds = (
                    resampled(EvidenceStore(given.evidence), records, golds, **options)
                    if given.evidence
                    else simulated(records, golds, bare=bare, **options)
                )
                found[key] = row = measure(worlds, TRUTHS[name])
                print(key, row["rulings"], row["not_passed_by_gate"], flush=True)
                write_json(given.out, {"seed": given.seed, "cells": found})


if __name__ == "__main__":
    main()
