"""The letter: one page in plain words for the person who asked.

It says what was asked, what was done, what came of it, what that does not mean, when it takes
effect, and where to complain (GDPR, Articles 12, 77 and 79). It holds no name of a measure, and no
personal data but what the operator adds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from expunge.errors import UsageError
from expunge.evals.results import Ruling
from expunge.ledger.documents.record import RunRecord, read_record
from expunge.ledger.documents.sheet import (
    Sheet,
    SheetBlock,
    SheetHeading,
    SheetText,
    one_line,
    require_format,
    require_supported,
    write_sheet,
)
from expunge.provenance.keys import existing_key
from expunge.reporting.examples import count
from expunge.utils.io import AnyPath

SCHEMA = "expunge.letter/1"
"""Name and version of the layout of a letter as JSON."""

_NOBODY = "[name and address of the controller]"
"""Where it must be filled in who answers."""

_ASKED: Mapping[str, str] = {
    "removal": "You asked us to remove the influence of your data from a language model.",
    "suppression": "You asked us to keep a language model from saying your data.",
    "edit": "You asked us to make a language model say something else in place of your data.",
}

_SETTLED: Mapping[str, str] = {
    "E4": "The model is now one that was trained without your data, step for step.",
    "E3": "What had learnt from your data was replaced by a part that never saw it.",
    "E2": "The trace that your data can have left in the model is below a stated bound.",
    "E1": "Our tests were passed.",
    "E0": "In our tests the model kept back your data. Your data may still be in the weights of "
    "the model.",
}
"""Claim class to what a pass may be called."""

_OPEN: Mapping[Ruling, str] = {
    Ruling.FAIL_RESIDUAL: "Our tests were not passed. The model still holds some of your data, or "
    "gives it again when someone tries hard. Your request is not yet fulfilled.",
    Ruling.FAIL_DAMAGE: "Our tests were not passed. The change harmed other things that the model "
    "should know, so it cannot be used like this. Your request is not yet fulfilled.",
    Ruling.INCONCLUSIVE: "Our tests could not settle whether the model still holds your data. Your "
    "request is not yet fulfilled.",
    Ruling.NOTHING_TO_FORGET: "In our tests the model did not show that it had learnt your data. "
    "There was nothing in it that we could change for you.",
    Ruling.INVALID: "Our test did not work as it should, so it says nothing about your data. Your "
    "request is not yet fulfilled.",
}
"""Ruling that is no pass to what it means for the person."""

_ANYWAY: Mapping[str, str] = {
    "E4": "The model was trained again without your data, but tests have not confirmed the result.",
    "E3": "A part of the model was trained again without your data, but tests have not confirmed "
    "the result.",
}
"""Claim class to what stands even where the tests were not passed."""

_WHO: Mapping[str, str] = {
    "T0": "someone who uses the model in the ordinary way",
    "T1": "someone who asks repeatedly and with tricks",
    "T2": "someone who may also train the model further",
    "T3": "someone who has the files of the model",
}

_OUTSIDE = (
    "This answer does not cover copies of your data outside this model, such as training files, "
    "search indexes, logs and backups. It does not cover other models that were made from this one."
)

_LIMITS: Mapping[str, str] = {
    "E4": "Other people may have written the same facts, and the model may know them from there.",
    "E3": "Other people may have written the same facts, and the model may know them from there.",
    "E2": "The bound limits what is left. It does not say that nothing is left.",
    "E1": "No test can show that your data has left a model. We can only say what did not come "
    "back when we tried.",
    "E0": "The weights of the model were not changed, and your data may still be in them. Whoever "
    "has the files of the model may get it.",
}
"""Claim class to what a person might wrongly take it for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LetterDetails:
    """What only the operator knows; what is left out becomes a place to fill in.

    Example:
        >>> LetterDetails(controller="Example Ltd").to
        ''
    """

    to: str = ""
    """The person; the only personal data of the letter."""
    controller: str = ""
    """Who answers: name and address."""
    authority: str = ""
    """The supervisory authority, with its address."""
    product: str = ""
    """What the model is known as."""
    reference: str = ""
    """File number of the request."""
    effective: date | None = None
    """The day on which the changed model is put to use."""

    def given(self) -> tuple[str, ...]:
        """Return the operator's words, each on one line."""
        words = (self.to, self.controller, self.authority, self.product, self.reference)
        return tuple(map(one_line, words))


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenLetter:
    """A letter on the disk.

    Example:
        >>> WrittenLetter(path=Path("letter.md"), places=("effective date",)).path.suffix
        '.md'
    """

    path: Path
    places: tuple[str, ...]
    """What is still to be filled in by hand."""


