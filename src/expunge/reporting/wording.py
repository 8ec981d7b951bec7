"""Plain words: what rulings, axes and numbers mean to a reader who is not a researcher.

What to do next with the model after a verdict, and the command to type.

The report, the model card and the terminal say the same sentences because they all come from here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from expunge.evals.plain_words import ANSWERS, COVERED, measured, percent, plain, subject
from expunge.evals.results import PASSES, Finding, Gate, Ruling, Score, Verdict
from expunge.evals.verdict import HIGHEST
from expunge.evidence.context import AuditContext
from expunge.metrics.outcomes import Axis, Status
from expunge.metrics.statistics import clopper_pearson
from expunge.planning.routes import CLAIMS as ROUTE_CLAIMS
from expunge.reporting.examples import Count
from expunge.utils.file_names import SETTINGS
from expunge.utils.io import printable

THREATS: Mapping[str, str] = {
    "T0": "someone who uses the product in the ordinary way",
    "T1": "someone who asks repeatedly and with trick prompts, but has no access to the weights",
    "T2": "someone who may also train the model further",
    "T3": "someone who has the model files and every means to examine them",
}
"""Threat model to the person it describes."""

TIERS: Mapping[str, str] = {
    "G1": "retrained reference models (gold): trained again from the start without the data",
    "G2": "retrained reference models (gold): their last training stage was repeated without the "
    "data",
    "G3": "the model before that stage, and invented records that no model ever saw; no retrained "
    "reference model (gold) was given",
    "G4": "invented records that no model ever saw; no retrained reference model (gold) was given",
}
"""Gold tier to what stands for a model that never saw the data."""

CLAIMS: Mapping[str, str] = {
    "E4": f"exact replay: the model {ROUTE_CLAIMS['E4']}",
    "E3": f"exact by isolation: {ROUTE_CLAIMS['E3']}",
    "E2": "bound: a proof limits what the records can still have done to the model",
    "E1": "empirical: tests alone speak; no test can show that the data left the weights",
    "E0": "suppression: the data is not said; it may still be in the weights",
}
"""Claim class to what may be said of the model."""

GOALS: Mapping[str, str] = {
    "removal": "The influence of the data should be gone.",
    "suppression": "The data should not be said any more. It may still be in the weights.",
    "edit": "Something else should be said instead.",
}
"""Goal class of the request in one sentence."""

AXES: Mapping[Axis, str] = {
    Axis.FORGETTING: "Does the model still give the data away, in its answers or behind them?",
    Axis.PRIVACY: "Can an expert tell that the model was trained on the data?",
    Axis.UTILITY: "Does the model still know and do everything else?",
    Axis.LOCALITY: "Does it still know what lies near the forgotten data?",
    Axis.ROBUSTNESS: "Does the data stay away when someone tries to bring it back?",
}
"""The question that each axis answers."""

STATUS_WORDS: Mapping[Status, str] = {
    Status.PASS: "within the limit",
    Status.FAIL: "over the limit",
    Status.INCONCLUSIVE: "not settled",
    Status.SCAR: "over-corrected",
    Status.NOT_COMPUTABLE: "not tested",
}
"""Status of a gate in words."""

_HEADLINES: Mapping[Ruling, str] = {
    Ruling.PASS: "Passed: the data is forgotten within the stated limits, and the rest is kept.",
    Ruling.PASS_WITH_SCAR: "Passed with a trace: the data does not come back, but an expert could "
    "tell that something was removed.",
    Ruling.FAIL_RESIDUAL: "Failed: the model still holds the data.",
    Ruling.FAIL_DAMAGE: "Failed: the model lost what it should keep.",
    Ruling.INCONCLUSIVE: "Not settled: the tests could not decide.",
    Ruling.NOTHING_TO_FORGET: "Nothing to forget: the original did not measurably hold the data.",
    Ruling.INVALID: "Invalid: the audit failed its own checks, so its figures decide nothing.",
}

_PASSED: Mapping[str, str] = {
    "suppression": "Passed: the data is not said any more. It may still be in the weights.",
    "edit": "Passed: the new answers are said. The old ones may still be in the weights.",
}
"""Goal to the headline of a pass, where it is not removal."""


def headline(verdict: Verdict, *, goal: str) -> str:
    """Return the verdict as one sentence, the first that a reader sees.

    Args:
        verdict: What the audit concluded.
        goal: `removal`, `suppression` or `edit`.
    """
    if verdict.ruling not in PASSES:
        return _HEADLINES[verdict.ruling]
    passed = _HEADLINES[verdict.ruling]
    if verdict.ruling is Ruling.PASS:
        passed = _PASSED.get(goal, passed)
    untested = ANSWERS[Status.NOT_COMPUTABLE]
    names = ", ".join(one.question for one in verdict.findings if one.answer == untested)
    return f"{passed} Not tested: {names}." if names else passed


def notices(verdict: Verdict) -> tuple[str, ...]:
    """Return what must be said before everything: which known model the judged one is."""
    return tuple(plain(notice) for notice in verdict.notices)


def claim(verdict: Verdict, *, exact: str = "") -> str:
    """Return the claim class: what tests support, or what the way of making the model supports.

    Args:
        verdict: What the audit concluded.
        exact: Claim class of a training that was repeated, see `RunFacts.exact`.
    """
    return exact if exact and verdict.claim == "E1" else verdict.claim or "E1"


def lines(verdict: Verdict, *, exact: str = "") -> tuple[str, ...]:
    """Return the verdict as lines of the terminal: each question, then what it all rests on.

    Args:
        verdict: What the audit concluded.
        exact: See `claim`.
    """
    said = [
        f"{one.question}: {one.answer}. {one.detail}{settling(one)}" for one in verdict.findings
    ]
    said.append(f"Tested against: {THREATS[verdict.threat_model]}.")
    said.append(f"Compared with: {TIERS[verdict.tier]}.")
    said.append(f"Kind of claim: {CLAIMS[claim(verdict, exact=exact)]}.")
    return tuple(said)


def settling(found: Finding) -> str:
    """Say what would settle a finding; nothing where it is settled."""
    return f" Would settle it: {found.settle[:1].lower()}{found.settle[1:]}" if found.settle else ""


_TONES = {
    ANSWERS[Status.PASS]: "good",
    ANSWERS[Status.FAIL]: "bad",
    ANSWERS[Status.SCAR]: "unsure",
    ANSWERS[Status.INCONCLUSIVE]: "unsure",
}


def tone(answer: str) -> str:
    """Return the class of the page's style that an answer is drawn in."""
    return _TONES.get(answer, "none")


