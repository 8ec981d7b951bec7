"""The next step after a verdict: what to do with the model, and the command to type."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from expunge.evals.headline import ANSWERS, COVERED
from expunge.evals.results import Finding, Ruling, Verdict
from expunge.metrics.outcomes import Status
from expunge.reporting.wording import THREATS

_ACTIONS: Mapping[Ruling, tuple[str, str]] = {
    Ruling.PASS: ("Release", "for use by {who}. Audit again after any change to the model."),
    Ruling.PASS_WITH_SCAR: (
        "Release with care",
        "Whoever examines the model closely could tell that something was removed. Forget more "
        "gently if that matters.",
    ),
    Ruling.FAIL_RESIDUAL: (
        "Hold and forget again",
        "Do not release this model. Train longer, on more wordings of the same facts, or train "
        "again without the records; then audit again.",
    ),
    Ruling.FAIL_DAMAGE: (
        "Hold and forget again",
        "Do not release this model. Give more records to keep, near the subject above all, or stop "
        "the training earlier; then audit again.",
    ),
    Ruling.INCONCLUSIVE: (
        "Hold and test further",
        "Do not release this model yet. Each open question above says what would settle it.",
    ),
    Ruling.NOTHING_TO_FORGET: (
        "Nothing to do",
        "Keep this report as the answer to the request. Check that the records are spelled as the "
        "model would have seen them.",
    ),
    Ruling.INVALID: (
        "Do not rely on this audit",
        "Mend what the failed self-test names, then audit again.",
    ),
}

_FORGET = "forget --config {config} --out {out}"
_AUDIT = "audit {folder} --against {folder}"
_HARDER = f"{_AUDIT} --set audit.level=standard"
_NEXT: Mapping[Ruling, str] = {
    Ruling.PASS_WITH_SCAR: f"{_FORGET} --method counterfactual --set method.margin=0",
    Ruling.FAIL_RESIDUAL: f"{_FORGET} --set train.epochs=24",
    Ruling.FAIL_DAMAGE: f"{_FORGET} --set train.lr=5e-4",
    Ruling.INCONCLUSIVE: _HARDER,
    Ruling.NOTHING_TO_FORGET: "verify {folder}",
    Ruling.INVALID: f"{_AUDIT} --gold OTHER_REFERENCE_MODEL",
}
"""What to type after a ruling."""

_FLAGS = (
    ("reference model", "--gold REFERENCE_MODEL"),
    ("records to keep", "--retain MORE_RECORDS"),
    ("--neighbours", "--neighbours MORE_RECORDS"),
)
"""What would settle a finding to the flag that gives it, the first that fits."""


def next_command(verdict: Verdict, folder: Path) -> str | None:
    """Return the command to try after a verdict, with its flags; None after a pass.

    A word in capitals stands for a file that only the reader has.

    Args:
        verdict: What the audit concluded.
        folder: The run folder.
    """
    if verdict.ruling is Ruling.PASS:
        text = _HARDER if verdict.provisional else ""
    elif verdict.ruling is Ruling.INCONCLUSIVE:
        text = _settling_command(verdict.findings)
    elif covered := [one.detail for one in verdict.findings if one.detail.startswith(COVERED)]:
        merged = "adapter" in covered[0]
        text = f"{_FORGET} --set train.adapter=false" if merged else f"{_FORGET} --method auto"
    else:
        text = _NEXT[verdict.ruling]
    if not text:
        return None
    values = {"config": folder / "config.toml", "out": f"{folder}-again", "folder": folder}
    return "expunge " + text.format(**values)


def _settling_command(found: Sequence[Finding]) -> str:
    """Return the audit that settles what is open; where only more records could, a harder one."""
    for one in sorted(found, key=lambda one: one.answer != ANSWERS[Status.INCONCLUSIVE]):
        for word, flag in _FLAGS:
            if word in one.settle:
                return f"{_AUDIT} {flag}"
    return _HARDER


@dataclass(frozen=True, kw_only=True, slots=True)
class Action:
    """What to do with the model: two or three words, and one or two sentences."""

    title: str
    text: str


def action(verdict: Verdict) -> Action:
    """Say what follows from a verdict."""
    title, text = _ACTIONS[verdict.ruling]
    if verdict.ruling in (Ruling.PASS, Ruling.PASS_WITH_SCAR) and verdict.provisional:
        trace = f"{text} " if verdict.ruling is Ruling.PASS_WITH_SCAR else ""
        return Action(
            title="Go on, do not release yet",
            text=f"{trace}The result is provisional: the quick level is enough to go on working "
            "with the model, not for the decision to release it.",
        )
    return Action(title=title, text=text.format(who=THREATS[verdict.threat_model]))
