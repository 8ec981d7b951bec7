"""The record of a run: all that its documents are written from, read once and checked.

A document is written only from files that are what the manifest says. No text of a record is read
into it: counts, gates, reasons and digests are all there is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

from expunge.errors import ExpungeError, InputError
from expunge.evals.results import Finding, Results
from expunge.evidence.context import AuditContext
from expunge.evidence.store import ITEMS, EvidenceStore
from expunge.metrics.outcomes import Axis
from expunge.provenance.attestation import APPROVAL, Attestation, read_approval
from expunge.provenance.destroy import read_destruction
from expunge.provenance.manifest import finished_manifest
from expunge.provenance.signature import key_fingerprint, read_signature
from expunge.reporting.build import by_subject, own_redaction
from expunge.reporting.claims import Claim, claim_of, passed
from expunge.reporting.examples import Count, FactHistory, count, facts
from expunge.reporting.redaction import MASK, Masks, Redactor
from expunge.reporting.schema import RunFacts, facts_from_json, results_from_json
from expunge.utils.file_names import CONTEXT, EVIDENCE, FACTS, RESULTS, SETTINGS
from expunge.utils.io import read_json, sha256_json

_READ = (RESULTS, FACTS, SETTINGS, f"{EVIDENCE}/{CONTEXT}")
"""Files that documents repeat; each must be what the manifest names."""


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A finished run as its documents see it.

    Example:
        >>> read_record(Path("no-such-run"), key=None)
        Traceback (most recent call last):
            ...
        expunge.errors.InputError: error[no-run]: no-such-run is not a run folder...
    """

    folder: Path
    manifest: Mapping[str, Any]
    results: Results
    facts: RunFacts
    context: AuditContext
    claim: Claim
    ranked: tuple[FactHistory, ...] | None
    """The facts that the model was asked about, worst first; None without evidence."""
    no_evidence: str
    """Why the evidence cannot be read; empty where it can."""
    redactor: Redactor | None
    """Masks what users wrote; None without evidence."""
    relations: frozenset[str]
    """How users call the relations between records."""
    signer: str
    """Fingerprint of the key that signed the manifest; empty: nobody signed it."""
    approval: Attestation | None
    """Who approved the run as it is; None: nobody did."""
    no_approval: str
    """Why there is none; empty where there is one."""

    @property
    def run_id(self) -> str:
        """Name of the run; no word of a record is in it."""
        return str(self.manifest["run"])

    @property
    def made(self) -> date:
        """The day of the run."""
        return date.fromisoformat(self.facts.created[:10])

    @property
    def digest(self) -> str:
        """Digest of the manifest."""
        return str(self.manifest["digest"])

    @property
    def version(self) -> str:
        """The version of expunge that made the run."""
        return self.facts.versions.get("expunge", "")

    @property
    def passed(self) -> bool:
        """Whether the verdict is a pass, with a trace or without."""
        return passed(self.results.verdict)

    @property
    def weights(self) -> str:
        """Digest of the tensors that were audited."""
        return str(self.manifest["models"].get("unlearned", ""))

    @cached_property
    def evidence_digest(self) -> str:
        """Digest over the digests of all files of the evidence; it outlives them."""
        files = self.manifest["files"].items()
        return sha256_json({n: entry for n, entry in files if n.startswith("evidence/")})

    @cached_property
    def after(self) -> Count | None:
        """Facts that came back afterwards; None where no fact is named, or without evidence."""
        return count([fact.after for fact in self.ranked]) if self.ranked else None

    @cached_property
    def before(self) -> Count | None:
        """Facts that the original stated."""
        return count([fact.before for fact in self.ranked]) if self.ranked else None

    @cached_property
    def worst_subject(self) -> Count | None:
        """What came back of the subject of whom most came back."""
        rows = by_subject(self.ranked) if self.ranked else []
        return rows[0][2] if rows else None

    @property
    def model(self) -> str:
        """The model's name, masked as far as that is possible."""
        if self.redactor is not None:
            return self.redactor.label(self.facts.model)
        return self.facts.model if own_redaction(self.folder) else MASK

    def finding(self, axis: Axis) -> Finding | None:
        """Return what is settled about one question of page one."""
        return next((each for each in self.results.verdict.findings if each.axis is axis), None)

    def masked(self, text: str) -> str:
        """Mask the words of users in a sentence of a report.

        Without evidence nobody can tell which of them name a person, so all of them are masked.
        """
        parts = {gate.name.partition(": ")[2] for gate in self.results.gates if gate.part}
        written = self.relations if self.redactor is not None else parts - {"", "rehearsed"}
        if self.redactor is not None:
            return Masks(self.redactor, written).sentence(text)
        for word in sorted(written, key=len, reverse=True):
            text = text.replace(word, MASK)
        return text


def read_record(run: Path, *, key: bytes | None) -> RunRecord:
    """Read the record of a finished run.

    Args:
        run: The run folder.
        key: The operator's key, where the evidence is sealed.

    Raises:
        InputError: It is no run folder, the run has not ended, or a file is not what its manifest
            says.
    """
    manifest = finished_manifest(run, _READ)
    if "verdict" not in manifest:
        raise InputError(
            "no-verdict",
            what=f"{run} is not the folder of a run with a verdict",
            why="attacks alone settle no request",
            fix="audit the model with `expunge audit`, and name the folder of that run",
        )
    signature = read_signature(run)
    results = results_from_json(read_json(run / RESULTS))
    told = facts_from_json(read_json(run / FACTS))
    store = EvidenceStore(run / EVIDENCE, key=key)
    ranked, redactor, relations, why = _evidence(run, store, manifest, key)
    approval, why_not = _approval(run, manifest["digest"])
    return RunRecord(
        folder=run,
        manifest=manifest,
        results=results,
        facts=told,
        context=store.context(),
        claim=claim_of(results.verdict, told),
        ranked=ranked,
        no_evidence=why,
        redactor=redactor,
        relations=relations,
        signer=key_fingerprint(signature.public) if signature else "",
        approval=approval,
        no_approval=why_not,
    )


def _approval(run: Path, digest: str) -> tuple[Attestation | None, str]:
    """Return the approval of this very state of the run, or why there is none."""
    try:
        found = read_approval(run)
    except InputError as error:
        return None, error.what
    if found is None:
        return None, "nobody has approved the run (`expunge approve`)"
    if found.digest != digest:
        return None, f"{APPROVAL} approves another state of the run"
    return found, ""


def _evidence(
    run: Path, store: EvidenceStore, manifest: Mapping[str, Any], key: bytes | None
) -> tuple[tuple[FactHistory, ...] | None, Redactor | None, frozenset[str], str]:
    """Return the facts, what masks, and the users' words; or why there are none."""
    gone = read_destruction(run, manifest, key=key)
    if gone is not None:
        return None, None, frozenset(), f"the evidence was destroyed on {gone.at[:10]}"
    if not store.holds(ITEMS):
        return None, None, frozenset(), "the evidence is not in the run folder"
    try:
        redactor = Redactor(store.items_with_facts())
        relations = frozenset(item.relation for item in store.items() if item.relation)
        return facts(store), redactor, relations, ""
    except ExpungeError as error:
        if not store.sealed:
            raise
        return None, None, frozenset(), f"the evidence is sealed ({error.what})"
