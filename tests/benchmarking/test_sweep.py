"""The matrix: its protocol, its cells and rows, what is searched, and the whole from a command."""

import json
import random
import re
from dataclasses import replace
from pathlib import Path

import pytest

from bench_results import SHAPE, method, row, tree
from expunge.benchmarking import job
from expunge.benchmarking.leaderboard import leaderboard
from expunge.benchmarking.leaderboard_pages import row_table
from expunge.benchmarking.method_spec import parse_method_spec
from expunge.benchmarking.protocol import Protocol, open_protocol
from expunge.benchmarking.result import Cell, lay_out, read_cell, read_row, rows_of, write_row
from expunge.benchmarking.search_space import (
    MLP,
    Categorical,
    MethodParameters,
    Range,
    sample_settings,
    space,
    trials,
)
from expunge.benchmarking.suites.base import Spec
from expunge.cli import main
from expunge.config.settings import Settings, TrainSettings
from expunge.errors import UsageError
from expunge.evals.results import Score
from expunge.methods import EVERY
from expunge.metrics.outcomes import Axis
from expunge.optim import TABLES
from expunge.utils.system import processor


def test_a_row_survives_being_written(tmp_path):
    score = Score(metric="m", role="unlearned", split="p", attack="plain", value=0.5)
    whole = row(method("npo", **{"train.lr": 1e-3}), numbers=[score], columns={"c": {"r": 1.5}})
    write_row(tmp_path, whole)
    assert read_row(tmp_path) == whole
    assert read_row(tmp_path / "none") is None


def test_a_row_of_before_says_less_of_its_machine(tmp_path):
    write_row(tmp_path, row(method("npo")))
    told = json.loads((tmp_path / "row.json").read_text())
    for late in ("processor", "gpu"):
        del told["machine"][late]
    del told["killed"]
    (tmp_path / "row.json").write_text(json.dumps(told))
    assert read_row(tmp_path) == row(method("npo"))


@pytest.mark.parametrize(("device", "gpu"), [("cuda", "NVIDIA H100"), ("cpu", ""), ("", "")])
def test_a_machine_is_known_by_its_models(tmp_path, monkeypatch, device, gpu):
    monkeypatch.setattr(job, "processor", lambda: "Xeon 8481C")
    monkeypatch.setattr(job.torch.cuda, "get_device_name", lambda: "NVIDIA H100")
    found = job.machine(device)
    assert (found.device, found.processor, found.gpu) == (device, "Xeon 8481C", gpu)
    open_protocol(tmp_path, Protocol(settings=tree()))
    write_row(lay_out(tmp_path, method("npo")), replace(row(method("npo")), machine=found))
    shown = ", ".join(filter(None, (device, gpu, "Xeon 8481C", found.cpu)))
    assert any(
        f"Measured on {shown}, " in said for said in row_table(leaderboard(tmp_path))["sentences"]
    )


def test_the_processor_of_linux_is_read_from_the_system():
    told = Path("/proc/cpuinfo")
    if not told.is_file() or "model name" not in told.read_text():
        pytest.skip("this system does not say")
    assert f"model name\t: {processor()}\n" in told.read_text()


def test_cells_are_named_by_what_is_special_about_them(tmp_path):
    first, again = method("npo", **{"train.lr": 1e-3}), method("npo", **{"train.lr": 1e-3})
    assert first.id == again.id
    assert first.id != replace(first, seed=1).id
    assert first.id != method("npo", **{"train.lr": 2e-3}).id
    listed = method("npo", **{"train.targets": ("a", "b")})
    assert read_cell(lay_out(tmp_path, listed)).id == listed.id
    assert "/" not in method("pkg.mod:Kind").id


