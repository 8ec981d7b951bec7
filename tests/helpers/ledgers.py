"""Ledgers for tests: keys, a clock that a test sets, and entries of every kind."""

import sqlite3
from contextlib import closing
from datetime import UTC, date, datetime

from expunge.ledger.connection import LAYOUT
from expunge.ledger.entries import (
    ArtefactEntry,
    ArtefactKind,
    ClaimEntry,
    ClaimState,
    LegalBasis,
    ModelEntry,
    ModelOrigin,
    RecheckEntry,
    RecipientEntry,
    RegistrationEntry,
    RequestEntry,
    RunEntry,
)
from expunge.ledger.store import Ledger
from expunge.provenance.signature import SigningKey

KEY = bytes(range(32))
SIGNING = SigningKey(seed=bytes(range(1, 33)))
OTHER = SigningKey(seed=bytes(32))
DAY = date(2026, 1, 31)
DIGEST, CHILD = "ab" * 32, "cd" * 32


class Clock:
    """A clock that a test sets."""

    def __init__(self):
        self.now = datetime(2026, 1, 31, 12, tzinfo=UTC)

    def __call__(self):
        return self.now


def open_ledger(path, *, signing=SIGNING, key=KEY, clock=None):
    return Ledger(path, key=key, signing=signing, clock=clock or Clock())


def request(number=0, **fields):
    """A request with one record."""
    given = {"basis": LegalBasis.ART_17, "received": DAY, "records": (f"{number:032x}",)}
    return RequestEntry(**{**given, **fields})


def entries():
    """One entry of every kind that is added, each naming those before it."""
    return (
        ModelEntry(digest=DIGEST, made=ModelOrigin.BASE),
        ModelEntry(digest=CHILD, made=ModelOrigin.UNLEARNED, parent=DIGEST, method="npo"),
        request(model=DIGEST),
        RunEntry(manifest="ef" * 32, created=DAY, request="request-1", model=CHILD),
        ClaimEntry(model=CHILD, run="run-1", claim_class="E1", verdict="PASS"),
        RecheckEntry(
            claim="claim-1",
            model=CHILD,
            derived=ModelOrigin.SAME,
            result=ClaimState.VALID,
            checked=DAY,
        ),
        ArtefactEntry(type=ArtefactKind.CACHE, model=CHILD, request="request-1"),
        RecipientEntry(recipient="ab" * 16, request="request-1", artefact="artefact-1"),
        RegistrationEntry(digest="ab" * 32, planted=100, controls=100),
    )


def filled(path, count=0):
    """A ledger with every kind of entry, and so many more requests."""
    ledger = open_ledger(path)
    with ledger.writing() as writer:
        for each in (*entries(), *(request(number) for number in range(count))):
            writer.add(each)
    return ledger


def tampered(path, *statements):
    """Change the file as somebody does who knows SQLite: the triggers are there again after it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for trigger in ("update", "delete", "insert"):
            connection.execute(f"DROP TRIGGER no_{trigger}")
        for statement in statements:
            connection.execute(statement)
        for statement in LAYOUT[1:4]:
            connection.execute(statement)
