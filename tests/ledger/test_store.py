"""The file of the ledger: it only grows, and takes nothing in clear."""

import os
import sqlite3
from contextlib import closing
from dataclasses import fields, replace
from datetime import UTC, datetime
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge.errors import ExpungeError
from expunge.ledger.connection import LAYOUT, VERSION
from expunge.ledger.entries import EntryKind, to_payload
from expunge.ledger.head import head_path
from expunge.ledger.store import Ledger
from ledgers import OTHER, Clock, entries, filled, open_ledger, request, tampered


@pytest.fixture
def path(tmp_path):
    return tmp_path / "books" / "ledger.db"


def test_every_kind_of_entry_is_read_as_it_was_written(path):
    ledger = filled(path)
    found = [each for kind in list(EntryKind)[1:] for each in ledger.current(kind)]
    assert [replace(each, id="") for each in found] == list(entries())
    assert [each.id for each in found][:3] == ["model-1", "model-2", "request-1"]


def test_only_the_owner_may_read_the_file(path):
    filled(path)
    assert {each.stat().st_mode & 0o077 for each in (path, head_path(path), path.parent)} == {0}


def test_an_amended_entry_replaces_the_old_one_which_stays(path):
    ledger = filled(path)
    with ledger.writing() as writer:
        before = writer.current(EntryKind.REQUEST)["request-1"]
        writer.add(replace(before, extended=True))
    assert [each.extended for each in ledger.current(EntryKind.REQUEST)] == [True]
    assert len(ledger.rows(EntryKind.REQUEST)) == 2


def test_a_block_that_fails_writes_nothing(path):
    ledger = filled(path)
    before = path.read_bytes()
    with pytest.raises(ExpungeError), ledger.writing() as writer:
        [writer.add(each) for each in (request(1), request(model="12" * 32))]
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET kind = 'model' WHERE sequence = 2",
        "DELETE FROM entries WHERE sequence = 2",
        "INSERT OR REPLACE INTO entries SELECT 2, time, kind, payload, previous, hash, signature"
        " FROM entries WHERE sequence = 3",
        "INSERT INTO entries SELECT 99, time, kind, payload, previous, hash, signature"
        " FROM entries WHERE sequence = 3",
    ],
)
def test_sqlite_itself_refuses_to_change_an_entry(path, statement):
    filled(path)
    with (
        closing(sqlite3.connect(path)) as connection,
        pytest.raises(sqlite3.IntegrityError, match="the ledger only grows"),
    ):
        connection.execute(statement)


def test_every_kind_is_a_table_for_other_programs(path):
    filled(path)
    with closing(sqlite3.connect(path)) as connection:
        for kind in list(EntryKind)[1:]:
            rows = connection.execute(f"SELECT id FROM {kind}s").fetchall()
            assert rows[0] == (f"{kind}-1",)


TEXT_FIELDS = sorted(
    {
        (number, field.name)
        for number, entry in enumerate(entries())
        for field in fields(entry)
        if isinstance(getattr(entry, field.name), str | tuple)
    }
)


NAMES = st.from_regex(r"elin[a-z0-9_.+-]{1,80}", fullmatch=True) | st.text().map("Elin {}".format)


@pytest.mark.parametrize(("number", "name"), TEXT_FIELDS)
@settings(max_examples=25, deadline=None)
@given(text=NAMES)
def test_no_field_takes_a_text_in_clear(number, name, text):
    entry = entries()[number]
    value = (text,) if isinstance(getattr(entry, name), tuple) else text
    with pytest.raises(ExpungeError, match="not-for-the-ledger") as found:
        to_payload(replace(entry, **{name: value}))
    assert text not in str(found.value)


def test_the_layout_of_a_version_never_changes():
    """A changed field or view is another layout: raise `VERSION`, and read the old one."""
    digest = sha256("\n".join(LAYOUT).encode()).hexdigest()
    assert (VERSION, digest[:16]) == (1, "25322c782a38dde0")


def folder(path):
    path.unlink()
    path.mkdir()


