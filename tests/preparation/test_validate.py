"""From settings to wrappers: what is refused, what is built, and one run from the command line."""

from dataclasses import replace

import pytest
import torch

from expunge.cli import main
from expunge.config.resolve import resolve, to_toml
from expunge.config.settings import Settings
from expunge.errors import UsageError
from expunge.methods.base import Shape
from expunge.methods.counterfactual import Counterfactual
from expunge.methods.npo import NPO
from expunge.methods.repnoise import RepNoise
from expunge.methods.rmu import RMU
from expunge.methods.rr import RR
from expunge.optim.combine.gru import GRU
from expunge.optim.masks.memflex import MemFlex
from expunge.optim.masks.saliency import Saliency
from expunge.optim.masks.wagle import Wagle
from expunge.optim.optimizers.sophia import Sophia
from expunge.optim.robust.sam import SAM
from expunge.pipeline.run_folder import run_id
from expunge.preparation.validate import build_wraps, described
from expunge.reporting.schema import read_results
from expunge.training.step_gradient import GradientTransforms
from random_records import STREAMS

SHAPE = Shape(layers=2, width=64)


def wraps_of(tables, *, method=None, streams=STREAMS, dtype=torch.float32) -> GradientTransforms:
    tree = {"model": "m", "request": {"goal": "removal", "forget": ["f.jsonl"]}, **tables}
    return build_wraps(Settings.model_validate(tree), method or NPO(), SHAPE, streams, dtype)


ALONE = replace(STREAMS, retain=())
FULL = {"full": True}


@pytest.mark.parametrize(
    ("tables", "more", "message"),
    [
        ({"mask": {"name": "wagle"}}, {}, "mask wagle chooses among .*add --full, or .*memflex"),
        ({"mask": {"name": "saliency"}}, {}, "mask saliency chooses among the model's weights"),
        (
            {"mask": {"name": "memflex"}, "train": {"init": "fila"}},
            {},
            "mask memflex and train.init = fila do not go together",
        ),
        (
            {"mask": {"name": "wagle"}, "train": {**FULL, "weight_decay": 0.01}},
            {},
            "mask wagle and train.weight_decay do not go together",
        ),
        (
            {"mask": {"name": "wagle"}, "train": FULL},
            {"streams": ALONE},
            "mask wagle weighs forgetting against retaining.*no retain records",
        ),
        (
            {"combine": {"name": "gru"}},
            {"method": NPO(retain="none")},
            "combine gru weighs .*method auto has no retain term",
        ),
        ({"robust": {"name": "mudman"}}, {"streams": ALONE}, "robust mudman weighs forgetting"),
        ({"robust": {"name": "sam"}}, {"dtype": torch.bfloat16}, "robust sam needs float32"),
        ({"train": {"init": "fila"}}, {"dtype": torch.bfloat16}, "train.init = fila needs float32"),
        ({"train": {"init": "fila"}}, {"streams": ALONE}, "train.init = fila weighs forgetting"),
        ({"train": {"init": "fila", **FULL}}, {}, "train.init is about an adapter"),
        (
            {"train": {"first_layer": 1}},
            {"method": RMU(layer=1)},
            "train.first_layer chooses weights, and method auto chooses its own",
        ),
        ({"train": {"init": "fila"}}, {"method": RMU(layer=1)}, "train.init is about an adapter"),
        ({"train": {"first_layer": 2}}, {}, "there are no blocks 2 to 1: the model has 2"),
        (
            {"train": {"first_layer": 1}},
            {"method": RepNoise()},
            "auto reads block 0, and .*block 1",
        ),
        ({"train": {"first_layer": 1}}, {"method": RR(layers="1,0")}, "first_layer to 0, or let"),
        ({"train": {**FULL, "first_layer": 1}}, {"method": RMU(layer=0)}, "auto reads block 0"),
        (
            {"train": {"init": "fila", "adapter": True}},
            {},
            "an adapter that starts as FILA cannot be kept unmerged",
        ),
    ],
)
def test_what_cannot_work_together_is_refused_before_training(tables, more, message):
    with pytest.raises(UsageError, match=f"(?s){message}"):
        wraps_of(tables, **more)


@pytest.mark.parametrize(
    ("tables", "more", "expected"),
    [
        ({}, {"streams": ALONE, "dtype": torch.bfloat16}, GradientTransforms()),
        (
            {"mask": {"name": "memflex", "size": 1}},
            {},
            GradientTransforms(choose=MemFlex(size=1.0)),
        ),
        ({"mask": {"name": "wagle"}}, {"method": RMU(layer=1)}, GradientTransforms(choose=Wagle())),
        ({"train": {"first_layer": 1}}, {"method": RR(layers="1")}, GradientTransforms()),
        (
            {"mask": {"name": "saliency"}, "train": FULL},
            {"streams": ALONE},
            GradientTransforms(choose=Saliency()),
        ),
        (
            {
                "robust": {"name": "sam", "rho": "0.05"},
                "combine": {"name": "expunge.optim.combine.gru:GRU"},
                "optimiser": {"name": "sophia", "every": 5},
                "train": {"average_last": 0.5},
            },
            {},
            GradientTransforms(
                robust=SAM(rho=0.05), combine=GRU(), optimiser=Sophia(every=5), average_last=0.5
            ),
        ),
    ],
)
def test_settings_become_wrappers(tables, more, expected):
    assert wraps_of(tables, **more) == expected


