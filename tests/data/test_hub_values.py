"""What is made of what `load_dataset` says; `test_hub` has it say so."""

import errno

import datasets
import pytest
from datasets.exceptions import DatasetGenerationError
from huggingface_hub import constants

from expunge.cli.errors import explain
from expunge.data.readers import read
from expunge.errors import InputError


@pytest.fixture
def hub(monkeypatch):
    calls: list[tuple[object, ...]] = []

    def load(name, config=None, *, split):
        calls.append((name, config, split))
        if name == "own/missing":
            raise datasets.exceptions.DatasetNotFoundError("gone")
        if split == "bad":
            raise ValueError("Unknown split \"bad\". Should be one of ['train'].\nmore")
        if name == "own/down":
            raise ConnectionError("down")
        return [{"text": "x"}, {"text": "y"}]

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr("expunge.data.hub.why_unreachable", lambda: None)
    return calls


@pytest.mark.parametrize(
    ("source", "call"),
    [
        ("own/name", ("own/name", None, "train")),
        ("own/name:test", ("own/name", None, "test")),
        ("own/name:test[:400]", ("own/name", None, "test[:400]")),
        ("own/na.me-2/conf_1:test[10%:20%]", ("own/na.me-2", "conf_1", "test[10%:20%]")),
        ("own/name/conf", ("own/name", "conf", "train")),
    ],
)
def test_a_hub_id_names_config_and_split(hub, source, call):
    assert [r.source for r in read([source]).records] == [f"{source}#1", f"{source}#2"]
    assert hub == [call]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("own/missing", "gone"),
        ("own/name:bad", "Should be one of"),
        ("own/down", "could not be reached"),
    ],
)
def test_hub_failures_are_explained(hub, source, message):
    with pytest.raises(InputError, match=message) as caught:
        read([source])
    assert caught.value.code == "data-unavailable"


@pytest.mark.parametrize(("flag", "variable"), [(True, "0"), (False, "1"), (False, "true")])
def test_offline_reads_what_the_library_has_kept(monkeypatch, flag, variable):
    def load(name, config=None, *, split):
        assert constants.HF_HUB_OFFLINE is datasets.config.HF_HUB_OFFLINE is True
        if name == "own/kept":
            return [{"text": "x"}]
        raise ConnectionError("offline")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setenv("HF_HUB_OFFLINE", variable)
    assert len(read(["own/kept"], offline=flag).records) == 1
    with pytest.raises(InputError, match="no request was made; it is not in the cache") as caught:
        read(["own/name"], offline=flag)
    assert caught.value.code == "data-offline"
    assert constants.HF_HUB_OFFLINE is datasets.config.HF_HUB_OFFLINE is False


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), OSError),
        (MemoryError(), MemoryError),
        (RuntimeError("Dataset scripts are no longer supported, but found x.py"), InputError),
        (KeyError("a reader's own"), InputError),
    ],
)
def test_a_full_disk_is_not_taken_for_a_fault_of_the_hub(monkeypatch, error, raised):
    def load(*_, split):
        raise DatasetGenerationError("An error occurred") from error

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises((InputError, DatasetGenerationError)) as caught:
        read(["own/name"])
    assert explain(caught.value).code == {
        OSError: "disk-full", MemoryError: "out-of-memory", InputError: "data-unavailable"
    }[raised]  # fmt: skip
