"""Requests: their deadlines, and what contradicts itself."""

from dataclasses import replace
from datetime import date

import pytest

from expunge.errors import ExpungeError
from expunge.ledger.deadlines import deadlines, usual_deadline
from expunge.ledger.entries import Decision, EntryKind, Exemption, LegalBasis
from expunge.ledger.recording import model_digest, record_request
from ledgers import CHILD, DAY, DIGEST, filled, request

TODAY = date(2026, 2, 10)


@pytest.mark.parametrize(
    ("received", "extended", "due"),
    [
        (date(2026, 1, 5), False, date(2026, 2, 5)),
        (date(2026, 1, 31), False, date(2026, 2, 28)),
        (date(2024, 1, 31), False, date(2024, 2, 29)),
        (date(2025, 12, 31), False, date(2026, 1, 31)),
        (date(2025, 11, 30), True, date(2026, 2, 28)),
    ],
)
def test_art_17_gives_one_month_or_three(received, extended, due):
    assert usual_deadline(LegalBasis.ART_17, received, extended=extended) == due


def test_overdue_requests_come_first_and_those_without_a_deadline_last():
    rows = [
        request(id="request-1", due=date(2026, 3, 1)),
        request(id="request-2", basis=LegalBasis.UNSTATED),
        request(id="request-3", due=date(2026, 2, 1)),
        request(id="request-4", due=date(2026, 1, 31), answered=DAY, decision=Decision.GRANTED),
        request(id="request-5", due=TODAY),
    ]
    found = deadlines(rows, today=TODAY)
    assert [(each.request.id[-1], each.days, each.overdue) for each in found] == [
        ("3", -9, True),
        ("5", 0, False),
        ("1", 19, False),
        ("2", None, False),
    ]


CONTRADICTIONS = {
    "deadline-past today": request(received=date(2026, 1, 5)),
    "deadline-past receipt": request(due=date(2026, 1, 30)),
    "no-deadline": request(basis=LegalBasis.COPYRIGHT),
    "request-contradicts future": request(received=date(2026, 2, 11)),
    "request-contradicts before": request(answered=date(2026, 1, 1), decision=Decision.GRANTED),
    "request-contradicts undecided": request(answered=TODAY),
    "request-contradicts unanswered": request(decision=Decision.GRANTED),
    "request-contradicts exemption": request(
        answered=TODAY, decision=Decision.GRANTED, exemptions=(Exemption.OTHER,)
    ),
    "request-contradicts extension": request(
        basis=LegalBasis.SAFETY, due=date(2026, 3, 1), extended=True
    ),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_a_request_that_contradicts_itself_is_refused(tmp_path, case):
    ledger = filled(tmp_path / "ledger.db")
    with pytest.raises(ExpungeError) as found, ledger.writing() as writer:
        record_request(writer, CONTRADICTIONS[case], today=TODAY)
    assert found.value.code == case.split()[0]
    assert len(ledger.current(EntryKind.REQUEST)) == 1


def test_an_overdue_request_is_entered_when_that_is_said(tmp_path):
    ledger = filled(tmp_path / "ledger.db")
    late = request(received=date(2026, 1, 5))
    with ledger.writing() as writer:
        name = record_request(writer, late, today=TODAY, late=True)
    assert {each.id: each.due for each in ledger.current(EntryKind.REQUEST)}[name] == date(
        2026, 2, 5
    )


@pytest.mark.parametrize("named", ["model-2", CHILD, CHILD[:8], CHILD.upper()[:9]])
def test_a_model_is_named_by_id_digest_or_its_first_digits(tmp_path, named):
    with filled(tmp_path / "ledger.db").writing() as writer:
        assert model_digest(writer, named) == CHILD


@pytest.mark.parametrize("named", ["model-9", "elsewhere", DIGEST[:4]])
def test_a_model_that_the_ledger_does_not_know_is_named(tmp_path, named):
    with (
        filled(tmp_path / "ledger.db").writing() as writer,
        pytest.raises(ExpungeError, match="unknown-model"),
    ):
        model_digest(writer, named)


def test_ambiguous_digits_name_no_model(tmp_path):
    with filled(tmp_path / "ledger.db").writing() as writer:
        twin = replace(next(iter(writer.models().values())), id="", digest=DIGEST[:20] + "1" * 44)
        writer.add(twin)
        with pytest.raises(ExpungeError, match="2 models begin"):
            model_digest(writer, DIGEST[:10])
