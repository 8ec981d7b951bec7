"""Verify a run folder: hash every file again, and compute every number again from the evidence."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from expunge.config.resolve import parsed
from expunge.errors import ExpungeError, InputError
from expunge.evals.results import Results
from expunge.evidence.preregistration import NAME as REGISTERED
from expunge.evidence.preregistration import departures, read_preregistration
from expunge.evidence.store import EvidenceStore
from expunge.provenance.attestation import APPROVAL, read_approval
from expunge.provenance.consistency import (
    Problem,
    claim_problems,
    identity_problems,
    page_problems,
    record_problems,
    settings_problems,
    weight_problems,
)
from expunge.provenance.destroy import expired, read_destruction
from expunge.provenance.files import covered as files_of
from expunge.provenance.files import name_in
from expunge.provenance.manifest import DESTROYED, SCHEMA, covered, stages_of
from expunge.provenance.published import SCHEMA as PUBLIC
from expunge.provenance.published import public_manifest
from expunge.provenance.signature import key_fingerprint, manifest_digest, read_signature
from expunge.reporting.build import IN_FULL, MASKED
from expunge.reporting.claims import claim_of
from expunge.reporting.schema import read_facts, results_from_json, results_to_json
from expunge.utils.file_names import EVIDENCE, FACTS, MANIFEST, MODEL, RESULTS, SETTINGS, SIGNATURE
from expunge.utils.io import AnyPath, json_text, read_json, sha256_file, special_files_below

Assess = Callable[[EvidenceStore], Results]
"""Computes results from an evidence folder and nothing else."""

_UNREADABLE = (ExpungeError, ValueError, KeyError, TypeError, IndexError, AttributeError, OSError)
"""What broken files raise when they are read: findings here, not crashes."""

_ABSENT = object()
_TABLES = ("claim", "data", "evidence", "models", "preregistration", "seeds", "verdict", "versions")
"""Fields of a manifest that hold fields of their own."""

_ADDED = "is not in the manifest"
"""What is said of a file that nobody listed."""

_ATTACK = "attack"
"""Key of a manifest that a folder of attacks has."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """What a verification found.

    Example:
        >>> problem = Problem(path="results.json", what="changed")
        >>> Verification(problems=(problem,), files=9, scores=0, digest="").ok
        False
    """

    problems: tuple[Problem, ...]
    files: int
    """Files hashed."""
    scores: int
    """Scores and gates computed again from the evidence; 0 when that was not possible."""
    digest: str
    """The manifest's own digest as computed now: compare it with a copy kept elsewhere."""
    signer: str = ""
    """Fingerprint of the key that signed the manifest; empty: nobody did, anyone may have."""
    notes: tuple[str, ...] = ()
    """What can no longer be checked, and why: nothing wrong, but less than all."""

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.problems


