"""Entries of the ledger: one frozen dataclass a kind, and the one text that each has in the file.

No field can hold a free text. A field is a date, a number, a word of a fixed list, a digest, the id
of another entry, or a keyed hash (`expunge.provenance.keys.fingerprint`). So a name, a question, an
answer or a path cannot enter in clear, by any way.
"""

import json
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from expunge.config.catalogue import catalogue
from expunge.errors import UsageError
from expunge.evals.results import Ruling


class EntryKind(StrEnum):
    """What an entry is about; also the first part of its id."""

    LEDGER = "ledger"
    MODEL = "model"
    REQUEST = "request"
    RUN = "run"
    CLAIM = "claim"
    RECHECK = "recheck"
    ARTEFACT = "artefact"
    RECIPIENT = "recipient"
    REGISTRATION = "registration"


Digest = Annotated[str, Field(pattern=r"^([0-9a-f]{64}|[0-9a-f]{40})?$")]
"""SHA-256 of weights or of a file, the commit of a model on the Hub, or empty."""
KeyedHash = Annotated[str, Field(pattern=r"^([0-9a-f]{32})?$")]
"""HMAC of a text under the operator's key, or empty."""
EntryId = Annotated[str, Field(pattern=rf"^(({'|'.join(EntryKind)})-[1-9][0-9]{{0,9}})?$")]
"""Kind and number, as in `request-12`; empty before the ledger has chosen it."""
RunId = Annotated[str, Field(pattern=r"^([0-9a-f]{8,64})?$")]
MethodName = Annotated[str, Field(pattern=r"^[a-z0-9_+-]{0,80}$")]
"""Name of a method in the catalogue; `own` stands for every other."""
ThreatModel = Literal["", "T0", "T1", "T2", "T3"]
GoldTier = Literal["", "G1", "G2", "G3", "G4"]
ClaimClass = Literal["", "E0", "E1", "E2", "E3", "E4"]
AttackResult = Literal["", "recovered", "open", "held", "nothing"]

OWN_METHOD = "own"
_STRICT = ConfigDict(extra="forbid")


class ModelOrigin(StrEnum):
    """How a model was made."""

    BASE = "base"
    TRAINED = "trained"
    UNLEARNED = "unlearned"
    GOLD = "gold"
    FINE_TUNED = "fine-tuned"
    ADAPTER_ADDED = "adapter-added"
    MERGED = "merged"
    QUANTISED = "quantised"
    PRUNED = "pruned"
    DISTILLED = "distilled"
    REAPPLIED = "reapplied"
    """The update of a run was added to a later model."""
    SAME = "same"
    UNKNOWN = "unknown"


class LegalBasis(StrEnum):
    """On what a request rests."""

    ART_17 = "art-17"
    COPYRIGHT = "copyright"
    DISGORGEMENT = "disgorgement"
    SAFETY = "safety"
    CONTRACT = "contract"
    UNSTATED = "unstated"


class Decision(StrEnum):
    """What became of a request."""

    OPEN = "open"
    GRANTED = "granted"
    PARTLY = "partly"
    REFUSED = "refused"
    NOT_HELD = "not-held"
    WITHDRAWN = "withdrawn"


class Exemption(StrEnum):
    """Why a request was refused in whole or in part: Art. 17(3) and 12(5) GDPR."""

    EXPRESSION = "freedom-of-expression"
    LEGAL_OBLIGATION = "legal-obligation"
    PUBLIC_HEALTH = "public-health"
    ARCHIVING = "archiving-research"
    LEGAL_CLAIMS = "legal-claims"
    UNFOUNDED = "manifestly-unfounded"
    OTHER = "other"


class ClaimState(StrEnum):
    """Whether a claim still holds for the bytes that were checked."""

    VALID = "valid"
    PENDING = "pending"
    VOID = "void"


class ArtefactKind(StrEnum):
    """What holds a model or data."""

    CHECKPOINT = "checkpoint"
    ADAPTER = "adapter"
    MERGED = "merged"
    QUANTISED = "quantised"
    DISTILLED = "distilled"
    RETRIEVAL_INDEX = "retrieval-index"
    CACHE = "cache"
    BACKUP = "backup"


