"""Metrics that cannot tell models that know from those that do not decide nothing."""

import pytest

from expunge.evals import gates
from expunge.evals.assess import assess
from expunge.evals.gates import THRESHOLD, VALIDITY_FILE, unfit
from expunge.metrics.base import (
    EXTRACTION_STRENGTH,
    KEY_FACT,
    MEMBERSHIP,
    PROBABILITY,
    UNTOLD,
    UNTOLD_MIN_K,
)
from expunge.metrics.outcomes import Status
from expunge.utils.io import read_json
from synthetic_audit import Model, never, world

GATING = (EXTRACTION_STRENGTH, KEY_FACT, PROBABILITY, *MEMBERSHIP, UNTOLD, UNTOLD_MIN_K)


def test_every_metric_that_gates_was_evaluated_on_enough_models():
    found = read_json(VALIDITY_FILE)
    assert {metric.id for metric in GATING} <= set(found["metrics"])
    assert min(found["know"], found["never"]) >= 6
    for row in found["metrics"].values():
        for part in ("faithfulness", "robustness"):
            assert 0 <= row[part]["low"] <= row[part]["value"] <= row[part]["high"] <= 1


def test_the_metrics_of_forgetting_may_decide():
    assert [unfit(m.id) for m in (EXTRACTION_STRENGTH, KEY_FACT, PROBABILITY)] == ["", "", ""]


def test_a_metric_that_was_never_evaluated_may_not():
    assert "never meta-evaluated" in unfit("rouge-of-tomorrow")


@pytest.mark.parametrize("value", [THRESHOLD - 0.01, 0.5, 0.0])
def test_an_unfit_metric_is_shown_and_not_gated(tmp_path, monkeypatch, value):
    rows = {m.id: {"faithfulness": {"value": 1.0}} for m in GATING}
    rows[UNTOLD.id] = {"faithfulness": {"value": value}}
    monkeypatch.setattr(gates, "_validity", lambda: rows)
    results = assess(world(tmp_path, Model(knows=never, noise=5)))
    gate = next(g for g in results.gates if g.name == "residual memory")
    assert gate.status is Status.NOT_COMPUTABLE
    assert f"AUC {value:.2f} only" in gate.reason
    assert any(s.metric == "auc-loss" and s.value is not None for s in results.scores)