def verify(
    run: AnyPath,
    *,
    assess: Assess | None = None,
    key: bytes | None = None,
    signer: bytes | None = None,
    approver: bytes | None = None,
    today: date | None = None,
) -> Verification:
    """Check a run folder against its manifest and its numbers against its evidence.

    Finds every changed, missing and added file, also a change of one byte in the manifest itself;
    a number in `results.json` that does not follow exactly from the evidence; and a manifest that
    names another verdict, date, model or versions than the files that it covers.

    Args:
        run: The run folder.
        assess: Computes the results; default `expunge.evals.assess.assess`.
        key: The operator's key: opens sealed evidence, and checks who destroyed it.
        signer: Public key of whoever must have signed the run; None: anybody, or nobody.
        approver: Public key of whoever must have approved it; None: anybody, or nobody.
        today: The date against which the retention of the evidence is held; default: now.

    Raises:
        InputError: The folder has no manifest.

    Example:
        >>> verify(Path("no-such-run"))
        Traceback (most recent call last):
            ...
        expunge.errors.InputError: error[no-manifest]: no-such-run has no manifest.json...
    """
    _require_manifest((run := Path(run)) / MANIFEST)
    if linked := _linked(run):
        return Verification(problems=linked, files=0, scores=0, digest="")
    manifest, problems = _read_manifest(run / MANIFEST)
    signed, unsigned = _signed(run, signer)
    problems += unsigned or _signer_problems(run, manifest, signed)
    gone, notes = _kept(run, manifest, key, signed, today or datetime.now(UTC).date())
    problems += [*gone.problems, *_approval_problems(run, manifest, approver)]
    present = {name_in(run, path): path for path in covered(run, finished=True)}
    problems += _file_problems(present, manifest, gone.files)
    problems += _published_problems(run, manifest, None if unsigned else signed)
    store = EvidenceStore(run / EVIDENCE, key=key)
    numbers, scores, missed = _recomputed(store, run, manifest, assess, key, gone)
    problems += numbers
    notes += missed
    problems += (_attack_problems if _ATTACK in manifest else _origin_problems)(run, manifest)
    if manifest:
        belonging, unsure = _belonging(run, manifest, store, key, gone=bool(gone.files))
        problems += [*identity_problems(run, manifest), *belonging]
        notes += unsure
    return Verification(
        problems=tuple(problems),
        files=len(manifest.get("files", {})) - len(gone.files),
        scores=scores,
        digest=manifest_digest(manifest),
        signer=key_fingerprint(signed) if signed else "",
        notes=tuple(notes),
    )


def _recomputed(
    store: EvidenceStore,
    run: Path,
    manifest: dict[str, Any],
    assess: Assess | None,
    key: bytes | None,
    gone: "_Gone",
) -> tuple[list[Problem], int, list[str]]:
    """Return what does not follow from the evidence, how many scores do, and why none was tried."""
    if gone.files:
        when = gone.at[:10]
        return [], 0, [f"evidence destroyed on {when}: no score can be recomputed any more"]
    if store.sealed and key is None:
        return [], 0, ["evidence is sealed and the operator's key is not here: no score recomputed"]
    compute = _ladder_numbers if _ATTACK in manifest else _audit_numbers(assess)
    numbers, scores = _number_problems(run, store, compute)
    return [*numbers, *_registration_problems(store, manifest, key)], scores, []


def _require_manifest(path: Path) -> None:
    if not path.is_file():
        raise InputError(
            "no-manifest",
            what=f"{path.parent} has no {MANIFEST}",
            why="only a finished run folder can be verified",
            fix="name the run folder itself, or finish the run with the same command",
        )


def _linked(run: Path) -> tuple[Problem, ...]:
    """Name the links and pipes in a folder: what they lead to was not published, nor is it read."""
    return tuple(
        Problem(
            path=name_in(run, each),
            what="is a link, not a file" if each.is_symlink() else "is no ordinary file",
        )
        for each in special_files_below(run)
    )


def _signed(run: Path, wanted: bytes | None) -> tuple[bytes, list[Problem]]:
    """Return the public key by which the manifest is signed, if any, and what is wrong with it."""
    try:
        found = read_signature(run)
    except _UNREADABLE as error:
        return b"", [Problem(path=SIGNATURE, what=f"cannot be read: {_cause(error)}")]
    if found is None:
        missing = [Problem(path=SIGNATURE, what="is missing: nobody has signed this run")]
        return b"", [] if wanted is None else missing
    if not found.fits:
        what = "does not fit the manifest: one of the two was changed"
        return b"", [Problem(path=SIGNATURE, what=what)]
    if wanted is not None and found.public != wanted:
        what = f"is by another key, {key_fingerprint(found.public)}"
        return found.public, [Problem(path=SIGNATURE, what=what)]
    return found.public, []


