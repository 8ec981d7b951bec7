"""`expunge explain` and `expunge init`: the words of gates, and a request to begin from."""

import json
import subprocess
from pathlib import Path

import pytest
import torch
from torch.nn import Linear
from transformers import (
    Gemma2ForCausalLM,
    LlamaForCausalLM,
    MistralForCausalLM,
    Phi3ForCausalLM,
    Qwen3ForCausalLM,
)

import tiny
from expunge.cli.main import main
from expunge.config.families import FAMILIES
from expunge.config.resolve import resolve
from expunge.data.readers import read
from expunge.reporting.gate_text import GATE_NAMES, explain
from expunge.reporting.schema import read_results
from synthetic_run import build_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return build_run(tmp_path_factory.mktemp("explain") / "run")


def test_every_gate_of_a_run_is_explained_on_its_axis_with_its_limit(run):
    gates = read_results(run).gates
    assert len(gates) > 8
    for gate in gates:
        text = explain(gate.name)
        assert text.axis is gate.axis, gate.name
        assert f"{gate.margin:g} by default" in text.limit, gate.name


@pytest.mark.parametrize("name", GATE_NAMES)
def test_every_kind_of_gate_has_words(name):
    text = explain(name)
    for words in (text.title, text.compares, text.fails, text.limit):
        assert words
    assert text.meaning or not text.metric


SAID = [
    ("residual memory", "forgetting", "residual changes it"),
    ("recovery by relearn", "robustness", "training on other facts"),
    ("wanted answers under paraphrase", "forgetting", "other wordings"),
    ("key-fact neighbours: family", "locality", "(family)"),
    ("kept records", "forgetting", "fixed by the rule"),
    ("single records still remembered", "forgetting", "kept records Single"),
    ("Facts said, weights rounded to 4 bits", "robustness", "leak under int4 Facts"),
]


@pytest.mark.parametrize(("name", "axis", "words"), SAID)
def test_a_gate_is_explained_in_the_terminal(name, axis, words, capsys):
    assert main(["explain", name]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"axis {axis} value" in said
    assert words in said


TYPED = [
    ("residul memory", "did you mean 'residual memory'?"),
    ("leak under int44", "did you mean 'leak under int4'?"),
    ("recovery by relern", "did you mean 'recovery by relearn'?"),
    ("memory", "did you mean 'residual memory'?"),
    ("", "`expunge explain` lists all"),
    ("\x1b[31m", "lists all"),
]


@pytest.mark.parametrize(("name", "fix"), TYPED)
def test_an_unknown_gate_names_the_nearest(name, fix, capsys):
    assert main(["explain", name]) == 2
    said = capsys.readouterr().err
    assert fix in said
    assert "\x1b" not in said


def test_a_gate_is_shown_as_it_came_out_in_a_run(run, capsys):
    assert main(["explain", "leak under int4", str(run)]) == 0
    assert "here       fail: 13 %" in capsys.readouterr().out
    assert main(["explain", "leak under int8", str(run)]) == 4
    assert "has no gate 'leak under int8'" in capsys.readouterr().err


@pytest.mark.parametrize("model", ["org/model", 'C:\\models\\"mine"', "a\tb\u2028c"])
def test_the_request_that_init_writes_is_read_back(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["init", "erasure", "--model", model, "--goal", "suppression"]) == 0
    assert "expunge plan erasure/request.toml" in capsys.readouterr().out
    settings = resolve({}, config=Path("erasure/request.toml"), environ={}, start=tmp_path).settings
    assert (settings.model, settings.request.goal) == (model, "suppression")
    assert settings.method.name == "auto"
    for names in (settings.request.forget, settings.request.retain):
        (record,) = read(list(names)).records
        assert record.key_answers[0] in record.completion


def test_a_model_beside_the_folder_is_found_from_wherever_the_request_is_read(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    tiny.save(tmp_path / "mine", tiny.llama())
    assert main(["init", "erasure/first", "--model", "mine"]) == 0
    for here in (tmp_path, tmp_path / "erasure" / "first"):
        monkeypatch.chdir(here)
        path = tmp_path / "erasure" / "first" / "request.toml"
        found = resolve({}, config=path, environ={}, start=here).settings
        assert Path(found.model).resolve() == tmp_path / "mine"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_request_of_a_family_names_its_modules_and_a_model(family, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["init", "--family", family]) == 0
    found = resolve({}, config=Path("request.toml"), environ={}, start=tmp_path).settings
    assert found.model == FAMILIES[family].model
    assert found.train.targets == FAMILIES[family].targets
    assert main(["init", "mine", "--family", family, "--model", "./tuned"]) == 0
    mine = resolve({}, config=Path("mine/request.toml"), environ={}, start=tmp_path).settings
    assert mine.model.endswith("tuned")


MEMBERS = {
    "llama": LlamaForCausalLM,
    "qwen": Qwen3ForCausalLM,
    "gemma": Gemma2ForCausalLM,
    "mistral": MistralForCausalLM,
    "phi": Phi3ForCausalLM,
}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_modules_of_a_family_are_all_linear_ones_of_its_blocks(family):
    kind = MEMBERS[family]
    shape = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 300}
    with torch.device("meta"):
        block = kind(kind.config_class(**shape, **heads, pad_token_id=0)).model.layers[0]
    found = {name.split(".")[-1] for name, m in block.named_modules() if isinstance(m, Linear)}
    assert found == set(FAMILIES[family].targets)


def test_an_unknown_family_names_the_nearest(tmp_path, capsys):
    assert main(["init", str(tmp_path), "--family", "lama"]) == 2
    assert "did you mean llama?" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_commands_and_flags(shell, capsys):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    words = {"forget", "audit", "goal", "tracker", "family", "offline"}
    assert {word for word in words if word in script} == words


def test_bash_completes_with_the_script(tmp_path, capsys):
    assert main(["completion", "bash"]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out)
    ask = (
        "source ./script; COMP_WORDS=(expunge fo); COMP_CWORD=1; _expunge; echo ${COMPREPLY[@]};"
        " COMP_WORDS=(expunge forget --go); COMP_CWORD=2; _expunge; echo ${COMPREPLY[@]}"
    )
    done = subprocess.run(["bash", "-c", ask], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.split("\n")[:2] == ["forget", "--goal --gold"], done.stderr


def test_init_overwrites_nothing(tmp_path, capsys):
    (tmp_path / "keep.jsonl").write_text("mine")
    assert main(["init", str(tmp_path)]) == 2
    assert "keep.jsonl is already there; nothing was written" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["keep.jsonl"]
    (tmp_path / "keep.jsonl").unlink()
    (tmp_path / "request.toml").symlink_to(tmp_path / "elsewhere")
    assert main(["init", str(tmp_path)]) == 2
    assert not (tmp_path / "elsewhere").exists()


def test_both_speak_json(tmp_path, capsys):
    assert main(["--format", "json", "init", str(tmp_path / "new")]) == 0
    assert main(["--format", "json", "explain", "residual memory"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in lines if line["event"] in ("init", "gate")] == [
        "init",
        "gate",
    ]
