"""Recheck: whether the claims of an audited run still hold for a model that was made from it.

Claims are the questions that the run's verdict answered with yes. They were tested on some bytes.

    same tensors            every claim stays valid; nothing is asked
    otherwise               the model is audited against the run, at level quick unless told
        answered yes        valid
        answered no         void
        not settled         pending; but void where more facts are stated when asked plainly than
                            chance explains, of those that the audited model did not state
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from expunge.config.settings import Settings
from expunge.errors import InputError
from expunge.evals.results import Finding, Results
from expunge.evidence.store import UNLEARNED
from expunge.ledger.entries import ClaimState
from expunge.metrics.outcomes import Axis
from expunge.models.derivation import Change, Derivation, derivation
from expunge.models.loading import Loaded, load
from expunge.models.number_formats import in_stored_format
from expunge.models.reference import is_adapter, model_folder
from expunge.pipeline.forget import audit
from expunge.pipeline.monitor import facts_back
from expunge.preparation.prepare import source_of
from expunge.provenance.keys import existing_key
from expunge.provenance.verify import verify
from expunge.reporting.schema import read_results
from expunge.utils.console import Console, SilentConsole
from expunge.utils.io import AnyPath, write_json

NAME = "recheck.json"
AUDIT = "audit"
_MOST_NAMED = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class RecheckedClaim:
    """One claim of a run, held against another model."""

    axis: Axis
    question: str
    """For example `Forgotten`."""
    state: ClaimState
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Recheck:
    """What a recheck found.

    Example:
        >>> claim = RecheckedClaim(
        ...     axis=Axis.FORGETTING, question="Forgotten", state=ClaimState.VOID, reason="5 of 20"
        ... )
        >>> made = Derivation(change=Change.MERGED, distance=0.1, partner="org/a", ratio=0.2)
        >>> Recheck(
        ...     model="m", digest="0f", run="r", audited="1e", derivation=made, claims=(claim,)
        ... ).state.value
        'void'
    """

    model: str
    digest: str
    """Of the tensors of the model."""
    run: str
    audited: str
    """Digest of the tensors that the run audited."""
    derivation: Derivation
    claims: tuple[RecheckedClaim, ...]
    folder: Path | None = None
    """Where the record and the audit lie; None where nothing had to be asked."""

    @property
    def state(self) -> ClaimState:
        """The worst state of a claim."""
        states = {claim.state for claim in self.claims}
        worst_first = (ClaimState.VOID, ClaimState.PENDING)
        return next((state for state in worst_first if state in states), ClaimState.VALID)


def recheck(
    settings: Settings,
    *,
    model: str,
    run: AnyPath,
    related: Sequence[str] = (),
    out: AnyPath | None = None,
    console: Console | None = None,
) -> Recheck:
    """Say which claims of a run still hold for a model.

    Args:
        settings: Those of the run, with the level and the attacks to ask.
        model: Reference of the model that is, or may be, made from the audited one.
        run: The run folder whose claims are held against it.
        related: References of models that may have been merged in. The original is one of them.
        out: Folder of the record and the audit; default: beside the run, named by the model.
        console: Where to say what happens; silent by default.

    Raises:
        InputError: The run is not as it was written, or claims nothing.
        ExpungeError: As `audit`.

    Example:
        >>> from expunge import Request
        >>> settings = Settings(
        ...     model="org/original", request=Request(goal="removal", forget=("forget.jsonl",))
        ... )
        >>> recheck(settings, model="merged", run=Path("runs/1")).state  # doctest: +SKIP
        <ClaimState.VOID: 'void'>
    """
    run = Path(run)
    out = None if out is None else Path(out)
    console = console or SilentConsole()
    before = read_results(run)
    claims = _claims(run, before)
    digest, made = _derivation(settings, model, run, related)
    console.line("model", f"{model}: {made.text()}")
    folder, held = None, tuple(map(_same, claims))
    if made.change is not Change.NONE or is_adapter(model):
        folder = out or run.with_name(f"{run.name}-recheck-{digest[:8]}")
        asked = settings.model_copy(update={"out": str(folder / AUDIT)})
        after = audit(asked, model=model, against=run, console=console).results
        back = _back(run, folder / AUDIT)
        held = tuple(_unless_back(_held(claim, after), back) for claim in claims)
    found = Recheck(
        model=model,
        digest=digest,
        run=str(run),
        audited=before.models.get(UNLEARNED, ""),
        derivation=made,
        claims=held,
        folder=folder,
    )
    if folder is not None:
        write_json(folder / NAME, {**asdict(found), "folder": None, "state": found.state})
    for claim in held:
        console.line(claim.state.value, f"{claim.question}: {claim.reason}")
    return found


def _claims(run: Path, results: Results) -> list[Finding]:
    """Return what a run claims, after checking that it is as it was written."""
    claims = [each for each in results.verdict.findings if each.answer.startswith("yes")]
    if not claims:
        raise InputError(
            "nothing-claimed",
            what=f"{run} claims nothing: its verdict is {results.verdict.ruling}",
            why="a recheck holds the claims of a run against another model",
            fix="name a run that passed; any model is judged by expunge audit MODEL --against RUN",
        )
    # The numbers were computed when the run ended; that files fit the manifest is enough here.
    problems = verify(run, assess=lambda store: results, key=existing_key(run)).problems
    if problems:
        named = "; ".join(f"{p.path} {p.what}" for p in problems[:_MOST_NAMED])
        raise InputError(
            "run-changed",
            what=f"{run} is not as it was written: {named}",
            why="its claims cannot be held against another model",
            fix=f"expunge verify {run} names every file; restore the folder from a copy",
        )
    return claims


def _derivation(
    settings: Settings, model: str, run: Path, related: Sequence[str]
) -> tuple[str, Derivation]:
    """Return the digest of a model's tensors, and how they came from those of the run."""
    source = source_of(settings)

    def loaded(reference: str) -> Loaded:
        return load(reference, in_stored_format(source, reference))

    judged, folder = loaded(model), model_folder(run)
    if folder == run:
        detail = f"{run} holds no model to compare with"
        made = Derivation(change=Change.UNKNOWN, distance=float("inf"), detail=detail)
    else:
        names = dict.fromkeys((settings.model, *related))
        made = derivation(
            judged.network.model.state_dict(),
            loaded(str(folder)).network.model.state_dict(),
            {name: loaded(name).network.model.state_dict() for name in names},
        )
    return judged.digest, made