class Contains(StrEnum):
    """Whether an artefact contains the records of a request."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


class ArtefactAction(StrEnum):
    """What was done with an artefact."""

    NONE = "none"
    KEPT = "kept"
    CLEANED = "cleaned"
    REBUILT = "rebuilt"
    WITHDRAWN = "withdrawn"
    DELETED = "deleted"


@dataclass(frozen=True, kw_only=True, slots=True)
class OpeningEntry:
    """The first entry: whose ledger this is.

    Example:
        >>> OpeningEntry(schema=1, public_key="ab" * 32, key_mark="cd" * 16, nonce="0" * 32).kind
        <EntryKind.LEDGER: 'ledger'>
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    kind: ClassVar[EntryKind] = EntryKind.LEDGER

    id: EntryId = ""
    schema: int
    public_key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Ed25519 key that signs every entry."""
    key_mark: KeyedHash
    """Identifies the key of the keyed hashes, and reveals nothing else."""
    nonce: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    """Random: two ledgers of one operator differ from their first entry on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelEntry:
    """A model: its bytes, and what it was made from.

    Example:
        >>> ModelEntry(digest="ab" * 32, made=ModelOrigin.BASE).parent
        ''
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    kind: ClassVar[EntryKind] = EntryKind.MODEL

    id: EntryId = ""
    digest: Digest
    made: ModelOrigin
    parent: Digest = ""
    """The model that it was made from."""
    method: MethodName = ""
    place: KeyedHash = ""
    """Of the path or Hub id."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestEntry:
    """A request to forget, as it stands now.

    Example:
        >>> RequestEntry(basis=LegalBasis.ART_17, received=date(2026, 1, 31)).is_open
        True
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    kind: ClassVar[EntryKind] = EntryKind.REQUEST

    id: EntryId = ""
    basis: LegalBasis
    received: date
    due: date | None = None
    extended: bool = False
    """Whether the time limit of Art. 12(3) GDPR was extended by two months."""
    answered: date | None = None
    decision: Decision = Decision.OPEN
    decided_by: KeyedHash = ""
    exemptions: tuple[Exemption, ...] = ()
    reference: KeyedHash = ""
    """Of the operator's own name for the request, such as a ticket number."""
    records: tuple[KeyedHash, ...] = ()
    """Of the records to forget, as manifests name them."""
    model: Digest = ""

    @property
    def is_open(self) -> bool:
        """Whether nobody has answered it yet."""
        return self.answered is None