def _belonging(
    run: Path, manifest: dict[str, Any], store: EvidenceStore, key: bytes | None, *, gone: bool
) -> tuple[list[Problem], list[str]]:
    """Return what does not belong together, see `consistency`, and what could not be compared."""
    is_open = not gone and (key is not None or not store.sealed)
    problems: list[Problem] = []
    notes: list[str] = []
    try:
        if is_open:
            problems += record_problems(store, manifest, key)
        if _ATTACK not in manifest:
            context = store.context()
            problems += settings_problems(run, manifest, context)
            if is_open:
                found, notes = page_problems(run, manifest, key)
                problems += found
            settings = parsed(run / SETTINGS) if (run / SETTINGS).is_file() else {}
            code = bool(settings.get("trust_remote_code"))
            precision = manifest.get("precision")
            found, unsure = weight_problems(run, context.models, precision, own_code=code)
            problems += [*found, *claim_problems(run)]
            notes += unsure
    except _UNREADABLE as error:
        problems.append(_Unreadable("evidence", "cannot be read", error).problem)
    return problems, notes


class _Gone(NamedTuple):
    """What a destruction of evidence took away."""

    files: frozenset[str] = frozenset()
    at: str = ""
    problems: tuple[Problem, ...] = ()


def _kept(
    run: Path, manifest: dict[str, Any], key: bytes | None, signer: bytes, today: date
) -> tuple[_Gone, list[str]]:
    """Return what was destroyed, and notes on what is kept too long or cannot be checked."""
    if not manifest:
        return _Gone(), []
    try:
        found = read_destruction(run, manifest, key=key)
        old = expired(manifest, today)
    except _UNREADABLE:
        return _Gone(problems=(Problem(path=DESTROYED, what="cannot be read"),)), []
    until = manifest["evidence"]["expires"]
    if found is None:
        why = f"evidence was to be kept until {until}: expunge evidence destroy {run.name}"
        return _Gone(), [why] if old else []
    if found.authentic is False:
        what = "is not the operator's note on this run's evidence"
        return _Gone(problems=(Problem(path=DESTROYED, what=what),)), []
    if signer and found.signer != signer:
        what = "is not signed by the key that signed the manifest"
        return _Gone(problems=(Problem(path=DESTROYED, what=what),)), []
    left = [name for name in found.files if (run / name).exists()]
    problems = tuple(Problem(path=n, what="was to be destroyed, and is there") for n in left)
    notes = (
        []
        if found.authentic or signer
        else ["who destroyed the evidence: the operator's key tells"]
    )
    return _Gone(frozenset(found.files), found.at, problems), notes


def _approval_problems(run: Path, manifest: dict[str, Any], wanted: bytes | None) -> list[Problem]:
    """Return what is wrong with the approval of a run, which must be of this very manifest."""
    try:
        found = read_approval(run)
    except _UNREADABLE as error:
        return [Problem(path=APPROVAL, what=f"cannot be read: {_cause(error)}")]
    if found is None:
        missing = [Problem(path=APPROVAL, what="is missing: nobody has approved this run")]
        return [] if wanted is None else missing
    if found.digest != manifest.get("digest"):
        return [Problem(path=APPROVAL, what="approves another state of the run")]
    if wanted is not None and found.public_key != wanted.hex():
        return [Problem(path=APPROVAL, what=f"is by another key, {found.signer}")]
    return []


def _published_problems(run: Path, manifest: dict[str, Any], signer: bytes | None) -> list[Problem]:
    """Return what is wrong with the manifest of the model folder: it must say what the run says.

    It must be signed by the signer of the run, too, unless None says that this cannot be told.
    """
    name, path = f"{MODEL}/{MANIFEST}", run / MODEL / MANIFEST
    if not manifest or not path.is_file():
        return []  # of an earlier version, or missing, which is another finding
    if path.read_bytes() != public_manifest(manifest).encode():
        return [Problem(path=name, what="is not what the manifest of the run says")]
    try:
        signature = read_signature(path.parent)
    except _UNREADABLE as error:
        return [Problem(path=f"{MODEL}/{SIGNATURE}", what=f"cannot be read: {_cause(error)}")]
    named = signature.public if signature is not None and signature.fits else b""
    if signer in (None, named):
        return []
    return [Problem(path=f"{MODEL}/{SIGNATURE}", what="is not by the signer of the run")]