def _back(run: Path, audited: Path) -> str:
    """Return in words that facts are stated again; empty where they are not, or nobody can tell."""
    try:
        stated, asked, decided = facts_back(run, audited)
    except InputError:  # the run names no facts, or its evidence is gone
        return ""
    return (
        f"{stated} of {asked} facts are stated that the audited model did not state"
        if decided
        else ""
    )


def _unless_back(claim: RecheckedClaim, back: str) -> RecheckedClaim:
    """Return a claim that facts which are stated again make void, whatever else is not settled."""
    told = claim.axis in (Axis.FORGETTING, Axis.ROBUSTNESS)
    if not (told and back and claim.state is ClaimState.PENDING):
        return claim
    return replace(claim, state=ClaimState.VOID, reason=back)


def _same(claim: Finding) -> RecheckedClaim:
    """Return a claim about the very tensors that were audited."""
    reason = "the tensors are those that were audited"
    return RecheckedClaim(
        axis=claim.axis, question=claim.question, state=ClaimState.VALID, reason=reason
    )


def _held(claim: Finding, after: Results) -> RecheckedClaim:
    """Return a claim as the audit of the other model answers its question."""
    found = next((each for each in after.verdict.findings if each.axis == claim.axis), None)
    if found is None:
        state, reason = ClaimState.PENDING, "the audit did not ask"
    elif found.answer.startswith("yes"):
        state, reason = ClaimState.VALID, found.detail
    else:
        failed = found.answer == "no"
        state = ClaimState.VOID if failed else ClaimState.PENDING
        reason = found.detail if failed else f"{found.answer}. {found.detail}"
    return RecheckedClaim(axis=claim.axis, question=claim.question, state=state, reason=reason)
