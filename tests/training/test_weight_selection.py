"""Layers and modules that the user chooses: those move, all others keep their bits."""

import math
from dataclasses import replace

import pytest
import torch

import expunge
import tiny
from expunge.cli import main
from expunge.errors import UsageError
from expunge.methods.base import Shape, Trains, is_named
from expunge.methods.edits.cir import CIR
from expunge.methods.edits.repselect import RepSelect
from expunge.methods.npo import NPO
from expunge.methods.rmu import RMU
from expunge.models.lora import LoraShape
from expunge.pipeline.plan import load_of
from expunge.planning.memory import count_adapter, count_chosen, measure
from expunge.preparation.prepare import prepare
from expunge.training.early_stopping import Unseen
from expunge.training.trainable_weights import adapter, chosen
from expunge.training.trainer import Trainer, TrainingArgs
from random_records import STREAMS

NEVER = Unseen(mean=math.inf, low=math.inf)


@pytest.mark.parametrize(
    ("name", "wanted", "expected"),
    [
        ("self_attn.q_proj", ("q_proj",), True),
        ("self_attn.q_proj", ("self_attn.q_proj",), True),
        ("self_attn.q_proj", (r"self_attn\.[qk]_proj",), True),
        ("self_attn.v_proj", (r"self_attn\.[qk]_proj",), False),
        ("self_attn.q_proj", ("proj",), False),
        ("self_attn.q_proj", ("mlp.q_proj", "k_proj"), False),
        ("mlp.up_proj", (r"mlp\..*",), True),
        ("mlp", (r"mlp\..*",), False),
        ("", ("mlp",), False),
    ],
)
def test_a_module_is_named_whole_or_by_its_end_or_by_a_pattern(name, wanted, expected):
    assert is_named(name, wanted) is expected


@pytest.mark.parametrize(
    ("trains", "moved"),
    [
        (Trains(modules=("up_proj",), first_layer=0, last_layer=1), r"layers\.[01]\.mlp\.up_proj"),
        (Trains(modules=(), first_layer=1, last_layer=1), r"layers\.1\..*"),
        (
            Trains(modules=(r"self_attn\.[qk]_proj",), first_layer=1, last_layer=1),
            r"layers\.1\.self_attn\.[qk]_proj",
        ),
        (Trains(modules=("self_attn",), first_layer=0, last_layer=0), r"layers\.0\.self_attn\..*"),
    ],
)
def test_only_the_chosen_weights_move_and_the_plan_counts_them(trains, moved, tmp_path):
    network = tiny.network()
    before = {name: value.clone() for name, value in network.model.state_dict().items()}
    options = TrainingArgs(lora=None, only=trains, steps=3, lr=1e-3, batch=2, retain_batch=3)
    run = Trainer(method=NPO(), network=network, streams=STREAMS, options=options, pad_id=2)
    _, weights = run.run(unseen=NEVER, folder=tmp_path, progress=lambda step, text: None)
    meant = {
        name
        for name in before
        if is_named(name.removeprefix("model.").removesuffix(".weight"), (moved,))
    }
    changed = {
        name
        for name, value in network.model.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert changed == meant
    assert weights.count == count_chosen(network.model.config, trains)
    assert weights.count == sum(before[name].numel() for name in meant)


def test_states_below_the_chosen_blocks_are_computed_once_and_change_nothing(tmp_path):
    top = Trains(modules=(), first_layer=1, last_layer=1)
    found = []
    for once in (True, False):
        network = tiny.network()
        run = Trainer(
            method=NPO(),
            network=network,
            streams=STREAMS,
            options=TrainingArgs(lora=None, only=top if once else None, steps=4, lr=1e-3),
            weights=None if once else chosen(network, top),
            pad_id=2,
        )
        folder = tmp_path / str(once)
        run.run(unseen=NEVER, folder=folder, progress=lambda step, text: None)
        found.append(network.model.state_dict())
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("build", "own"),
    [
        (
            tiny.llama,
            "self_attn.q_proj, self_attn.k_proj, self_attn.v_proj, self_attn.o_proj, mlp.",
        ),
        (tiny.gpt2, "attn.c_attn, attn.c_proj, mlp.c_fc, mlp.c_proj"),
        (tiny.mixtral, "self_attn.o_proj, mlp.experts"),
    ],
)
def test_a_refused_target_tells_what_there_is(build, own):
    nothing = Trains(modules=("up_prj",), first_layer=0, last_layer=1)
    with pytest.raises(UsageError) as refused:
        count_chosen(build().config, nothing)
    assert own in refused.value.why