def verify_published(folder: Path, *, signer: bytes | None = None) -> Verification:
    """Check a model folder that was published without its run against its own manifest.

    Finds every changed, missing and added file, and weights other than those that were audited.
    The numbers of its report cannot be computed again: their evidence is not published.

    Args:
        folder: The model folder.
        signer: As for `verify`.

    Raises:
        InputError: The folder has no manifest.
    """
    path = folder / MANIFEST
    _require_manifest(path)
    if linked := _linked(folder):
        return Verification(problems=linked, files=0, scores=0, digest="")
    manifest, problems = _read_manifest(path, schema=PUBLIC)
    signed, unsigned = _signed(folder, signer)
    problems += unsigned
    apart = frozenset({MANIFEST, SIGNATURE})
    every = {name_in(folder, each): each for each in files_of(folder, left_out=apart)}
    present = {name: path for name, path in every.items() if not _is_of_the_hub(name)}
    problems += _file_problems(present, manifest, frozenset())
    notes = ["the numbers of the report cannot be recomputed: their evidence is not published"]
    if manifest:
        models, precision = manifest.get("models", {}), manifest.get("precision")
        found, unsure = weight_problems(folder, models, precision)
        problems += found
        notes += unsure
    return Verification(
        problems=tuple(problems),
        files=len(manifest.get("files", {})),
        scores=0,
        digest=manifest_digest(manifest),
        signer=key_fingerprint(signed) if signed else "",
        notes=tuple(notes),
    )


def _is_of_the_hub(name: str) -> bool:
    """Tell what the Hub, or its client, puts beside the files of a model; nothing loads it."""
    return name == ".gitattributes" or name.startswith(".cache/huggingface/")


def _read_manifest(path: Path, *, schema: str = SCHEMA) -> tuple[dict[str, Any], list[Problem]]:
    try:
        text = path.read_bytes().decode()
        manifest = read_json(path)
        entries = manifest["files"]
        well_formed = all(set(entry) == {"sha256", "bytes"} for entry in entries.values())
        well_formed &= all(isinstance(manifest.get(name, {}), dict) for name in _TABLES)
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}, [Problem(path=MANIFEST, what="is not a manifest")]
    if manifest.get("schema") != schema:
        what = f"has schema {manifest.get('schema')!r}; this version reads {schema!r}"
        return {}, [Problem(path=MANIFEST, what=what)]
    if not well_formed:
        return {}, [Problem(path=MANIFEST, what="is not a manifest")]
    if manifest.get("digest") != manifest_digest(manifest) or json_text(manifest) != text:
        return manifest, [Problem(path=MANIFEST, what="was changed: its own digest does not match")]
    return manifest, []


def _file_problems(
    present: Mapping[str, Path], manifest: dict[str, Any], gone: frozenset[str]
) -> list[Problem]:
    listed: dict[str, dict[str, Any]] = manifest.get("files", {})
    problems: list[Problem] = []
    for name in sorted((listed.keys() | present.keys()) - gone):
        if name not in present:
            problems.append(Problem(path=name, what="is missing"))
        elif name not in listed:
            problems.append(Problem(path=name, what=_ADDED))
        elif present[name].stat().st_size != listed[name]["bytes"]:
            size = present[name].stat().st_size
            what = f"was changed: {size} bytes, {listed[name]['bytes']} in the manifest"
            problems.append(Problem(path=name, what=what))
        elif sha256_file(present[name]) != listed[name]["sha256"]:
            problems.append(Problem(path=name, what="was changed: its SHA-256 differs"))
    return problems


