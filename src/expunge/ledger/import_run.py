"""Run folders into the ledger: models, request, run, claim and artefact, from the manifest.

A run is known by the digest of its manifest, so it is entered once. Lineage follows from digests:
the original of a run is the model of the run before. Nothing is loaded, and no file but those that
say what was done is read: `expunge verify` says whether the others are still what they were.
"""

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import cast

from pydantic import AwareDatetime, TypeAdapter, ValidationError

from expunge.config.resolve import parsed
from expunge.errors import InputError, UsageError
from expunge.evals.results import Ruling
from expunge.ledger.entries import (
    ArtefactEntry,
    ArtefactKind,
    AttackResult,
    ClaimClass,
    ClaimEntry,
    EntryKind,
    GoldTier,
    LegalBasis,
    ModelEntry,
    ModelOrigin,
    RequestEntry,
    RunEntry,
    ThreatModel,
    known_method,
)
from expunge.ledger.store import LedgerWriter
from expunge.models.reference import model_folder
from expunge.provenance.manifest import finished_manifest, manifest_changed
from expunge.provenance.signature import key_fingerprint, read_signature
from expunge.provenance.training_facts import TrainedRun
from expunge.reporting.schema import RunFacts, read_facts, read_results
from expunge.reporting.wording import claim
from expunge.utils.file_names import ADAPTER, CONFIG, FACTS, GUARD, RESULTS, SETTINGS, TRAINED
from expunge.utils.io import require_no_special_files, sha256_file

_USUAL_ID = "request"
"""Id of a request that nobody has named: it stands for no request in particular."""