@pytest.mark.parametrize(
    ("method", "tables", "expected"),
    [
        (Counterfactual(), {}, {"robust": "rounding"}),
        (Counterfactual(), {"robust": {"share": 0.25}}, {"robust": "rounding (share 0.25)"}),
        (Counterfactual(), {"train": FULL}, {}),
        (Counterfactual(), {"robust": {"name": "none"}}, {}),
        (NPO(), {}, {}),
    ],
)
def test_a_method_names_the_wrapper_of_its_adapter(method, tables, expected):
    tree = {"model": "m", "request": {"goal": "removal", "forget": ["f.jsonl"]}, **tables}
    settings = Settings.model_validate(tree)
    assert described(settings, method) == expected
    wraps = build_wraps(settings, method, SHAPE, STREAMS, torch.float32)
    assert (wraps.robust is None) == (not expected)


def test_wrappers_from_the_command_line_reach_the_run(world, bench, capsys):
    sets = {
        "train.steps": "2",
        "robust.name": "sam",
        "robust.rho": "0.05",
        "combine.name": "gru",
        "train.first_layer": "1",
    }
    assert main(world.command("--dry-run", **sets)) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "LoRA rank 16 in blocks 1 to 1, robust sam (rho 0.05), combine gru, 2 steps" in shown
    assert main(world.command("--out", "run", **sets)) == 0
    config = (bench / "run" / "config.toml").read_text(encoding="utf-8")
    assert '[robust]\nname = "sam"\nrho = 0.05' in config
    assert "sam (rho 0.05)" in (bench / "run" / "report.html").read_text(encoding="utf-8")
    assert read_results(bench / "run").verdict
    capsys.readouterr()
    assert main(world.command("--out", "run", **{**sets, "robust.rho": "0.06"})) == 2
    assert "folder-in-use" in capsys.readouterr().err


def test_method_values_wrappers_come_from_files_variables_and_flags(tmp_path):
    (tmp_path / "expunge.toml").write_text(
        'model = "m"\n[request]\ngoal = "removal"\nforget = "f.jsonl"\n'
        '[robust]\nname = "sam"\nrho = 0.1\n[mask]\nname = "wagle"\nshare = 0.5\n'
    )
    environ = {"EXPUNGE_COMBINE_NAME": "gru", "EXPUNGE_COMBINE_FRESH": "0.7"}
    flags = {"robust.rho": "0.05", "mask.name": "saliency", "mask.unit": "weight"}
    resolved = resolve(flags, config=None, environ=environ, start=tmp_path)
    found = resolved.settings
    assert (found.robust.name, found.robust.parameters) == ("sam", {"rho": 0.05})
    assert (found.combine.name, found.combine.parameters) == ("gru", {"fresh": 0.7})
    assert (found.mask.name, found.mask.parameters) == ("saliency", {"unit": "weight"})  # no share
    assert resolved.origins["combine.fresh"] == "EXPUNGE_COMBINE_FRESH"
    again = tmp_path / "saved.toml"
    again.write_text(to_toml(found))
    assert resolve({}, config=again, environ={}, start=tmp_path / "none").settings == found


@pytest.mark.parametrize("name", ["EXPUNGE_ROBUST_", "EXPUNGE_ROBUTS_RHO", "EXPUNGE_TRAIN_RHO"])
def test_an_unknown_variable_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match=f"unknown setting `{name}`"):
        resolve({"model": "m"}, config=None, environ={name: "1"}, start=tmp_path)


@pytest.mark.parametrize(
    "tables",
    [
        {"robust": {"name": "sam"}},
        {"robust": {"name": "sam", "rho": 0.05}},
        {"combine": {"name": "gru"}},
        {"mask": {"name": "wagle"}},
        {"optimiser": {"name": "sophia"}},
        {"train": {"init": "fila"}},
        {"train": {"average_last": 0.5}},
        {"train": {"first_layer": 1}},
    ],
)
def test_a_run_with_another_wrapper_is_another_run(tables):
    def named(more):
        tree = {"model": "m", "request": {"goal": "removal", "forget": ["f.jsonl"]}, **more}
        settings = Settings.model_validate(tree)
        return run_id(settings, data_digest="d", model_digest="m", code_version="1")

    assert named(tables) == named(tables)
    others = [{}, {"robust": {"name": "sam", "rho": 0.06}}]
    assert named(tables) not in [named(other) for other in others]
