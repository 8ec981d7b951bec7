"""Answers: what the record of a run says to the questions of authorities, field by field.

A field has a text, or the reason why there is none. What no run can know, such as the date of a
letter, is declared by the operator and printed as declared.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from expunge.errors import UsageError
from expunge.evals.plain_words import percent
from expunge.evals.results import Executed
from expunge.evidence.store import PLAIN
from expunge.ledger.deadlines import usual_deadline
from expunge.ledger.documents.attack_table import CLASSES, AttackRow, row_words
from expunge.ledger.documents.record import RunRecord
from expunge.ledger.documents.sheet import one_line
from expunge.ledger.entries import LegalBasis
from expunge.metrics.outcomes import Axis, Status
from expunge.reporting import wording
from expunge.reporting.build import gaps
from expunge.reporting.plot_data import find
from expunge.utils.dates import day_of

DECLARED: Mapping[str, str] = {
    "release_context": "public-api, internal, open-weights or unspecified",
    "request.received": "the day on which the request came, YYYY-MM-DD",
    "request.answered": "the day on which the person was answered, YYYY-MM-DD",
    "request.reference": "the number of the complaint or request",
    "request.scope": "which data the order or the request covers",
    "request.acquisition": "how the data was acquired, and which rights were reserved",
    "request.impact_assessment": "where the impact assessment lies, and its date",
    "subject.search": "how the person was looked for in the training data, and what was found",
    "measure.why_not_stronger": "why no stronger measure was taken",
    "measure.effective_from": "the day on which the changed model is put to use, YYYY-MM-DD",
    "recipients_told": "who was told, and when",
    "artefacts.derived": "other models, indexes, caches and backups, and what became of each",
}
"""Fields that only the operator knows, and what each takes."""

_RELEASES = ("public-api", "internal", "open-weights", "unspecified")
_DAYS = ("request.received", "request.answered", "measure.effective_from")
_PREFIX = ("extraction", "near-verbatim", "prefill-10", "prefill-25", "prefill-50")


@dataclass(frozen=True, kw_only=True, slots=True)
class FieldAnswer:
    """What a field of the record says.

    Example:
        >>> FieldAnswer(reason="no evidence").answered
        False
    """

    text: str = ""
    reason: str = ""
    """Why there is no text."""

    @property
    def answered(self) -> bool:
        """Whether there is a text."""
        return bool(self.text)


def declarations(given: Sequence[str]) -> dict[str, str]:
    """Read what the operator declares, `FIELD=TEXT` each.

    Args:
        given: The declarations.

    Raises:
        UsageError: A field is not one of `DECLARED`, is given twice, or its text is not of its
            kind.

    Example:
        >>> declarations(["release_context=internal"])
        {'release_context': 'internal'}
    """
    found: dict[str, str] = {}
    for each in given:
        name, equals, text = (part.strip() for part in each.partition("="))
        if name not in DECLARED or not equals or not text or name in found:
            raise UsageError(
                "bad-declaration",
                what=f"--declare {each!r} declares nothing that is asked for",
                why="a field is declared once, as FIELD=TEXT",
                fix=f"choose among {', '.join(DECLARED)}",
            )
        if name in _DAYS:
            day_of(text, f"--declare {name}")
        if name == "release_context" and text not in _RELEASES:
            raise UsageError(
                "bad-declaration",
                what=f"--declare release_context={text} is none of the contexts",
                why="the depth of testing is held against it",
                fix=f"choose among {', '.join(_RELEASES)}",
            )
        found[name] = one_line(text)
    return found


def answers(
    record: RunRecord, rows: Sequence[AttackRow], declared: Mapping[str, str]
) -> dict[str, FieldAnswer]:
    """Return every field that the questions name, with what the run says.

    Args:
        record: The run.
        rows: Its attack table.
        declared: What the operator declares, see `declarations`.
    """
    found = {
        **_request(record),
        **_tests(record),
        **{f"attacks.{group}": _class(rows, group) for group in CLASSES},
        "attacks.prefix": _attacks([row for row in rows if row.attack in _PREFIX]),
        **_bounds(record),
        **_documentation(record),
        **_measure(record),
        **_artefacts(record),
    }
    for name, words in DECLARED.items():
        missing = f"no run records it; declare it with --declare {name}=... ({words})"
        text = f"Declared by the operator: {declared[name]}" if name in declared else ""
        if text and name == "request.received":
            received = date.fromisoformat(declared[name])
            due = usual_deadline(LegalBasis.ART_17, received, extended=False)
            text += f". Due one month later, unless extended: {due}"
        found[name] = FieldAnswer(text=text, reason="" if text else missing)
    return found


def _of(text: str, reason: str = "the run does not record it") -> FieldAnswer:
    return FieldAnswer(text=text, reason="" if text else reason)


def _request(record: RunRecord) -> dict[str, FieldAnswer]:
    context = record.context
    marks = record.manifest.get("data", {})
    counted = [f"{len(marks[name])} {name}" for name in marks if marks[name]]
    asked = len(marks.get("forget", ()))
    return {
        "request.goal": _of(f"Asked for: {context.goal}. {wording.GOALS[context.goal]}"),
        "subject.records": _of(
            f"{asked} records to forget, known in the manifest by keyed fingerprints alone. All "
            f"sets: {', '.join(counted)}."
            if asked
            else "",
            "the manifest names no records to forget",
        ),
    }


def _tests(record: RunRecord) -> dict[str, FieldAnswer]:
    verdict, context = record.results.verdict, record.context
    asked = context.threat_model > verdict.threat_model
    more = f" {context.threat_model} was asked for and is not covered." if asked else ""
    provisional = " The result is provisional." if verdict.provisional else ""
    listed = [record.masked(gap) for gap in gaps(record.results, context)]
    return {
        "tests.level": _of(f"Level {context.level}.{provisional}"),
        "tests.threat_model": _of(
            f"{verdict.threat_model}: {wording.THREATS[verdict.threat_model]}.{more}"
        ),
        "not_tested": _of(" ".join(listed)),
    }


def _class(rows: Sequence[AttackRow], group: str) -> FieldAnswer:
    return _attacks([row for row in rows if row.group == group])


def _attacks(rows: Sequence[AttackRow]) -> FieldAnswer:
    """Say which attacks were made; where none was, that is no answer."""
    made = [row for row in rows if row.status is Executed.EXECUTED]
    rest = [row_words(row)[0] for row in rows if row.status is Executed.NOT_RUN]
    if not made:
        reasons = dict.fromkeys(row.reason for row in rows if row.reason)
        why = next(iter(reasons), "")
        return FieldAnswer(reason=f"NOT RUN: no attack of this class was executed ({why})")
    said = [f"{row_words(row)[0]} ({row.judged or 'no judgement'})" for row in made]
    tail = f" NOT RUN: {', '.join(rest)}." if rest else ""
    return FieldAnswer(text=f"Executed: {', '.join(said)}.{tail}")


def _bounds(record: RunRecord) -> dict[str, FieldAnswer]:
    after, worst = record.after, record.worst_subject
    why = record.no_evidence or "the records name no single facts"
    text = ""
    if after is not None:
        text = wording.count_sentence(after, record.before)
    person = f"{worst.returned} of {worst.facts} facts came back." if worst else ""
    return {
        "bounds.facts": _of(text, why),
        "bounds.worst_person": _of(person, why),
        "bounds.text": _of(_recited(record), "this run measured no completion of the text"),
        "preserved": _of(_preserved(record), "nothing that should stay was measured"),
    }


def _recited(record: RunRecord) -> str:
    shares = [
        find(record.results, "extraction-strength", role=role, split="forget", attack=PLAIN)
        for role in ("original", "unlearned")
    ]
    values = [None if share is None else share.value for share in shares]
    if values[0] is None or values[1] is None:
        return ""
    return (
        f"The original completed {percent(values[0])} of the text by itself, the changed model "
        f"{percent(values[1])}."
    )


def _preserved(record: RunRecord) -> str:
    found = [record.finding(axis) for axis in (Axis.UTILITY, Axis.LOCALITY)]
    axes = record.results.axes
    measured = [
        f"{one.question}: {one.answer}. {record.masked(one.detail)}"
        for one in found
        if one is not None and axes.get(one.axis) is not Status.NOT_COMPUTABLE
    ]
    return " ".join(measured)


def _documentation(record: RunRecord) -> dict[str, FieldAnswer]:
    manifest: Mapping[str, Any] = record.manifest
    registered = manifest.get("preregistration")
    rules = ""
    if registered:
        late = " It was late: the model had been asked before." if registered["late"] else ""
        rules = f"Registered {registered['registered']}, digest {registered['digest']}.{late}"
    approval = record.approval
    return {
        "documentation.preregistration": _of(rules, "no rules were registered"),
        "documentation.manifest": _of(
            f"Manifest {record.digest}, over {len(manifest['files'])} files; `expunge verify` "
            "hashes them again and computes every number from the evidence."
        ),
        "documentation.evidence": _of(
            ""
            if record.no_evidence
            else f"Kept until {manifest['evidence']['expires']}, digest {record.evidence_digest}.",
            f"{record.no_evidence}; the digest of what it was is {record.evidence_digest}",
        ),
        "signatures.operator": _of(
            f"Key {record.signer}" if record.signer else "", "nobody signed the manifest"
        ),
        "signatures.approver": _of(
            f"{approval.by}, {approval.at[:10]}, key {approval.signer}" if approval else "",
            record.no_approval,
        ),
    }


def _measure(record: RunRecord) -> dict[str, FieldAnswer]:
    told, claim = record.facts, record.claim
    method = f"Method {told.method.name}" if told.method else "No measure: an audit of a model"
    cover = record.context.cover
    verdict = record.results.verdict
    return {
        "measure.method": _of(
            f"{method}, expunge {record.version}, {told.created[:10]}."
            + (f" A {cover} lies over unchanged weights." if cover else "")
        ),
        "measure.claim": _of(
            f"{claim.level}: {claim.words}. Verdict {verdict.ruling} under "
            f"{verdict.threat_model} at tier {verdict.tier}."
        ),
        "measure.filter": _of(_filter(record)),
        "reference": _of(f"{claim.reference[:1].upper()}{claim.reference[1:]}."),
        "horizon": _of(f"Until {claim.until}. It ends with {', '.join(claim.voided_by)}."),
    }


def _filter(record: RunRecord) -> str:
    if record.context.guard:
        ruling = record.results.verdict.ruling
        return f"Judged with the guard in place: {ruling}. The weights beneath are unchanged."
    if record.context.adapter:
        return "No output is filtered. An adapter lies over unchanged weights."
    return "No output is filtered: the weights themselves were judged."


def _artefacts(record: RunRecord) -> dict[str, FieldAnswer]:
    models = record.manifest["models"]
    why = "the manifest names no digest of it"
    original = models.get("original", "")
    return {
        "artefacts.original": _of(f"{record.model}, {original}" if original else "", why),
        "artefacts.unlearned": _of(record.weights, why),
    }