def test_a_cell_lays_its_values_over_the_settings_of_the_matrix():
    protocol = Protocol(settings=tree(method={"name": "npo", "beta": 0.5}))
    own = protocol.of(method("npo", 3, **{"train.lr": 1e-3}))
    assert (own.method.parameters, own.train.lr, own.train.seed) == ({"beta": 0.5}, 1e-3, 3)
    other = protocol.of(method("simnpo", **{"method.gamma": 2.0}))
    assert other.method.parameters == {"gamma": 2.0}, "those of another method do not carry over"
    gold = protocol.of(Cell(kind="gold", name="gold-1"))
    assert gold.request.gold == ("g0",), "a gold is held against the others"
    assert protocol.of(method("ga")).request.gold == ("g0", "g1")
    with pytest.raises(UsageError, match="not allowed"):
        protocol.of(method("npo", **{"train.lr": -1.0}))


@pytest.mark.parametrize(
    ("name", "left_out"),
    [
        ("npo", set()),
        ("repselect", {"steps", "rank", "targets", "adapter", "forget_tokens"}),
        ("icul", {"steps", "rank", "targets", "adapter", "full"}),
    ],
)
def test_a_method_that_does_not_train_leaves_out_what_only_training_reads(name, left_out):
    shared = {"steps": 9, "rank": 4, "targets": ["q_proj"], "adapter": True, "batch": 3}
    shared |= {"forget_tokens": "fact", "full": True}
    found = Protocol(settings=tree(train=shared)).of(method(name)).train
    usual = TrainSettings()
    given = TrainSettings.model_validate(shared)
    for key in shared:
        assert getattr(found, key) == getattr(usual if key in left_out else given, key), key


@pytest.mark.parametrize(
    ("name", "shared", "found"),
    [
        ("npo+sam", {}, ("npo", "sam", "none", "none", "adamw")),
        ("npo+wagle+sophia+gru", {}, ("npo", "auto", "gru", "wagle", "sophia")),
        ("simnpo", {"robust": {"name": "noise"}}, ("simnpo", "noise", "none", "none", "adamw")),
        ("npo+sam", {"robust": {"name": "noise"}}, ("npo", "sam", "none", "none", "adamw")),
    ],
)
def test_a_composed_name_chooses_wrappers(name, shared, found):
    own = Protocol(settings=tree(**shared)).of(method(name, **{"method.alpha": 2.0}))
    tables = (own.method, own.robust, own.combine, own.mask, own.optimiser)
    assert tuple(table.name for table in tables) == found
    assert own.method.parameters == {"alpha": 2.0}


def test_method_values_a_wrapper_go_with_its_name():
    protocol = Protocol(settings=tree(robust={"name": "sam", "rho": 0.1}))
    assert protocol.of(method("npo+sam")).robust.parameters == {"rho": 0.1}
    assert protocol.of(method("npo+noise")).robust.parameters == {}


@pytest.mark.parametrize(
    ("name", "code", "fix"),
    [
        ("npo+samm", "unknown-wrapper", "did you mean sam?"),
        ("npoo+sam", "unknown-method", "did you mean npo?"),
        ("npo+sam+noise", "two-wrappers", "name one of them"),
        ("ssd+sam", "nothing-to-wrap", "name ssd alone"),
        ("npo+", "unknown-wrapper", "name one of these after a +"),
    ],
)
def test_what_is_no_composition_is_refused(name, code, fix):
    with pytest.raises(UsageError) as caught:
        parse_method_spec(name)
    assert (caught.value.code, fix in caught.value.fix) == (code, True)


def test_no_wrapper_stands_in_two_tables():
    names = [name for kinds, _ in TABLES.values() for name in kinds]
    assert len(names) == len(set(names))


