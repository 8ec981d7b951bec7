"""What does not go together: refused on the command line, before a weight is loaded."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import pytest

from expunge.cli import main
from expunge.methods import EVERY, METHODS, build
from tiny_world import World


@pytest.fixture(autouse=True)
def own_environment(bench, monkeypatch):
    monkeypatch.setattr(os, "environ", dict(os.environ))


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Settings that do not go together, and what is said."""

    what: str
    sets: tuple[str, ...]
    code: str
    said: str
    fix: str
    data: Callable[[World], dict[str, str]] = field(default=lambda world: {})
    """Files that stand in for those of the world, by set."""


def passages(world: World) -> dict[str, str]:
    lines = "".join(f'{{"text": "{row["completion"]} it is."}}\n' for row in world.rows("forget"))
    Path("passages.jsonl").write_text(lines, encoding="utf-8")
    return {"forget": "passages.jsonl"}


def alone(world: World) -> dict[str, str]:
    return {"retain": "none"}


PAIRS = (
    Pair(
        what="a mask and FILA",
        sets=("mask.name=memflex", "train.init=fila"),
        code="mask-with-fila",
        said="mask memflex and train.init = fila do not go together",
        fix="choose one of the two",
    ),
    Pair(
        what="a mask of single weights and LoRA",
        sets=("mask.name=wagle",),
        code="mask-on-adapter",
        said="mask wagle chooses among the model's weights",
        fix="add --full",
    ),
    Pair(
        what="a mask and weight decay",
        sets=("mask.name=saliency", "train.full=true", "train.weight_decay=0.1"),
        code="mask-with-decay",
        said="mask saliency and train.weight_decay do not go together",
        fix="leave train.weight_decay out",
    ),
    Pair(
        what="FILA and an unmerged adapter (trap T24)",
        sets=("train.init=fila", "train.adapter=true"),
        code="rewritten-base",
        said="an adapter that starts as FILA cannot be kept unmerged",
        fix="leave --adapter out",
    ),
    Pair(
        what="FILA and all weights",
        sets=("train.init=fila", "train.full=true"),
        code="no-adapter-here",
        said="train.init is about an adapter",
        fix="leave train.init out",
    ),
    Pair(
        what="all weights and an unmerged adapter",
        sets=("train.adapter=true", "train.full=true"),
        code="no-adapter-here",
        said="train.adapter is about an adapter",
        fix="leave train.adapter out",
    ),
    Pair(
        what="a method that chooses its weights and an unmerged adapter",
        sets=("method.name=rmu", "train.adapter=true"),
        code="no-adapter-here",
        said="train.adapter is about an adapter",
        fix="leave train.adapter out",
    ),
    Pair(
        what="FILA and bf16",
        sets=("train.init=fila", "precision=bf16"),
        code="needs-float32",
        said="train.init = fila needs float32 weights",
        fix="precision=fp32",
    ),
    Pair(
        what="RMU and a layer that does not exist",
        sets=("method.name=rmu", "method.layer=9"),
        code="no-such-layer",
        said="the model has no block 9",
        fix="choose one of these",
    ),
    Pair(
        what="circuit breakers and a layer that does not exist",
        sets=("method.name=rr", "method.layers=0,7"),
        code="no-such-layer",
        said="the model has no block 7",
        fix="choose one of these",
    ),
    Pair(
        what="an edit and a layer that does not exist",
        sets=("method.name=lunar", "method.layer=9"),
        code="no-such-layer",
        said="the model has no block 9",
        fix="choose one of these",
    ),
    Pair(
        what="an adapter and a block that does not exist",
        sets=("train.last_layer=5",),
        code="no-such-layer",
        said="there are no blocks 0 to 5: the model has 2",
        fix="between 0 and 1",
    ),
    Pair(
        what="RMU, which chooses its weights, and a choice of the user's",
        sets=("method.name=rmu", "train.targets=up_proj"),
        code="chosen-by-the-method",
        said="train.targets chooses weights, and method rmu chooses its own",
        fix="leave train.targets out, or add --full",
    ),
    Pair(
        what="all weights and targets that the model does not have",
        sets=("train.full=true", "train.targets=up_prj"),
        code="no-such-modules",
        said="no module of the blocks 0 to 1 is named up_prj",
        fix="train.targets",
    ),
    Pair(
        what="AltPO without answers to draw",
        sets=("method.name=altpo", "method.samples=0"),
        code="cannot-sample",
        said="0 answers cannot be drawn",
        fix="set method.samples to 1 or more",
    ),
    Pair(
        what="LUNAR and passages",
        sets=("method.name=lunar",),
        data=passages,
        code="no-question",
        said="forget records are passages without a question",
        fix="give prompt and completion",
    ),
    Pair(
        what="refusals and passages",
        sets=("method.name=idk",),
        data=passages,
        code="no-alternative",
        said="forget records are passages without an alternative",
        fix="choose another method",
    ),
    Pair(
        what="ELM's fluency and passages",
        sets=("method.name=elm",),
        data=passages,
        code="no-alternative",
        said="passages without an alternative",
        fix="--set method.fluency=0",
    ),
    Pair(
        what="a strength below zero",
        sets=("method.gamma=-1",),
        code="negative-strength",
        said="the strength of the forget term of method npo is below 0",
        fix="set it to 0 or above",
    ),
    Pair(
        what="an edit the other way round",
        sets=("method.name=task_vector", "method.alpha=-5"),
        code="negative-strength",
        said="alpha = -5 of method task_vector is below 0",
        fix="or set it above 0",
    ),
    Pair(
        what="a sharpness that divides by zero",
        sets=("method.beta=0",),
        code="wrong-parameter",
        said="beta = 0",
        fix="leave it out",
    ),
    Pair(
        what="a number that is a truth value",
        sets=("method.gamma=false",),
        code="wrong-parameter",
        said="gamma = False does not suit method npo",
        fix="give a value of that kind",
    ),
    Pair(
        what="half a block",
        sets=("method.name=rmu", "method.layer=0.5"),
        code="wrong-parameter",
        said="layer = 0.5 does not suit method rmu",
        fix="give a value of that kind",
    ),
    Pair(
        what="AltPO and passages",
        sets=("method.name=altpo",),
        data=passages,
        code="no-question",
        said="forget records are passages without a question",
        fix="give prompt and completion",
    ),
    Pair(
        what="AlphaEdit and passages",
        sets=("method.name=alphaedit",),
        data=passages,
        code="no-question",
        said="forget records are passages without a question",
        fix="give prompt and completion",
    ),
    Pair(
        what="an edit and an adapter",
        sets=("method.name=alphaedit", "train.adapter=true"),
        code="not-for-an-edit",
        said="--adapter has no effect on method alphaedit",
        fix="leave it out",
    ),
    Pair(
        what="an edit and the rank of LoRA",
        sets=("method.name=ssd", "train.rank=4"),
        code="not-for-an-edit",
        said="train.rank has no effect on method ssd",
        fix="leave it out",
    ),
    Pair(
        what="an edit and a wrapper of gradients",
        sets=("method.name=ssd", "robust.name=sam"),
        code="not-for-an-edit",
        said="robust has no effect on method ssd",
        fix="leave it out",
    ),
    Pair(
        what="an edit and steps of training",
        sets=("method.name=ssd", "train.steps=4"),
        code="not-for-an-edit",
        said="train.steps has no effect on method ssd",
        fix="leave it out",
    ),
    Pair(
        what="a guard and all weights",
        sets=("method.name=refusal_guard", "train.full=true"),
        code="not-for-an-edit",
        said="--full has no effect on method refusal_guard",
        fix="leave it out",
    ),
    Pair(
        what="a guard and a mask",
        sets=("method.name=icul", "mask.name=random"),
        code="not-for-an-edit",
        said="mask has no effect on method icul",
        fix="leave it out",
    ),
    Pair(
        what="gradient surgery and no retain term",
        sets=("combine.name=gru", "method.retain=none"),
        code="nothing-to-retain",
        said="combine gru weighs forgetting against retaining",
        fix='set retain = "nll"',
    ),
    Pair(
        what="gradient surgery and no retain records",
        sets=("combine.name=ngdiff",),
        data=alone,
        code="nothing-to-retain",
        said="combine ngdiff weighs forgetting against retaining",
        fix="name some with --retain FILE",
    ),
    Pair(
        what="an adversary above all that RMU reads",
        sets=("method.name=rmu", "method.layer=0", "robust.name=lat", "robust.layer=1"),
        code="adversary-too-high",
        said="robust lat moves states after block 1",
        fix="set robust.layer to the block that the method reads",
    ),
    Pair(
        what="a response and a method that teaches none",
        sets=("method.name=rmu", "request.response=refusal"),
        code="response-not-taught",
        said="method rmu cannot teach the response refusal",
        fix="use --method dpo",
    ),
)


