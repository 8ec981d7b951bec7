"""Null experiment: gold against gold. How often does the audit raise an alarm where there is none?

    python scripts/null_experiment.py --resamples 200 --out benchmarks/results/null_experiment.json

In each resample a model that never saw the forget set stands in the place of the unlearned one, and
two others are its golds (`null_models`). A false alarm is a ruling of FAIL or INVALID;
the nominal rate is 5 %. INCONCLUSIVE is no alarm, and is counted apart: it is the price in records.
The JSON holds counts with exact two-sided 95 % intervals, and the gates that failed.
"""

import argparse
from collections import Counter
from pathlib import Path

from expunge.evals.assess import case_of, judge_case
from expunge.metrics.outcomes import Status
from expunge.metrics.statistics import clopper_pearson
from expunge.utils.io import write_json
from null_models import World, null_context, null_table

WORLDS = {
    "one person, 20 facts": World(records=20, subjects=1),
    "one person, 20 facts, one gold": World(records=20, subjects=1, golds=1),
    "10 people, 100 facts": World(records=100, subjects=10),
}
_ALARMS = ("FAIL-RESIDUAL", "FAIL-DAMAGE", "INVALID")


def measure(world: World, *, resamples: int, seed: int) -> dict[str, object]:
    """Judge many golds, and count rulings and failed gates."""
    rulings: Counter[str] = Counter()
    gates: Counter[str] = Counter()
    for index in range(resamples):
        draw = seed * 100_000 + index
        context = null_context(world, seed=draw)
        results = judge_case(case_of(null_table(world, seed=draw), context), context)
        rulings[str(results.verdict.ruling)] += 1
        gates.update(gate.name for gate in results.gates if gate.status is Status.FAIL)
        gates.update(f"self-test: {t.name}" for t in results.self_tests if not t.passed)
    alarms = sum(rulings[name] for name in _ALARMS)
    low, high = clopper_pearson(alarms, resamples, confidence=0.975)
    return {
        "resamples": resamples,
        "false_alarms": alarms,
        "rate": alarms / resamples,
        "interval": [low, high],
        "rulings": dict(rulings.most_common()),
        "alarms_by_gate": dict(gates.most_common()),
    }


def main() -> None:
    """Run all worlds and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    found: dict[str, object] = {}
    for name, world in WORLDS.items():
        found[name] = row = measure(world, resamples=given.resamples, seed=given.seed)
        print(f"{name}: {row['false_alarms']} of {row['resamples']} {row['rulings']}")
        write_json(given.out, {"nominal": 0.05, "seed": given.seed, "worlds": found})


if __name__ == "__main__":
    main()
