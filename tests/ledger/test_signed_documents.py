"""Certificates and approvals: who signed, what it stands for, and what makes it void."""

import json
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, date, datetime

import pytest

from claimed_runs import CLAIMED, KEY, SIGNING, ClaimedRun, claimed_run
from expunge.cli.main import main
from expunge.errors import GateError, InputError, UsageError
from expunge.ledger.documents.approval import approve
from expunge.ledger.documents.certificate import (
    Certificate,
    certificate,
    read_certificate,
    verify_certificate,
)
from expunge.provenance.attestation import APPROVAL
from expunge.provenance.signature import SigningKey
from expunge.provenance.verify import verify
from expunge.utils.io import read_json, write_json

DAY = date(2026, 12, 1)
APPROVER, AUDITOR, STRANGER = (SigningKey(seed=bytes([n] * 32)) for n in (7, 8, 9))


@pytest.fixture(autouse=True)
def _own_keys(monkeypatch, tmp_path):
    monkeypatch.setenv("EXPUNGE_KEY_FILE", str(tmp_path / "operator.key"))
    monkeypatch.setenv("EXPUNGE_SIGNING_KEY", str(tmp_path / "signing.key"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(tmp_path):
    return claimed_run(tmp_path / "run", ClaimedRun(), signing=SIGNING)


@pytest.fixture
def fresh(tmp_path):
    """A run of now: commands go by the clock."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return claimed_run(tmp_path / "run", ClaimedRun(created=now), signing=SIGNING)


@pytest.fixture
def signed(run, tmp_path):
    """A certificate that operator, approver and auditor have signed."""
    approve(run, by="Ada Example", signing=APPROVER)
    path = tmp_path / "certificate.json"
    certificate(run, out=path, signing=SIGNING, by="Ben", day=DAY)
    return certificate(path, signing=AUDITOR, role="auditor", by="Cleo", day=DAY)


def leaves(value, path=()):
    if isinstance(value, dict):
        for name, each in value.items():
            yield from leaves(each, (*path, name))
    elif isinstance(value, list):
        for place, each in enumerate(value):
            yield from leaves(each, (*path, place))
    else:
        yield path, value


def test_three_people_sign_and_anybody_can_check(signed):
    for key in (SIGNING, AUDITOR):
        assert verify_certificate(signed, signer=key.public, day=DAY).problems == ()
    found = verify_certificate(signed, day=DAY)
    assert found.ok
    assert found.notes == ()
    said = read_json(signed)
    assert {said["signatures"][role]["by"] for role in said["signatures"]} == {
        "Ada Example",
        "Ben",
        "Cleo",
    }
    assert said["claim"]["class"] == "E1"
    assert said["claim"]["reference_state"] == "G2"
    assert "quantising" in said["claim"]["voided_by"]
    assert set(said["digests"]) == {"model", "evidence", "manifest"}


def test_every_changed_value_is_found(signed):
    whole = read_json(signed)
    every = list(leaves(whole))
    assert len(every) > 40
    unseen = []
    for path, value in every:
        changed = json.loads(json.dumps(whole))
        place = changed
        for step in path[:-1]:
            place = place[step]
        other = (not value) if isinstance(value, bool) else f"{value}0"
        place[path[-1]] = other
        write_json(signed, changed)
        with suppress(InputError):  # it is no certificate any more
            if verify_certificate(signed, day=DAY).ok:
                unseen.append(path)
    assert unseen == []


@pytest.mark.parametrize(
    ("signer", "day", "why"),
    [
        (STRANGER, DAY, "is not signed by"),
        (APPROVER, DAY, "is not signed by"),
        (SIGNING, date(2027, 11, 21), "its claim ended on 2027-11-20"),
    ],
)
def test_a_certificate_that_does_not_hold(signer, day, why, signed):
    [problem] = verify_certificate(signed, signer=signer.public, day=day).problems
    assert why in problem


def test_nobody_signs_twice_in_a_role(signed):
    with pytest.raises(UsageError, match="has signed this certificate"):
        certificate(signed, signing=STRANGER, role="auditor", day=DAY)


def test_an_unsigned_certificate_does_not_verify(run, tmp_path):
    path = certificate(run, out=tmp_path / "draft.json", day=DAY)
    assert verify_certificate(path, day=DAY).problems == (
        "nobody signed it, so anybody may have written it",
    )


def test_one_key_in_two_roles_is_said(run, tmp_path):
    approve(run, by="Ben", signing=SIGNING)
    path = certificate(run, out=tmp_path / "c.json", signing=SIGNING, day=DAY)
    [note] = verify_certificate(path, day=DAY).notes
    assert "no second person checked" in note


@pytest.mark.parametrize(
    ("until", "day", "why"),
    [
        (date(2026, 11, 30), DAY, "--until lies in the past"),
        (None, date(2028, 1, 1), "a result stands for twelve months"),
    ],
)
def test_a_claim_that_has_ended_is_not_certified(until, day, why, run, tmp_path):
    with pytest.raises(UsageError, match=why):
        certificate(run, out=tmp_path / "c.json", until=until, day=day)


def test_no_certificate_stands_longer_than_its_claim(run, tmp_path):
    certificate(run, out=tmp_path / "c.json", until=date(2099, 1, 1), day=DAY)
    assert read_certificate(tmp_path / "c.json").body["claim"]["valid_until"] == "2027-11-20"


def test_a_run_that_did_not_pass_is_not_called_unlearned(tmp_path):
    run = claimed_run(tmp_path / "run", CLAIMED["E1 not settled"])
    certificate(run, out=tmp_path / "c.md", day=DAY)
    said = (tmp_path / "c.md").read_text(encoding="utf-8")
    assert said.startswith("# Certificate of an audit that did not pass")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema": "expunge.certificate/1", "signatures": {}}', "\x00"]
)
def test_what_is_no_certificate_is_refused(text, tmp_path):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(InputError):
        verify_certificate(tmp_path / "c.json")


@pytest.mark.parametrize("name", [n for n in CLAIMED if "settled" in n or "residual" in n])
def test_only_a_pass_is_approved(name, tmp_path):
    run = claimed_run(tmp_path / "run", CLAIMED[name])
    with pytest.raises(GateError, match="the verdict of this run"):
        approve(run, by="Ada", signing=APPROVER)
    assert not (run / APPROVAL).exists()


def test_a_changed_run_is_not_approved(run):
    (run / "weights.bin").write_bytes(b"other")
    with pytest.raises(GateError, match=r"weights\.bin"):
        approve(run, by="Ada", signing=APPROVER)


def problems(run, approver=None):
    found = verify(run, key=KEY, approver=approver and approver.public)
    return [each.what for each in found.problems if each.path == APPROVAL]


def test_verify_wants_the_approval_of_this_run_by_this_key(run):
    assert problems(run) == []
    assert problems(run, APPROVER) == ["is missing: nobody has approved this run"]
    approve(run, by="Ada", signing=APPROVER)
    assert problems(run) == problems(run, APPROVER) == []
    assert "is by another key" in problems(run, STRANGER)[0]
    row = read_json(run / APPROVAL)
    write_json(run / APPROVAL, {**row, "by": "Eve"})
    assert "is no approval that its signer made" in problems(run)[0]


def test_the_approval_of_another_state_counts_for_nothing(run, tmp_path):
    approve(run, by="Ada", signing=APPROVER)
    other = claimed_run(tmp_path / "other", ClaimedRun(goal="removal", golds=()))
    (other / APPROVAL).write_bytes((run / APPROVAL).read_bytes())
    assert problems(other) == ["approves another state of the run"]
    made = certificate(other, out=tmp_path / "c.json", signing=SIGNING, day=DAY)
    assert read_certificate(made).of("approver") is None


def test_a_certificate_is_read_as_it_was_written(signed):
    made = read_certificate(signed)
    assert made.to_json() == read_json(signed)
    assert Certificate(body=made.body, signatures=made.signatures).digest == made.digest
    assert {asdict(each)["role"] for each in made.signatures} == {"operator", "approver", "auditor"}


def said(capsys, *words):
    code = main([*map(str, words)])
    shown = capsys.readouterr()
    return code, shown.out + shown.err


def test_the_commands_from_a_run_to_a_checked_certificate(fresh, tmp_path, capsys):
    assert said(capsys, "keys")[0] == 0
    public = tmp_path / "signing.key.pub"
    assert said(capsys, "approve", fresh, "--by", "Ada")[0] == 0
    assert said(capsys, "certificate", fresh, "--by", "Ada")[0] == 0
    made = tmp_path / "run-certificate.json"
    code, shown = said(capsys, "certificate", "--verify", made, "--key", public)
    assert (code, "its signatures fit" in shown) == (0, True)
    code, shown = said(capsys, "letter", fresh, "--to", "Žofie Çelik", "--effective", "2099-12-24")
    assert (code, "fill in" in shown) == (0, True)
    assert "Žofie Çelik" in (tmp_path / "run-letter.md").read_text(encoding="utf-8")
    assert said(capsys, "annex", fresh, "--declare", "release_context=internal")[0] == 0
    assert {path.name for path in fresh.iterdir() if "letter" in path.name} == set()


BAD = {
    "no run": (["letter", "nowhere"], 4, "is not a run folder"),
    "no name": (["approve", "RUN"], 2, "--by"),
    "an empty name": (["approve", "RUN", "--by", "  "], 2, "--by names nobody"),
    "no key": (["certificate", "RUN"], 2, "there is no signing key"),
    "no key to approve with": (["approve", "RUN", "--by", "Ada"], 2, "there is no signing key"),
    "a date of another format": (["letter", "RUN", "--effective", "24.12.2026"], 2, "2026-01-31"),
    "no such day": (["letter", "RUN", "--effective", "2026-02-30"], 2, "2026-01-31"),
    "before the run": (["letter", "RUN", "--effective", "2001-01-01"], 2, "before it exists"),
    "another format": (["letter", "RUN", "--out", "letter.docx"], 2, "ends in none of"),
    "a folder": (["annex", "RUN", "--out", "folder.md"], 2, "is a folder"),
    "a file that is there": (["annex", "RUN", "--out", "there.md"], 2, "nothing was written"),
    "an unknown field": (["annex", "RUN", "--declare", "moon=full"], 2, "choose among"),
    "no text": (["annex", "RUN", "--declare", "release_context="], 2, "choose among"),
    "an unknown release": (["annex", "RUN", "--declare", "release_context=x"], 2, "open-weights"),
    "neither": (["certificate"], 2, "name either a run to certify"),
    "both": (["certificate", "RUN", "--verify", "c.json"], 2, "name either a run to certify"),
    "--until in the past": (
        ["certificate", "RUN", "--until", "2001-01-01", "--unsigned"],
        2,
        "past",
    ),
    "--until is no date": (["certificate", "RUN", "--until", "soon"], 2, "2026-01-31"),
    "no certificate": (["certificate", "--verify", "none.json"], 4, "there is no file"),
    "no public key": (
        ["certificate", "--verify", "d.json", "--key", "no.pub"],
        4,
        "no file no.pub",
    ),
    "not signed": (["certificate", "--verify", "d.json"], 3, "nobody signed it"),
    "an unfinished run": (["letter", "begun"], 4, "has not ended"),
    "a changed run": (["letter", "changed"], 4, "it does not cover"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_mistake_is_named(case, fresh, tmp_path, capsys):
    line, code, why = BAD[case]
    (tmp_path / "folder.md").mkdir()
    (tmp_path / "there.md").write_text("sent")
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "run.json").write_text("{}")
    certificate(fresh, out=tmp_path / "d.json")
    changed = claimed_run(tmp_path / "changed", ClaimedRun())
    text = (changed / "results.json").read_text(encoding="utf-8")
    (changed / "results.json").write_text(text.replace("PASS", "PASS-WITH-SCAR"), encoding="utf-8")
    found, shown = said(capsys, *[str(fresh) if word == "RUN" else word for word in line])
    assert found == code
    assert why in shown
    assert "Traceback" not in shown
    assert (tmp_path / "there.md").read_text() == "sent"
