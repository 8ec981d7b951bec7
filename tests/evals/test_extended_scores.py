"""Scores of further evidence in a synthetic world, and what is said where a need is missing."""

from dataclasses import replace

import numpy as np
import pytest

from expunge.evals.assess import case_of
from expunge.evals.evidence_table import Table
from expunge.evals.scores.core import all_scores
from expunge.evidence.store import Choices, Layers, Scores, Unit
from expunge.metrics.registry import METRICS
from synthetic_audit import SIZES, Model, never, trained, world

GONE = Model(knows=never, noise=5)
RNG = np.random.default_rng(0)


def tabulated(store):
    scores = all_scores(case_of(Table.read(store), store.context()))
    return {(s.metric, s.role, s.split, s.attack): s for s in scores}


def of(found, metric, role="unlearned", split="forget", attack="plain"):
    return found[metric, role, split, attack]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return tabulated(world(tmp_path_factory.mktemp("world"), GONE))


def options(store, role, level, *, split="forget"):
    """The right answer is likelier than false ones by about `level` nats per token."""
    rows = [
        Choices(
            record=f"{split}-{i}",
            logp=(min(0.0, 4 * (-2.0 + level + 0.3 * RNG.normal())), -8.0, -8.4, -7.6),
            tokens=(4, 4, 4, 4),
            correct=0,
        )
        for i in range(SIZES[split])
    ]
    unit = Unit(role=role, split=split, attack="perturbed", kind="choices")
    store.write(unit, rows)


@pytest.fixture(scope="module")
def rich(tmp_path_factory):
    store = world(tmp_path_factory.mktemp("rich"), GONE)
    for role, level in (("original", 1.5), ("unlearned", 0.0), ("gold-0", 0.0), ("gold-1", 0.0)):
        options(store, role, level)
        options(store, role, 1.5, split="retain")
    for role, gap in (("original", 0.0), ("unlearned", 2.0), ("gold-0", 2.0)):
        for attack in ("patched", "lens"):
            rows = [
                Layers(record=f"forget-{i}", values=(-0.1, -0.1 - gap, -0.1))
                for i in range(SIZES["forget"])
            ]
            unit = Unit(role=role, split="forget", attack=attack, kind="layers")
            store.write(unit, rows)
    rows = [Layers(record=f"retain-{i}", values=(0.1, 0.2, 0.9)) for i in range(4)]
    unit = Unit(role="unlearned", split="retain", attack="divergence", kind="layers")
    store.write(unit, rows)
    for attack, values in (("experts", (0.5, 0.25)), ("routing", (0.5, 0.0))):
        for role, share in (("unlearned", 1.0), ("gold-0", 0.5)):
            rows = [
                Layers(record=f"retain-{i}", values=tuple(share * v for v in values))
                for i in range(4)
            ]
            unit = Unit(role=role, split="retain", attack=attack, kind="layers")
            store.write(unit, rows)
    rows = [
        Layers(record=f"model.layers.{i}.mlp", values=(0.01 * (i + 1), 1.0, 3.0)) for i in range(3)
    ]
    unit = Unit(role="unlearned", split="weights", attack="weights", kind="layers")
    store.write(unit, rows)
    return tabulated(store)


@pytest.mark.parametrize(
    ("metric", "need"),
    [
        ("ks-distance", "perturbed_answer"),
        ("distance-share", "perturbed_answer"),
        ("patching-depth", "audit.further"),
        ("lens-depth", "audit.further"),
        ("auc-lowercase", "audit.further"),
        ("auc-recall", "audit.further"),
        ("auc-gradient", "audit.further"),
        ("auc-dc-pdd", "audit.further"),
    ],
)
def test_a_missing_need_is_named(plain, metric, need):
    row = of(plain, metric)
    assert row.value is None
    assert row.reason.startswith("not computable: ")
    assert need in row.reason


def test_without_gold_and_holdout_nothing_is_made_up(tmp_path):
    sizes = {k: v for k, v in SIZES.items() if k not in ("holdout", "control")}
    found = tabulated(world(tmp_path, GONE, golds=0, sizes=sizes))
    for metric in ("privleak", "privacy-closeness", "auc-reference", "tpr-at-fpr", "auc-words"):
        row = found.get((metric, "unlearned", "forget", "plain")) or of(found, metric, "texts")
        assert row.value is None
        assert "not computable" in row.reason


def test_the_reference_attack_refers_to_the_last_gold(plain):
    assert of(plain, "auc-reference", "original").value > 0.95
    assert of(plain, "auc-reference").value == pytest.approx(0.5, abs=0.25)
    assert ("auc-reference", "gold-1", "forget", "plain") not in plain


