"""Gold against gold under every attack: how often does a battery raise an alarm?

    python scripts/null_battery.py --batteries 200 --out benchmarks/results/null_battery.json

In each battery a model that never saw the facts is attacked with everything that level paranoid
has, and held against others like it (`null_attacks`). A false alarm is a ladder
on which any attack brought facts back; the nominal rate is 5 %. `beyond chance` counts batteries
whose smallest adjusted p-value is at most 5 %, whatever the margin says. The last world breaks the
null hypothesis on purpose: there, models guess differently well throughout, and few golds cannot
tell that from a leak.
"""

import argparse
import time
from dataclasses import asdict
from pathlib import Path

from expunge.attacks.presets import PARANOID
from expunge.evals.recovery import ALPHA, recovery_table
from expunge.metrics.outcomes import Status
from expunge.metrics.statistics import clopper_pearson
from expunge.utils.io import write_json
from null_attacks import NullWorld, null_battery

WORLDS = {
    "100 facts of 10 people, one gold": NullWorld(facts=100, subjects=10, golds=1),
    "100 facts of 10 people, two golds": NullWorld(facts=100, subjects=10, golds=2),
    "20 facts of one person, one gold": NullWorld(facts=20, subjects=1, golds=1),
    "40 facts of 40 people, three golds": NullWorld(facts=40, subjects=40, golds=3),
    "40 facts of 40 people, control items": NullWorld(facts=40, subjects=40, golds=0),
    "models differ throughout, one gold": NullWorld(facts=100, subjects=10, golds=1, between=0.3),
}


def measure(world: NullWorld, *, batteries: int, seed: int) -> dict[str, object]:
    """Make many ladders, and count those on which something came back."""
    alarms, chance, tests = 0, 0, 0
    for index in range(batteries):
        made = null_battery(world, PARANOID[1:], seed=seed * 100_000 + index)
        rungs = recovery_table(made.trials, made.ground)
        tests = sum(len(rung.tests) for rung in rungs)
        alarms += any(rung.status is Status.FAIL for rung in rungs)
        chance += any(test.p <= ALPHA for rung in rungs for test in rung.tests)
    low, high = clopper_pearson(alarms, batteries, confidence=0.975)
    return {
        **asdict(world),
        "attacks": len(PARANOID) - 1,
        "tests": tests,
        "batteries": batteries,
        "false_alarms": alarms,
        "rate": alarms / batteries,
        "interval": [low, high],
        "beyond_chance": chance,
    }


def main() -> None:
    """Run all worlds and write the JSON."""
    parser = argparse.ArgumentParser(description="Gold against gold, under every attack.")
    parser.add_argument("--batteries", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    found: dict[str, object] = {}
    for name, world in WORLDS.items():
        started = time.monotonic()
        found[name] = row = measure(world, batteries=given.batteries, seed=given.seed)
        print(
            f"{name}: {row['false_alarms']} of {row['batteries']} ({row['beyond_chance']} beyond "
            f"chance), {time.monotonic() - started:.0f} s",
            flush=True,
        )
        write_json(given.out, {"nominal": ALPHA, "seed": given.seed, "worlds": found})


if __name__ == "__main__":
    main()
