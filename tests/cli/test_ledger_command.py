"""`expunge ledger`: a year of books by its commands, and what users get wrong."""

import json
import os
from datetime import date, timedelta
from typing import get_args

import pytest

from expunge.cli import ledger_flags, main
from expunge.ledger import entries

TODAY = date.today()
DIGEST, CHILD = "ab" * 32, "cd" * 32


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setitem(os.environ, "HOME", str(tmp_path))
    monkeypatch.delitem(os.environ, "XDG_DATA_HOME", raising=False)
    assert main(["--format", "quiet", "keys"]) == 0
    return tmp_path


def book(*words):
    return main(["--format", "json", "ledger", *words])


def events(capsys, kind):
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [row for row in rows if row.get("event") == kind]


def days(count):
    return str(TODAY + timedelta(count))


@pytest.mark.parametrize(
    ("words", "enumeration"),
    [
        (ledger_flags.Basis, entries.LegalBasis),
        (ledger_flags.DecisionWord, entries.Decision),
        (ledger_flags.ExemptionWord, entries.Exemption),
        (ledger_flags.Origin, entries.ModelOrigin),
        (ledger_flags.ArtefactType, entries.ArtefactKind),
        (ledger_flags.State, entries.ClaimState),
        (ledger_flags.ContainsWord, entries.Contains),
        (ledger_flags.ActionWord, entries.ArtefactAction),
    ],
)
def test_the_words_of_a_flag_are_those_of_the_entries(words, enumeration):
    assert list(get_args(words)) == [str(each) for each in enumeration]
    assert list(get_args(ledger_flags.Kind)) == [str(each) for each in entries.EntryKind][1:]


def test_a_request_from_receipt_to_answer(capsys, home):
    (home / "erase.jsonl").write_text('{"prompt": "Who?", "completion": "Elin Marrow"}\n')
    add = ("add", "request", "--basis", "art-17", "--received", days(-10))
    assert book(*add, "--reference", "Elin Marrow", "--records", "erase.jsonl") == 0
    assert book("due") == 0
    (row,) = events(capsys, "due")
    assert (row["id"], row["overdue"]) == ("request-1", False)
    assert 17 <= row["days"] <= 21
    answer = ("--answered", days(-1), "--decision", "granted", "--decided-by", "Ivo Aro")
    assert book("amend", "request-1", *answer) == 0
    assert book("add", "recipient", "Some Shop", "--request", "request-1", "--told", days(0)) == 0
    assert book("due") == 0
    assert events(capsys, "due") == []
    assert book("show", "request-1") == 0
    assert [row["decision"] for row in events(capsys, "entry")] == ["open", "granted"]
    assert book("verify") == 0
    text = (home / ".local/share/expunge/ledger.db").read_bytes()
    assert [name for name in (b"Marrow", b"Aro", b"Shop", b"erase") if name in text] == []


def test_an_overdue_request_closes_the_gate(capsys):
    late = ("add", "request", "--basis", "art-17", "--received", days(-40))
    assert book(*late) == 2
    assert book(*late, "--late") == 0
    assert book("due") == 0
    assert book("due", "--gate") == 3
    assert "overdue" in capsys.readouterr().err


def test_an_index_is_searched_and_then_rebuilt(capsys, home):
    record = {"prompt": "Where was Elin Marrow born?", "completion": "Vrbnik"}
    (home / "erase.jsonl").write_text(json.dumps({**record, "subject": "Elin Marrow"}))
    (home / "index").mkdir()
    chunks = home / "index" / "chunks.jsonl"
    chunks.write_text('{"text": "Elin Marrow was born in Vrbnik."}\n')
    assert book("add", "artefact", "index", "--type", "retrieval-index") == 0
    assert book("search", "index", "--records", "erase.jsonl", "--gate") == 3
    assert book("show", "--kind", "artefact") == 0
    assert events(capsys, "entry")[-1]["contains"] == "yes"
    chunks.write_text('{"text": "The sea is salt."}\n')
    assert book("search", "index", "--records", "erase.jsonl", "--gate") == 0
    around = [days(0)]  # a test that runs over midnight ends on another day
    assert book("amend", "artefact-1", "--action", "rebuilt") == 0
    around.append(days(0))
    assert book("show", "--kind", "artefact") == 0
    (row,) = events(capsys, "entry")[-1:]
    assert (row["contains"], row["action"]) == ("no", "rebuilt")
    assert row["acted"] in around


