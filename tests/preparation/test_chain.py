"""Chains: stages one after another, each on what the one before left; one audit, one manifest."""

import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import tomli_w

import expunge
from expunge.cli import main
from expunge.config.resolve import resolve, to_toml
from expunge.config.settings import Settings
from expunge.errors import UsageError
from expunge.models.reference import model_folder
from expunge.pipeline.workers import require_spreadable
from expunge.preparation.prepare import prepare_stages, stage_names, stages
from expunge.training.distributed import SOLO
from expunge.utils.io import json_text, read_json, sha256_json
from kill_process import finish, launch, same, stop

AFTER = "evidence/unlearned.forget.plain.scores.jsonl"

CHAIN = """
[train]
batch = 12
check_every = 1

[[stage]]
method = {name = "graddiff", gamma = 0.3}
train = {steps = 3, lr = 2e-3}

[[stage]]
method.name = "ssd"

[[stage]]
method.name = "npo"
train = {steps = 30, lr = 2e-3, targets = "down_proj"}
"""

OTHER = """
[[stage]]
method.name = "npo"
robust.name = "noise"
optimiser.name = "normalised-sgd"
"""


@pytest.fixture(autouse=True)
def own_environment(bench, monkeypatch):
    monkeypatch.setattr(os, "environ", dict(os.environ))


def written(world, chain: str) -> Path:
    """A request file on the world of the tests, with a chain at its end."""
    kept = {"model", "device", "offline", "request", "audit"}
    tree = world.settings().model_dump(mode="json", include=kept, exclude_none=True)
    path = Path("chain.toml")
    rest = tomli_w.dumps(tree)
    bare = chain.startswith("stage =")  # keys of no table come first
    path.write_text(chain + rest if bare else rest + chain, encoding="utf-8")
    return path


def settings_of(path: Path) -> Settings:
    return resolve({}, config=path, environ={}, start=path.parent).settings


def test_a_stage_is_laid_over_the_whole_run_and_comes_back_from_its_file(world, bench):
    robust = '[robust]\nname = "sam"\nrho = 0.1\n\n[[stage]]'
    settings = settings_of(written(world, CHAIN.replace("[[stage]]", robust, 1) + OTHER))
    first, second, third, fourth = stages(settings)
    assert stage_names(settings) == ("graddiff", "ssd", "npo", "npo")
    assert first.method.parameters == {"gamma": 0.3}
    assert [each.train.steps for each in (first, second, third)] == [3, None, 30]
    assert {each.train.batch for each in (first, second, third, fourth)} == {12}
    assert third.train.targets == ("down_proj",)
    assert fourth.train.targets == ()
    assert [each.robust.name for each in (first, second, third)] == ["sam", "sam", "sam"]
    assert (first.robust.parameters, fourth.robust.parameters) == ({"rho": 0.1}, {})
    assert (first.optimiser.name, fourth.optimiser.name) == ("adamw", "normalised-sgd")
    assert {each.stage for each in (first, second, third, fourth)} == {None}
    Path("again.toml").write_text(to_toml(settings), encoding="utf-8")
    assert settings_of(Path("again.toml")) == settings


def test_only_the_last_stage_must_teach_the_response(world):
    def chain(*methods: str) -> Settings:
        return world.settings(
            request={"goal": "suppression", "response": "refusal"},
            stage=[{"method": {"name": name}, "train": {"steps": 1}} for name in methods],
        )

    assert [part.settings.method.name for part in prepare_stages(chain("npo", "idk"))] == [
        "npo",
        "idk",
    ]
    with pytest.raises(UsageError, match="npo cannot teach the response refusal"):
        prepare_stages(chain("idk", "npo"))


def test_all_stages_compute_in_the_widest_format_that_one_needs(world):
    def precisions(**robust: object) -> list[str]:
        made = [{"method": {"name": "npo"}}, {"method": {"name": "npo"}, **robust}]
        return [each.precision for each in stages(world.settings(stage=made))]

    assert precisions() == ["auto", "auto"]
    assert precisions(robust={"name": "gradient-norm"}) == ["fp32", "fp32"]


