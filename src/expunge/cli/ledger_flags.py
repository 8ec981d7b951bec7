"""Flags of `expunge ledger`, and how they become fields of entries; loads nothing heavy."""

from dataclasses import dataclass, fields
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from expunge.errors import UsageError
from expunge.utils.dates import day_of

Kind = Literal[
    "model", "request", "run", "claim", "recheck", "artefact", "recipient", "registration"
]
Basis = Literal["art-17", "copyright", "disgorgement", "safety", "contract", "unstated"]
DecisionWord = Literal["open", "granted", "partly", "refused", "not-held", "withdrawn"]
ExemptionWord = Literal[
    "freedom-of-expression",
    "legal-obligation",
    "public-health",
    "archiving-research",
    "legal-claims",
    "manifestly-unfounded",
    "other",
]
Origin = Literal[
    "base",
    "trained",
    "unlearned",
    "gold",
    "fine-tuned",
    "adapter-added",
    "merged",
    "quantised",
    "pruned",
    "distilled",
    "reapplied",
    "same",
    "unknown",
]
ArtefactType = Literal[
    "checkpoint",
    "adapter",
    "merged",
    "quantised",
    "distilled",
    "retrieval-index",
    "cache",
    "backup",
]
State = Literal["valid", "pending", "void"]
ContainsWord = Literal["yes", "no", "unknown"]
ActionWord = Literal["none", "kept", "cleaned", "rebuilt", "withdrawn", "deleted"]


_OTHER_VARIABLES = ("_KIND", "_HEAD", "_OUT")


def _flag(variable: str, text: str) -> Parameter:
    return Parameter(help=text, env_var=f"EXPUNGE_{variable}", negative="", show_default=False)