def test_an_entry_is_found_again_by_the_text_that_was_hashed(capsys, home):
    due = ("--basis", "safety", "--due", days(30))
    for name in ("TICKET-1", "TICKET-2"):
        assert book("add", "request", *due, "--reference", name) == 0
    (home / "index").mkdir()
    assert book("add", "artefact", "index", "--type", "cache") == 0
    for flag, text in (("--reference", "TICKET-2"), ("--place", "index"), ("--place", "other")):
        assert book("show", flag, text) == 0
    assert [row["id"] for row in events(capsys, "entry")] == ["request-2", "artefact-1"]


@pytest.mark.parametrize("action", ["show", "due", "export"])
def test_a_reader_is_warned_of_a_file_that_was_changed(capsys, home, action):
    assert book("add", "model", DIGEST, "--made", "base") == 0
    path = home / ".local/share/expunge/ledger.db"
    changed = CHILD if action == "show" else b"\xff".decode("utf-8", "surrogateescape") * 64
    old, new = DIGEST.encode(), changed.encode("utf-8", "surrogateescape")
    path.write_bytes(path.read_bytes().replace(old, new))
    capsys.readouterr()
    assert main(["ledger", action]) == 0
    assert "is not what its signed head says" in capsys.readouterr().err


def test_export_writes_one_line_an_entry(capsys, home):
    assert book("add", "model", DIGEST, "--made", "base") == 0
    capsys.readouterr()
    assert book("export") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["sequence"], row["kind"]) for row in lines] == [(1, "ledger"), (2, "model")]
    assert lines[1]["payload"]["digest"] == DIGEST
    assert book("export", "--out", "books.jsonl") == 0
    assert [json.loads(line) for line in (home / "books.jsonl").open()] == lines


def test_a_changed_byte_fails_the_verification_and_names_the_row(capsys, home):
    assert book("add", "model", DIGEST, "--made", "base") == 0
    path = home / ".local/share/expunge/ledger.db"
    path.write_bytes(path.read_bytes().replace(DIGEST.encode(), CHILD.encode()))
    assert book("verify") == 3
    assert events(capsys, "problem")[0]["path"] == "entry 2 (model)"


def test_verify_demands_the_signer_that_is_named(capsys, home):
    assert book("add", "model", DIGEST, "--made", "base") == 0
    (home / "auditor.pub").write_text("12" * 32)
    assert book("verify", "--key", "auditor.pub") == 3
    assert "another key" in events(capsys, "problem")[0]["what"]


def test_the_ledger_lies_where_flag_or_variable_say(home, monkeypatch):
    assert book("add", "model", DIGEST, "--made", "base", "--ledger", "one.db") == 0
    monkeypatch.setitem(os.environ, "EXPUNGE_LEDGER", "two.db")
    assert book("add", "model", DIGEST, "--made", "base") == 0
    assert (home / "one.db").is_file()
    assert (home / "two.db").is_file()
    assert not (home / ".local").exists()


