import errno
import os
from dataclasses import replace
from functools import cache

import pytest
import torch

import tiny
from expunge.errors import ResourceError
from expunge.methods.base import Shape, Stream
from expunge.methods.graddiff import GradDiff
from expunge.methods.npo import NPO
from expunge.methods.rmu import RMU
from expunge.models.lora import LoraShape
from expunge.training.activation_cache import DiskCache, compute_lower, key, shared_lower
from expunge.training.early_stopping import Unseen
from expunge.training.reference_model import precompute
from expunge.training.sampler import Streams
from expunge.training.trainer import Trainer, TrainingArgs
from tiny import counted

FORGET = tiny.encoded((12, 8), (9, 14), (20, 6), seed=1)
RETAIN = tiny.encoded((12, 8), (9, 14), (20, 6), (7, 7), seed=2)
POOLS = {Stream.FORGET: FORGET, Stream.RETAIN: RETAIN}
HOW = {"pad_id": 2, "tokens_per_pass": 60}
SHAPE = Shape(layers=4, width=64)
TERMS = [
    term for method in (NPO(), GradDiff(retain="kl"), RMU(layer=2)) for term in method.terms(SHAPE)
]


def same(ours, theirs):
    assert ours.keys() == theirs.keys()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


@cache
def network(seed=0, dtype=torch.float32):
    """One network for all tests that leave it alone: making one tries it out, which counts."""
    return fresh(seed, dtype)


def fresh(seed=0, dtype=torch.float32):
    return tiny.network(tiny.llama(seed=seed, layers=4, dtype=dtype))


network()


def test_references_are_computed_once_for_all_runs_of_a_model(tmp_path):
    plain, needed = counted(lambda: precompute(network(), TERMS, POOLS, **HOW))
    cache = DiskCache.of(tmp_path, network())
    first, filling = counted(lambda: precompute(network(), TERMS, POOLS, **HOW, cache=cache))
    assert filling == needed > 0
    cache = DiskCache.of(tmp_path, network())  # another process, later
    again, reading = counted(lambda: precompute(network(), TERMS, POOLS, **HOW, cache=cache))
    assert reading == 0
    for name in ("logps", "hiddens", "states"):
        assert getattr(plain, name)
        assert same(getattr(again, name), getattr(first, name))
        assert same(getattr(first, name), getattr(plain, name))


def test_only_new_records_are_computed(tmp_path):
    terms = NPO().terms(SHAPE)
    cache = DiskCache.of(tmp_path, network())
    new = tiny.encoded((5, 5), seed=3)
    _, alone = counted(lambda: precompute(network(), terms, {**POOLS, Stream.FORGET: new}, **HOW))
    precompute(network(), terms, POOLS, **HOW, cache=cache)
    more = {**POOLS, Stream.FORGET: (*FORGET, *new)}
    found, spent = counted(lambda: precompute(network(), terms, more, **HOW, cache=cache))
    assert spent == alone > 0
    assert {key(record) for record in (*FORGET, *new)} == found.logps.keys()


def test_the_same_tokens_scored_from_elsewhere_are_another_record(tmp_path):
    terms = NPO().terms(SHAPE)
    cache = DiskCache.of(tmp_path, network())
    precompute(network(), terms, POOLS, **HOW, cache=cache)
    moved = tuple(replace(record, start=record.start + 2) for record in FORGET)
    pools = {**POOLS, Stream.FORGET: moved}
    found, spent = counted(lambda: precompute(network(), terms, pools, **HOW, cache=cache))
    assert spent > 0
    assert [len(found.logp(r)) for r in moved] == [len(r.ids) - r.start for r in moved]


def one_weight_changed():
    other = fresh()
    with torch.no_grad():
        next(other.model.parameters())[0, 0] += 1e-6
    return other


def other_setting():
    other = fresh()
    other.model.config.rms_norm_eps *= 2
    return other


@pytest.mark.parametrize(
    "build",
    [one_weight_changed, other_setting, lambda: network(1), lambda: network(0, torch.bfloat16)],
    ids=["one weight", "configuration", "all weights", "number format"],
)
def test_another_model_never_hits(build, tmp_path):
    terms = NPO().terms(SHAPE)
    precompute(network(), terms, POOLS, **HOW, cache=DiskCache.of(tmp_path, network()))
    other = build()
    cache = DiskCache.of(tmp_path, other)
    found, spent = counted(lambda: precompute(other, terms, POOLS, **HOW, cache=cache))
    plain, needed = counted(lambda: precompute(other, terms, POOLS, **HOW))
    assert spent == needed > 0
    assert same(found.logps, plain.logps)