WHAT_THIS_IS_NOT = (
    "This report does not prove that the data was deleted. It attests a procedure and its tests: "
    "“came back” and “did not come back” refer to the attempts listed here, at the budget listed "
    "here. No test of a model's behaviour can show that a fact has left its weights. It is not "
    "legal advice."
)
"""What no audit can promise."""

ALWAYS_OUTSIDE = (
    "Other languages than those of the records.",
    "Copies outside the model: training files, retrieval stores, logs, caches, backups.",
    "Models trained from the original, merged with it, or quantised in another way.",
)
"""What no run of expunge looks at."""

VOIDED_BY = ("fine-tuning", "merging", "quantising", "distilling", "pruning")
"""What is done to a model that ends its result."""

RENEWAL = (
    f"Audit again after {', '.join(VOIDED_BY[:-1])} or {VOIDED_BY[-1]} the model, and after 12 "
    "months."
)
"""When the result expires."""


def chance(probability: float) -> str:
    """Write a probability as a percentage with what can be told of it.

    Example:
        >>> chance(0.9731), chance(0.0012), chance(1e-9)
        ('97 %', '0.12 %', '<0.01 %')
    """
    if probability < _SMALLEST:
        return "<0.01 %"
    return f"{100 * probability:.0f} %" if probability >= 0.1 else f"{100 * probability:.2f} %"


_SMALLEST = 5e-5


def spelled(token: str) -> str:
    """Write a token with its spaces visible and its control characters spelled out.

    Example:
        >>> spelled(" Mar"), spelled("\\n")
        ('·Mar', '\\\\n')
    """
    return printable(token.replace("\n", "\\n").replace("\t", "\\t")).replace(" ", "·")


def number(value: float) -> str:
    """Write a number so that a column of its like is comparable: `0.950`, `14.2`, `1 240`."""
    size = abs(value)
    if size >= 1e6 or 0 < size < 5e-4:
        text = f"{value:.2e}"
    else:
        places = 3 if size < 10 else 1 if size < 1000 else 0
        text = f"{value:,.{places}f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    return text.replace("-", "\N{MINUS SIGN}")


