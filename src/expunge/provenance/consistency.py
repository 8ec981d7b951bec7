"""Consistency: what a run folder says in several places is the same, and follows from its files.

Whoever rewrites a file can rewrite the manifest. What is then found without a signature is what no
longer belongs together: weights and their digest, settings and the rules of the audit, records and
their fingerprints, pages and the evidence that they show.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import date, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from expunge import __version__
from expunge.config.resolve import parsed
from expunge.config.settings import Settings
from expunge.errors import ExpungeError, InputError
from expunge.evidence.context import AuditContext
from expunge.evidence.store import UNLEARNED, EvidenceStore
from expunge.models.reference import beneath, model_folder
from expunge.models.weight_files import stored_digest
from expunge.provenance.keys import item_fingerprints
from expunge.provenance.training_facts import claim_in
from expunge.reporting.build import IN_FULL, MASKED, PUBLISHED, report_texts
from expunge.reporting.card import card_text
from expunge.reporting.schema import MethodFacts, read_facts
from expunge.utils.file_names import (
    ADAPTER,
    CARD,
    CONFIG,
    FACTS,
    GUARD,
    MANIFEST,
    REPORT,
    RUN,
    SETTINGS,
)
from expunge.utils.io import read_table

_UNREADABLE = (ExpungeError, ValueError, KeyError, TypeError, IndexError, AttributeError, OSError)
"""What broken files raise when they are read: findings here, not crashes."""
_WRAPPERS = frozenset({"robust", "combine", "mask", "optimiser", "init", "average_last"})
"""What facts say beside the hyperparameters of a method, in words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One thing that does not verify: a path relative to the run folder, and what is wrong."""

    path: str
    what: str


def settings_problems(
    run: Path, manifest: Mapping[str, Any], context: AuditContext
) -> list[Problem]:
    """Return where settings, rules of the audit, facts and manifest contradict each other.

    Args:
        run: The run folder.
        manifest: Its manifest.
        context: Of its evidence: the rules by which it was judged.
    """
    if not (run / SETTINGS).is_file():
        return []  # a missing file is another finding
    try:
        settings = Settings.model_validate(parsed(run / SETTINGS))
        facts = read_facts(run)
    except (ValidationError, *_UNREADABLE):
        return [Problem(path=SETTINGS, what="cannot be read")]
    request, audit = settings.request, settings.audit
    rules = {
        "request.id": (request.id, context.request),
        "request.goal": (request.goal.value, context.goal),
        "request.response": (request.response.value, context.response),
        "request.threat_model": (request.threat_model.value, context.threat_model),
        "request.tier": (request.tier.value if request.tier else context.tier, context.tier),
        "request.margins": (request.margins.model_dump(), asdict(context.policy)),
        "request.gold": (len(request.gold), len(context.golds)),
        "audit.level": (audit.level, context.level),
        "train.seed": (settings.train.seed, context.seed),
    }
    told = {
        f"`{key}` is not the rule by which the evidence was judged"
        for key, (ours, theirs) in rules.items()
        if ours != theirs
    }
    if facts.method and not settings.stage:
        told |= _other_method(facts.method, settings)
    if manifest.get("seeds") != dict.fromkeys(("train", "audit"), context.seed):
        told.add("`train.seed` is not that of the manifest")
    kept = manifest.get("evidence", {})
    if kept.get("redacted") != settings.report.redact:
        told.add("`report.redact` is not what the manifest says of the pages")
    if not _is_kept_so_long(kept, facts.created, audit.retention_days):
        told.add("`audit.retention_days` does not lead to the date in the manifest")
    return [Problem(path=SETTINGS, what=what) for what in sorted(told)]


def _other_method(method: MethodFacts, settings: Settings) -> set[str]:
    """Say where the method of the facts and that of the settings differ."""
    if method.name != settings.method.name:
        return {"`method.name` is not the method of facts.json"}
    own = {key: value for key, value in method.parameters.items() if key not in _WRAPPERS}
    if own != settings.method.parameters:
        return {"`method` has other hyperparameters than facts.json"}
    return set()


def claim_problems(run: Path) -> list[Problem]:
    """Return whether the facts claim an exact removal that no training in the folder supports."""
    try:
        same = read_facts(run).exact == claim_in(run)
    except _UNREADABLE:
        return []  # another finding
    what = "claims another way of removal than the training in the folder"
    return [] if same else [Problem(path=FACTS, what=what)]


def _is_kept_so_long(kept: Mapping[str, Any], created: str, days: int) -> bool:
    """Tell whether evidence is kept as long as the settings say; a run may end after midnight."""
    try:
        began = datetime.fromisoformat(created).date()
        return 0 <= (date.fromisoformat(kept["expires"]) - began).days - days <= 1
    except (KeyError, TypeError, ValueError):
        return False


def identity_problems(run: Path, manifest: Mapping[str, Any]) -> list[Problem]:
    """Return whether the folder is another run than the manifest says."""
    path = run / RUN
    try:
        named = read_table(path).get("run_id") if path.is_file() else manifest.get("run")
    except _UNREADABLE:
        return [Problem(path=path.name, what="cannot be read")]
    if named == manifest.get("run"):
        return []
    return [Problem(path=path.name, what="names another run than the manifest")]


def record_problems(
    store: EvidenceStore, manifest: Mapping[str, Any], key: bytes | None
) -> list[Problem]:
    """Return where the records of the evidence are not those of the manifest.

    Without the key that the fingerprints were made with, only their number can be compared.

    Args:
        store: The evidence, open.
        manifest: Its manifest.
        key: The operator's key.
    """
    named = manifest.get("data", {})
    now = item_fingerprints(store.items(), key or b"")
    same_key = any(set(now[split]) & set(named.get(split, ())) for split in now)
    problems: list[Problem] = []
    if manifest.get("evidence", {}).get("sealed") != store.sealed:
        what = "does not say whether the evidence is encrypted"
        problems.append(Problem(path=MANIFEST, what=what))
    # A folder of attacks names the general questions of every audit and does not hold them.
    for split in sorted(now.keys() | (named.keys() - {"generic"})):
        before, found = named.get(split, []), now.get(split, [])
        if len(before) != len(found):
            what = f"names {len(before)} {split} records, the evidence has {len(found)}"
            problems.append(Problem(path=MANIFEST, what=what))
        elif key is not None and same_key and before != found:
            what = f"fingerprints of the {split} records are not those of the evidence"
            problems.append(Problem(path=MANIFEST, what=what))
    return problems


def page_problems(
    run: Path, manifest: Mapping[str, Any], key: bytes | None
) -> tuple[list[Problem], list[str]]:
    """Return which pages are not what this version writes from the evidence.

    Pages of another version look otherwise and are not compared: then there is a note. Of those
    that the manifest does not cover, nobody knows who wrote them.
    """
    version = manifest.get("versions", {}).get("expunge")
    if version != __version__:
        what = f"no manifest covers it, and only version {version} can compare it"
        there = [name for name in (IN_FULL, MASKED) if (run / name).exists()]
        loose = [Problem(path=name, what=what) for name in there]
        return loose, [f"reports and card not compared with the evidence: written by {version}"]
    masked = bool(manifest.get("evidence", {}).get("redacted"))
    reports = cache(partial(report_texts, run, key=key))
    pages = {REPORT: (masked, 0), IN_FULL: (False, 0), MASKED: (True, 0), PUBLISHED: (True, 1)}
    texts: dict[str, Callable[[], str]] = {
        name: lambda redact=redact, place=place: reports(redact=redact)[place]
        for name, (redact, place) in pages.items()
    }
    card = (model_folder(run) / CARD).relative_to(run).as_posix()
    texts[card] = partial(card_text, run, redact=masked, key=key)
    problems: list[Problem] = []
    for name, write in texts.items():
        if not (run / name).is_file():
            continue
        try:
            same = write().encode() == (run / name).read_bytes()
        except _UNREADABLE:
            problems.append(Problem(path=name, what="cannot be written again from the evidence"))
            continue
        if not same:
            what = "is not the page that the evidence gives"
            problems.append(Problem(path=name, what=what))
    return problems, []


def weight_problems(
    folder: Path, models: Mapping[str, str], precision: object, *, own_code: bool = False
) -> tuple[list[Problem], list[str]]:
    """Compare the digest of the weights that lie in a folder with the audited one.

    An adapter is compared as it was audited, merged into its base; a guard as it was, around its
    base. Both need that base: where it is not here, there is a note.

    Args:
        folder: A run folder, or that of its model. The run of an audit holds no weights.
        models: Digests by role.
        precision: Number format of the models by its name.
        own_code: Whether the model needs its own code, which is not run here.

    Returns:
        Problems, and notes on what could not be compared.
    """
    place = model_folder(folder)
    if not any((place / name).is_file() for name in (CONFIG, ADAPTER, GUARD)):
        return [], []
    if own_code:
        return [], [f"{_UNCOMPARED}: the model needs its own code"]
    known = models.get(UNLEARNED)
    if known is not None and known == _stored(place, precision):
        return [], []
    import torch  # only loading tells more: of an adapter, a guard, or what is wrong

    from expunge.models.loading import Source, digest_of, load

    dtype = getattr(torch, str(precision), None)
    if known is None or not isinstance(dtype, torch.dtype):
        return [Problem(path=MANIFEST, what="does not say which weights were audited")], []
    source = Source(device=torch.device("cpu"), dtype=dtype, offline=True)
    try:
        found = load(str(place), source)
    except InputError as error:
        if error.code in ("no-model", "model-offline"):
            return [], [f"{_UNCOMPARED}: {error.what}"]
        return [Problem(path="model", what=error.what)], []
    # Runs of earlier versions know a guard by the weights that it stands around.
    if known in (found.digest, digest_of(found.network)):
        return [], []
    base = beneath(str(place))
    over = "" if base is None else f", or lies over another {base}"
    what = f"holds other weights than those that were audited{over}"
    return [Problem(path="model", what=what)], []


def _stored(place: Path, precision: object) -> str | None:
    """Return the digest of stored weights; None: they must be loaded."""
    if any((place / name).is_file() for name in (ADAPTER, GUARD)):
        return None
    try:
        return stored_digest(place, str(precision))
    except _UNREADABLE:
        return None  # loading says what is wrong


_UNCOMPARED = "weights not compared with the audited ones"