class _Numbers(NamedTuple):
    """Numbers of a run: as its file has them, and as the evidence gives them."""

    saved: Any
    computed: Any
    checked: int


class _Unreadable(Exception):  # noqa: N818 - a finding, not a failure
    """A file that numbers are read from or follow from is broken."""

    def __init__(self, path: str, verb: str, cause: Exception) -> None:
        super().__init__(path)
        self.problem = Problem(path=path, what=f"{verb}: {_cause(cause)}")


_Compute = Callable[[Path, EvidenceStore], tuple[str, _Numbers]]
"""Returns the file of the numbers with them."""


def _number_problems(
    run: Path, store: EvidenceStore, compute: _Compute
) -> tuple[list[Problem], int]:
    try:
        name, numbers = compute(run, store)
    except _Unreadable as error:
        return [error.problem], 0
    first = next(_differences(numbers.saved, numbers.computed, ""), None)
    if first is None:
        return [], numbers.checked
    return [Problem(path=name, what=f"does not follow from the evidence: {first}")], numbers.checked


def _registration_problems(
    store: EvidenceStore, manifest: dict[str, Any], key: bytes | None
) -> list[Problem]:
    """Return where the evidence differs from what was registered before the model was queried."""
    name = f"evidence/{REGISTERED}"
    try:
        known, found = read_preregistration(store), departures(store, key=key)
    except _UNREADABLE as error:
        return [_Unreadable(name, "cannot be read", error).problem]
    named = manifest.get("preregistration", {}).get("digest")
    if named != (None if known is None else known.digest):
        found.append("is not the registration that the manifest names")
    return [Problem(path=name, what=each) for each in found]


def _audit_numbers(assess: Assess | None) -> _Compute:
    def compute(run: Path, store: EvidenceStore) -> tuple[str, _Numbers]:
        name = RESULTS
        try:
            saved = read_json(run / name)
            results_from_json(saved)
        except _UNREADABLE as error:
            raise _Unreadable(name, "cannot be read", error) from error
        try:
            results = (assess or _default_assess())(store)
        except _UNREADABLE as error:
            raise _Unreadable("evidence", "gives no results", error) from error
        count = len(results.scores) + len(results.gates)
        return name, _Numbers(saved, results_to_json(results), count)

    return compute


def _ladder_numbers(run: Path, store: EvidenceStore) -> tuple[str, _Numbers]:
    from expunge.provenance.attack_manifest import ATTACK_TABLE, ladder_of  # loads torch

    try:
        saved = read_json(run / ATTACK_TABLE)
    except _UNREADABLE as error:
        raise _Unreadable(ATTACK_TABLE, "cannot be read", error) from error
    try:
        computed = ladder_of(run, store)
    except _UNREADABLE as error:
        raise _Unreadable("evidence", "gives no ladder", error) from error
    return ATTACK_TABLE, _Numbers(
        saved, computed, sum(len(rung["tests"]) for rung in computed["rungs"])
    )


def _default_assess() -> Assess:
    from expunge.evals.assess import assess

    return assess


def _cause(error: Exception) -> str:
    # The message of a foreign error may quote a row of the evidence, which is personal data.
    return error.what if isinstance(error, ExpungeError) else type(error).__name__


def _differences(saved: Any, computed: Any, where: str) -> Iterator[str]:  # noqa: ANN401 - JSON
    if isinstance(saved, dict) and isinstance(computed, dict):
        for key in [*computed, *(key for key in saved if key not in computed)]:
            yield from _differences(
                saved.get(key, _ABSENT), computed.get(key, _ABSENT), f"{where}.{key}".lstrip(".")
            )
    elif isinstance(saved, list) and isinstance(computed, list):
        for i, (left, right) in enumerate(zip_longest(saved, computed, fillvalue=_ABSENT)):
            yield from _differences(left, right, f"{where}{_label(right, left, i)}")
    elif type(saved) is not type(computed) or saved != computed:
        yield f"{where} is {_shown(saved)}, the evidence gives {_shown(computed)}"