def test_states_below_a_block_are_computed_once(tmp_path):
    records = (*FORGET, *RETAIN, FORGET[0])
    plain = compute_lower(network(), records, layer=2, file=tmp_path / "lower.bin", **HOW)
    cache = DiskCache.of(tmp_path, network())

    def lower(layer):
        return shared_lower(network(), records, layer=layer, cache=cache, **HOW)

    first, filling = counted(lambda: lower(2))
    again, reading = counted(lambda: lower(2))
    _, other_block = counted(lambda: lower(3))
    assert reading == 0 < filling < other_block
    assert same(again.known, plain.known)
    assert same(first.known, plain.known)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_kept_comes_back_bit_for_bit(dtype, tmp_path):
    cache = DiskCache(folder=tmp_path)
    values = {key(r): torch.randn(len(r.ids), 3).to(dtype) for r in FORGET}
    sizes = {name: len(value) for name, value in values.items()}
    with cache.room("some", sizes, width=3, dtype=dtype) as room:
        for name, value in values.items():
            room[name].copy_(value)
    assert same(cache.find("some", FORGET), values)
    assert cache.find("others", FORGET) == {}
    assert cache.find("some", RETAIN) == {}


def test_a_writer_that_is_stopped_leaves_nothing_that_counts(tmp_path):
    cache = DiskCache(folder=tmp_path)
    sizes = {key(record): 2 for record in FORGET}
    with pytest.raises(KeyboardInterrupt), cache.room("some", sizes, width=1, dtype=torch.float32):
        raise KeyboardInterrupt
    assert list(tmp_path.rglob("*.*")) == []
    (tmp_path / "some" / "killed.bin").write_bytes(b"0" * 8)  # nothing ran after the kill
    assert cache.find("some", FORGET) == {}


def test_space_is_taken_before_it_is_mapped(tmp_path):
    sizes = {key(record): 1000 for record in FORGET}
    with DiskCache(folder=tmp_path).room("some", sizes, width=500, dtype=torch.float32):
        (file,) = (tmp_path / "some").iterdir()
        assert file.stat().st_blocks * 512 >= 4 * 500 * 1000 * len(FORGET)


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_given):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("expunge.utils.io.os.posix_fallocate", full)
    cache = DiskCache(folder=tmp_path / "cache")
    with pytest.raises(ResourceError, match="no space left while writing"):
        shared_lower(network(), FORGET, layer=2, cache=cache, **HOW)
    with pytest.raises(ResourceError, match=r"no space left while writing .*lower\.bin"):
        compute_lower(network(), FORGET, layer=2, file=tmp_path / "lower.bin", **HOW)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_rows_are_on_the_disk_before_their_index(tmp_path, monkeypatch):
    synced, sync = [], os.fsync

    def seen(handle):
        synced.append(os.fstat(handle).st_ino)
        sync(handle)

    monkeypatch.setattr("expunge.utils.io.os.fsync", seen)
    sizes = {key(record): 2 for record in FORGET}
    with DiskCache(folder=tmp_path).room("some", sizes, width=1, dtype=torch.float32):
        pass
    files = {path.suffix: path.stat().st_ino for path in (tmp_path / "some").iterdir()}
    place = (tmp_path / "some").stat().st_ino
    assert synced == [files[".bin"], files[".json"], place]


@pytest.mark.parametrize(
    ("method", "lora"),
    [
        (NPO(), LoraShape(rank=4, first_layer=2)),
        (GradDiff(retain="kl"), LoraShape(rank=4)),
        (RMU(layer=2), LoraShape()),
    ],
    ids=["npo above block 2", "graddiff+kl", "rmu"],
)
def test_a_second_trial_reads_what_the_first_computed(method, lora, tmp_path):
    def trained(store, folder):
        run = Trainer(
            method=method,
            network=fresh(),
            streams=Streams(forget=FORGET, retain=RETAIN),
            options=TrainingArgs(lora=lora, steps=3, lr=1e-3, batch=2, retain_batch=2),
            pad_id=2,
            store=store,
        )
        unseen = Unseen(mean=5.0, low=4.5)
        _, weights = run.run(unseen=unseen, folder=folder, progress=lambda *_: None)
        return {name: master.detach() for name, master in weights.masters.items()}

    plain, alone = counted(lambda: trained(None, tmp_path / "alone"))
    first, filling = counted(lambda: trained(tmp_path / "store", tmp_path / "first"))
    again, reading = counted(lambda: trained(tmp_path / "store", tmp_path / "second"))
    assert reading < filling == alone
    assert same(first, plain)
    assert same(again, plain)
