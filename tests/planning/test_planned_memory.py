"""The planned memory against the bytes of live tensors, over two optimiser steps."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional
from transformers import GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, MixtralForCausalLM

import expunge
import tiny
from expunge.errors import ResourceError
from expunge.methods.base import Shape, Stream
from expunge.methods.graddiff import GradDiff
from expunge.methods.npo import NPO
from expunge.methods.rmu import RMU
from expunge.methods.undial import UNDIAL
from expunge.models.generation import WORTH_TOKENS, reordered
from expunge.models.interpolation import snapshot
from expunge.models.lora import LoraShape
from expunge.models.number_formats import quantised
from expunge.models.scoring import CHUNK
from expunge.optim.optimizers.adamw import AdamW
from expunge.optim.optimizers.adamw_8bit import AdamW8bit
from expunge.planning.cost import (
    PROCESS_GIB,
    SCORING,
    Load,
    Way,
    layout_of,
    peak_gib,
    require_memory,
)
from expunge.planning.memory import GIB, RunLayout, measure, memory
from expunge.planning.term_costs import Depth, once_needs, step_needs
from expunge.training.activation_checkpointing import recomputed, selectively_recomputed
from expunge.training.forward import TermEvaluator
from expunge.training.reference_model import precompute
from expunge.training.sampler import Sampler, Streams
from expunge.training.step_gradient import StepGradient
from expunge.training.train_loop import Multipliers, coefficients
from expunge.training.trainable_weights import adapter, chosen, everything
from live import live

STREAMS = Streams(
    forget=tiny.encoded(*[(30, 40), (20, 30)] * 3, seed=1),
    retain=tiny.encoded(*[(30, 40), (20, 30)] * 3, seed=2),
)
ORDER = Sampler(forget=6, retain=6, forget_batch=6, retain_batch=6, seed=0)
LORA = LoraShape(rank=8)


def middling(dtype=torch.float32) -> LlamaForCausalLM:
    """Ten times as wide a vocabulary and six times as wide a model as the tiny ones."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=6000,
        hidden_size=384,
        intermediate_size=1024,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).to(dtype).eval()


def small(dtype=torch.float32) -> LlamaForCausalLM:
    return tiny.llama(layers=6, dtype=dtype)


def planned_and_counted(model, method, lora, *, checkpointing, tokens, optimiser):
    """Bytes at the peak of a step: as planned, and of tensors that were alive."""
    network, config = tiny.network(model), model.config
    shape = Shape(layers=config.num_hidden_layers, width=config.hidden_size)
    terms, trains = method.terms(shape), method.trains(shape)
    if lora is not None:
        weights, first = adapter(network, lora, seed=0), lora.first_layer
    elif trains is not None:
        weights, first = chosen(network, trains), trains.first_layer
    else:
        weights, first = everything(network), 0
    how = {"pad_id": 2, "tokens_per_pass": tokens}
    pools = {Stream.FORGET: list(STREAMS.forget), Stream.RETAIN: list(STREAMS.retain)}
    coefs = coefficients(terms, Multipliers.of(terms), 0.0)
    steps = optimiser.make(weights.masters, 1e-5, 0.0)
    held = [*model.state_dict().values(), *weights.masters.values()]
    again = recomputed if checkpointing else selectively_recomputed
    with live(*held) as counted, again(network):
        references = precompute(network, terms, pools, **how)
        observer = TermEvaluator(
            network=network, terms=terms, streams=STREAMS, references=references, pad_id=2
        )
        for step in range(2):
            draw = ORDER.draw(step)
            pull = StepGradient(observer, weights, draw, coefs=coefs, tokens_per_pass=tokens)
            for name, value in pull().items():
                weights.masters[name].grad = value
            steps.step()
            weights.publish()
            steps.zero_grad(set_to_none=True)
    depth = replace(Depth.of(shape.layers, first, trains), cached=False)
    load = Load(
        steps=1,
        step=step_needs(terms, STREAMS, ORDER, steps=1, depth=depth, tokens_per_pass=tokens),
        once=once_needs(terms, STREAMS, ORDER, steps=1, depth=depth),
        trained=weights.count,
        trained_body=weights.count,
        adapter=lora is not None,
        head_trains=lora is None and trains is None,
        gradient_tokens=0,
        audit_tokens=0,
        audit_answers=0,
        optimiser="adamw" if isinstance(optimiser, AdamW) else "adamw8bit",
        checkpointing=checkpointing,
    )
    layout = replace(layout_of(load, model.dtype), overhead=0.0)
    return memory(measure(config), layout).total * GIB, counted.peak