def link(path):
    path.rename(path.with_name("real.db"))
    path.symlink_to(path.with_name("real.db"))


def second_name(path):
    path.with_name("second.db").hardlink_to(path)


def linked_head(path):
    head_path(path).rename(path.with_name("head"))
    head_path(path).symlink_to(path.with_name("head"))


def another_database(path):
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE letters (text)")


def newer(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def emptied(path):
    os.truncate(path, 0)


BAD = {
    "no-ledger": lambda path: path.unlink(),
    "not-a-ledger folder": folder,
    "not-a-ledger text": lambda path: path.write_text("Dear Sir or Madam, " * 100),
    "not-a-ledger database": another_database,
    "ledger-damaged empty": emptied,
    "newer-ledger": newer,
    "ledger-damaged cut": cut,
    "link-in-run ledger": link,
    "link-in-run name": second_name,
    "link-in-run head": linked_head,
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_ledger_is_named_and_left_alone(path, case):
    filled(path)
    BAD[case](path)
    before = path.read_bytes() if path.is_file() else None
    for act in (lambda: Ledger(path).rows(), lambda: add_to(open_ledger(path), make=False)):
        with pytest.raises(ExpungeError) as found:
            act()
        assert found.value.code == case.split()[0]
    assert (path.read_bytes() if path.is_file() else None) == before


def add_to(ledger, entry=None, *, make=True):
    with ledger.writing(make=make) as writer:
        return writer.add(entry or request(7))


def later_head(path):
    head_path(path).unlink()


def changed_last(path):
    tampered(path, "UPDATE entries SET payload = replace(payload, 'cache', 'backup')")


def spare_byte(path):
    data = bytearray(path.read_bytes())
    data[data.rindex(bytes(64))] = 1  # where SQLite keeps nothing
    path.write_bytes(data)


def longer(path):
    path.write_bytes(path.read_bytes() + b"x")


REFUSED = {
    "ledger-other-key signer": lambda path: open_ledger(path, signing=OTHER),
    "ledger-other-key hashes": lambda path: open_ledger(path, key=bytes(32)),
    "ledger-damaged head": lambda path: later_head(path) or open_ledger(path),
    "ledger-damaged byte": lambda path: spare_byte(path) or open_ledger(path),
    "ledger-damaged end": lambda path: longer(path) or open_ledger(path),
    "ledger-damaged row": lambda path: changed_last(path) or open_ledger(path),
    "ledger-head": lambda path: head_path(path).write_text("{}") and open_ledger(path),
    "no-signing-key": lambda path: open_ledger(path, signing=None),
}


@pytest.mark.parametrize("case", REFUSED)
def test_nothing_is_written_after_what_is_not_its_own(path, case):
    filled(path)
    ledger = REFUSED[case](path)
    before = path.read_bytes()
    with pytest.raises(ExpungeError) as found:
        add_to(ledger)
    assert found.value.code == case.split()[0]
    assert path.read_bytes() == before


def test_a_clock_that_goes_backwards_is_named(path):
    clock = Clock()
    ledger = open_ledger(path, clock=clock)
    add_to(ledger)
    clock.now = datetime(2026, 1, 30, tzinfo=UTC)
    with pytest.raises(ExpungeError, match="clock-backwards"):
        add_to(ledger)
    clock.now = datetime(2026, 2, 1, tzinfo=UTC)
    assert add_to(ledger) == "request-2"


@pytest.mark.parametrize(
    ("code", "entry"),
    [
        ("unknown-model", request(model="12" * 32)),
        ("unknown-model", replace(entries()[1], digest="34" * 32, parent="12" * 32)),
        ("unknown-entry", replace(entries()[3], request="request-99")),
        ("unknown-entry", replace(entries()[7], artefact="model-1000")),
        ("unknown-entry", request(id="request-99")),
    ],
)
def test_what_names_nothing_in_the_ledger_is_refused(path, code, entry):
    ledger = filled(path)
    with pytest.raises(ExpungeError) as found:
        add_to(ledger, entry)
    assert found.value.code == code