EnterInto = Annotated[
    Path | None,
    _flag("LEDGER", "enter the result into this ledger; default: it is entered nowhere"),
]
"""Type of the flag by which a command enters what it did."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerFlags:
    """Which ledger, and what to do with it."""

    ledger: Annotated[
        Path | None, _flag("LEDGER", "file of the ledger; default ~/.local/share/expunge/ledger.db")
    ] = None
    kind: Annotated[Kind | None, _flag("LEDGER_KIND", "show: entries of this kind alone")] = None
    key: Annotated[
        Path | None, _flag("SIGNER", "verify: public key that must have signed (`expunge keys`)")
    ] = None
    head: Annotated[
        str, _flag("LEDGER_HEAD", "verify: hash of an entry that must be there, printed earlier")
    ] = ""
    out: Annotated[Path | None, _flag("LEDGER_OUT", "export: the file; default stdout")] = None
    gate: Annotated[
        bool,
        _flag("GATE", "due: exit with 3 if a request is overdue; search: unless the answer is no"),
    ] = False


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True, slots=True)
class EntryFlags:
    """Fields of an entry for add and amend; None or empty means: not given."""

    basis: Annotated[Basis | None, _flag("LEDGER_BASIS", "request: on what it rests")] = None
    received: Annotated[str, _flag("LEDGER_RECEIVED", "request: day it came in; default today")] = (
        ""
    )
    due: Annotated[
        str, _flag("LEDGER_DUE", "request: deadline; default for art-17 a month from receipt")
    ] = ""
    extended: Annotated[
        bool, _flag("LEDGER_EXTENDED", "request: two more months, Art. 12(3) GDPR")
    ] = False
    late: Annotated[
        bool, _flag("LEDGER_LATE", "request: enter it although its deadline has passed")
    ] = False
    answered: Annotated[str, _flag("LEDGER_ANSWERED", "request: day of the answer")] = ""
    decision: Annotated[DecisionWord | None, _flag("LEDGER_DECISION", "request: the answer")] = None
    decided_by: Annotated[
        str, _flag("LEDGER_DECIDED_BY", "request: who decided; kept as a keyed hash")
    ] = ""
    exemption: Annotated[
        tuple[ExemptionWord, ...],
        _flag("LEDGER_EXEMPTION", "request: why it was refused; repeatable"),
    ] = ()
    reference: Annotated[
        str,
        _flag(
            "LEDGER_REFERENCE", "request: your own name for it, kept as a keyed hash; show: find it"
        ),
    ] = ""
    records: Annotated[
        Path | None,
        _flag("LEDGER_RECORDS", "request, search: file of the records; kept as keyed hashes"),
    ] = None
    corpus: Annotated[
        tuple[Path, ...],
        _flag("LEDGER_CORPUS", "request: data that must hold the records; repeatable"),
    ] = ()
    model: Annotated[
        str, _flag("LEDGER_MODEL", "request, artefact, recheck: id or digest of a model")
    ] = ""
    made: Annotated[Origin | None, _flag("LEDGER_MADE", "model: how it was made")] = None
    parent: Annotated[
        str, _flag("LEDGER_PARENT", "model: id or digest of what it was made from")
    ] = ""
    method: Annotated[str, _flag("LEDGER_METHOD", "model: by which method")] = ""
    place: Annotated[
        str, _flag("LEDGER_PLACE", "model: path or Hub id, kept as a keyed hash; show: find it")
    ] = ""
    type: Annotated[ArtefactType | None, _flag("LEDGER_TYPE", "artefact: what it is")] = None
    contains: Annotated[
        ContainsWord | None, _flag("LEDGER_CONTAINS", "artefact: does it hold the records?")
    ] = None
    action: Annotated[
        ActionWord | None, _flag("LEDGER_ACTION", "artefact: what was done with it")
    ] = None
    acted: Annotated[str, _flag("LEDGER_ACTED", "artefact: on which day")] = ""
    request: Annotated[
        str, _flag("LEDGER_REQUEST", "artefact, recipient, import: id of the request")
    ] = ""
    artefact: Annotated[
        str, _flag("LEDGER_ARTEFACT", "recipient: id of the artefact that it received")
    ] = ""
    told: Annotated[str, _flag("LEDGER_TOLD", "recipient: day on which it was told")] = ""
    derived: Annotated[
        Origin | None, _flag("LEDGER_DERIVED", "recheck: how the model derives from that claimed")
    ] = None
    result: Annotated[State | None, _flag("LEDGER_RESULT", "recheck: does the claim hold?")] = None
    checked: Annotated[str, _flag("LEDGER_CHECKED", "recheck: on which day; default today")] = ""


LEDGER_VARIABLES = frozenset(
    f"EXPUNGE_LEDGER{name}"
    for name in ("", *(f"_{each.name.upper()}" for each in fields(EntryFlags)), *_OTHER_VARIABLES)
)
"""Variables that stand for these flags, beside those that other commands have, too."""

_USES: dict[str, frozenset[str]] = {
    "model": frozenset({"made", "parent", "method", "place"}),
    "request": frozenset(
        {
            "basis",
            "received",
            "due",
            "extended",
            "late",
            "answered",
            "decision",
            "decided_by",
            "exemption",
            "reference",
            "records",
            "corpus",
            "model",
        }
    ),
    "artefact": frozenset({"type", "contains", "action", "acted", "model", "request"}),
    "recipient": frozenset({"request", "artefact", "told"}),
    "recheck": frozenset({"model", "derived", "result", "checked"}),
    "show": frozenset({"reference", "place"}),
    "search": frozenset({"records"}),
    "import": frozenset({"request"}),
}
"""Flags that each kind of entry, or each action, uses."""


def require_used(flags: EntryFlags, what: str) -> None:
    """Refuse a flag that an action or a kind of entry does not use.

    Args:
        flags: Those that were given.
        what: The kind of entry that is added or amended; else the action.

    Raises:
        UsageError: `flag-not-used`.
    """
    given = {each.name for each in fields(flags) if getattr(flags, each.name) != each.default}
    for name in sorted(given - _USES.get(what, frozenset())):
        raise _not_used(name, what)


_ACTION_OF = {"kind": "show", "head": "verify", "out": "export"}
"""Flags of one action. The others may be set for all commands, by their variables."""


def require_action(flags: LedgerFlags, action: str) -> None:
    """Refuse a flag of another action.

    Raises:
        UsageError: `flag-not-used`.
    """
    for name, only in _ACTION_OF.items():
        if getattr(flags, name) and action != only:
            raise _not_used(name, action)


def _not_used(name: str, what: str) -> UsageError:
    return UsageError(
        "flag-not-used",
        what=f"--{name.replace('_', '-')} does not go with {what}",
        why="a flag without effect would be missed",
        fix="leave it away; `expunge ledger --help` names what each flag is for",
    )


def parsed_day(text: str, flag: str) -> date | None:
    """Return the day that a flag names; None where it is empty.

    Raises:
        UsageError: As `day_of`.
    """
    return day_of(text, f"--{flag}") if text else None


def required(value: str | None, flag: str, what: str) -> str:
    """Return the value of a flag that must be given.

    Raises:
        UsageError: `flag-missing`.
    """
    if value:
        return value
    raise UsageError(
        "flag-missing",
        what=f"{what} needs --{flag}",
        why="the entry would say nothing without it",
        fix=f"add --{flag}; `expunge ledger --help` lists its values",
    )
