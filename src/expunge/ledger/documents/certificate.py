"""The certificate: one page that says what is claimed of which bytes, until when, and who signed.

The body is signed by the operator and, where there is one, by an auditor. The approver has signed
the manifest of the run, whose digest is in the body. A certificate says who signed, not that what
they signed is true.
"""

from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from expunge.errors import InputError, UsageError
from expunge.evals.results import PASSES
from expunge.ledger.documents.letter import default_path
from expunge.ledger.documents.record import RunRecord, read_record
from expunge.ledger.documents.sheet import (
    Sheet,
    SheetTable,
    SheetText,
    one_line,
    require_format,
    require_supported,
    write_sheet,
)
from expunge.provenance.attestation import Attestation, Role, attest, attestation_from_json
from expunge.provenance.keys import existing_key
from expunge.provenance.signature import SigningKey, key_fingerprint
from expunge.reporting import wording
from expunge.utils.io import AnyPath, read_table, sha256_json

SCHEMA = "expunge.certificate/1"
"""Name and version of the layout of a certificate."""

Signing = Literal["operator", "auditor"]
"""Roles that sign the body; the approver signs the run with `expunge approve`."""

_ROLES: tuple[Role, ...] = get_args(Role)
_UNSIGNED = "not signed"
_PARTS = ("claim", "digests", "verdict")


@dataclass(frozen=True, kw_only=True, slots=True)
class Certificate:
    """What a certificate says, and who signed it.

    Example:
        >>> Certificate(body={"schema": SCHEMA}, signatures=()).digest[:8]
        'd383e25c'
    """

    body: dict[str, Any]
    signatures: tuple[Attestation, ...]

    @property
    def digest(self) -> str:
        """What operator and auditor sign."""
        return sha256_json(self.body)

    def of(self, role: Role) -> Attestation | None:
        """Return who signed in a role; None where nobody did."""
        return next((each for each in self.signatures if each.role == role), None)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        signed = {role: asdict(found) if (found := self.of(role)) else None for role in _ROLES}
        return {**self.body, "signatures": signed}


