"""Router drift: read off the routers of mixtures of experts, and of nothing else."""

import pytest
import torch

import expunge
import tiny
from expunge.data.records import Message, Record
from expunge.data.tokenization import Encoder
from expunge.evals.extra_evidence import collect_routing
from expunge.evidence.collect import Collector
from expunge.evidence.store import EXPERTS, ROUTING, EvidenceStore, Unit
from expunge.models.interpolation import ModelPair
from expunge.models.routing import all_routers

RECORD = Record(id="r0", prompt=(Message("user", "Where?"),), completion="In Lagos.")
MIXTURES = [tiny.mixtral, tiny.qwen_moe, tiny.granite_moe]


def drift(folder, judged, original):
    """Return values of both units of the one record, by router; None where there is no unit."""
    store = EvidenceStore(folder)
    collector = Collector(
        store=store,
        encoder=Encoder(tiny.tokenizer()),
        records={"retain": (RECORD,)},
        max_new_tokens=4,
        tokens_per_pass=256,
    )
    pair = ModelPair.beside(tiny.network(judged), tiny.network(original))
    collect_routing(collector, pair, "unlearned", "retain")
    units = [
        Unit(role="unlearned", split="retain", attack=name, kind="layers")
        for name in (EXPERTS, ROUTING)
    ]
    return [store.rows(unit)[0].values if store.has(unit) else None for unit in units]


@pytest.mark.parametrize("build", MIXTURES)
def test_the_original_itself_does_not_drift(build, tmp_path):
    assert drift(tmp_path, build(), build()) == [(0.0, 0.0), (0.0, 0.0)]


@pytest.mark.parametrize("build", MIXTURES)
def test_routers_turned_round_send_all_tokens_elsewhere(build, tmp_path):
    judged = build()
    with torch.no_grad():
        for router in all_routers(tiny.network(judged)).values():
            for weight in router.parameters():
                weight.neg_()
    changed, shift = drift(tmp_path, judged, build())
    assert changed[0] == shift[0] == 1.0  # two of four experts: the other two


def test_a_moved_attention_drifts_though_routers_are_frozen(tmp_path):
    judged = tiny.mixtral()
    with torch.no_grad():
        judged.model.layers[0].self_attn.o_proj.weight.mul_(30)
    changed, shift = drift(tmp_path, judged, tiny.mixtral())
    assert 0 < shift[0] <= changed[0] <= 1


def test_a_dense_model_leaves_no_evidence_of_routing(tmp_path):
    assert drift(tmp_path, tiny.llama(), tiny.llama()) == [None, None]


def test_an_audit_shows_the_drift_of_the_judged_model_and_of_gold(mixture, bench):
    """A gold moves more than a margin of five per cent: why no gate reads the drift."""
    settings = mixture.settings(
        request={"gold": (mixture.gold,)}, precision="fp32", out=str(bench / "run")
    )
    scores = expunge.audit(settings, model=mixture.original).results.scores
    found = {(s.role, s.split): s.value for s in scores if s.metric == "routing-shift"}
    assert found["unlearned", "retain"] == found["unlearned", "neighbours"] == 0.0
    assert found["gold-0", "retain"] > 0.05


def test_an_audit_of_a_dense_model_says_that_drift_does_not_apply(world, bench):
    settings = world.settings(request={"gold": (world.gold,)}, out=str(bench / "run"))
    scores = expunge.audit(settings, model=world.gold).results.scores
    rows = [score for score in scores if score.metric in ("experts-changed", "routing-shift")]
    assert [row.value for row in rows] == [None, None]
    assert all(row.reason == "not applicable: the model has no routers" for row in rows)
