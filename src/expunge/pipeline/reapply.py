"""Re-applying: what a run changed is added to a later fine-tune of the same base, and audited.

    W_new = W_later + (W_unlearned - W_original)            every tensor, in float32

The update of a run is the difference of its model and its original, whichever method made it. It
fits a model that was made from the original after that: names and shapes are the same, the model is
near the original, and the update is not in it yet. Whether it still works only an audit can say,
with the later model as the original.

    contained = <W_later - W_original, update> / |update|^2      1: the update is in it already
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from expunge.config.settings import Settings
from expunge.errors import InputError, UsageError
from expunge.evals.results import PASSES, Ruling
from expunge.ledger.entries import ClaimState
from expunge.models.derivation import Change, Derivation, derivation
from expunge.models.loading import Loaded, load, weights_digest
from expunge.models.number_formats import in_stored_format
from expunge.models.reference import is_guard, model_folder
from expunge.models.saving import save_model
from expunge.pipeline.forget import audit
from expunge.preparation.prepare import source_of
from expunge.utils.console import Console, SilentConsole
from expunge.utils.io import AnyPath, write_json

NAME = "reapply.json"
MODEL, AUDIT = "model", "audit"
CONTAINED = 0.5
"""Share of an update from which on a model has it already."""
_FAILED = frozenset({Ruling.FAIL_RESIDUAL, Ruling.FAIL_DAMAGE})


@dataclass(frozen=True, kw_only=True, slots=True)
class ReappliedUpdate:
    """A model to which the update of a run was added, and what its audit says.

    Example:
        >>> ReappliedUpdate(
        ...     folder=Path("out"), digest="ab" * 32, change=Change.FINE_TUNED,
        ...     derivation="fine-tuned", contained=0.01, ruling=Ruling.PASS, sentence="",
        ... ).fits
        True
    """  # fmt: skip

    folder: Path
    """Holds the model and the audit."""
    digest: str
    """Of the weights of the new model."""
    change: Change
    derivation: str
    """How the later model came from the original of the run."""
    contained: float
    """Share of the update that the later model had before."""
    ruling: Ruling
    sentence: str
    """What the audit concludes, for people."""

    @property
    def fits(self) -> bool:
        """Whether the update still works: the audit passes."""
        return self.ruling in PASSES

    @property
    def state(self) -> ClaimState:
        """What becomes of the claims of the run for this model."""
        if self.fits:
            return ClaimState.VALID
        return ClaimState.VOID if self.ruling in _FAILED else ClaimState.PENDING


def reapply(
    settings: Settings, *, run: AnyPath, to: str, out: AnyPath, console: Console | None = None
) -> ReappliedUpdate:
    """Add what a run changed to a later model, write the result, and audit it.

    Args:
        settings: Those of the run, with the level of the audit.
        run: The run folder.
        to: Reference of the later model.
        out: Folder of the result; new, or of the same call before, which is audited again.
        console: Where to say what happens; silent by default.

    Raises:
        InputError: `no-update`: the run holds no weights. `another-architecture`, `another-base`,
            `update-contained`: the update does not fit this model.
        ExpungeError: As `audit`.

    Example:
        >>> reapply(settings, run=Path("run"), to="later", out=Path("new"))  # doctest: +SKIP
    """
    run, out, console = Path(run), Path(out), console or SilentConsole()
    _require_weights(run)
    source = source_of(settings)

    def loaded(reference: str) -> Loaded:
        return load(reference, in_stored_format(source, reference))

    later, original = loaded(to), loaded(settings.model).network.model.state_dict()
    unlearned = loaded(str(run)).network.model.state_dict()
    state = later.network.model.state_dict()
    made = derivation(state, original)
    if made.change is Change.UNKNOWN and derivation(state, unlearned).change is Change.UNKNOWN:
        raise _does_not_fit(to, settings.model, made)
    share = contained(state, original, unlearned)
    if share >= CONTAINED:
        raise InputError(
            "update-contained",
            what=f"{to} has the update of {run} already: {share:.0%} of it",
            why="added twice it would take the model as far again",
            fix=f"ask whether the claims still hold: expunge recheck {to} --against {run}",
        )
    _add(state, original, unlearned)
    (out / MODEL).mkdir(parents=True, exist_ok=True)
    save_model(later.network.model, later.tokenizer, out / MODEL)
    console.line("model", f"{to}: {made.text()}")
    console.line("applied", f"the update of {run}, of which {max(share, 0.0):.0%} was there")
    asked = settings.model_copy(update={"model": to, "out": str(out / AUDIT)})
    verdict = audit(asked, model=str(out / MODEL), console=console).results.verdict
    found = ReappliedUpdate(
        folder=out,
        digest=weights_digest(state),
        change=made.change,
        derivation=made.text(),
        contained=share,
        ruling=verdict.ruling,
        sentence=verdict.sentence,
    )
    write_json(out / NAME, {**asdict(found), "folder": None, "fits": found.fits})
    return found


@torch.no_grad()
def _add(
    state: dict[str, Tensor], original: dict[str, Tensor], unlearned: dict[str, Tensor]
) -> None:
    """Add the update in place; tied weights have two names and one storage, and get it once."""
    for name, value in {each.data_ptr(): (n, each) for n, each in state.items()}.values():
        update = unlearned[name].float() - original[name].float()
        value.copy_((value.float() + update).to(value.dtype))


def contained(
    later: dict[str, Tensor], original: dict[str, Tensor], unlearned: dict[str, Tensor]
) -> float:
    """Return the share of an update that a model has already, by projection.

    Args:
        later: Tensors of the model, by name.
        original: Those before the update.
        unlearned: Those after it.

    Example:
        >>> zero, one = {"w": torch.zeros(2)}, {"w": torch.ones(2)}
        >>> contained(one, zero, one), contained(zero, zero, one)
        (1.0, 0.0)
    """
    along = whole = 0.0
    for name, before in original.items():
        update = unlearned[name].float() - before.float()
        along += float(((later[name].float() - before.float()) * update).sum())
        whole += float(update.square().sum())
    return along / whole if whole else 1.0


def _require_weights(run: Path) -> None:
    folder = model_folder(run)
    if folder == run or is_guard(str(run)):
        raise InputError(
            "no-update",
            what=f"{run} holds no changed weights",
            why="an audit changes nothing, and a guard leaves the weights as they are",
            fix="name the folder of a run of expunge forget",
        )


def _does_not_fit(to: str, original: str, made: Derivation) -> InputError:
    """Return the error of a model to which a difference of other weights would mean nothing."""
    code = "another-architecture" if made.distance == float("inf") else "another-base"
    return InputError(
        code,
        what=f"the update does not fit {to}: {made.detail}",
        why=f"it is a difference to the weights of {original}, and was made from these",
        fix=f"forget on the model itself: expunge forget {to} DATA",
    )


def require_free(out: Path) -> None:
    """Refuse a folder that holds something else than a result of this.

    Raises:
        UsageError: `folder-in-use`.
    """
    own = {NAME, MODEL, AUDIT}
    if out.exists() and not (out.is_dir() and all(path.name in own for path in out.iterdir())):
        raise UsageError(
            "folder-in-use",
            what=f"{out} cannot be the folder of the result; nothing was changed there",
            why="it holds other files",
            fix="choose another folder with --out",
        )