@dataclass(frozen=True, kw_only=True, slots=True)
class CertificateCheck:
    """What the verification of a certificate found.

    Example:
        >>> CertificateCheck(problems=("the signature does not fit",), notes=()).ok
        False
    """

    problems: tuple[str, ...]
    notes: tuple[str, ...]
    """What is no fault and should be known."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def certificate(
    source: AnyPath,
    *,
    out: AnyPath | None = None,
    signing: SigningKey | None = None,
    role: Signing = "operator",
    by: str = "",
    until: date | None = None,
    day: date | None = None,
) -> Path:
    """Write the certificate of a run, or add a signature to one, and return its path.

    Args:
        source: The folder of a finished run, or a certificate as JSON.
        out: The file; its ending chooses JSON, PDF, HTML or Markdown. None: JSON beside the run.
        signing: Signs it; None: nobody signs.
        role: In which role.
        by: Name of whoever signs.
        until: The day until which the claim is to stand; never later than its own. None: that.
        day: The date of the certificate; None: today.

    Raises:
        InputError: The run has not ended, was changed, or is none; or the file is no certificate.
        UsageError: The claim has ended, a date cannot be right, or the role has signed already.

    Example:
        >>> certificate(Path("no-such-run"))
        Traceback (most recent call last):
            ...
        expunge.errors.InputError: error[no-run]: no-such-run is not a run folder...
    """
    source = Path(source)
    out = None if out is None else Path(out)
    today = day or datetime.now(UTC).date()
    if source.suffix == ".json" and not source.is_dir():
        made, path = read_certificate(source), out or source
    else:
        path = out or default_path(source, "certificate.json")
        require_format(path)
        record = read_record(source, key=existing_key(source))
        made = issue(record, until=until, day=today)
    if signing is not None:
        made = _signed(made, signing, role=role, by=one_line(by))
    sheet = certificate_sheet(made)
    write_sheet(sheet, path, data=made.to_json())
    return path


def issue(record: RunRecord, *, until: date | None, day: date) -> Certificate:
    """Return the certificate of a run, which bears the signature of its approver alone.

    Args:
        record: The run.
        until: As for `certificate`.
        day: Its date.

    Raises:
        UsageError: The claim ended before that day, or `until` is not a day on which it stands.
    """
    claim, verdict = record.claim, record.results.verdict
    last = min(until or claim.until, claim.until)
    if last < day:
        chosen = until is not None and until < day
        raise UsageError(
            "claim-ended",
            what=f"the claim would end on {last}, and today is {day}",
            why="--until lies in the past" if chosen else "a result stands for twelve months",
            fix="name a later day with --until" if chosen else "audit the model again",
        )
    body: dict[str, Any] = {
        "schema": SCHEMA,
        "issued": day.isoformat(),
        "run": record.run_id,
        "made": record.facts.created,
        "model": record.model,
        "claim": {
            **claim.to_json(),
            "valid_until": last.isoformat(),
            "words": claim.words,
            "reference_words": claim.reference,
        },
        "verdict": {
            "ruling": str(verdict.ruling),
            "provisional": verdict.provisional,
            "threat_model": verdict.threat_model,
            "threat_words": wording.THREATS[verdict.threat_model],
            "tier": verdict.tier,
            "goal": record.context.goal,
        },
        "method": record.facts.method.name if record.facts.method else "none: an audit",
        "digests": {
            "model": record.weights,
            "evidence": record.evidence_digest,
            "manifest": record.digest,
            **_references(record),
        },
        "manifest_signer": record.signer,
        "evidence_state": record.no_evidence or "kept with the run",
        "expunge": record.version,
    }
    return Certificate(body=body, signatures=(record.approval,) if record.approval else ())


def certificate_sheet(made: Certificate) -> Sheet:
    """Return a certificate as one page.

    Raises:
        InputError: It would say more than its claim supports.
    """
    # The names of the signers claim nothing, whatever they are.
    unnamed = tuple(replace(each, by="") for each in made.signatures)
    own = _page(Certificate(body=made.body, signatures=unnamed))
    require_supported(own, level=made.body["claim"]["class"], passed=_stands(made))
    return _page(made)


def _stands(made: Certificate) -> bool:
    return made.body["verdict"]["ruling"] in PASSES


def _page(made: Certificate) -> Sheet:
    body, claim, verdict = made.body, made.body["claim"], made.body["verdict"]
    rows = (
        ("Run", f"{body['run']}, {body['made'][:10]}, method {body['method']}"),
        ("Model", body["model"]),
        ("Verdict", _verdict(verdict)),
        ("Asked for", verdict["goal"]),
        ("Claim", f"{claim['class']}: {claim['words']}"),
        ("Reference state", f"{claim['reference_state']}: {claim['reference_words']}"),
        ("Tested against", verdict["threat_words"]),
        ("Valid until", claim["valid_until"]),
        ("Void after", ", ".join(claim["voided_by"])),
        *((f"Digest: {name}", digest) for name, digest in body["digests"].items()),
        ("Manifest signed by", body["manifest_signer"] or _UNSIGNED),
        ("Evidence", body["evidence_state"]),
        *((f"Signature: {role}", _signature(made.of(role))) for role in _ROLES),
    )
    return Sheet(
        title="Certificate of unlearning"
        if _stands(made)
        else "Certificate of an audit that did not pass",
        day=date.fromisoformat(body["issued"]),
        one_page=True,
        blocks=(
            SheetText(text=f"Issued on {body['issued']} by expunge {body['expunge']}"),
            SheetTable(head=("What", "Value"), rows=rows, widths=(24, 76)),
            SheetText(text=_limits(made)),
            SheetText(text="Check: expunge certificate --verify FILE --key SIGNER.pub"),
        ),
    )


def read_certificate(path: Path) -> Certificate:
    """Read a certificate that was written as JSON.

    Raises:
        InputError: It is no certificate of this version.
    """
    if not path.is_file():
        raise InputError(
            "no-certificate",
            what=f"there is no file {path}",
            why="a certificate is the JSON that `expunge certificate` wrote",
            fix="check the path",
        )
    body = read_table(path)
    rows = body.pop("signatures", None)
    if body.get("schema") != SCHEMA or not isinstance(rows, dict) or not _is_whole(body):
        raise _no_certificate(path)
    signed: list[Attestation] = []
    for role, row in rows.items():
        found = None if row is None else attestation_from_json(row)
        if row is not None and (found is None or found.role != role):
            raise _no_certificate(path)
        signed += [found] if found is not None else []
    return Certificate(body=body, signatures=tuple(signed))


def verify_certificate(
    path: Path, *, signer: bytes | None = None, day: date | None = None
) -> CertificateCheck:
    """Check the signatures and the horizon of a certificate.

    Args:
        path: The certificate as JSON.
        signer: Public key of whoever must have signed it, as operator or auditor; None: anybody.
        day: The day on which it must stand; None: today.

    Raises:
        InputError: It is no certificate.

    Example:
        >>> verify_certificate(Path("none.json"))
        Traceback (most recent call last):
            ...
        expunge.errors.InputError: error[no-certificate]: there is no file none.json...
    """
    made, today = read_certificate(path), day or datetime.now(UTC).date()
    problems = [
        f"the signature of the {each.role} does not fit: something was changed"
        for each in made.signatures
        if not each.fits or each.digest != _stands_for(made, each.role)
    ]
    own = [each for each in made.signatures if each.role != "approver"]
    if not own:
        problems.append("nobody signed it, so anybody may have written it")
    elif signer is not None and signer.hex() not in {each.public_key for each in own}:
        names = ", ".join(f"{each.role} {each.signer}" for each in own)
        problems.append(f"it is not signed by {key_fingerprint(signer)}, but by {names}")
    if date.fromisoformat(made.body["claim"]["valid_until"]) < today:
        problems.append(f"its claim ended on {made.body['claim']['valid_until']}")
    notes = [] if made.of("approver") else ["nobody approved the run"]
    if len({each.public_key for each in made.signatures}) < len(made.signatures):
        notes.append("one key signed in several roles: no second person checked")
    if not made.body["manifest_signer"]:
        notes.append("the manifest of the run is not signed")
    return CertificateCheck(problems=tuple(problems), notes=tuple(notes))


def _signed(made: Certificate, key: SigningKey, *, role: Signing, by: str) -> Certificate:
    if made.of(role) is not None:
        raise UsageError(
            "signed-already",
            what=f"the {role} has signed this certificate",
            why="a second signature in the same role would hide the first",
            fix="write a new certificate from the run, or sign in another role with --role",
        )
    own = attest(role, by, digest=made.digest, key=key)
    return Certificate(body=made.body, signatures=(*made.signatures, own))


def _stands_for(made: Certificate, role: Role) -> str:
    """Return the digest that a role must have signed."""
    return made.body["digests"]["manifest"] if role == "approver" else made.digest


def _references(record: RunRecord) -> dict[str, str]:
    models = record.manifest["models"]
    return {role: models[role] for role in record.context.golds if role in models}


def _verdict(verdict: dict[str, Any]) -> str:
    tail = " (provisional: a short test)" if verdict["provisional"] else ""
    return f"{verdict['ruling']}{tail}"


def _signature(found: Attestation | None) -> str:
    if found is None:
        return _UNSIGNED
    name = f"{found.by}, " if found.by else ""
    return f"{name}{found.at[:10]}, key {found.signer}"


def _limits(made: Certificate) -> str:
    said = [
        "No test of a model's behaviour can show that a fact has left its weights."
        if made.body["claim"]["class"] in ("E0", "E1")
        else "The claim follows from how the model was made.",
        "This page speaks of the bytes with the digests above, and of no copy of the data outside "
        "them.",
        "A signature says who stands for the page, not that it is true.",
    ]
    return " ".join(said)


def _is_whole(body: dict[str, Any]) -> bool:
    """Tell whether a body has what a page and a verification need, each of its kind."""
    texts = ("issued", "run", "made", "model", "method", "expunge", "evidence_state")
    try:
        named = all(isinstance(body[name], str) for name in (*texts, "manifest_signer"))
        named &= all(isinstance(body[name], dict) for name in _PARTS)
        date.fromisoformat(body["issued"])
        date.fromisoformat(body["claim"]["valid_until"])
        claim, verdict = body["claim"], body["verdict"]
        named &= claim["class"] in wording.CLAIMS
        named &= all(isinstance(each, str) for each in claim["voided_by"])
        words = [claim[name] for name in ("reference_state", "words", "reference_words")]
        words += [verdict[name] for name in ("ruling", "threat_words", "goal")]
        words += [body["digests"][name] for name in ("manifest", "model", "evidence")]
        named &= isinstance(verdict["provisional"], bool)
        return named and all(isinstance(each, str) for each in words)
    except (KeyError, TypeError, ValueError):
        return False


def _no_certificate(path: Path) -> InputError:
    return InputError(
        "no-certificate",
        what=f"{path} is no certificate of schema {SCHEMA!r}",
        why="a field is missing or of another kind, or another program wrote it",
        fix="restore the file, or write a new certificate from the run",
    )