def gpt2(dtype=torch.float32) -> GPT2LMHeadModel:
    return tiny.gpt2(layers=6, width=192, vocabulary=2000).to(dtype)


def mixtral(dtype=torch.float32) -> MixtralForCausalLM:
    return tiny.mixtral(layers=6, width=192, vocabulary=2000).to(dtype)


RUNS = {
    "npo": (NPO(), None, {}),
    "graddiff+kl": (GradDiff(retain="kl"), None, {}),
    "undial": (UNDIAL(), None, {}),
    "rmu": (RMU(layer=4), None, {}),
    "lora": (NPO(), LORA, {}),
    "lora on top": (NPO(), replace(LORA, first_layer=4), {}),
    "checkpointing": (NPO(), None, {"checkpointing": True}),
    "lora, checkpointing": (NPO(), LORA, {"checkpointing": True}),
    "several passes": (NPO(), None, {"tokens": 210}),
    "8-bit moments": (NPO(), None, {"optimiser": AdamW8bit()}),
    "bf16": (NPO(), None, {"dtype": torch.bfloat16}),
    "lora, bf16": (NPO(), LORA, {"dtype": torch.bfloat16}),
}


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("build", [small, middling, gpt2, mixtral])
def test_planned_memory_is_what_live_tensors_take(build, run):
    if (build, run) == (mixtral, "rmu"):
        pytest.skip("its experts have no matrix that RMU could train")
    method, lora, how = RUNS[run]
    how = {"dtype": torch.float32, **how}
    model = build(how.pop("dtype"))
    settings = {"checkpointing": False, "tokens": 4096, "optimiser": AdamW(), **how}
    planned, counted = planned_and_counted(model, method, lora, **settings)
    assert planned == pytest.approx(counted, rel=0.15)


@pytest.mark.parametrize("card", [False, True])
@pytest.mark.parametrize("build", [middling, gpt2, mixtral])
def test_planned_memory_is_what_the_audit_takes(build, card):
    network = tiny.network(build())
    size = measure(network.model.config)
    with live(*network.model.state_dict().values()) as counted:
        base = {} if card else snapshot(network)  # beside a card it lies in host memory
        with quantised(network, bits=8):
            pass
    layout = RunLayout(trained=1, bytes_each=4, tokens=0, scored=0, head_trains=False, card=card)
    planned = (peak_gib(size, layout) - PROCESS_GIB) * GIB
    scoring = SCORING * 4 * CHUNK * size.vocabulary
    writing = 0 if card else 4 * size.total
    assert planned - max(scoring, writing) == pytest.approx(counted.peak, rel=0.15)
    assert card or base


def test_the_copy_of_weights_that_answers_are_written_with_is_planned(monkeypatch):
    network = tiny.network(tiny.llama(layers=6, width=384))
    size = measure(network.model.config)
    taken = 0

    def kept(inputs, weight, bias):
        nonlocal taken
        taken += weight.numel() * weight.itemsize
        return functional.linear(inputs, weight.to_dense(), bias)

    monkeypatch.setattr("expunge.models.generation.multiply", kept)
    with reordered(network, tokens=WORTH_TOKENS):
        network.model(input_ids=torch.tensor([[1]]))
    layout = RunLayout(trained=1, bytes_each=4, tokens=0, scored=0, head_trains=False)
    planned = GIB * (peak_gib(size, layout) - peak_gib(size, replace(layout, card=True)))
    beside = 4 * size.total  # the original's weights, in host memory
    scoring = SCORING * 4 * CHUNK * size.vocabulary
    assert planned - beside == pytest.approx(taken - scoring, rel=0.05)