def test_a_matrix_keeps_its_protocol(tmp_path):
    protocol = Protocol(settings=tree(), trials=2)
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / ".matrix.json.abc.part").write_text("another shard writes it")
    assert open_protocol(tmp_path / "m", protocol) == open_protocol(tmp_path / "m", protocol)
    assert open_protocol(tmp_path / "m", replace(protocol, trials=3)).trials == 3
    other = open_protocol(tmp_path / "m", replace(protocol, trials=3, floor=0.5))
    assert other.floor == 0.5, "it chooses among what has been run"
    assert open_protocol(tmp_path / "m", replace(protocol, trials=4)).floor == 0.75
    with pytest.raises(UsageError, match=r"begun with trials 4 \(now 2\)"):
        open_protocol(tmp_path / "m", protocol)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="not a matrix"):
        open_protocol(tmp_path, protocol)


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        ({"train": {"batch": 3}}, {"train": {"batch": 4}}, "train.batch 3 (now 4)"),
        ({}, {"train": {"lr": 1e-4}}, "train.lr unset (now 0.0001)"),
        ({"method": {"name": "npo", "beta": 0.5}}, {}, "method.beta 0.5 (now unset)"),
        ({"train": {"targets": ["q"]}}, {}, 'train.targets ["q"] (now [])'),
        (
            {"model": "m" * 99},
            {"model": "n"},
            f'model "{"m" * 38}… (now "n")',
        ),
        (
            {"train": {"batch": 3, "rank": 4, "steps": 5, "clip": 2.0, "seed": 6}},
            {},
            "train.seed 6 (now 0), and 1 more",
        ),
    ],
)
def test_another_protocol_is_refused_by_what_differs(tmp_path, before, now, said):
    open_protocol(tmp_path, Protocol(settings=tree(**before)))
    with pytest.raises(UsageError, match=re.escape(said)) as caught:
        open_protocol(tmp_path, Protocol(settings=tree(**now), trials=1))
    assert caught.value.code == "another-protocol"


def test_contents_that_changed_are_told_first(tmp_path):
    """Those of a gold that was left out are not: the settings say so."""
    contents = {"the data": "1", "gold g0": "2", "gold g1": "3"}
    open_protocol(tmp_path, Protocol(settings=tree(), contents=contents))
    now = Protocol(settings=tree(train={"batch": 3}), contents={"the data": "4", "gold g0": "2"})
    with pytest.raises(UsageError) as caught:
        open_protocol(tmp_path, now)
    assert caught.value.what.endswith("other contents of the data, train.batch 8 (now 3)")


def test_a_matrix_goes_on_with_or_without_the_network(tmp_path):
    def asked(*, offline):
        suite, beside = (Spec(name=name, data="d", offline=offline) for name in ("tofu", "utility"))
        return Protocol(settings=tree(offline=offline), suite=suite, beside=(beside,))

    for offline in (False, True, False):
        found = open_protocol(tmp_path, asked(offline=offline))
        assert found.suite.offline is found.beside[0].offline is found.shared.offline is offline


@pytest.mark.parametrize("name", EVERY)
def test_every_method_takes_what_its_space_offers(name):
    settings = Settings.model_validate(tree())
    found = trials(name, settings, SHAPE, count=6)
    assert found[0] == {}, "the defaults come first"
    assert len(found) == 6
    assert trials(name, settings, SHAPE, count=6) == found
    for values in found:
        Protocol(settings=tree()).of(method(name, **values))


def test_the_space_reaches_as_far_for_every_method():
    found = space("npo", Settings.model_validate(tree()), SHAPE._replace(layers=30))
    assert found["method.beta"] == Range(low=0.0125, high=0.8, default=0.1)
    assert found["train.lr"] == Range(low=5e-4 / 8, high=4e-3, default=5e-4)
    assert found["train.epochs"] == Categorical(among=(5, 10, 20), default=10)
    assert found["train.last_layer"] == Categorical(among=(None, 14), default=None)
    assert found["train.targets"] == Categorical(among=((), MLP), default=())
    other = space(
        "npo", Settings.model_validate(tree()), MethodParameters(30, 64, frozenset({"fc1"}))
    )
    assert other["train.targets"] == Categorical(among=((),), default=()), (
        "layers that the model lacks are no choice"
    )
    full = space(
        "npo", Settings.model_validate(tree(train={"full": True})), SHAPE._replace(layers=30)
    )
    assert "train.last_layer" not in full
    upper = space("npo", Settings.model_validate(tree(train={"first_layer": 15})), SHAPE)
    assert upper["train.last_layer"].among == (None,), "no block would be left"
    own = space("rmu", Settings.model_validate(tree()), SHAPE)
    assert own["train.lr"] == Range(low=5e-5 / 8, high=4e-4, default=5e-5), "RMU has no adapter"
    assert {"train.last_layer", "train.targets"}.isdisjoint(own)
    drawn = [sample_settings(found, random.Random(seed)) for seed in range(50)]
    assert all(0.0125 <= values["method.beta"] <= 0.8 for values in drawn)
    assert not any(value in (None, ()) for values in drawn for value in values.values())


