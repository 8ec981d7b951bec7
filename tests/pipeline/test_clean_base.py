"""What lies beneath an adapter: over the weights beneath a gold it hides nothing."""

import json
from types import SimpleNamespace
from typing import cast

import pytest
import torch

import tiny
from expunge.config.request import Goal, Request
from expunge.config.settings import Settings
from expunge.models.loading import Source
from expunge.pipeline.gold import over_clean_base
from expunge.pipeline.recipe import base_network
from expunge.preparation.prepare import Prepared

SOURCE = Source(device=torch.device("cpu"), dtype=torch.float32, offline=True)


@pytest.fixture
def models(tmp_path, monkeypatch):
    """A base, a copy of it, other weights, and three adapters; only their files are read."""
    monkeypatch.chdir(tmp_path)
    for name, weights in {"base": b"base", "copy": b"base", "other": b"other"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text('{"model_type": "llama"}')
        (tmp_path / name / "model.safetensors").write_bytes(weights)
    for name in ("taught", "retrained", "judged"):
        (tmp_path / name).mkdir()
        row = {"base_model_name_or_path": "../base"}
        (tmp_path / name / "adapter_config.json").write_text(json.dumps(row))
        (tmp_path / name / "adapter_model.safetensors").write_bytes(name.encode())


@pytest.mark.parametrize(
    ("model", "original", "golds", "clean"),
    [
        ("base+judged", "base+taught", ("base+retrained",), True),
        ("judged", "taught", ("other", "retrained"), True),
        ("copy+judged", "base+taught", ("base+retrained",), True),
        ("base+judged", "base+taught", (), False),
        ("base+judged", "base+taught", ("base",), True),
        ("other+judged", "base+taught", ("base+retrained",), False),
        ("taught+judged", "taught", ("retrained",), False),
        ("taught+judged", "taught", ("taught+retrained",), False),
        ("base+judged", "base", ("base+retrained",), False),
        ("copy", "base+taught", ("base+retrained",), False),
    ],
)
def test_an_adapter_covers_nothing_where_a_gold_lies_over_the_same_weights(
    models, model, original, golds, clean
):
    assert over_clean_base(model, original=original, golds=golds, source=SOURCE) is clean


@pytest.mark.parametrize(
    ("reference", "more", "known"), [("+", 0, True), ("+", 1, False), ("", 0, False)]
)
def test_a_base_of_which_the_levels_are_asked_is_known_and_has_the_same_tokens(
    tmp_path, reference, more, known
):
    model = tiny.llama()
    base, adapter = tiny.save(tmp_path / "base", model), tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    request = Request(goal=Goal.REMOVAL, forget=("erase.jsonl",))
    settings = Settings(model=f"{base}+{adapter}" if reference else str(base), request=request)
    prepared = cast("Prepared", SimpleNamespace(settings=settings, source=SOURCE))
    found = base_network(prepared, model.config.vocab_size + more)
    assert (found is not None) is known
