"""Gold against gold: the auditor raises no more false alarms than it says."""

import pytest

from expunge.evals.assess import case_of, judge_case
from expunge.evals.axes import erasure_gates
from expunge.evals.results import Ruling
from expunge.metrics.outcomes import Status
from expunge.metrics.statistics import binomial_tolerance
from expunge.utils.io import read_json
from null_models import World, null_context, null_table

WORLD = World(records=20, subjects=1, retain=60, neighbours=30)
SEEDS = range(12)
NOMINAL = 0.05


def test_golds_in_the_place_of_the_unlearned_model_seldom_fail():
    alarms = 0
    for seed in SEEDS:
        case = case_of(null_table(WORLD, seed=seed), null_context(WORLD, seed=seed))
        alarms += any(gate.status is Status.FAIL for gate in erasure_gates(case))
    assert alarms <= binomial_tolerance(len(SEEDS), 0.05)


def test_the_same_seed_gives_the_same_evidence_and_the_original_is_caught():
    table, context = null_table(WORLD, seed=3), null_context(WORLD, seed=3)
    assert table == null_table(WORLD, seed=3)
    assert table != null_table(WORLD, seed=4)
    caught = judge_case(case_of(table, context, subject="original"), context)
    assert caught.verdict.ruling is Ruling.FAIL_RESIDUAL


def test_the_published_rates_are_nominal(request):
    found = read_json(request.config.rootpath / "benchmarks" / "results" / "verdict_power.json")
    golds = {name: cell for name, cell in found["cells"].items() if name.endswith(", gold")}
    assert golds
    for name, cell in golds.items():
        assert sum(cell["rulings"].values()) == cell["resamples"]
        assert cell["failed"]["low"] <= NOMINAL, f"{name}: more golds fail than {NOMINAL}"


@pytest.mark.parametrize("golds", [1, 2])
def test_every_set_and_test_is_there(golds):
    table = null_table(World(records=6, subjects=2, golds=golds), seed=0)
    roles = {unit.role for unit in table.scores}
    assert roles == {"original", "unlearned", *(f"gold-{index}" for index in range(golds))}
    assert {unit.test for unit in table.answers} >= {"plain", "prefill-50", "int4"}