_READ = FACTS, RESULTS
"""Files of a run from which the claim class follows: they must be those of the manifest."""
_OPEN_ORIGINS = (ModelOrigin.BASE, ModelOrigin.UNKNOWN)
"""Of a model of which no run said yet how it was made."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Verdict:
    ruling: Ruling
    threat_model: ThreatModel
    tier: GoldTier
    provisional: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class _Retention:
    expires: date


@dataclass(frozen=True, kw_only=True, slots=True)
class _Attacked:
    result: AttackResult


@dataclass(frozen=True, kw_only=True, slots=True)
class _File:
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Manifest:
    """What the ledger takes from a manifest; the rest of it is not read."""

    schema: str
    digest: str
    run: str
    created: AwareDatetime
    models: dict[str, str]
    data: dict[str, tuple[str, ...]]
    evidence: _Retention
    files: dict[str, _File]
    model: str = ""
    method: str | None = None
    verdict: _Verdict | None = None
    attack: _Attacked | None = None


_adapter = TypeAdapter(_Manifest)


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportedRun:
    """What became of a run folder.

    Example:
        >>> ImportedRun(run="run-3", is_new=False, request="request-2").claim
        ''
    """

    run: str
    """Id of its entry."""
    is_new: bool
    """Whether it was not there before."""
    request: str
    claim: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class FinishedFolder:
    """What a run folder says, read once."""

    folder: Path
    manifest: _Manifest
    facts: RunFacts | None
    """None: of a run of `expunge attack`."""
    signer: str

    @property
    def original(self) -> str:
        """Digest of the model before forgetting; empty where the run names none."""
        return self.manifest.models.get("original", "")

    @property
    def judged(self) -> str:
        """Digest of the model that the run made or audited; empty where it names none."""
        return self.manifest.models.get("unlearned", "")


def read_run(folder: Path) -> FinishedFolder:
    """Read what a finished run says of itself.

    Args:
        folder: A run folder; it may itself be a link, such as `runs/latest`.

    Raises:
        InputError: As `finished_manifest`.
        UsageError: `link-in-run`.
    """
    folder = folder.resolve()
    require_no_special_files(folder)
    row = finished_manifest(folder, _READ)
    try:
        manifest = _adapter.validate_python(row)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise manifest_changed(folder, f"{where} is wrong or missing") from None
    if manifest.attack is None and any(name not in manifest.files for name in _READ):
        raise manifest_changed(folder, f"it does not name {' and '.join(_READ)}")
    signature = read_signature(folder)
    return FinishedFolder(
        folder=folder,
        manifest=manifest,
        facts=None if manifest.attack is not None else read_facts(folder),
        signer="" if signature is None else key_fingerprint(signature.public),
    )


def import_run(
    writer: LedgerWriter, found: FinishedFolder, *, request: str = "", today: date
) -> ImportedRun:
    """Enter a run with its models, its request, its claim and its model folder.

    Args:
        writer: Of the ledger.
        found: The run.
        request: Id of the request that it answers; empty: the one with its name or its records,
            or a new one whose basis is not stated.
        today: The day, for the entry of a new request.

    Raises:
        InputError: `unknown-entry`: there is no such request.
        UsageError: As `LedgerWriter.add`.
    """
    manifest = found.manifest
    for each in writer.current(EntryKind.RUN).values():
        if isinstance(each, RunEntry) and each.manifest == manifest.digest:
            return ImportedRun(run=each.id, is_new=False, request=each.request)
    original, model = _enter_models(writer, found)
    request = request or _request(writer, found, model=original, today=today)
    verdict = manifest.verdict
    run = writer.add(
        RunEntry(
            manifest=manifest.digest,
            run=manifest.run if _is_hex(manifest.run) else "",
            created=manifest.created.date(),
            request=request,
            original=original,
            model=model,
            method=known_method(manifest.method or ""),
            verdict="" if verdict is None else verdict.ruling,
            attack="" if manifest.attack is None else manifest.attack.result,
            threat_model="" if verdict is None else verdict.threat_model,
            tier="" if verdict is None else verdict.tier,
            provisional=verdict is not None and verdict.provisional,
            signer=found.signer,
        )
    )
    if verdict is None or found.facts is None or not model:
        return ImportedRun(run=run, is_new=True, request=request)
    said = read_results(found.folder).verdict
    golds = [digest for role, digest in manifest.models.items() if role.startswith("gold")]
    made = writer.add(
        ClaimEntry(
            model=model,
            run=run,
            claim_class=cast(ClaimClass, claim(said, exact=found.facts.exact)),
            verdict=verdict.ruling,
            tier=verdict.tier,
            golds=tuple(golds),
            original=original,
            horizon=manifest.evidence.expires,
        )
    )
    _enter_artefact(writer, found, model=model, request=request)
    return ImportedRun(run=run, is_new=True, request=request, claim=made)


def import_training(writer: LedgerWriter, trained: TrainedRun, *, model: str) -> ImportedRun:
    """Enter a training of `expunge train` with its base and the model that it made.

    Args:
        writer: Of the ledger.
        trained: The training.
        model: Digest of the weights that it made.

    Raises:
        InputError: `training-changed`: a file of the model is not the one that it wrote.
        UsageError: As `LedgerWriter.add`.
    """
    facts = trained.folder / TRAINED
    manifest = sha256_file(facts)
    for each in writer.current(EntryKind.RUN).values():
        if isinstance(each, RunEntry) and each.manifest == manifest:
            return ImportedRun(run=each.id, is_new=False, request="")
    for name, known in trained.facts.files.items():
        path = trained.model / name
        if not path.is_file() or sha256_file(path) != known:
            raise InputError(
                "training-changed",
                what=f"{path} is not the file that the training wrote",
                why="the ledger keeps what the training said when it ended",
                fix="restore the folder from a copy, or repeat the training",
            )
    base = trained.facts.base
    place = writer.keyed(trained.settings.model)
    _enter(writer, ModelEntry(digest=base, made=ModelOrigin.BASE, place=place))
    _enter(writer, ModelEntry(digest=model, made=ModelOrigin.TRAINED, parent=base))
    ended = datetime.fromtimestamp(facts.stat().st_mtime, UTC).date()
    run = writer.add(RunEntry(manifest=manifest, created=ended, original=base, model=model))
    return ImportedRun(run=run, is_new=True, request="")


def _is_hex(text: str) -> bool:
    return 8 <= len(text) <= 64 and set(text) <= set("0123456789abcdef")


def _enter_models(writer: LedgerWriter, found: FinishedFolder) -> tuple[str, str]:
    """Enter the models of a run; return the digests of the original and of the judged one."""
    models, method = found.manifest.models, found.manifest.method
    original, model = found.original, found.judged
    if original:
        place = writer.keyed(found.manifest.model)
        _enter(writer, ModelEntry(digest=original, made=ModelOrigin.BASE, place=place))
    for role, digest in models.items():
        if role.startswith("gold"):
            _enter(writer, ModelEntry(digest=digest, made=ModelOrigin.GOLD))
    if model and model != original:
        made = ModelOrigin.UNLEARNED if method else ModelOrigin.UNKNOWN
        known = known_method(method or "")
        entry = ModelEntry(digest=model, made=made, parent=original, method=known)
        _enter(writer, entry)
    return original, model


def _enter(writer: LedgerWriter, model: ModelEntry) -> None:
    """Add a model; of one that is there, fill in how it was made, where that was not known."""
    known = writer.models().get(model.digest)
    if known is None:
        writer.add(model)
    elif not known.parent and model.parent and known.made in _OPEN_ORIGINS:
        writer.add(replace(model, id=known.id, place=known.place))


def _request(writer: LedgerWriter, found: FinishedFolder, *, model: str, today: date) -> str:
    """Return the request of a run: the one with its name or its records, or a new one."""
    records = found.manifest.data.get("forget", ())
    reference = writer.keyed(_named(found.folder))
    for each in writer.current(EntryKind.REQUEST).values():
        if isinstance(each, RequestEntry):
            same = bool(records) and set(each.records) == set(records)
            if same or (reference and each.reference == reference):
                return each.id
    received = min(found.manifest.created.date(), today)
    return writer.add(
        RequestEntry(
            basis=LegalBasis.UNSTATED,
            received=received,
            reference=reference,
            records=records,
            model=model,
        )
    )


def _named(folder: Path) -> str:
    """Return the id that the settings of a run give its request; empty where nobody chose one."""
    try:
        table = parsed(folder / SETTINGS).get("request")
    except UsageError:
        return ""
    name = table.get("id") if isinstance(table, dict) else None
    return name if isinstance(name, str) and name != _USUAL_ID else ""


def _enter_artefact(
    writer: LedgerWriter, found: FinishedFolder, *, model: str, request: str
) -> None:
    """Enter the folder of the model that a run made, where it holds one."""
    folder = model_folder(found.folder)
    has = {name for name in (ADAPTER, CONFIG, GUARD) if (folder / name).is_file()}
    if has:
        kind = ArtefactKind.ADAPTER if has == {ADAPTER} else ArtefactKind.CHECKPOINT
        place = writer.keyed(str(folder.resolve()))
        writer.add(ArtefactEntry(type=kind, place=place, model=model, request=request))