ONE = '[[stage]]\nmethod.name = "npo"\n'
MISTAKES = {
    "no stage": ("stage = []\n", "invalid-value", "`stage` has a value that is not allowed"),
    "no list": ("stage = 3\n", "invalid-value", "`stage` has a value that is not allowed"),
    "no method": (ONE + "[[stage]]\ntrain.steps = 2\n", "invalid-value", "`method` of stage 2"),
    "a guard before a method that trains": (
        '[[stage]]\nmethod.name = "refusal_guard"\n' + ONE,
        "guard-in-a-chain",
        "stage 1 of 2 is refusal_guard, a guard",
    ),
    "a guard at the end": (
        ONE + '[[stage]]\nmethod.name = "icul"\n',
        "guard-in-a-chain",
        "stage 2 of 2 is icul, a guard",
    ),
    "an unknown key": (
        ONE + ONE + "train.step = 3\n",
        "unknown-key",
        "unknown setting `train.step` in chain.toml, stage 2",
    ),
    "an unknown knob": (
        ONE + ONE + "method.betta = 3\n",
        "unknown-parameter",
        "betta",
    ),
    "a request of its own": (
        ONE + 'request.goal = "edit"\n',
        "not-of-a-stage",
        "`request.goal` is set in chain.toml, stage 1",
    ),
    "a value that is not allowed": (
        ONE + "train.rank = 0\n",
        "invalid-value",
        "`train.rank` of stage 1 has a value",
    ),
    "a method beside them": (
        '[method]\nname = "rmu"\n' + ONE,
        "method-and-stages",
        "method rmu is named beside [[stage]] tables",
    ),
    "an adapter": ("[train]\nadapter = true\n" + ONE, "adapter-of-a-chain", "kept as an adapter"),
    "another seed": (
        ONE + ONE + "train.seed = 4\n",
        "stage-differs",
        "stage 2 of 2 sets train.seed to 4, the run to 0",
    ),
    "steps of an edit": (
        ONE + '[[stage]]\nmethod.name = "ssd"\ntrain.steps = 4\n',
        "not-for-an-edit",
        "train.steps has no effect on method ssd",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
@pytest.mark.parametrize("command", ["plan", "forget"])
def test_a_chain_that_cannot_run_is_refused_before_a_weight_moves(
    world, bench, capsys, command, mistake
):
    chain, code, said = mistake
    assert main([command, str(written(world, chain))]) == 2
    error = capsys.readouterr().err
    assert f"error[{code}]: " in error
    assert said in error
    assert [line.split(":")[0] for line in error.splitlines()[-2:]] == ["  why", "  fix"]
    assert not Path("runs").exists()


def by_hand(world, each: Settings, start: str, out: str) -> str:
    """Run one stage as a command of its own."""
    alone = each.model_copy(update={"model": start, "out": out})
    return str(expunge.forget(alone).folder)


@pytest.mark.parametrize("full", [False, True], ids=["lora", "all-in-bf16"])
def test_a_chain_ends_in_the_weights_of_its_stages_run_by_hand(world, bench, full):
    train = {"full": full, "batch": 12, "lr": 1e-4 if full else 4e-4}
    made = [
        {"method": {"name": "npo"}, "train": {**train, "steps": 3}},
        {"method": {"name": "graddiff"}, "train": {**train, "steps": 4}},
    ]
    precision = "bf16" if full else "auto"
    settings = world.settings(stage=made, precision=precision, out="chain")
    outcome = expunge.forget(settings)
    folder = world.original
    for number, each in enumerate(stages(settings)):
        folder = by_hand(world, each, folder, f"hand-{number}")
    weights = (model_folder(folder) / "model.safetensors").read_bytes()
    assert (outcome.folder / "model" / "model.safetensors").read_bytes() == weights
    first = read_json(Path("hand-0") / "manifest.json")["models"]["unlearned"]
    facts = read_json(outcome.folder / "facts.json")
    assert [stage["weights"] for stage in facts["stages"]] == [
        first,
        read_json(Path("hand-1") / "manifest.json")["models"]["unlearned"],
    ]
    original = read_json(Path("hand-0") / "manifest.json")["models"]["original"]
    assert read_json(outcome.folder / "manifest.json")["models"]["original"] == original
    assert facts["train"]["steps"] == 7
    assert [point["step"] for point in facts["train"]["curve"]] == [1, 2, 3, 4, 5, 6, 7]


@pytest.fixture(scope="module")
def whole(world, tmp_path_factory):
    """The folder of a chain that nothing interrupted."""
    place = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXPUNGE_KEY_FILE", str(place / "operator.key"))
        patch.chdir(place)
        finish(launch(["forget", str(written(world, CHAIN)), "--out", "run"]))
    return place / "run"


def test_a_killed_chain_repeats_no_finished_stage_and_ends_in_the_same_bits(world, whole, bench):
    words = ["forget", str(written(world, CHAIN)), "--out", "run"]
    run, kept = Path("run"), Path("run/checkpoints/stages.safetensors")
    stop(launch(words), run / "checkpoints/stage-1/last.safetensors", signal.SIGKILL)
    stop(launch(words), run / "checkpoints/stage-3/last.safetensors", signal.SIGKILL)
    assert not (run / "checkpoints/stage-1").exists()
    before = kept.stat().st_mtime_ns
    stop(launch(words), run / AFTER, signal.SIGKILL)
    assert kept.stat().st_mtime_ns > before
    assert not (run / "manifest.json").exists(), "killed too late to prove anything"
    finish(launch(words))
    same(whole, run)
    tries = (run / "log.txt").read_text(encoding="utf-8").split("1 of 3: graddiff")[1:]
    done = [text.count("done before") for text in tries]
    assert done == [0, 0, 2, 3]


def test_one_manifest_names_every_stage_and_a_doctored_one_is_found(whole, bench):
    run = Path(shutil.copytree(whole, bench / "run"))
    manifest, facts = read_json(run / "manifest.json"), read_json(run / "facts.json")
    assert [(row["method"], row["parameters"]) for row in manifest["stages"]] == [
        ("graddiff", {"gamma": 0.3}),
        ("ssd", {}),
        ("npo", {}),
    ]
    digests = [row["weights"] for row in manifest["stages"]]
    assert len(set(digests)) == 3
    assert digests[-1] == manifest["models"]["unlearned"] != manifest["models"]["original"]
    assert manifest["method"] == facts["method"]["name"] == "graddiff, then ssd, then npo"
    assert facts["method"]["parameters"]["stage 1: graddiff"] == "gamma 0.3"
    assert "graddiff, then ssd, then npo" in (run / "model" / "README.md").read_text(
        encoding="utf-8"
    )
    assert "graddiff, then ssd, then npo" in (run / "report.html").read_text(encoding="utf-8")

    manifest["stages"][0]["weights"] = "0" * 64
    body = {key: value for key, value in manifest.items() if key != "digest"}
    text = json_text({**body, "digest": sha256_json(body)})
    (run / "manifest.json").write_text(text, encoding="utf-8")
    problems = expunge.verify(run).problems
    assert [(problem.path, problem.what) for problem in problems] == [
        ("manifest.json", "names another stages than the files that it covers")
    ]


def test_the_plan_names_every_stage_and_counts_the_audit_once(world, bench):
    settings = settings_of(written(world, CHAIN))
    whole, alone = expunge.plan(settings), [expunge.plan(each) for each in stages(settings)]
    assert whole.method.startswith("1. graddiff (gamma 0.3), LoRA rank 16, 3 steps: ")
    assert "; 2. ssd, all weights, 0 steps: " in whole.method
    assert "; 3. npo, LoRA rank 16 on down_proj, 30 steps: " in whole.method
    assert whole.cost.peak_gib == max(plan.cost.peak_gib for plan in alone)
    assert max(p.cost.tokens for p in alone) < whole.cost.tokens < sum(p.cost.tokens for p in alone)
    assert whole.cost.disk_gib > max(plan.cost.disk_gib for plan in alone)


def test_a_chain_does_not_run_on_several_processes(world):
    settings = world.settings(stage=[{"method": {"name": "npo"}}])
    team = replace(SOLO, size=2)
    with pytest.raises(UsageError, match="chain-on-processes"):
        require_spreadable(settings, team)