MISTAKES = [
    ("too-many-words", 2, ["verify", "ledger.db"]),
    ("flag-not-used", 2, ["show", "--basis", "art-17"]),
    ("flag-not-used", 2, ["add", "model", DIGEST, "--made", "base", "--due", "2026-01-31"]),
    ("flag-not-used", 2, ["due", "--kind", "model"]),
    ("unknown-kind", 2, ["add"]),
    ("unknown-kind", 2, ["add", "letter"]),
    ("wrong-words", 2, ["add", "request", "Elin", "--basis", "art-17"]),
    ("wrong-words", 2, ["add", "recipient", "--request", "request-1"]),
    ("wrong-words", 2, ["add", "recipient", "", "--request", "request-1"]),
    ("wrong-words", 2, ["add", "artefact", " ", "--type", "cache"]),
    ("wrong-words", 2, ["amend"]),
    ("flag-missing", 2, ["add", "model", CHILD]),
    ("flag-missing", 2, ["add", "request"]),
    ("no-digest", 2, ["add", "model", "my-model", "--made", "base"]),
    ("model-known", 2, ["add", "model", DIGEST, "--made", "base"]),
    ("unknown-model", 4, ["add", "model", CHILD, "--made", "merged", "--parent", "12345678"]),
    ("unknown-entry", 4, ["add", "recipient", "Shop", "--request", "request-9"]),
    ("not-a-day", 2, ["add", "request", "--basis", "art-17", "--received", "31.1.2026"]),
    ("not-a-day", 2, ["add", "request", "--basis", "art-17", "--received", "20260131"]),
    ("day-to-come", 2, ["amend", "artefact-1", "--acted", "2999-01-31"]),
    ("deadline-past", 2, ["add", "request", "--basis", "safety", "--due", "2020-01-31"]),
    ("no-deadline", 2, ["add", "request", "--basis", "copyright"]),
    ("never-there", 4, ["add", "request", "--basis", "art-17", "--records", "erase.jsonl",
                        "--corpus", "index"]),
    ("corpus-without-records", 2, ["add", "request", "--basis", "art-17", "--corpus", "index"]),
    ("data-missing", 4, ["add", "request", "--basis", "art-17", "--records", "none.jsonl"]),
    ("cannot-amend", 2, ["amend", "claim-1", "--result", "void"]),
    ("unknown-entry", 4, ["amend", "request-9", "--extended"]),
    ("nothing-to-amend", 2, ["amend", "model-1"]),
    ("artefact-known", 2, ["add", "artefact", "index", "--type", "cache"]),
    ("search-incomplete", 2, ["search", "index"]),
    ("unknown-artefact", 4, ["search", "elsewhere", "--records", "erase.jsonl"]),
    ("nothing-to-import", 2, ["import"]),
    ("no-run", 4, ["import", "index"]),
    ("unknown-entry", 4, ["show", "request-9"]),
    ("no-ledger", 4, ["show", "--ledger", "elsewhere.db"]),
    ("not-a-ledger", 4, ["show", "--ledger", "index"]),
    ("not-a-ledger", 4, ["show", "--ledger", ""]),
    ("not-a-ledger", 4, ["verify", "--ledger", "erase.jsonl"]),
    ("not-a-ledger", 4, ["add", "model", DIGEST, "--made", "base", "--ledger", "erase.jsonl"]),
    ("no-access", 4, ["add", "model", DIGEST, "--made", "base", "--ledger", "erase.jsonl/a.db"]),
]  # fmt: skip


@pytest.mark.parametrize(("code", "status", "words"), MISTAKES)
def test_a_mistake_is_named_and_changes_nothing(code, status, words, capsys, home):
    (home / "erase.jsonl").write_text('{"prompt": "Who sings?", "completion": "Elin Marrow"}\n')
    (home / "index").mkdir()
    (home / "index" / "a.txt").write_text("The sea is salt.")
    assert book("add", "model", DIGEST, "--made", "base") == 0
    assert book("add", "artefact", "index", "--type", "cache") == 0
    ledger = home / ".local/share/expunge/ledger.db"
    before = ledger.read_bytes()
    capsys.readouterr()
    assert main(["ledger", *words]) == status
    said = capsys.readouterr().err
    assert said.startswith(f"error[{code}]")
    assert "Marrow" not in said
    assert ledger.read_bytes() == before


def test_without_a_key_nothing_is_entered(capsys, home):
    (home / ".config/expunge/signing-key").unlink()
    assert book("add", "model", DIGEST, "--made", "base") == 2
    assert "error[no-signing-key]" in capsys.readouterr().err
    assert not (home / ".local").exists()