def duration(seconds: float) -> str:
    """Write a duration: `42 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def count_sentence(after: Count, before: Count | None) -> str:
    """Say in counts how many facts came back, with the bound that they allow."""
    earlier = f" (before: {before.returned} of {before.facts})" if before else ""
    tries = "1 attempt" if after.attempts == 1 else f"{after.attempts:,} attempts"
    tries = tries.replace(",", "\N{NARROW NO-BREAK SPACE}")
    bound = clopper_pearson(after.returned, after.facts)[1]
    rate = (
        f"With 95 % confidence, fewer than {percent(bound)} of facts of this kind would."
        if after.returned < after.facts
        else "Any share of facts of this kind might."
    )
    return f"{after.returned} of {after.facts} facts came back in {tries}{earlier}. {rate}"


def falls_short(context: AuditContext) -> str:
    """Say why the verdict speaks of a weaker adversary than was asked for."""
    if context.cover:
        return f"whoever holds the weights takes the {context.cover} off"
    if context.threat_model > HIGHEST[context.level]:
        return f"level {context.level} cannot show that"
    return "not every attack up to that strength could be made"


_SEVERITY = (Status.FAIL, Status.SCAR, Status.INCONCLUSIVE, Status.PASS, Status.NOT_COMPUTABLE)


def worst(gates: tuple[Gate, ...]) -> Gate | None:
    """Return the weakest gate: by status, then by the share of the margin that its bound uses.

    A gate that could not be computed is the last choice: it found no damage and no safety.
    """

    def rank(gate: Gate) -> tuple[int, float]:
        used = gate.high if gate.high is not None else gate.value
        return _SEVERITY.index(gate.status), -(used or 0.0) / gate.margin

    return min(gates, key=rank, default=None)


def finding(gate: Gate) -> str:
    """Say in one line what a gate found: value, both bounds and limit."""
    said = f"{subject(gate)}: {measured(gate)}"
    # A small request passes by a rule of its own although its bound lies beyond the margin.
    by_rule = gate.status is Status.PASS and gate.high is not None and gate.high > gate.margin
    return f"{said}. Passed by the rule for few records: {plain(gate.reason)}" if by_rule else said


def interval(score: Score | Gate) -> str:
    """Write the interval of a score or gate, or nothing when it has none."""
    if score.low is None or score.high is None:
        return ""
    return f"[{number(score.low)}–{number(score.high)}]"  # noqa: RUF001 - an en dash is meant


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
    Ruling.FAIL_RESIDUAL: f"{_FORGET} --set train.steps={{steps}}",
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


def next_command(verdict: Verdict, folder: Path, *, steps: int) -> str | None:
    """Return the command to try after a verdict, with its flags; None after a pass.

    A word in capitals stands for a file that only the reader has.

    Args:
        verdict: What the audit concluded.
        folder: The run folder.
        steps: What training took; 0 where nothing was trained, which another method may do.
    """
    if verdict.ruling is Ruling.PASS:
        text = _HARDER if verdict.provisional else ""
    elif verdict.ruling is Ruling.INCONCLUSIVE:
        text = _settling_command(verdict.findings)
    elif covered := [one.detail for one in verdict.findings if one.detail.startswith(COVERED)]:
        merged = "adapter" in covered[0]
        text = f"{_FORGET} --set train.adapter=false" if merged else f"{_FORGET} --method auto"
    elif verdict.ruling is Ruling.FAIL_RESIDUAL and not steps:
        text = f"{_FORGET} --method auto"
    else:
        text = _NEXT[verdict.ruling]
    if not text:
        return None
    return "expunge " + text.format(
        config=folder / SETTINGS, out=f"{folder}-again", folder=folder, steps=2 * steps
    )


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
    if verdict.ruling in PASSES and verdict.provisional:
        trace = f"{text} " if verdict.ruling is Ruling.PASS_WITH_SCAR else ""
        return Action(
            title="Go on, do not release yet",
            text=f"{trace}The result is provisional: the quick level is enough to go on working "
            "with the model, not for the decision to release it.",
        )
    return Action(title=title, text=text.format(who=THREATS[verdict.threat_model]))
