"""Writers that are killed, and writers that meet: nothing that was acknowledged is lost."""

import os
import random
import signal
import time
from multiprocessing import get_context

import pytest

from expunge.errors import ResourceError
from expunge.ledger import connection
from expunge.ledger.entries import EntryKind
from expunge.ledger.store import now_utc
from expunge.ledger.verify import verify_ledger
from ledgers import open_ledger, request

ACKNOWLEDGED = [number % 5 for number in range(20)]
"""Entries that each writer in turn has acknowledged before it is killed; the first writes none."""
PATIENCE = 120
"""Seconds."""
_fork = get_context("fork")


def write_many(path, acknowledged, count):
    ledger = open_ledger(path, clock=now_utc)
    for number in range(count):
        with ledger.writing() as writer:
            name = writer.add(request(number))
        with acknowledged.open("a") as file:
            file.write(f"{name}\n")


def wait_for(acknowledged, count):
    deadline = time.monotonic() + PATIENCE
    while len(acknowledged.read_text().split()) < count:
        assert time.monotonic() < deadline, "the writer acknowledges nothing"
        time.sleep(0.001)


def names(ledger):
    return [each.id for each in ledger.current(EntryKind.REQUEST)]


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Nobody is left who could still write the head: `verify` need not wait for it."""
    monkeypatch.setattr("expunge.ledger.verify._PATIENCE", ())


def test_a_kill_at_any_moment_loses_nothing_that_was_acknowledged(tmp_path):
    path, acknowledged = tmp_path / "ledger.db", tmp_path / "acknowledged"
    acknowledged.touch()
    rng = random.Random(29)
    ledger = open_ledger(path, clock=now_utc)
    said = []
    for more in ACKNOWLEDGED:
        writer = _fork.Process(target=write_many, args=(path, acknowledged, 10_000))
        writer.start()
        wait_for(acknowledged, len(said) + more)
        time.sleep(rng.uniform(0.0, 0.02))  # some moment of the entry after
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        said = acknowledged.read_text().split()
        if path.exists() and path.stat().st_size:
            found = verify_ledger(path)
            # The very first write may be killed before the head is there.
            assert found.ok or not said
            held = names(ledger)
            assert len(held) == len(set(held))
            assert set(said) <= set(held)
            assert len(held) <= len(said) + len(ACKNOWLEDGED)
    with ledger.writing() as writer:
        writer.add(request())
    assert verify_ledger(path).ok
    assert verify_ledger(path).notes == ()
    assert len(said) >= sum(ACKNOWLEDGED)


@pytest.mark.parametrize("moment", ["_seal", "write_head"])
def test_a_kill_between_commit_and_head_is_mended_by_the_next_write(tmp_path, monkeypatch, moment):
    path = tmp_path / "ledger.db"
    ledger = open_ledger(path)
    with ledger.writing() as writer:
        writer.add(request())
    owner = "expunge.ledger.store.Ledger." if moment == "_seal" else "expunge.ledger.store."
    with monkeypatch.context() as patch:
        patch.setattr(f"{owner}{moment}", lambda *given: os._exit(9))
        child = _fork.Process(target=write_many, args=(path, tmp_path / "none", 1))
        child.start()
        child.join()
    assert child.exitcode == 9
    found = verify_ledger(path)
    assert found.ok
    assert "interrupted" in found.notes[0]
    assert names(ledger) == ["request-1", "request-2"]
    with open_ledger(path, clock=now_utc).writing() as writer:
        writer.add(request())
    assert verify_ledger(path).notes == ()


def test_two_writers_in_two_processes_wait_for_each_other(tmp_path):
    path, said = tmp_path / "ledger.db", [tmp_path / "one", tmp_path / "two"]
    writers = [_fork.Process(target=write_many, args=(path, each, 25)) for each in said]
    for each in writers:
        each.start()
    for each in writers:
        each.join()
    assert [each.exitcode for each in writers] == [0, 0]
    ledger = open_ledger(path)
    acknowledged = [name for each in said for name in each.read_text().split()]
    assert sorted(acknowledged) == sorted(names(ledger))
    assert len(set(acknowledged)) == 50
    found = verify_ledger(path)
    assert (found.ok, found.notes) == (True, ())


def test_a_writer_that_does_not_end_is_named(tmp_path, monkeypatch):
    path = tmp_path / "ledger.db"
    monkeypatch.setattr(connection, "BUSY_SECONDS", 0.05)
    with open_ledger(path).writing() as writer:
        writer.add(request())
        with pytest.raises(ResourceError, match="ledger-busy"), open_ledger(path).writing():
            pass