@pytest.mark.parametrize(
    ("given", "fixed"),
    [
        ({}, set()),
        (
            {"method": {"name": "npo", "beta": 0.1, "retain": "kl"}},
            {"method.beta", "method.retain"},
        ),
        ({"method": {"name": "simnpo", "beta": 2.0}}, set()),
        ({"train": {"lr": 1e-3, "batch": 3}}, {"train.lr"}),
        ({"train": {"epochs": 3}}, {"train.epochs"}),
        ({"train": {"steps": 3}}, {"train.epochs"}),
        (
            {"train": {"targets": ["q_proj"], "last_layer": 1}},
            {"train.targets", "train.last_layer"},
        ),
    ],
)
def test_what_the_user_fixed_is_not_searched(given, fixed):
    whole = space("npo", Settings.model_validate(tree()), SHAPE)
    found = space("npo", Settings.model_validate(tree(**given)), SHAPE)
    assert whole.keys() - found.keys() == fixed
    assert found.items() <= whole.items()
    values = trials("npo", Settings.model_validate(tree(**given)), SHAPE, count=4)
    assert not any(fixed & each.keys() for each in values)


@pytest.mark.slow
def test_a_matrix_runs_from_the_command_line_and_is_not_repeated(world, bench, capsys):
    request = world.settings(request={"gold": (world.gold,)}).model_dump(
        mode="json", exclude_none=True
    )
    import tomli_w

    (bench / "request.toml").write_text(tomli_w.dumps(request), encoding="utf-8")
    words = ["bench", "request.toml", "--methods", "npo", "--out", "m", "--offline"]
    assert main(words) == 0, capsys.readouterr()
    found = {each.cell.name: each for each in rows_of(Path("m"))}
    assert {name: each.status for name, each in found.items()} == {
        "original": "done",
        "gold-0": "done",
        "npo": "done",
    }, [each.why for each in found.values()]
    assert found["npo"].axis_scores()[Axis.FORGETTING].value > 0
    assert found["original"].axis_scores()[Axis.FORGETTING].value < 0.1
    assert list(Path("m").rglob("*.safetensors")) == []
    lent = {path.name for path in (Path("m") / "shared" / "float32").iterdir()}
    assert any(name.startswith("gold-0") for name in lent), "golds are asked once for all runs"
    assert json.loads((Path("m") / "matrix.json").read_text())["trials"] == 1
    assert "npo" in (Path("m") / "leaderboard.md").read_text(encoding="utf-8")
    assert json.loads((Path("m") / "chosen.json").read_text()) == {"npo": {}}
    private = {"evidence", "shared", "probes", "data", "checkpoints"}
    shown = [p for p in Path("m").rglob("*") if p.is_file() and not private & {*p.parts}]
    texts = {text for text in world.texts() if len(text) >= 4}
    assert len(shown) > 20
    assert [(p, t) for p in shown for t in texts if t in f"{p}{p.read_text()}"] == []
    stamps = {path: path.stat().st_mtime_ns for path in Path("m").rglob("row.json")}
    assert main(words) == 0
    assert {path: path.stat().st_mtime_ns for path in Path("m").rglob("row.json")} == stamps
