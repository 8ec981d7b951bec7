"""Who may read what is written: what the umask says, and of personal data its owner only."""

import os
import stat
from datetime import date

import pytest
import torch

import tiny
from expunge.attacks.store import shared_store
from expunge.benchmarking.evaluate import shared_folder, store_evidence
from expunge.evidence.store import EvidenceStore, Scores, Unit
from expunge.models.saving import save_model
from expunge.training.activation_cache import DiskCache, compute_lower, key
from expunge.utils.io import private, write_text


@pytest.fixture
def umask():
    """Set the umask of this process, and set the old one again in the end."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(("mask", "expected"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_files_are_for_whom_the_umask_says(tmp_path, umask, mask, expected):
    umask(mask)
    write_text(tmp_path / "new.txt", "x")
    write_text(tmp_path / "new.txt", "replaced")
    save_model(tiny.llama(), tiny.tokenizer(), tmp_path)
    made = {path.name: mode(path) for path in tmp_path.iterdir()}
    assert {"new.txt", "model.safetensors", "tokenizer.json"} <= made.keys()
    assert set(made.values()) == {expected}


def lent(world, folder):
    unit = Unit(role="original", split="forget", kind="scores")
    store = EvidenceStore(folder / "run" / "evidence")
    store.write(unit, [Scores(record="r", logp=(), hit=(), z=(), ends=True, zlib=1)])
    shared = shared_folder(folder / "matrix", world.settings())
    store_evidence(store.folder, shared)
    assert list(shared.iterdir())
    return shared.parent


def attacks(world, folder):
    shared_store(folder / "store", EvidenceStore(folder / "evidence"), expires=date(2030, 1, 1))
    return folder / "store"


def references(world, folder):
    (record,) = tiny.encoded((3, 2))
    cache = DiskCache(folder=folder / "store" / "of-a-model")
    with cache.room("logp", {key(record): 2}, width=1, dtype=torch.float32) as room:
        room[key(record)].zero_()
    return folder / "store"


def states(world, folder):
    how = {"pad_id": 2, "tokens_per_pass": 60}
    file = folder / "checkpoints" / "lower.bin"
    compute_lower(tiny.network(), tiny.encoded((3, 2)), layer=1, file=file, **how)
    return file.parent


@pytest.mark.parametrize("made", [lent, attacks, references, states])
def test_folders_of_personal_data_are_made_for_their_owner(world, tmp_path, umask, made):
    """How a folder that exists may be read is its maker's choice."""
    folder = made(world, tmp_path)
    assert mode(folder) == 0o700
    folder.chmod(0o750)
    made(world, tmp_path)
    assert mode(folder) == 0o750


def test_folders_above_a_private_one_are_like_any_other(tmp_path, umask):
    assert mode(private(tmp_path / "a" / "b")) == 0o700
    assert mode(tmp_path / "a") == 0o755