SMALLER, NARROW = {"train.full=false", "train.first_layer=2"}, {"precision=bf16"}
ASKED = {
    "npo": ({}, {"train.first_layer=2"} | NARROW),
    "all weights": ({"train": {"full": True}}, SMALLER | NARROW),
    "all weights of some": (
        {"train": {"full": True, "targets": ("down_proj",)}},
        SMALLER | NARROW,
    ),
    "what an adapter cannot reach": (
        {"train": {"full": True, "targets": ("input_layernorm",)}},
        NARROW,
    ),
    "above the middle": ({"train": {"first_layer": 3}}, NARROW),
    "below the middle": ({"train": {"last_layer": 1}}, NARROW),
    "a small adapter": ({"train": {"targets": ("q_proj",)}}, {"train.first_layer=2"} | NARROW),
    "its own weights": ({"method": {"name": "rmu", "layer": 3}}, NARROW),
    "all instead of its own": (
        {"method": {"name": "rmu", "layer": 3}, "train": {"full": True}},
        {"train.full=false"} | NARROW,
    ),
    "a block that is read": ({"method": {"name": "repnoise"}}, NARROW),
    "a mask of weights": ({"train": {"full": True}, "mask": {"name": "saliency"}}, NARROW),
    "what needs float32": ({"robust": {"name": "sam"}}, {"train.first_layer=2"}),
}


@pytest.mark.parametrize("asked", ASKED)
def test_each_way_out_is_taken_and_takes_what_it_says(asked, world, bench):
    tables, offered = ASKED[asked]
    folder = tiny.save(bench / "of-four-blocks", tiny.llama(layers=4, width=192))
    settings = world.settings(**tables, model=str(folder), precision="fp32")
    plan = expunge.plan(settings)
    kinds = SMALLER | NARROW
    assert {each for way in plan.ways for each in way.settings} & kinds == offered
    for way in plan.ways:
        tree = settings.model_dump(exclude_unset=True)
        put(tree, way)
        changed = expunge.plan(settings.model_validate(tree))
        assert changed.cost.peak_gib <= plan.cost.peak_gib
        if any(setting.startswith("train.tokens_per_pass") for setting in way.settings):
            assert way.peak_gib == pytest.approx(changed.cost.peak_gib, rel=0.1), way
        else:
            held, said = changed.cost.peak_gib - PROCESS_GIB, way.peak_gib - PROCESS_GIB
            assert said == pytest.approx(held, rel=0.01), way


def put(tree, way):
    """Put the settings of a way out into a tree of settings."""
    for setting in way.settings:
        path, _, value = setting.partition("=")
        *tables, leaf = path.split(".")
        inner = tree
        for table in tables:
            inner = inner.setdefault(table, {})
        inner[leaf] = value


def test_the_ways_out_of_a_chain_are_those_of_its_largest_stage(world):
    small, large = {"last_layer": 0}, {"full": True}
    stages = [{"method": {"name": "npo"}, "train": train} for train in (small, large, small)]
    settings = world.settings(precision="fp32", stage=stages)
    plan = expunge.plan(settings)
    assert {way.stage for way in plan.ways} == {2}
    for way in plan.ways:
        tree = settings.model_dump(exclude_unset=True)
        tree["stage"] = [dict(stage) for stage in tree["stage"]]
        put(tree["stage"][1], way)
        changed = expunge.plan(settings.model_validate(tree))
        assert way.peak_gib == pytest.approx(changed.cost.peak_gib, rel=0.1), way
    least = min(plan.ways, key=lambda way: way.peak_gib)
    with pytest.raises(ResourceError) as refused:
        require_memory(plan.cost, least.peak_gib, plan.ways)
    assert "train.full=false" in refused.value.fix
    assert "in [[stage]] number 2" in refused.value.fix


WAYS = (
    Way(settings=("train.checkpointing=true",), peak_gib=9.0),
    Way(settings=("train.full=false", "train.first_layer=15"), peak_gib=4.0),
)


@pytest.mark.parametrize(
    ("available", "fix"),
    [
        (9.5, "--set train.checkpointing=true (9.0 GiB), or --set train.full=false --set"),
        (5.0, "--set train.full=false --set train.first_layer=15 (4.0 GiB)"),
        (2.0, "use a larger device or a smaller model; the least found is 4.0 GiB"),
    ],
)
def test_a_refusal_says_what_would_fit(available, fix, world):
    cost = replace(expunge.plan(world.settings()).cost, peak_gib=12.0)
    require_memory(cost, 12.0, WAYS)
    with pytest.raises(ResourceError) as refused:
        require_memory(cost, available, WAYS)
    assert refused.value.fix.startswith(fix)
    with pytest.raises(ResourceError, match="larger device"):
        require_memory(cost, available, ())
