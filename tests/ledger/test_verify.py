"""Verification: every changed row is named, and every changed byte is found."""

import random
import shutil
import time

import pytest

from expunge.ledger.head import head_path
from expunge.ledger.verify import verify_ledger
from ledgers import OTHER, SIGNING, filled, open_ledger, request, tampered

FLIPS = 200


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("books") / "ledger.db"
    filled(path, count=40)
    return path


@pytest.fixture
def path(whole, tmp_path, monkeypatch):
    monkeypatch.setattr("expunge.ledger.verify._PATIENCE", ())
    for each in (whole, head_path(whole)):
        shutil.copy(each, tmp_path)
    return tmp_path / whole.name


def problems(path, **given):
    return [(each.path, each.what) for each in verify_ledger(path, **given).problems]


def test_an_untouched_ledger_verifies(path):
    found = verify_ledger(path, signer=SIGNING.public)
    assert (found.ok, found.entries, found.notes) == (True, 50, ())
    assert problems(path, head=found.head) == []


ROWS = {
    "payload": ("UPDATE entries SET payload = replace(payload, 'art-17', 'safety')", "payload"),
    "time": ("UPDATE entries SET time = '2026-01-30T12:00:00+00:00'", "time"),
    "kind": ("UPDATE entries SET kind = 'letter'", "kind"),
    "previous": (f"UPDATE entries SET previous = '{'0' * 64}'", "link"),
    "hash": (f"UPDATE entries SET hash = '{'0' * 64}'", "hash was changed"),
    "signature": (f"UPDATE entries SET signature = '{'0' * 128}'", "signature was changed"),
    "type": ("UPDATE entries SET payload = CAST(payload AS BLOB)", "payload"),
}


@pytest.mark.parametrize("column", ROWS)
@pytest.mark.parametrize("row", [4, 20, 49])
def test_a_changed_row_is_named_with_what_changed(path, column, row):
    statement, what = ROWS[column]
    kind = "letter" if column == "kind" else "request"
    tampered(path, f"{statement} WHERE sequence = {row}")
    found = [each for each in problems(path) if each[0].startswith("entry")]
    named = [each for each in found if "signed head" not in each[1]]
    assert [where for where, _ in named] == [f"entry {row} ({kind})"]
    assert what in named[0][1]


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("DELETE FROM entries WHERE sequence = 20", "entry 20"),
        ("DELETE FROM entries WHERE sequence = 1", "entry 1"),
        ("DELETE FROM entries WHERE sequence BETWEEN 20 AND 29", "entries 20 to 29"),
        ("DELETE FROM entries WHERE sequence > 47", "entry 48 and later"),
        (
            "UPDATE entries SET sequence = 60 WHERE sequence = 20",
            "entry 20",
        ),
        (
            "INSERT INTO entries SELECT 51, time, kind, payload, previous, hash, signature"
            " FROM entries WHERE sequence = 49",
            "entry 51 (request)",
        ),
    ],
)
def test_a_row_that_is_gone_moved_or_put_in_is_named(path, statement, named):
    tampered(path, statement)
    assert named in [where for where, _ in problems(path)]


def test_a_number_that_a_changed_byte_makes_large_is_one_problem(path):
    tampered(path, "UPDATE entries SET sequence = 1000000 WHERE sequence = 50")
    found = [where for where, _ in problems(path)]
    assert found[0] == "entry 50 (request)"
    assert len(found) <= 3


def test_a_ledger_written_anew_by_somebody_else_is_by_another_key(path):
    path.unlink()
    head_path(path).unlink()
    with open_ledger(path, signing=OTHER).writing() as writer:
        writer.add(request())
    assert problems(path) == []
    ((where, what),) = problems(path, signer=SIGNING.public)
    assert where == "entry 1 (ledger)"
    assert "another key" in what


def test_a_changed_first_entry_is_named_alone(path):
    public, other = SIGNING.public.hex(), OTHER.public.hex()
    tampered(path, f"UPDATE entries SET payload = replace(payload, '{public}', '{other}')")
    found = problems(path)
    assert found[0] == ("entry 1 (ledger)", "its number, time, payload or link was changed: the"
                        " signed hash is another one")  # fmt: skip
    assert [where for where, _ in found[1:]] == [path.name]


def test_an_older_copy_of_both_files_is_found_by_a_hash_that_was_kept(path, tmp_path):
    old = tmp_path / "old"
    old.mkdir()
    for each in (path, head_path(path)):
        shutil.copy(each, old)
    with open_ledger(path).writing() as writer:
        writer.add(request())
    kept = verify_ledger(path).head
    for each in (path, head_path(path)):
        shutil.copy(old / each.name, each)
    assert problems(path) == []
    assert "--head" in problems(path, head=kept)[0][1]


@pytest.mark.parametrize("gone", ["missing", "of another ledger", "older"])
def test_a_head_that_is_not_of_this_end_is_named(path, tmp_path, gone):
    if gone == "missing":
        head_path(path).unlink()
    elif gone == "of another ledger":
        other = tmp_path / "other.db"
        filled(other, count=40)
        shutil.copy(head_path(other), head_path(path))
    else:
        kept = head_path(path).read_bytes()
        with open_ledger(path).writing() as writer:
            writer.add(request())
        head_path(path).write_bytes(kept)
        assert "interrupted" in verify_ledger(path).notes[0]
        return
    assert problems(path)


def flipped(path, rng):
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


@pytest.mark.parametrize("which", ["ledger", "head"])
def test_two_hundred_changed_bytes_are_all_found(path, which):
    rng = random.Random(29)
    file = path if which == "ledger" else head_path(path)
    before = file.read_bytes()
    missed = []
    for number in range(FLIPS):
        flipped(file, rng)
        if not problems(path):
            missed.append(number)
        file.write_bytes(before)
    assert missed == []
    assert problems(path) == []


def test_ten_thousand_requests_are_verified_in_five_seconds(tmp_path):
    path = tmp_path / "ledger.db"
    with open_ledger(path).writing() as writer:
        for number in range(10_000):
            writer.add(request(number))
    started = time.perf_counter()
    found = verify_ledger(path)
    seconds = time.perf_counter() - started
    print(f"verify of {found.entries} entries: {seconds:.2f} s")  # noqa: T201
    assert found.ok
    assert seconds < 5
