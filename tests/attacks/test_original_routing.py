"""The original's routing brings back what a mixture of experts hides behind moved routers."""

from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM

import expunge
import tiny
from attack_facts import FACTS, make_target
from expunge.attacks.base import Unmet
from expunge.attacks.weight_space.original_routing import OriginalRouting
from expunge.errors import UsageError
from expunge.metrics.outcomes import Status
from expunge.models.loading import digest_of
from expunge.models.routing import all_routers
from expunge.pipeline.attack import AttackOptions, attack


def drifted(model):
    """Turn every router to experts that it avoided; return the network with what it had."""
    network = tiny.network(model)
    before = {name: weight.clone() for name, weight in network.model.state_dict().items()}
    with torch.no_grad():
        for router in all_routers(network).values():
            router.get_parameter("weight").neg_()
    now = network.model.state_dict()
    return network, {n: w for n, w in before.items() if not torch.equal(now[n], w)}


@pytest.fixture(params=[tiny.mixtral, tiny.qwen_moe], ids=["mixtral", "qwen-moe"])
def target(request, tmp_path):
    network, original = drifted(request.param())
    return replace(make_target(tmp_path), network=network, original=original)


def test_each_fact_has_an_answer_and_a_measurement(target):
    found = OriginalRouting().run(target, (), FACTS)
    assert {(each.record, each.variant) for each in found} == {
        (record.id, variant) for record in FACTS for variant in ("routers", "routes")
    }
    assert all((each.value is not None) == (each.variant == "routes") for each in found)


def test_it_leaves_the_model_as_it_was(target):
    before = digest_of(target.network)
    plain = target.score([target.encoder.encode(FACTS[0])])[0].logp
    OriginalRouting().run(target, (), FACTS)
    assert digest_of(target.network) == before
    assert torch.equal(target.score([target.encoder.encode(FACTS[0])])[0].logp, plain)


def test_weights_of_the_original_are_no_target(target):
    with pytest.raises(Unmet, match="model's own"):
        OriginalRouting().run(replace(target, original={}), (), FACTS)


def test_what_moved_routers_hide_of_facts_comes_back(mixture, bench):
    network, _ = drifted(AutoModelForCausalLM.from_pretrained(mixture.original))
    hiding = str(tiny.save(bench / "hiding", network.model))
    settings = mixture.settings(
        request={"gold": (mixture.gold,)}, precision="fp32", out=str(bench / "attack")
    )
    chosen = AttackOptions(only=("extraction", "original-routing"))
    found = {each.attack: each for each in attack(settings, model=hiding, choice=chosen).rungs}
    assert found["extraction"].worst.rho < 0.75
    assert found["original-routing"].status is Status.FAIL
    assert {test.variant: round(test.rho, 6) for test in found["original-routing"].tests} == {
        "routers": 1.0,
        "routes": 1.0,
    }


@pytest.mark.parametrize(
    "started",
    [
        lambda settings, model: expunge.audit(settings, model=model),
        lambda settings, model: attack(
            settings, model=model, choice=AttackOptions(only=("original-routing",))
        ),
    ],
    ids=["audit", "attack"],
)
def test_naming_it_for_a_dense_model_is_refused_before_anything_runs(started, world, bench):
    settings = world.settings(audit={"attacks": ("original-routing",)}, out=str(bench / "run"))
    with pytest.raises(UsageError, match="no mixture of experts"):
        started(settings, world.gold)
    assert not (bench / "run").exists()
