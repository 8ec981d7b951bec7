from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM, MixtralForCausalLM

import expunge
import tiny
from expunge.methods.base import Shape, Stream, Trains
from expunge.methods.graddiff import GradDiff
from expunge.methods.npo import NPO
from expunge.methods.rmu import RMU
from expunge.methods.undial import UNDIAL
from expunge.models.lora import LoraShape
from expunge.optim.combine.gru import GRU
from expunge.optim.robust.lat import LAT
from expunge.optim.robust.sam import SAM
from expunge.pipeline.plan import load_of
from expunge.planning.cost import Load, disk_gib, once_flops, step_flops
from expunge.planning.memory import GIB, count_adapter, measure
from expunge.planning.term_costs import (
    Depth,
    adversary_needs,
    once_needs,
    packed_tokens,
    step_needs,
)
from expunge.preparation.prepare import prepare
from expunge.training.activation_cache import compute_lower
from expunge.training.activation_checkpointing import recomputed
from expunge.training.early_stopping import Unseen
from expunge.training.forward import TermEvaluator
from expunge.training.reference_model import precompute
from expunge.training.sampler import Sampler, Streams
from expunge.training.step_gradient import GradientTransforms, StepGradient
from expunge.training.train_loop import Multipliers, coefficients
from expunge.training.trainable_weights import adapter, chosen, everything
from expunge.training.trainer import Trainer, TrainingArgs

STREAMS = Streams(
    forget=tiny.encoded((12, 18), (15, 9), (9, 30), (20, 12), seed=1),
    retain=tiny.encoded((12, 18), (15, 9), (9, 30), (20, 12), (8, 8), (30, 5), seed=2),
)
ORDER = Sampler(forget=4, retain=6, forget_batch=4, retain_batch=6, seed=0)
TOKENS = 4096


