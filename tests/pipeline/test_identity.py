"""What makes a run another run: golds and siblings count by what their files hold."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

import expunge
import tiny
from expunge.attacks.presets import AttackResources
from expunge.errors import InputError, UsageError
from expunge.methods.guards.base import GuardRules
from expunge.models.guarded import save_guard
from expunge.models.loading import Source, files_digest
from expunge.pipeline.attack import AttackOptions, attack
from expunge.pipeline.workers import identity
from expunge.preparation.prepare import prepare

SOURCE = Source(device=torch.device("cpu"), dtype=torch.float32, offline=True)


def model(folder: Path, weights: bytes = b"weights") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def adapter(folder: Path, base: str, weights: bytes = b"factors") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    (folder / "adapter_model.safetensors").write_bytes(weights)
    return folder


def guard(folder: Path, base: str, reply: int = 5) -> Path:
    save_guard(GuardRules(reply=(reply,)), folder, base=base, method="refusal_guard", parameters={})
    return folder


def on_the_hub(cache: Path, commit: str) -> str:
    """Put a model into a cache of the Hub as it is at a commit."""
    repository = cache / "models--lab--gold"
    for path, text in (("refs/main", commit), (f"snapshots/{commit}/config.json", "{}")):
        (repository / path).parent.mkdir(parents=True, exist_ok=True)
        (repository / path).write_text(text)
    return "lab/gold"


def references(place: Path) -> dict[str, str]:
    """A reference of every kind; nothing behind any of them could be loaded."""
    base = model(place / "base")
    (place / "model.gguf").write_bytes(b"GGUF")
    return {
        "folder": str(base),
        "adapter": str(adapter(place / "adapter", str(base))),
        "base and adapter": f"{base}+{adapter(place / 'lone', 'unknown')}",
        "gguf": str(place / "model.gguf"),
        "guard": str(guard(place / "guard", str(base))),
        "hub": on_the_hub(place / "hub", "a" * 40),
    }


CHANGES = {
    "folder": lambda place: model(place / "base", b"retrained"),
    "adapter": lambda place: adapter(place / "adapter", str(place / "base"), b"retrained"),
    "base and adapter": lambda place: adapter(place / "lone", "unknown", b"retrained"),
    "gguf": lambda place: (place / "model.gguf").write_bytes(b"retrained"),
    "guard": lambda place: guard(place / "guard", str(place / "base"), reply=6),
    "hub": lambda place: on_the_hub(place / "hub", "b" * 40),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_model_is_known_by_its_files_without_loading_it(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    reference = references(tmp_path)[kind]
    first = files_digest(reference, SOURCE)
    (tmp_path / "base" / "trainer_state.json").write_text("{}")
    assert files_digest(reference, SOURCE) == first, "a log is no part of a model"
    CHANGES[kind](tmp_path)
    assert files_digest(reference, SOURCE) != first
    if kind in ("adapter", "base and adapter", "guard"):
        second = files_digest(reference, SOURCE)
        model(tmp_path / "base", b"another base")
        assert files_digest(reference, SOURCE) != second


def test_the_same_files_elsewhere_are_the_same_model(tmp_path):
    here, there = model(tmp_path / "here"), model(tmp_path / "there")
    assert files_digest(str(here), SOURCE) == files_digest(str(there), SOURCE)


@pytest.mark.parametrize(
    ("reference", "code"),
    [("no/where", "model-offline"), ("not a name", "no-model"), ("none.gguf", "no-model")],
)
def test_a_model_that_is_not_there_has_no_digest(reference, code, bench):
    with pytest.raises(InputError) as caught:
        files_digest(reference, SOURCE)
    assert caught.value.code == code


@pytest.mark.parametrize(
    "given",
    [
        lambda gold: {"request": {"gold": (gold,), "control": ()}},
        lambda gold: {"audit": {"attacks": ("merge",), "sibling": gold}},
    ],
)
def test_another_gold_or_sibling_in_the_same_folder_is_another_run(world, bench, given):
    gold = Path(shutil.copytree(world.gold, bench / "gold"))
    prepared = prepare(world.settings(**given(str(gold))))
    first = identity(prepared, "original")
    assert identity(prepared, "original") == first
    tiny.llama(seed=9).save_pretrained(gold)
    assert identity(prepared, "original") != first


def test_a_finished_run_is_not_finished_for_a_gold_that_was_trained_anew(world, bench):
    gold = Path(shutil.copytree(world.gold, bench / "gold"))
    given = {"request": {"gold": (str(gold),), "control": ()}, "train": {"steps": 2}}
    settings = world.settings(**given)
    first = expunge.forget(settings)
    assert expunge.forget(settings) == first
    tiny.llama(seed=9).save_pretrained(gold)
    again = expunge.forget(settings)
    assert again.folder != first.folder
    models = [
        json.loads((each.folder / "manifest.json").read_text())["models"] for each in (first, again)
    ]
    assert models[0]["original"] == models[1]["original"]
    assert models[0]["gold-0"] != models[1]["gold-0"]
    with pytest.raises(UsageError, match="folder-in-use"):
        expunge.forget(world.settings(**given, out=str(first.folder)))


def test_a_sibling_that_was_trained_anew_is_merged_with_anew(world, bench):
    sibling = Path(shutil.copytree(world.gold, bench / "sibling"))
    choice = AttackOptions(only=("merge",), tools=AttackResources(sibling=str(sibling)))
    settings = world.settings(request={"gold": (world.gold,), "control": ()})
    folders = [attack(settings, model=world.original, choice=choice).folder for _ in range(2)]
    tiny.llama(seed=9).save_pretrained(sibling)
    assert folders[0] == folders[1] != attack(settings, model=world.original, choice=choice).folder
