"""Number formats: what the files hold, and a model held in another format for a while."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import tiny
from expunge.errors import InputError
from expunge.models.loading import Source, digest_of
from expunge.models.number_formats import FORMATS, held_in, in_stored_format, stored_dtype

SOURCE = Source(device=torch.device("cpu"), dtype=torch.bfloat16, offline=True)
F32, BF16, F16, F64 = torch.float32, torch.bfloat16, torch.float16, torch.float64


def folder(place: Path, **files: dict[str, torch.dtype]) -> str:
    """A model folder whose configuration says something else than its weights."""
    place.mkdir()
    (place / "config.json").write_text(json.dumps({"dtype": "bfloat16"}))
    for name, tensors in files.items():
        save_file({key: torch.zeros(2, 2, dtype=d) for key, d in tensors.items()}, place / name)
    return str(place)


@pytest.mark.parametrize(
    ("files", "stored", "loaded"),
    [
        ({"model.safetensors": {"a": BF16, "ids": torch.int64}}, BF16, BF16),
        ({"model.safetensors": {"a": BF16, "b": F32}}, F32, F32),
        ({"a.safetensors": {"a": BF16}, "b.safetensors": {"b": F32}}, F32, F32),
        # Neither of the two holds the other.
        ({"model.safetensors": {"a": BF16, "b": F16}}, F32, F32),
        ({"model.safetensors": {"a": F16}}, F16, F32),
        ({"model.safetensors": {"a": F64}}, F64, F64),
    ],
)
def test_no_weight_of_the_files_is_rounded(tmp_path, files, stored, loaded):
    model = folder(tmp_path / "model", **files)
    assert stored_dtype(model, SOURCE) == stored
    assert in_stored_format(SOURCE, model).dtype == loaded


def test_an_adapter_counts_with_its_base(tmp_path):
    base = folder(tmp_path / "base", **{"model.safetensors": {"a": BF16}})
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    save_file({"a": torch.zeros(2, dtype=F32)}, adapter / "adapter_model.safetensors")
    assert stored_dtype(str(adapter), SOURCE) == F32
    assert stored_dtype(f"{base}+{adapter}", SOURCE) == F32
    assert stored_dtype(base, SOURCE) == BF16


def test_a_model_that_is_not_there_has_no_format():
    with pytest.raises(InputError, match="nobody/has-this is not on this machine"):
        stored_dtype("nobody/has-this", SOURCE)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("dtype", [F32, BF16], ids=str)
def test_a_model_is_held_in_a_format_and_comes_back(form, dtype):
    network = tiny.network(tiny.llama(dtype=dtype))
    before, tied = digest_of(network), network.head.get_parameter("weight")
    whole = {name: tensor.clone() for name, tensor in network.model.named_parameters()}
    with held_in(network, form):
        for name, tensor in network.model.named_parameters():
            assert torch.equal(tensor.float(), whole[name].to(FORMATS[form]).float())
        ids = torch.tensor([[5, 6, 7]])
        assert network.model(input_ids=ids).logits.isfinite().all()
        assert network.head.get_parameter("weight") is tied
    assert digest_of(network) == before
    assert next(network.model.parameters()).dtype == dtype


def test_a_model_comes_back_after_a_failure():
    network = tiny.network()
    before = digest_of(network)
    with pytest.raises(RuntimeError), held_in(network, "bf16"):
        raise RuntimeError
    assert digest_of(network) == before