def test_set_inference_and_the_tail_see_the_original(plain):
    assert of(plain, "dataset-inference", "original").value < 1e-3
    assert of(plain, "dataset-inference").value > 0.01
    tail = of(plain, "tpr-at-fpr", "original")
    assert tail.value > 0.9
    assert "10%" in tail.reason
    assert of(plain, "privleak", "original").value < -50
    assert of(plain, "privacy-closeness").value > of(plain, "privacy-closeness", "original").value


def test_checks_of_the_comparison_set(plain):
    words = of(plain, "auc-words", "texts")
    assert words.value is None or words.reason
    matched = of(plain, "auc-loss-matched", "original")
    assert matched.value > 0.95
    assert matched.n <= SIZES["forget"]


def test_damage_by_distance_and_churn(plain):
    rings = [row for key, row in plain.items() if key[0] == "distance-response"]
    assert sum(row.n for row in rings) == SIZES["retain"] + SIZES["neighbours"]
    assert all(abs(row.value) < 0.05 for row in rings)
    assert of(plain, "churn", split="retain").value == 0.0


def test_forget_quality_stands_beside_the_distance(rich):
    distance, p = of(rich, "ks-distance"), of(rich, "forget-quality")
    assert distance.value < 0.5 < of(rich, "distance-share").value
    assert distance.n == p.n == SIZES["forget"]
    assert "n = 20" in p.reason
    assert of(rich, "ks-equivalence-p").value > 0.05  # 20 records prove no equivalence


def test_options_of_what_is_forgotten_and_kept(rich):
    before, after = of(rich, "truth-share", "original"), of(rich, "truth-share")
    assert before.value > 0.75
    assert after.value == pytest.approx(0.5, abs=0.1)
    assert (after.higher_is_better, of(rich, "choice-accuracy", split="retain").value) == (False, 1)
    assert of(rich, "truth-utility", split="retain").higher_is_better
    assert of(rich, "ece", split="retain").value < 0.2


def test_depth_divergence_and_weights(rich):
    for metric in ("patching-depth", "lens-depth"):
        assert of(rich, metric).value == 1.0
    assert of(rich, "kl-median", split="retain").value == pytest.approx(0.2)
    assert of(rich, "kl-p95", split="retain").value == pytest.approx(0.9)
    assert of(rich, "weight-change", split="weights").value == pytest.approx(0.02)
    assert of(rich, "weight-change-max", split="weights").reason == "model.layers.2.mlp"


def test_router_drift_stands_beside_that_of_gold(rich):
    row = of(rich, "experts-changed", split="retain")
    assert (row.value, row.n, row.higher_is_better) == (0.375, 4, False)
    assert "0.500 at one of 2 routers" in row.reason
    assert of(rich, "experts-changed", "gold-0", "retain").value == 0.1875
    assert of(rich, "routing-shift", split="retain").value == 0.25


@pytest.mark.parametrize(
    ("routers", "reason"),
    [(False, "not applicable: the model has no routers"), (True, "not computable: needs weights")],
    ids=["dense", "unmeasured"],
)
def test_router_drift_that_was_not_measured_is_not_zero(tmp_path, routers, reason):
    store = world(tmp_path, GONE)
    store.write_context(replace(store.context(), routers=routers))
    found = tabulated(store)
    for metric in ("experts-changed", "routing-shift"):
        row = of(found, metric, split="retain")
        assert row.value is None
        assert row.reason.startswith(reason)


def test_every_score_has_a_record_and_every_audited_metric_a_score(rich):
    found = {metric for metric, *_ in rich}
    assert {metric.removeprefix("residual-") for metric in found} <= {each.id for each in METRICS}
    assert {each.id for each in METRICS if each.where == "audits"} <= found


def test_a_changed_text_is_no_attack(tmp_path):
    store = world(tmp_path, GONE)
    for role in ("unlearned", "original", "gold-0", "gold-1"):
        for split in ("forget", "holdout"):
            plain = store.scores(Unit(role=role, split=split, kind="scores"))
            known = role == "original" and split == "forget"
            rows: list[Scores] = [
                replace(row, logp=tuple(x - (2.0 if known else 0.1) for x in row.logp))
                for row in plain
            ]
            unit = Unit(role=role, split=split, attack="lowercase", kind="scores")
            store.write_scores(unit, rows)
    found = tabulated(store)
    assert of(found, "auc-lowercase", "original").value == 1.0
    assert not [key for key in found if key[3] == "lowercase"]
    assert trained("forget", 0, "plain")