def letter(
    run: AnyPath,
    *,
    out: AnyPath | None = None,
    details: LetterDetails | None = None,
    day: date | None = None,
) -> WrittenLetter:
    """Write the letter to the person.

    Args:
        run: The folder of a finished run.
        out: The file; its ending chooses Markdown, HTML, PDF or JSON. None: Markdown beside the
            run folder.
        details: What only the operator knows.
        day: The date of the letter; None: today.

    Raises:
        InputError: The run has not ended, was changed, or is none.
        UsageError: The format is unknown, the letter too long, or a date cannot be right.

    Example:
        >>> letter(Path("no-such-run"))
        Traceback (most recent call last):
            ...
        expunge.errors.InputError: error[no-run]: no-such-run is not a run folder...
    """
    run = Path(run)
    out = None if out is None else Path(out)
    path = out or default_path(run, "letter.md")
    require_format(path)
    record = read_record(run, key=existing_key(run))
    sheet = letter_sheet(record, details or LetterDetails(), day=day or datetime.now(UTC).date())
    write_sheet(sheet, path, data=_data(record, sheet))
    return WrittenLetter(path=path, places=tuple(places(sheet)))


def default_path(run: Path, name: str) -> Path:
    """Return where a document is written that is given no file: beside the run, never in it.

    Example:
        >>> default_path(Path("runs/one"), "letter.md").name
        'one-letter.md'
    """
    whole = run.resolve()
    return whole.parent / f"{whole.name}-{name}"


def letter_sheet(record: RunRecord, details: LetterDetails, *, day: date) -> Sheet:
    """Return the letter as a document.

    Args:
        record: The run.
        details: What only the operator knows.
        day: The date of the letter.

    Raises:
        UsageError: The effective date lies before the run, or nothing takes effect.
        InputError: It would say more than the claim of the run supports.
    """
    _check_effective(record, details.effective)
    # The words of the operator are names, in which nothing is claimed: they are left out.
    own = _page(record, LetterDetails(effective=details.effective), day)
    require_supported(own, level=record.claim.level, passed=record.passed)
    return _page(record, details, day)


def _page(record: RunRecord, details: LetterDetails, day: date) -> Sheet:
    _, controller, authority, product, _ = details.given()
    blocks: tuple[SheetBlock, ...] = (
        SheetText(text=_head(record, details, day)),
        SheetHeading(text="What you asked"),
        SheetText(text=_ASKED[record.context.goal]),
        SheetHeading(text="What we did"),
        SheetText(text=_did(record)),
        SheetHeading(text="The result"),
        SheetText(text=_result(record)),
        SheetHeading(text="What this does not mean"),
        SheetText(text=_not_meant(record)),
        SheetHeading(text="When it takes effect"),
        SheetText(text=_effect(record, details.effective, product)),
        SheetHeading(text="Your rights"),
        SheetText(text=_rights(authority)),
        SheetText(text=controller or _NOBODY),
    )
    return Sheet(title="Our answer to your request", day=day, blocks=blocks, one_page=True)


def places(sheet: Sheet) -> list[str]:
    """Return what is still to be filled in, in the order of the document."""
    texts = [block.text for block in sheet.blocks if isinstance(block, SheetText)]
    parts = [part.partition("]")[0] for text in texts for part in text.split("[")[1:]]
    return list(dict.fromkeys(parts))


def _check_effective(record: RunRecord, effective: date | None) -> None:
    if effective is None:
        return
    if not record.passed:
        raise UsageError(
            "nothing-takes-effect",
            what=f"nothing takes effect: the verdict is {record.results.verdict.ruling}",
            why="a date would tell the person that the request was fulfilled",
            fix="leave --effective away, or write the letter of a run that passed",
        )
    if effective < record.made:
        raise UsageError(
            "date-before-run",
            what=f"--effective is {effective}, and the model was made on {record.made}",
            why="a model cannot be put to use before it exists",
            fix="name the day on which the changed model is put to use",
        )


