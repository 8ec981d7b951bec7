"""Identity of a reference: what it must notice, what it must not, without loading a weight."""

import json
import shutil

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

import tiny
from expunge.errors import InputError
from expunge.methods.guards.protocol import Rules
from expunge.model import identity
from expunge.model.guard import save_guard
from expunge.model.identity import reference_digest
from expunge.model.load import Source

CPU = Source(device=torch.device("cpu"), dtype=torch.float32, offline=True)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A base, an adapter and a guard over it, a GGUF file, and a cache of the Hub with a model."""
    base = tiny.save(tmp_path / "base", tiny.llama())
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": "../base", "lora_alpha": 4})
    )
    save_file({"a": torch.zeros(2)}, tmp_path / "adapter" / "adapter_model.safetensors")
    (tmp_path / "guard").mkdir()
    save_guard(Rules(reply=(1,)), tmp_path / "guard", base=str(base), method="g", knobs={})
    (tmp_path / "model.gguf").write_bytes(b"weights")
    cached = tmp_path / "hub" / "models--some--model"
    shutil.copytree(base, cached / "snapshots" / "abc")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    kept = identity.load_config
    monkeypatch.setattr(
        identity, "load_config", lambda name, source: name.endswith(".gguf") or kept(name, source)
    )
    return tmp_path


def weights(path):
    save_file({"a": torch.ones(3)}, path)


def text(path):
    path.write_text('{"rules": "others", "lora_alpha": 8, "base_model_name_or_path": "../base"}')


HUB = "hub/models--some--model/snapshots/abc"


@pytest.mark.parametrize(
    ("reference", "changed", "change", "noticed"),
    [
        ("base", "base/model.safetensors", weights, True),
        ("base", "base/more.safetensors", weights, True),
        ("base", "base/README.md", text, False),
        ("adapter", "adapter/adapter_model.safetensors", weights, True),
        ("adapter", "adapter/adapter_config.json", text, True),
        ("adapter", "base/model.safetensors", weights, True),
        ("adapter", "adapter/README.md", text, False),
        ("base+adapter", "base/model.safetensors", weights, True),
        ("base+adapter", "adapter/adapter_model.safetensors", weights, True),
        ("guard", "base/model.safetensors", weights, True),
        ("guard", "guard/guard.safetensors", weights, True),
        ("guard", "guard/report.html", text, False),
        ("model.gguf", "model.gguf", lambda path: path.write_bytes(b"others"), True),
        ("model.gguf", "base/model.safetensors", weights, False),
        ("some/model", f"{HUB}/model.safetensors", weights, True),
        ("some/model@main", f"{HUB}/model.safetensors", weights, True),
        ("some/model", f"{HUB}/README.md", text, False),
    ],
)
def test_other_weights_are_another_identity_and_nothing_else_is(
    reference, changed, change, noticed, place
):
    named = [
        part if part.startswith("some/") else str(place / part) for part in reference.split("+")
    ]
    before = reference_digest("+".join(named), CPU)
    assert reference_digest("+".join(named), CPU) == before
    change(place / changed)
    assert (reference_digest("+".join(named), CPU) != before) is noticed


def test_the_same_weights_on_the_hub_and_here_are_the_same_model(place):
    assert reference_digest("some/model", CPU) == reference_digest(str(place / "base"), CPU)


@pytest.mark.parametrize("reference", ["nowhere", "other/model", "nowhere/model.gguf"])
def test_what_is_not_there_is_refused(reference, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError):
        reference_digest(str(tmp_path / reference) if "here" in reference else reference, CPU)
