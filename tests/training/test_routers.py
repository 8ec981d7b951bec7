"""Routers of mixtures of experts keep their bits, unless targets name them; the plan says so."""

import math

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

import expunge
import tiny
from expunge.errors import UsageError
from expunge.methods.base import Trains
from expunge.methods.npo import NPO
from expunge.models.architecture import decoder_layers, routers
from expunge.models.lora import LoraShape
from expunge.pipeline.plan import load_of
from expunge.planning.memory import count_adapter, count_chosen, measure
from expunge.preparation.prepare import prepare
from expunge.training.early_stopping import Unseen
from expunge.training.trainer import Trainer, TrainingArgs
from random_records import STREAMS

NEVER = Unseen(mean=math.inf, low=math.inf)
TWO = pytest.mark.parametrize("build", [tiny.mixtral, tiny.qwen_moe])


def blocks(*modules):
    return Trains(modules=modules, first_layer=0, last_layer=1)


def moved(build, folder, **which):
    """Train a few steps and return the names of weights that changed, without block numbers."""
    network = tiny.network(build())
    before = {name: value.clone() for name, value in network.model.state_dict().items()}
    options = TrainingArgs(**{"lora": None, **which}, steps=2, lr=1e-3, batch=2, retain_batch=3)
    run = Trainer(method=NPO(), network=network, streams=STREAMS, options=options, pad_id=2)
    _, weights = run.run(unseen=NEVER, folder=folder, progress=lambda step, text: None)
    run.finish(weights)
    after = network.model.state_dict()
    return {
        name.partition("layers.")[2].partition(".")[2].removesuffix(".weight")
        for name, value in before.items()
        if not torch.equal(value, after[name])
    }


@TWO
@pytest.mark.parametrize(
    "which",
    [
        {"lora": LoraShape(rank=2)},
        {},
        {"only": blocks()},
        {"only": blocks("mlp")},
    ],
    ids=["lora", "all weights", "blocks", "a module around them"],
)
def test_a_run_leaves_routers_bit_equal(build, which, tmp_path):
    names = moved(build, tmp_path, **which)
    assert names
    assert "mlp.gate" not in names


@TWO
def test_targets_that_name_routers_train_them_alone(build, tmp_path):
    assert moved(build, tmp_path, only=blocks("gate")) == {"mlp.gate"}


@TWO
def test_the_plan_says_whether_routers_are_frozen(build, world, bench):
    folder = str(tiny.save(bench / "experts", build()))

    def settings(**train):
        return world.settings(model=folder, precision="fp32", train=train)

    def method(**train):
        return expunge.plan(settings(**train)).method

    assert ", routers frozen" in method()
    assert "all weights, routers frozen" in method(full=True)
    assert "routers" not in method(full=True, targets=("gate", "mlp.experts"))
    assert "routers" not in expunge.plan(world.settings()).method
    prepared = prepare(settings(full=True))
    size = measure(prepared.config)
    assert size.routers == 2 * 4 * 64  # two blocks, four experts, width 64
    assert load_of(prepared, size).trained == size.total - size.routers


@TWO
def test_an_expert_in_the_targets_trains_and_leaves_those_in_its_tensor_alone(build, tmp_path):
    network = tiny.network(build())
    before = {name: value.clone() for name, value in network.model.state_dict().items()}
    options = TrainingArgs(
        lora=None, only=blocks("mlp.experts.1"), steps=2, lr=1e-3, batch=2, retain_batch=3
    )
    run = Trainer(method=NPO(), network=network, streams=STREAMS, options=options, pad_id=2)
    _, weights = run.run(unseen=NEVER, folder=tmp_path, progress=lambda step, text: None)
    run.finish(weights)
    moved = {
        (name.rpartition(".")[2], expert)
        for name, value in network.model.state_dict().items()
        if not torch.equal(value, before[name])
        for expert in range(len(value))
        if not torch.equal(value[expert], before[name][expert])
    }
    assert moved == {("gate_up_proj", 1), ("down_proj", 1)}


@pytest.mark.parametrize("target", ["mlp.experts", "mlp.experts.1"])
def test_an_adapter_on_experts_in_one_tensor_is_refused(target):
    with pytest.raises(UsageError, match="an adapter does not reach") as refused:
        count_adapter(tiny.mixtral().config, LoraShape(targets=(target,)))
    assert "--full" in refused.value.fix


def test_single_experts_and_weight_decay_are_refused_before_training(world, bench):
    folder = str(tiny.save(bench / "experts", tiny.mixtral()))
    train = {"full": True, "targets": ("mlp.experts.1",), "weight_decay": 0.1}
    with pytest.raises(UsageError, match="weight_decay do not go together"):
        prepare(world.settings(model=folder, precision="fp32", train=train))


def test_an_expert_that_there_is_not_is_refused():
    with pytest.raises(UsageError, match=r"blocks 0 to 1 is named mlp\.experts\.4"):
        count_chosen(tiny.mixtral().config, blocks("mlp.experts.4"))


FAMILIES = {
    "gpt_oss": ({}, "mlp.router"),
    "llama4_text": ({}, "feed_forward.router"),
    "zaya": ({}, "mlp.gate"),
    "phimoe": ({}, "mlp.router"),
    "deepseek_v3": ({"first_k_dense_replace": 0}, "mlp.gate"),
    "gemma4_text": (
        {
            "enable_moe_block": True,
            "num_experts": 8,
            "top_k_experts": 2,
            "moe_intermediate_size": 64,
        },
        "router",
    ),
    "jetmoe": ({}, "mlp.router self_attention.experts.router"),
    "hunyuan_v1_moe": ({"head_dim": 64}, "mlp.gate"),
    "llama": ({}, ""),
}
"""A family of transformers, what its configuration needs, and the routers of its first block."""


@pytest.mark.parametrize("family", FAMILIES)
def test_routers_are_found_in_the_families_of_transformers(family):
    changes, names = FAMILIES[family]
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[family](**changes))
    assert [*routers(decoder_layers(model)[0])] == names.split()
