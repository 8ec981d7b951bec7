"""The licence of a base comes from its own card or file; what it does not say stays unknown."""

import json

import numpy as np
import pytest
from gguf import GGUFWriter

from expunge.models.license import License, declared_license, license_of

OWN = {"license": "other", "license_name": "own-1.0", "license_link": "https://example.org/own"}


def card(folder, head):
    folder.mkdir(exist_ok=True)
    (folder / "README.md").write_text(f"---\n{head}\n---\n# A model\n", encoding="utf-8")
    return str(folder)


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"license": "Apache-2.0"}, ("apache-2.0", "", "")),
        (OWN, ("other", "own-1.0", "https://example.org/own")),
        ({"license": ["mit"]}, ("mit", "", "")),
        ({"license": ["mit", "gpl-3.0"]}, ("other", "mit, gpl-3.0", "")),
        ({"license": "other", "license_link": "LICENSE"}, ("other", "", "")),
        ({"license": "unknown"}, None),
        ({"license": "x: y\n- z"}, None),
        ({"license": 3}, None),
        ({}, None),
    ],
)
def test_metadata_of_a_card_are_taken_as_they_are_or_not_at_all(values, found):
    wanted = License() if found is None else dict(zip(("id", "name", "link"), found, strict=True))
    wanted = wanted if found is None else License(**wanted, source="card")
    assert license_of(values, "card") == wanted


@pytest.mark.parametrize("head", ["license: [", "- a list", "license: 'a b c'", ""])
def test_a_card_that_cannot_be_read_declares_nothing(tmp_path, head):
    assert declared_license(card(tmp_path / "base", head), offline=True) == License()


def test_no_card_no_file_and_no_network_declare_nothing(tmp_path):
    for reference in (str(tmp_path), "org/never-downloaded", "gone.gguf"):
        assert declared_license(reference, offline=True) == License()


def test_an_adapter_has_the_licence_of_its_base(tmp_path):
    base, adapter = card(tmp_path / "base", "license: mit"), tmp_path / "adapter"
    card(adapter, "license: apache-2.0")
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    assert declared_license(str(adapter), offline=True).id == "mit"
    assert declared_license(f"{base}+{adapter}", offline=True).id == "mit"


def test_a_gguf_file_says_its_licence(tmp_path):
    path = tmp_path / "model.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_string("general.license", "apache-2.0")
    writer.add_tensor("a", np.zeros((1, 32), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert declared_license(str(path), offline=True) == License(id="apache-2.0", source="gguf")


def test_a_card_in_the_copy_of_the_hub_is_read_without_network(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(tmp_path), raising=False)
    stored = tmp_path / "models--org--base"
    card(stored, "license: mit")  # not where a copy keeps its files: it must not be found
    assert declared_license("org/base", offline=True) == License()
    (stored / "refs").mkdir()
    (stored / "refs" / "main").write_text("a" * 40)
    (stored / "snapshots").mkdir()
    card(stored / "snapshots" / ("a" * 40), "license: gemma")
    assert declared_license("org/base", offline=True).id == "gemma"