def _head(record: RunRecord, details: LetterDetails, day: date) -> str:
    to, controller, _, _, reference = details.given()
    own = f"{reference} (run {record.run_id})" if reference else f"run {record.run_id}"
    return "\n".join(
        (
            f"From: {controller or _NOBODY}",
            f"To: {to or '[name of the person]'}",
            f"Date: {day.isoformat()}",
            f"Our reference: {own}",
        )
    )


def _did(record: RunRecord) -> str:
    context, told = record.context, record.facts
    if told.exact:
        done = "We trained the model again without your data."
    elif context.guard:
        done = "We put a filter around the model. The model itself was not changed."
    elif context.adapter:
        done = "We put an additional part over the model. The model beneath was not changed."
    elif told.method is None:
        done = "We tested a model in which your data should have no influence."
    else:
        done = "We changed the model so that it should no longer give your data."
    after = record.after
    if after is None:
        return f"{done} Then we tested it with questions about your data."
    times = "once" if after.attempts == 1 else f"{after.attempts} times"
    return f"{done} Then we asked it about your data {times}, plainly and in other ways."


def _result(record: RunRecord) -> str:
    verdict, level = record.results.verdict, record.claim.level
    said = [_SETTLED[level]] if record.passed else [_OPEN[verdict.ruling]]
    if not record.passed and level in _ANYWAY:
        said.append(_ANYWAY[level])
    if verdict.ruling is Ruling.PASS_WITH_SCAR:
        said.append("An expert could notice that something about you was changed.")
    if verdict.ruling is not Ruling.INVALID:
        said += _counted(record)
    if record.passed:
        said.append(f"We tested what can be found out by {_WHO[verdict.threat_model]}.")
    if verdict.provisional:
        said.append("This was a short test. A longer one may find more.")
    return " ".join(said)


def _counted(record: RunRecord) -> list[str]:
    """Say how many facts came back; nothing where none could be counted."""
    after, before = record.after, record.before
    if after is None:
        return []
    now = f"it gave {after.returned} of {after.facts} facts."
    said = [f"In our tests {now}"]
    if before is not None:
        earlier = f"Before the change, the model gave {before.returned} of {before.facts} facts."
        said = [earlier, f"Afterwards {now}"]
    guessed = count([fact.gold for fact in record.ranked or ()])
    if guessed is not None:
        said.append(
            f"A model that never saw your data guessed {guessed.returned} of {guessed.facts}."
        )
    return said


def _not_meant(record: RunRecord) -> str:
    verdict = record.results.verdict
    untested = [words for threat, words in _WHO.items() if threat > verdict.threat_model]
    said = [_LIMITS[record.claim.level], _OUTSIDE]
    if record.passed and untested:
        said.append(f"We did not test what others may find: {'; '.join(untested)}.")
    return " ".join(said)


def _effect(record: RunRecord, effective: date | None, product: str) -> str:
    used = f"the changed model is used in {product}" if product else "the changed model is used"
    if record.results.verdict.ruling is Ruling.NOTHING_TO_FORGET:
        return "Nothing changes, because there was nothing to change."
    if not record.passed:
        return (
            "Nothing takes effect yet. This result changes nothing in the model that is in use. "
            "Your request stays open."
        )
    day = effective.isoformat() if effective else "[effective date]"
    return (
        f"From {day} on, {used}. The result stands until {record.claim.until}, unless the model is "
        "changed before. After a change we must test again."
    )


def _rights(authority: str) -> str:
    body = authority or "a data protection authority, for example where you live or work"
    return (
        "If you do not agree with this answer, tell us. You have the right to complain to "
        f"{body} (Article 77 of the General Data Protection Regulation). You also have the right "
        "to go to court (Article 79). You need not wait for us to do either."
    )


def _data(record: RunRecord, sheet: Sheet) -> dict[str, Any]:
    texts = [b.text for b in sheet.blocks if isinstance(b, SheetText | SheetHeading)]
    return {
        "schema": SCHEMA,
        "run": record.run_id,
        "manifest": record.digest,
        "ruling": str(record.results.verdict.ruling),
        "claim": record.claim.to_json(),
        "date": sheet.day.isoformat(),
        "title": sheet.title,
        "text": texts,
        "to_fill_in": places(sheet),
    }