def command(world: World, pair: Pair) -> list[str]:
    sets = dict(part.split("=", 1) for part in pair.sets)
    given = pair.data(world)
    data = given.get("forget", world.data("forget"))
    retain = given.get("retain", world.data("retain"))
    words = ["forget", world.original, data, "--goal", "suppression", "--offline"]
    kept = [] if retain == "none" else ["--neighbours", world.data("neighbours")]
    sets = {"request.control": world.data("control"), **sets}
    chosen = [word for key, value in sets.items() for word in ("--set", f"{key}={value}")]
    method = () if "method.name" in sets else ("--method", "npo")
    return [*words, "--retain", retain, *kept, *chosen, *method]


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.what)
def test_what_does_not_go_together_is_refused_before_a_weight_is_loaded(
    world, bench, capsys, monkeypatch, pair
):
    def load(*_given: object) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(import_module("expunge.pipeline.forget"), "load", load)
    assert main(command(world, pair)) == 2
    said = capsys.readouterr().err
    what, why, fix = said[said.index("error[") :].splitlines()
    assert what.startswith(f"error[{pair.code}]: ")
    assert pair.said in what
    assert why.startswith("  why: ")
    assert fix.startswith("  fix: ")
    assert pair.fix in fix
    assert not Path("runs").exists()


READS = [name for name in EVERY if name not in METHODS and build(name, {}).passes().needs_retain]


def test_the_methods_that_read_retain_records_without_training():
    assert {"ssd", "influence", "undo", "lunar", "alphaedit", "uld", "icul"} <= set(READS)
    assert not {"task_vector", "cir", "repselect", "ties", "ngram_block"} & set(READS)


@pytest.mark.parametrize("name", READS)
def test_without_retain_records_an_edit_or_guard_that_reads_them_is_refused(
    world, bench, capsys, name
):
    pair = Pair(what="", sets=(f"method.name={name}",), data=alone, code="", said="", fix="")
    assert main(["plan", *command(world, pair)[1:]]) == 2
    said = capsys.readouterr().err
    assert f"error[nothing-to-retain]: method {name} needs retain records" in said