def smol_shape() -> LlamaForCausalLM:
    """SmolLM2-135M with four of its blocks and a small vocabulary."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=2000,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=4,
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).eval()


def mixture() -> MixtralForCausalLM:
    """Experts one by one: PyTorch does not count the operations of grouped products."""
    model = tiny.mixtral(layers=4, width=192, vocabulary=1000)
    model.set_experts_implementation("eager")
    return model


def run(
    model, method, lora, folder, *, checkpointing=False, wraps=None, streams=STREAMS
) -> tuple[float, float, float, float]:
    """FLOPs of what is done once and of one step, planned and counted."""
    network = tiny.network(model)
    text = model.config
    shape = Shape(layers=text.num_hidden_layers, width=text.hidden_size)
    trains = method.trains(shape)
    terms = method.terms(shape)
    size = measure(model.config)
    first = 0 if lora is None else lora.first_layer
    trained = body = size.total
    if lora is not None:
        weights = adapter(network, lora, seed=0)
        trained = body = weights.count
    elif trains is not None:
        weights = chosen(network, trains)
        trained = body = weights.count
        first = trains.first_layer
    else:
        weights = everything(network)
        body = size.passed
    depth = Depth.of(shape.layers, first, trains)
    asked = {"steps": 1, "tokens_per_pass": TOKENS}
    pulls = (wraps or GradientTransforms()).pulls(shape)
    load = Load(
        steps=1,
        step=step_needs(terms, streams, ORDER, depth=depth, pulls=pulls, **asked),
        adversary=adversary_needs(terms, streams, ORDER, layers=shape.layers, pulls=pulls, **asked),
        once=once_needs(terms, streams, ORDER, steps=1, depth=depth),
        trained=trained,
        trained_body=body,
        adapter=lora is not None,
        head_trains=lora is None and trains is None,
        gradient_tokens=0,
        audit_tokens=0,
        audit_answers=0,
        checkpointing=checkpointing,
    )
    once, pull = observed(network, weights, terms, streams, first, folder)
    again = recomputed(network) if checkpointing else nullcontext()
    with FlopCounterMode(display=False) as step, again:
        if wraps is None:
            pull()
        else:
            wraps.gradient(pull, {}, torch.Generator().manual_seed(0))
    return (
        once_flops(size, load.once),
        float(once),
        step_flops(size, load),
        float(step.get_total_flops()),
    )


def observed(network, weights, terms, streams, first, folder) -> tuple[int, StepGradient]:
    """FLOPs of what is done once, and what then takes the gradient of the first step."""
    pools = {Stream.FORGET: list(streams.forget), Stream.RETAIN: list(streams.retain)}
    how = {"pad_id": 2, "tokens_per_pass": TOKENS}
    with FlopCounterMode(display=False) as once:
        lower = None
        if first:
            records = [record for pool in pools.values() for record in pool]
            lower = compute_lower(network, records, layer=first, file=folder / "lower", **how)
        references = precompute(network, terms, pools, **how, lower=lower)
    observer = TermEvaluator(
        network=network,
        terms=terms,
        streams=streams,
        references=references,
        pad_id=2,
        lower=lower,
    )
    coefs = coefficients(terms, Multipliers.of(terms), 0.0)
    pull = StepGradient(observer, weights, ORDER.draw(0), coefs=coefs, tokens_per_pass=TOKENS)
    return once.get_total_flops(), pull


MODELS = {
    "tiny": lambda: tiny.llama(layers=4),
    "smol": smol_shape,
    "gpt2": lambda: tiny.gpt2(layers=4, width=192, vocabulary=1000),
    "mixtral": mixture,
}
RUNS = {
    "npo": (NPO(), None),
    "graddiff+kl": (GradDiff(retain="kl"), None),
    "undial": (UNDIAL(), None),
    "lora": (NPO(), LoraShape(rank=8, alpha=16.0)),
    "lora from block 2": (GradDiff(), LoraShape(rank=8, alpha=16.0, first_layer=2)),
    "rmu": (RMU(layer=2), None),
}


@pytest.mark.parametrize(
    ("model", "run_of"),
    [(m, r) for m in MODELS for r in RUNS if (m, r) != ("mixtral", "rmu")],  # no module for it
)
def test_planned_operations_are_those_counted(model, run_of, tmp_path):
    once, once_counted, step, step_counted = run(MODELS[model](), *RUNS[run_of], tmp_path)
    assert step == pytest.approx(step_counted, rel=0.15)
    assert once == pytest.approx(once_counted, rel=0.15, abs=1)


@pytest.mark.parametrize(
    "shape",
    [
        LoraShape(rank=8),
        LoraShape(rank=8, first_layer=1),
        LoraShape(rank=4, last_layer=0, targets=(r".*(o_proj|dense|attn.c_proj)",)),
    ],
)
@pytest.mark.parametrize("build", [tiny.llama, tiny.gpt2, tiny.falcon, tiny.mixtral])
def test_planned_weights_of_an_adapter_are_those_it_has(build, shape):
    model = build()
    planned = count_adapter(model.config, shape)
    assert planned == adapter(tiny.network(model), shape, seed=0).count
    if not shape.targets and not shape.first_layer:
        assert planned == 8 * measure(model.config).linear_sides


@pytest.mark.parametrize(
    ("train", "trained"),
    [
        ({}, 16 * 2 * (2 * (64 + 64) + 2 * (64 + 32) + 3 * (64 + 128))),
        ({"targets": ("down_proj",)}, 16 * 2 * (64 + 128)),
        ({"targets": ("down_proj",), "first_layer": 1}, 16 * (64 + 128)),
    ],
)
def test_the_plan_counts_the_adapter_that_is_trained(train, trained, world, bench):
    prepared = prepare(world.settings(train=train))
    load = load_of(prepared, measure(prepared.config))
    assert (load.trained, load.trained_body) == (trained, trained)


def test_of_experts_counts_what_a_token_passes():
    size = measure(tiny.mixtral().config)
    gates, out = 64 + 2 * 32, 32 + 64  # inputs and outputs of an expert's two matrices
    assert size.expert_sides == 2 * 2 * (gates + out)  # two blocks, two experts of four
    assert size.idle == 2 * 2 * (64 * 2 * 32 + 32 * 64)


@pytest.mark.parametrize("lora", [None, LoraShape(rank=8, alpha=16.0)], ids=["all", "lora"])
def test_logits_in_chunks_are_planned_twice_only_where_the_head_trains(lora, tmp_path, monkeypatch):
    _, _, plain, plain_counted = run(smol_shape(), NPO(), lora, tmp_path)
    for place in ("planning.term_costs", "training.forward"):
        monkeypatch.setattr(f"expunge.{place}.CHUNK", 10)
    _, _, chunked, chunked_counted = run(smol_shape(), NPO(), lora, tmp_path)
    assert chunked - plain == pytest.approx(chunked_counted - plain_counted, abs=1)
    assert (chunked > plain) == (lora is None)


@pytest.mark.parametrize("lora", [None, LoraShape(rank=8, alpha=16.0)], ids=["all", "lora"])
def test_activation_checkpointing_is_planned_as_a_forward_pass_more(lora, tmp_path):
    _, _, step, counted = run(smol_shape(), NPO(), lora, tmp_path, checkpointing=True)
    _, _, plain, _ = run(smol_shape(), NPO(), lora, tmp_path)
    assert step == pytest.approx(counted, rel=0.15)
    assert step > 1.2 * plain


def begun(records, *, seed):
    """The records behind forty tokens that are the same for all."""
    frame = tiny.encoded((40, 1), seed=seed)[0].ids[:40]
    return tuple(replace(r, ids=(*frame, *r.ids), start=40 + r.start) for r in records)


ALIKE = Streams(forget=begun(STREAMS.forget, seed=3), retain=begun(STREAMS.retain, seed=3))
WRAPS = {
    "lat": GradientTransforms(robust=LAT(layer=1, steps=4)),
    "sam": GradientTransforms(robust=SAM()),
    "gru": GradientTransforms(combine=GRU()),
}


@pytest.mark.parametrize("run_of", RUNS)
@pytest.mark.parametrize("wraps", WRAPS)
def test_planned_operations_of_wrapped_steps_are_those_counted(wraps, run_of, tmp_path):
    model, how = tiny.llama(layers=4, width=192), {"wraps": WRAPS[wraps], "streams": ALIKE}
    *_, step, counted = run(model, *RUNS[run_of], tmp_path, **how)
    assert step == pytest.approx(counted, rel=0.1)


@pytest.mark.parametrize("lora", [None, LoraShape(rank=8, alpha=16.0)], ids=["all", "lora"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_planned_operations_of_an_adversary_are_those_counted(
    checkpointing, lora, tmp_path, monkeypatch
):
    for place in ("planning.term_costs", "training.forward"):
        monkeypatch.setattr(f"expunge.{place}.CHUNK", 10)
    model, how = tiny.llama(layers=4, width=192), {"wraps": WRAPS["lat"], "streams": ALIKE}
    *_, step, counted = run(model, NPO(), lora, tmp_path, checkpointing=checkpointing, **how)
    assert step == pytest.approx(counted, rel=0.1)


def test_the_plan_counts_the_adversary_of_each_record(world, bench):
    found = {}
    for steps in (2, 4):
        settings = world.settings(robust={"name": "lat", "steps": steps})
        found[steps] = expunge.plan(settings).cost.tokens
    forget = prepare(world.settings()).streams.forget
    assert found[4] - found[2] == 15 * 2 * sum(len(record.ids) for record in forget)


def test_the_plan_says_which_leak_rate_so_many_records_can_exclude(world, bench):
    planned = expunge.plan(world.settings())
    count = len(prepare(world.settings()).scope.forget)
    assert (1 - planned.excluded) ** count == pytest.approx(0.05)
    said = dict(planned.lines())["can show"]
    assert f"a leak rate above {1 - 0.05 ** (1 / count):.1%} is excluded" in said


def test_planned_disk_is_what_the_files_take(tmp_path):
    model = smol_shape()
    dtype, size = model.dtype, measure(model.config)
    only = Trains(modules=("mlp.down_proj",), first_layer=2, last_layer=3)
    network, method = tiny.network(model), NPO()
    run = Trainer(
        method=method,
        network=network,
        streams=STREAMS,
        options=TrainingArgs(lora=None, only=only, steps=1, batch=4, retain_batch=6),
        pad_id=2,
    )
    never = Unseen(mean=float("inf"), low=float("inf"))
    _, weights = run.run(unseen=never, folder=tmp_path, progress=lambda step, text: None)
    taken = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert taken.keys() == {"last.safetensors", "good.safetensors", "lower.0.bin"}
    terms, depth = method.terms(run.shape()), Depth.of(size.layers, 2, only)
    load = Load(
        steps=1,
        step=step_needs(terms, STREAMS, ORDER, steps=1, depth=depth, tokens_per_pass=TOKENS),
        once=once_needs(terms, STREAMS, ORDER, steps=1, depth=depth),
        trained=weights.count,
        trained_body=weights.count,
        adapter=False,
        head_trains=False,
        gradient_tokens=0,
        audit_tokens=0,
        audit_answers=0,
    )
    held = sum(taken.values()) + taken["last.safetensors"] + dtype.itemsize * size.total
    assert disk_gib(size, load, dtype) * GIB == pytest.approx(held, rel=0.02)
    bare = replace(load, once=replace(load.once, below=0.0))
    lower = disk_gib(size, load, dtype) - disk_gib(size, bare, dtype)
    assert lower * GIB == pytest.approx(taken["lower.0.bin"])


def test_a_pack_counts_the_shared_beginning_once():
    records = STREAMS.forget
    assert packed_tokens(records) == sum(len(record.ids) for record in records)
    ids = tuple(range(3, 13))
    same = [
        r.__class__(record="r", ids=ids + r.ids, start=10 + r.start, ends=True) for r in records
    ]
    assert packed_tokens(same) == 10 + packed_tokens(records)


def test_gradients_stop_where_training_does():
    depth = Depth.of(30, 5, Trains(modules=("mlp.down_proj",), first_layer=5, last_layer=7))
    terms = RMU(layer=7).terms(Shape(layers=30, width=64))
    step = step_needs(terms, STREAMS, ORDER, steps=1, depth=depth, tokens_per_pass=TOKENS)
    assert step.forward == 3 * step.tokens
    assert step.backward == 2 * step.tokens
    assert step.scored == 0