def _label(computed: Any, saved: Any, index: int) -> str:  # noqa: ANN401 - JSON
    row = computed if isinstance(computed, dict) else saved
    if not isinstance(row, dict):
        return f"[{index}]"
    keys = ("metric", "role", "split", "attack") if "metric" in row else ("name",)
    return "[" + " ".join(str(row.get(key, "?")) for key in keys) + "]"


def _shown(value: Any) -> str:  # noqa: ANN401 - JSON
    return "absent" if value is _ABSENT else repr(value)


def _queried_models(run: Path) -> dict[str, str]:
    """Return the digests of the models behind the evidence, by role."""
    return EvidenceStore(run / EVIDENCE).context().models


def _attack_problems(run: Path, manifest: dict[str, Any]) -> list[Problem]:
    from expunge.provenance.attack_manifest import ATTACK_TABLE, BATTERY, Attacked  # loads torch

    try:
        expected = Attacked.read(run).body(read_json(run / ATTACK_TABLE))
    except _UNREADABLE as error:
        return [Problem(path=BATTERY, what=f"cannot be read: {_cause(error)}")]
    pages = [name for name in (IN_FULL, MASKED) if (run / name).exists()]  # a run may have them
    added = [Problem(path=name, what=_ADDED) for name in pages]
    return [*added, *_named_otherwise(manifest, expected)]


def _named_otherwise(manifest: dict[str, Any], expected: dict[str, Any]) -> list[Problem]:
    return [
        Problem(path=MANIFEST, what=f"names another {key} than the files that it covers")
        for key, value in expected.items()
        if manifest.get(key) != value
    ]


def _signer_problems(run: Path, manifest: dict[str, Any], signer: bytes) -> list[Problem]:
    """Return whether the run names another signer than the signature, or one that is gone."""
    try:
        attacked = _ATTACK in manifest
        file, named = _attack_signer(run) if attacked else (FACTS, read_facts(run).signer)
    except _UNREADABLE:
        return []  # another finding
    own = key_fingerprint(signer) if signer else ""
    if named in ("", own):  # runs of earlier versions name nobody
        return []
    return [Problem(path=SIGNATURE, what=f"is not that of {named}, whom {file} names")]


def _attack_signer(run: Path) -> tuple[str, str]:
    from expunge.provenance.attack_manifest import BATTERY, Attacked  # loads torch

    return BATTERY, Attacked.read(run).signer


def _origin_problems(run: Path, manifest: dict[str, Any]) -> list[Problem]:
    if not manifest:
        return []
    try:
        facts = read_facts(run)
        verdict = results_from_json(read_json(run / RESULTS)).verdict
        models = {**manifest.get("models", {}), **_queried_models(run)}
    except _UNREADABLE as error:
        return [Problem(path=FACTS, what=f"cannot be read: {_cause(error)}")]
    expected: dict[str, Any] = {
        "created": facts.created,
        "model": facts.model,
        "device": facts.device,
        "precision": facts.precision,
        "method": facts.method.name if facts.method else None,
        "stages": stages_of(facts).get("stages"),
        "versions": facts.versions,
        "models": models,
        "verdict": {
            "ruling": str(verdict.ruling),
            "threat_model": verdict.threat_model,
            "tier": verdict.tier,
            "provisional": verdict.provisional,
        },
    }
    if "claim" in manifest:  # manifests of earlier versions name none
        # What voids a claim is said in words, and those of an earlier version stand.
        words = {"voided_by": manifest["claim"].get("voided_by")}
        expected["claim"] = {**claim_of(verdict, facts).to_json(), **words}
    problems = _named_otherwise(manifest, expected)
    if facts.stages and facts.stages[-1].weights != models.get("unlearned"):
        what = "its last stage left other weights than those that were audited"
        problems.append(Problem(path=FACTS, what=what))
    return problems
