"""Weights as they lie in files: their digest without torch, or None where only loading can tell."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import tiny
from expunge.errors import InputError
from expunge.models.loading import weights_digest
from expunge.models.weight_files import stored_digest


def saved(folder, model):
    model.save_pretrained(folder)
    return folder


def reconfigure(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("dtype", "precision"), [(torch.float32, "float32"), (torch.bfloat16, "bfloat16")]
)
def test_the_digest_is_that_of_the_loaded_model(dtype, precision, tmp_path):
    model = tiny.llama(dtype=dtype)
    folder = saved(tmp_path / "model", model)
    assert stored_digest(folder, precision) == weights_digest(model.state_dict())
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][0] += 1
    save_file(tensors, folder / "model.safetensors")
    assert stored_digest(folder, precision) not in (None, weights_digest(model.state_dict()))


@pytest.mark.parametrize(
    "values",
    [
        {"num_hidden_layers": 1},
        {"num_hidden_layers": 10**12},
        {"num_attention_heads": 8, "head_dim": None},
        {"num_key_value_heads": 4},
        {"intermediate_size": 3},
        {"vocab_size": 7},
        {"hidden_size": "wide"},
        {"model_type": "gpt2"},
        {"quantization_config": {}},
        {"auto_map": {}},
        {"_attn_implementation": "owner/kernel"},
    ],
    ids=str,
)
def test_a_configuration_that_may_load_as_something_else_is_left_to_loading(values, tmp_path):
    folder = saved(tmp_path / "model", tiny.llama())
    assert stored_digest(folder, "float32") is not None
    reconfigure(folder, **values)
    assert stored_digest(folder, "float32") is None


def test_other_formats_and_several_files_are_left_to_loading(tmp_path):
    folder = saved(tmp_path / "model", tiny.llama())
    assert stored_digest(folder, "bfloat16") is None
    (folder / "model.safetensors.index.json").write_text("{}")
    assert stored_digest(folder, "float32") is None
    assert stored_digest(saved(tmp_path / "gpt2", tiny.gpt2()), "float32") is None


def test_what_is_no_safetensors_file_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0[]")
    with pytest.raises(InputError, match="not that of a safetensors file"):
        stored_digest(tmp_path, "float32")