@dataclass(frozen=True, kw_only=True, slots=True)
class RunEntry:
    """A finished run folder.

    Example:
        >>> RunEntry(manifest="ab" * 32, created=date(2026, 1, 31)).verdict
        ''
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    kind: ClassVar[EntryKind] = EntryKind.RUN

    id: EntryId = ""
    manifest: Digest
    """The digest that `expunge verify` prints."""
    run: RunId = ""
    created: date
    request: EntryId = ""
    original: Digest = ""
    model: Digest = ""
    """The model that was judged."""
    method: MethodName = ""
    verdict: Ruling | Literal[""] = ""
    attack: AttackResult = ""
    """Result of a run of `expunge attack`."""
    threat_model: ThreatModel = ""
    tier: GoldTier = ""
    provisional: bool = False
    signer: KeyedHash = ""
    """Fingerprint of the key that signed the manifest; empty: nobody signed it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClaimEntry:
    """What may be said of a model, compared with what, and until when.

    Example:
        >>> ClaimEntry(model="ab" * 32, run="run-1", claim_class="E1", verdict="PASS").tier
        ''
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    kind: ClassVar[EntryKind] = EntryKind.CLAIM

    id: EntryId = ""
    model: Digest
    run: EntryId
    claim_class: ClaimClass
    verdict: Ruling | Literal[""]
    tier: GoldTier = ""
    """What stands for a model that never saw the data."""
    golds: tuple[Digest, ...] = ()
    """Digests of the retrained reference models (golds)."""
    original: Digest = ""
    """The model before forgetting."""
    horizon: date | None = None
    """Until this day the evidence is kept, and the result can be computed again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecheckEntry:
    """Whether a claim holds for a model that is deployed.

    Example:
        >>> RecheckEntry(
        ...     claim="claim-1",
        ...     model="ab" * 32,
        ...     derived=ModelOrigin.MERGED,
        ...     result=ClaimState.VOID,
        ...     checked=date(2026, 1, 31),
        ... ).result.value
        'void'
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    kind: ClassVar[EntryKind] = EntryKind.RECHECK

    id: EntryId = ""
    claim: EntryId
    model: Digest
    """The bytes that were checked."""
    derived: ModelOrigin
    """How they derive from the model of the claim."""
    result: ClaimState
    checked: date


@dataclass(frozen=True, kw_only=True, slots=True)
class ArtefactEntry:
    """Something that holds a model or data, and whether it contains what was to be forgotten.

    Example:
        >>> ArtefactEntry(type=ArtefactKind.CACHE).contains.value
        'unknown'
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    kind: ClassVar[EntryKind] = EntryKind.ARTEFACT

    id: EntryId = ""
    type: ArtefactKind
    place: KeyedHash = ""
    """Of the absolute path."""
    model: Digest = ""
    request: EntryId = ""
    contains: Contains = Contains.UNKNOWN
    action: ArtefactAction = ArtefactAction.NONE
    acted: date | None = None
    searched: date | None = None
    """When `expunge ledger search` looked into it."""
    searched_for: KeyedHash = ""
    """Of the records that were looked for, all together."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecipientEntry:
    """Somebody who received the data or the model, and was told of the erasure (Art. 19 GDPR).

    Example:
        >>> RecipientEntry(recipient="ab" * 16, request="request-1", told=date(2026, 1, 31)).id
        ''
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    kind: ClassVar[EntryKind] = EntryKind.RECIPIENT

    id: EntryId = ""
    recipient: KeyedHash
    """Of the name."""
    request: EntryId
    artefact: EntryId = ""
    told: date | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RegistrationEntry:
    """Canaries that were fixed before anybody trained on them, known by their digest.

    Example:
        >>> RegistrationEntry(digest="ab" * 32, planted=100, controls=100).id
        ''
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    kind: ClassVar[EntryKind] = EntryKind.REGISTRATION

    id: EntryId = ""
    digest: Digest
    """Of the canaries with their secrets: which are planted, and how often."""
    planted: int
    controls: int


Entry = (
    OpeningEntry
    | ModelEntry
    | RequestEntry
    | RunEntry
    | ClaimEntry
    | RecheckEntry
    | ArtefactEntry
    | RecipientEntry
    | RegistrationEntry
)
ENTRY_CLASSES: tuple[type[Entry], ...] = (
    OpeningEntry,
    ModelEntry,
    RequestEntry,
    RunEntry,
    ClaimEntry,
    RecheckEntry,
    ArtefactEntry,
    RecipientEntry,
    RegistrationEntry,
)


@cache
def _adapter(kind: EntryKind) -> TypeAdapter[Entry]:
    return TypeAdapter(next(each for each in ENTRY_CLASSES if each.kind is kind))


def canonical(value: object) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces.

    Example:
        >>> canonical({"b": 1, "a": None})
        '{"a":null,"b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def to_payload(entry: Entry) -> str:
    """Return the text of an entry as it stands in the file.

    Raises:
        UsageError: `not-for-the-ledger`: a field holds what the ledger must not or cannot keep.

    Example:
        >>> to_payload(RecipientEntry(recipient="ab" * 16, request="request-1"))
        '{"artefact":"","id":"","recipient":"abab...","request":"request-1","told":null}'
    """
    adapter = _adapter(entry.kind)
    # A dataclass checks nothing: its values are checked here, on their way into the file.
    row: dict[str, Any] = adapter.dump_python(entry, mode="json", warnings=False)
    try:
        checked = adapter.validate_python(row)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise _not_for_the_ledger(entry, ".".join(map(str, first["loc"]))) from None
    if not _is_method(str(row.get("method", ""))):
        raise _not_for_the_ledger(entry, "method")
    return canonical(adapter.dump_python(checked, mode="json"))


def _is_method(name: str) -> bool:
    """Tell whether a method is one of the catalogue, or several joined by `+`."""
    known = {each.name for each in (*catalogue().methods, *catalogue().wrappers)}
    return set(name.split("+")) <= {*known, OWN_METHOD, "", "retrain"}


def known_method(name: str) -> str:
    """Return a method's name as the ledger keeps it: `own` where the catalogue has none such.

    Example:
        >>> known_method("npo"), known_method("module:ElinMarrow")
        ('npo', 'own')
    """
    return name if _is_method(name) else OWN_METHOD


def _not_for_the_ledger(entry: Entry, field: str) -> UsageError:
    return UsageError(
        "not-for-the-ledger",
        what=f"the field {field!r} of this {entry.kind} has a value that the ledger does not keep",
        why="it keeps dates, numbers, words of fixed lists, digests, ids and keyed hashes;"
        " no free text",
        fix="use the flags of `expunge ledger add`: they turn names and paths into keyed hashes",
    )


def from_payload(kind: EntryKind, payload: str) -> Entry:
    """Read an entry from its text.

    Raises:
        ValueError: It is not an entry of this kind, or not the one text of it.

    Example:
        >>> entry = ModelEntry(digest="ab" * 32, made=ModelOrigin.BASE)
        >>> from_payload(EntryKind.MODEL, to_payload(entry)) == entry
        True
    """
    adapter = _adapter(kind)
    entry = adapter.validate_python(json.loads(payload))
    if canonical(adapter.dump_python(entry, mode="json")) != payload:
        raise ValueError("not canonical JSON")
    return entry