@pytest.mark.parametrize(
    "method", [CIR(), RepSelect(), RMU(layer=1)], ids=["cir", "repselect", "rmu"]
)
def test_a_choice_that_some_blocks_lack_is_refused(method):
    network = tiny.network(tiny.qwen_moe(dense=[0]))
    trains = method.trains(Shape(layers=2, width=64))
    with pytest.raises(UsageError, match="1 of the blocks 0 to 1 have no module mlp") as refused:
        chosen(network, trains)
    assert "mlp.experts, mlp.shared_expert.gate_proj" in refused.value.why
    assert chosen(network, replace(trains, last_layer=0)).count > 0
    shape = LoraShape(targets=("gate_proj",), last_layer=1)  # an adapter goes where it can
    assert count_adapter(network.model.config, shape) == adapter(network, shape, seed=0).count


@pytest.mark.parametrize("full", [False, True], ids=["lora", "all weights"])
def test_targets_that_some_blocks_lack_train_in_the_others(full, world, bench, tmp_path):
    model = tiny.qwen_moe(dense=[0])
    folder = str(tiny.save(bench / "hybrid", model))

    def settings(*targets):
        return world.settings(
            model=folder, precision="fp32", train={"full": full, "targets": targets}
        )

    prepared = prepare(settings("mlp.up_proj", "mlp.down_proj"))
    network = tiny.network(model)
    options = prepared.options.model_copy(update={"steps": 1})
    run = Trainer(method=NPO(), network=network, streams=STREAMS, options=options, pad_id=2)
    _, weights = run.run(unseen=NEVER, folder=tmp_path, progress=lambda step, text: None)
    blocks = {name.partition(".mlp.")[0] for name in weights.masters}
    assert blocks == {"model.layers.0"}
    assert load_of(prepared, measure(prepared.config)).trained == weights.count
    with pytest.raises(UsageError, match=r"0 to 1 is named mlp\.up_prj\n") as refused:
        prepare(settings("mlp.up_proj", "mlp.up_prj"))
    assert "mlp.up_proj, mlp.down_proj, mlp.experts, mlp.shared_expert" in refused.value.why


def test_the_plan_says_that_an_adapter_leaves_experts_alone(world, bench):
    settings = {"model": str(tiny.save(bench / "experts", tiny.mixtral())), "precision": "fp32"}
    plan = expunge.plan(world.settings(**settings))
    assert "LoRA rank 16 that leaves the experts as they are (66% of the blocks' weights)" in (
        plan.method
    )
    assert "experts" not in expunge.plan(world.settings()).method
    with pytest.raises(UsageError, match="no module of the blocks 0 to 0 is named mlp"):
        expunge.plan(world.settings(**settings, method={"name": "rmu"}))


def test_a_target_that_is_no_regular_expression_is_refused(world, bench, capsys):
    words = ["plan", world.original, world.data("forget"), "--goal", "removal"]
    code = main([*words, "--retain", "none", "--offline", "--set", "train.targets=(up"])
    assert code == 2
    assert "is no regular expression" in capsys.readouterr().err


def test_a_run_with_chosen_weights_says_so_and_changes_no_others(world, bench):
    settings = world.settings(
        train={"full": True, "last_layer": 0, "targets": (r"mlp\..*",)},
        out=str(bench / "out"),
    )
    plan = expunge.plan(settings)
    assert r"mlp\..* in blocks 0 to 0" in plan.method
    blocks = expunge.plan(world.settings(train={"full": True, "first_layer": 1}))
    assert "npo, blocks 1 to 1, " in blocks.method
    assert plan.cost.peak_gib < expunge.plan(world.settings(train={"full": True})).cost.peak_gib
    outcome = expunge.forget(settings)
    before, after = (weights_of(folder) for folder in (world.original, outcome.folder / "model"))
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed
    assert all(name.startswith("model.layers.0.mlp.") for name in changed)


def weights_of(folder):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()
