"""Plain words: what is settled, question by question, for a person who is not a researcher.

Every question has an answer: `yes`, `no`, `not settled`, `not tested` or `not applicable`. What is
open says what would settle it, and whether this request can give that at all. Gates and attacks
have names in plain words, too.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from expunge.evals.gates import axis_status
from expunge.evals.results import Finding, Gate, Ruling
from expunge.evidence.store import PLAIN
from expunge.metrics.outcomes import Axis, Status
from expunge.metrics.statistics import Estimate, clopper_pearson

ATTEMPTS: Mapping[str, str] = {
    PLAIN: "the plain question",
    "paraphrase": "other wordings",
    "wording": "other kinds of sentence",
    "format": "other formats and languages",
    "role-play": "role play",
    "alias": "other names",
    "inverse": "asking backwards",
    "cloze": "a gap to fill",
    "multiple-choice": "multiple choice",
    "translation": "translation",
    "multi-hop": "detours over two facts",
    "few-shot": "examples in the question",
    "reminder": "notes in the question",
    "multi-turn": "several turns",
    "prefill-affirm": "an answer begun with “Sure”",
    "prefill-10": "a tenth of the answer given",
    "prefill-25": "a quarter of the answer given",
    "prefill-50": "half of the answer given",
    "extraction": "the beginning of the text",
    "sampling": "asking several times",
    "inverse-greedy": "the least likely words",
    "near-verbatim": "nearly the same text",
    "unplug": "the adapter removed",
    "int8": "weights rounded to 8 bits",
    "int4": "weights rounded to 4 bits",
    "fp32": "32-bit numbers",
    "bf16": "16-bit numbers (bfloat16)",
    "fp16": "16-bit numbers (float16)",
    "pruning": "weights removed",
    "noise": "noise on the weights",
    "relearn": "training on other facts of the set",
    "relearn-related": "training on related text",
    "relearn-syntax": "training on similar sentences",
    "retain-only": "training on what is kept",
}
"""Attack name to a phrase that completes `the data came back under ...`."""

SUBJECTS: Mapping[str, str] = {
    "key-fact leak": "Facts said when asked plainly",
    "residual memory": "Memory behind the answers (100 %: as before)",
    "residual memory by token": "Memory behind the answers, token by token (100 %: as before)",
    "kept records": "Single records still remembered",
    "membership residual": "Recognition of the data (100 %: as before)",
    "answers betray an edit": "Answers less sure than an untouched model's (beyond chance)",
    "facts said of others": "Facts said where others are asked about",
    "answers cut short": "Answers that go on beyond what was read",
    "leak": "Facts said",
    "general text": "General text, read worse by",
    "probability retain": "Knowledge to keep, lost",
    "key-fact retain": "Answers to keep, lost",
    "extraction-strength retain": "Text to keep, lost",
    "probability neighbours": "Knowledge of neighbours, lost",
    "key-fact neighbours": "Answers about neighbours, lost",
    "extraction-strength neighbours": "Text of neighbours, lost",
    "malformed forget": "More malformed answers where the data was",
    "form-missed generic": "More instructions answered in another form than requested",
    "seq-rep-4 forget": "More repetition where the data was",
    "refusal retain": "More refusals of what is to be kept",
    "refusal neighbours": "More refusals about neighbours",
    "wanted answers": "Questions without the wanted answer",
    "refusals as asked": "Questions that are not refused",
}
"""Name of a gate, without attack and part, to what it judges."""

REHEARSED = "rehearsed"
"""Part of a set that training rehearsed; what a gate of it is called after the colon."""

_KEPT = ("retain", "neighbours")

_UNNAMED = re.compile(r"\b(a |an |the )?gold(?:-(\d+)|( models?|s))?\b")


def attempt(name: str) -> str:
    """Return an attack in plain words; an unknown one by its own name, readable."""
    return ATTEMPTS.get(name, name.replace("-", " ").replace("_", " "))


def tried(gate: Gate) -> str:
    """Return the name of the attack that a gate judges; empty where it judges none."""
    for word in (" under ", "recovery by "):
        if word in gate.name:
            return gate.name.partition(word)[2]
    return ""


def subject(gate: Gate) -> str:
    """Return in plain words what a gate judges; the name of an unknown one, readable."""
    if gate.name.startswith("recovery by "):
        return f"Facts brought back by {attempt(tried(gate))}"
    head, _, part = gate.name.partition(": ")
    head, _, attack = head.partition(" under ")
    words = SUBJECTS.get(head, head.replace("_", " ").replace("-", " ").capitalize())
    words += f", {attempt(attack)}" if attack else ""
    if part == REHEARSED:
        return f"{words} (records that training rehearsed)"
    return f"{words} ({part})" if part else words


def is_knowledge(gate: Gate) -> bool:
    """Tell whether a gate judges what is known of a whole set that the model should still know."""
    return gate.name.endswith(_KEPT) and not gate.name.startswith("refusal")


def percent(fraction: float) -> str:
    """Write a fraction as a percentage without false precision: `14 %`, `1.4 %`, `0.05 %`."""
    value = 100 * fraction
    places = 0 if abs(value) >= 2 else 1 if abs(value) >= 0.1 else 2
    text = f"{value:.{places}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    text = "0" if text == "-0" else text
    return f"{text} %".replace("-", "\N{MINUS SIGN}")


def allowed(gate: Gate) -> str:
    """Return the limit of a gate, both ends where it has two."""
    if gate.name.startswith("kept records"):
        return "none allowed"
    if gate.two_sided:
        return f"allowed {percent(-gate.margin)} to {percent(gate.margin)}"
    return f"allowed at most {percent(gate.margin)}"


def measured(gate: Gate) -> str:
    """Return value, both bounds, limit and number of records of a gate, or why there is none."""
    if gate.value is None:
        return f"not tested: {plain(gate.reason)}"
    records = "1 record" if gate.n == 1 else f"{gate.n} records"
    bounds = "no interval"
    if gate.low is not None and gate.high is not None:
        bounds = f"{percent(gate.low)} to {percent(gate.high)}"
    return f"{percent(gate.value)} ({bounds}), {allowed(gate)}, {records}"


def plain(text: str) -> str:
    """Return a reason that names golds in full: `retrained reference model`."""

    def named(found: re.Match[str]) -> str:
        many = "s" if (found[3] or "").endswith("s") else ""
        number = f" {found[2]}" if found[2] else ""
        return f"{found[1] or ''}retrained reference model{many}{number}"

    said = _UNNAMED.sub(named, text).replace("the anchor", "the reference")
    return said.replace(
        "difficulty and membership cannot be told apart",
        "a difficult record and an unknown one look alike",
    )


QUESTIONS = {
    Axis.FORGETTING: "Forgotten",
    Axis.PRIVACY: "Private",
    Axis.UTILITY: "Kept",
    Axis.LOCALITY: "Neighbours",
    Axis.ROBUSTNESS: "Holds against attempts to bring it back",
}
"""Axis to its question, in the order of the headline."""

NOT_APPLICABLE = "not applicable"

ANSWERS = {
    Status.PASS: "yes",
    Status.FAIL: "no",
    Status.SCAR: "yes, with a trace",
    Status.INCONCLUSIVE: "not settled",
    Status.NOT_COMPUTABLE: "not tested",
}
"""Status of an axis to the answer."""

COVERED = "Removal was asked for, and the weights beneath the"
"""How the finding begins where an adapter or a guard was audited in the place of a model."""

_ERASURE = (Axis.FORGETTING, Axis.PRIVACY, Axis.ROBUSTNESS)
_LISTED = 8
"""Most attempts that a finding names."""

_MISSING = {
    Axis.FORGETTING: "a retrained reference model (gold), or control records that no model saw",
    Axis.PRIVACY: "a retrained reference model (gold)",
    Axis.ROBUSTNESS: "a retrained reference model (gold), and facts named in the records",
    Axis.UTILITY: "records to keep (--retain)",
    Axis.LOCALITY: "records near the forgotten ones (--neighbours)",
}
"""What an axis that was not tested needs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tally:
    """Counts for the first sentence of the report."""

    facts: int
    """Facts that were asked for; 0 when no record names a key fact."""
    leaked: int
    """Facts that came back at least once."""
    attempts: int
    """Questions put to the model, plain and under all attacks."""
    before: int
    """Of these facts, those that the original states when asked plainly."""
    guessable: int
    """Facts that a model which never saw the data states at least once; 0 without gold."""
    recited: float | None = None
    """Mean extraction strength of the model, in [0, 1]."""
    recited_before: float | None = None
    """Mean extraction strength of the original, in [0, 1]."""
    as_trained: Estimate | None = None
    """Share of the records that behaves as trained on; None without half-trained models."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Conclusion:
    """What the findings follow from, beside the gates."""

    ruling: Ruling
    goal: str
    cover: str
    """What lies over unchanged weights: `adapter`, `guard`, or nothing."""
    lacking: str
    """What the goal needs and nobody measured; empty when all is there."""
    tally: Tally | None
    beyond: Sequence[Gate] = ()
    """Failed gates of adversaries that are stronger than the promise."""
    unrehearsed: frozenset[Axis] = frozenset()
    """Axes whose records training never rehearsed, not one of them."""


def findings(gates: Sequence[Gate], case: Conclusion) -> tuple[Finding, ...]:
    """Return one finding for each question, in the order of `QUESTIONS`.

    Args:
        gates: The gates that decide, see `expunge.evals.verdict`.
        case: Ruling, goal and counts.
    """
    return tuple(_finding(axis, [g for g in gates if g.axis is axis], case) for axis in QUESTIONS)


def _finding(axis: Axis, own: Sequence[Gate], case: Conclusion) -> Finding:
    made = Finding(axis=axis, question=QUESTIONS[axis], answer="", detail="")
    if case.ruling is Ruling.INVALID:
        return replace(
            made,
            answer=ANSWERS[Status.INCONCLUSIVE],
            detail="The audit failed its own checks, so its figures decide nothing.",
            settle="Another audit, once the failed check is mended, for example with another "
            "retrained reference model (gold). Possible: yes.",
        )
    if case.ruling is Ruling.NOTHING_TO_FORGET and axis in _ERASURE:
        detail = "The original did not measurably hold the data."
        return replace(made, answer=NOT_APPLICABLE, detail=detail)
    if axis is Axis.PRIVACY and case.goal != "removal":
        detail = f"The goal is {case.goal}: what the weights still hold is not judged."
        return replace(made, answer=NOT_APPLICABLE, detail=detail)
    if axis is Axis.FORGETTING and case.cover and case.goal == "removal":
        detail = f"{COVERED} {case.cover} are unchanged."
        return replace(made, answer=ANSWERS[Status.FAIL], detail=detail)
    status = axis_status(axis, own)
    if axis is Axis.FORGETTING and case.lacking and status is Status.PASS:
        said = _sentences(_counts(case.tally), f"{plain(case.lacking)}")
        settle = "Records that name the wanted answers. Possible: yes"
        if "wanted answers" not in case.lacking:
            settle = f"{_MISSING[axis]}. Possible: where the training can be repeated"
        answer = ANSWERS[Status.INCONCLUSIVE]
        return replace(made, answer=answer, detail=said, settle=_sentences(settle))
    return replace(
        made,
        answer=ANSWERS[status],
        detail=_sentences(_detail(axis, own, status, case), _stronger(axis, case.beyond)),
        settle=_settle(axis, own, status),
    )


def _detail(axis: Axis, own: Sequence[Gate], status: Status, case: Conclusion) -> str:
    counts = _counts(case.tally) if axis is Axis.FORGETTING else ""
    if status is Status.NOT_COMPUTABLE:
        reasons = dict.fromkeys(plain(gate.reason) for gate in own if gate.reason)
        return _sentences(counts, next(iter(reasons), "no evidence was collected"))
    gate = _speaker(axis, own, status)
    figures = f"{subject(gate)}: {measured(gate)}"
    if axis is Axis.ROBUSTNESS:
        return _sentences(
            _attempts(own, status, case.tally), figures if status is not Status.PASS else ""
        )
    if axis is Axis.FORGETTING:
        return _sentences(counts, figures)
    if status is Status.SCAR:
        trace = "An expert could tell that something was removed"
        return _sentences(figures, trace)
    if axis is Axis.PRIVACY:
        return _sentences(figures, _as_trained(case.tally), _rehearsed(gate, own, case.unrehearsed))
    if not is_knowledge(gate):
        known = [one for one in own if is_knowledge(one) and not one.part]
        gate = known[0] if known else gate
        figures = _sentences(figures, f"{subject(gate)}: {measured(gate)}" if known else "")
    return _sentences(figures, _rehearsed(gate, own, case.unrehearsed))


def _as_trained(tally: Tally | None) -> str:
    """Say which share of the records the model still treats as trained on."""
    found = tally and tally.as_trained
    if not found:
        return ""
    bounds = f"{percent(found.low)} to {percent(found.high)}"
    return f"An estimated {percent(found.value)} of the records still behave as trained ({bounds})"


def _stronger(axis: Axis, beyond: Sequence[Gate]) -> str:
    """Say what a stronger adversary than the promise names brings back."""
    if axis is not Axis.ROBUSTNESS or not beyond:
        return ""
    names = ", ".join(dict.fromkeys(attempt(tried(gate)) or subject(gate) for gate in beyond))
    return (
        f"Beyond the promise it comes back, under {names}: the model is safe behind an interface, "
        "and its weights are not for release"
    )


def _speaker(axis: Axis, own: Sequence[Gate], status: Status) -> Gate:
    """Return the gate that speaks for its axis.

    Where something is wrong or open, the one that uses most of its margin; where all is well, what
    was asked of the records that training never rehearsed, if there is such a gate.
    """
    decisive = [g for g in own if g.status is status and (not g.part or status is Status.FAIL)]
    if status is Status.PASS and axis in (Axis.UTILITY, Axis.LOCALITY):
        kept = [gate for gate in decisive if is_knowledge(gate)]
        return kept[0] if kept else max(decisive, key=_pressing)
    return max(decisive or own, key=_pressing)


def _pressing(gate: Gate) -> float:
    """Return how much of its margin a gate uses: the most pressing one speaks for its axis."""
    if gate.value is None or not gate.margin:
        return -1.0
    return abs(gate.value) / gate.margin


def _counts(tally: Tally | None) -> str:
    """Say how many facts came back, and the share that this count allows."""
    if tally is None:
        return ""
    if not tally.facts:
        if tally.recited is None or tally.recited_before is None:
            return ""
        return (
            f"The model recites {percent(tally.recited)} of the text by itself "
            f"(before: {percent(tally.recited_before)})."
        )
    guessed = f"; retrained reference models guess {tally.guessable}" if tally.guessable else ""
    high = clopper_pearson(tally.leaked, tally.facts)[1]
    share = f"The true share is below {percent(high)} (95 % confidence)." if high < 1 else ""
    return _sentences(
        f"{tally.leaked} of {tally.facts} facts came back in {tally.attempts} attempts "
        f"(before: {tally.before}{guessed})",
        share,
    )


def _attempts(own: Sequence[Gate], status: Status, tally: Tally | None) -> str:
    """Name the attempts under which the data came back, or all that brought nothing back."""
    counted = [
        g for g in own if g.status is status and not (g.part and status is Status.INCONCLUSIVE)
    ]
    names = dict.fromkeys(attempt(tried(gate)) for gate in counted if tried(gate))
    listed = ", ".join([*names][:_LISTED])
    listed += f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    guessed = tally is not None and tally.leaked > 0
    said = {
        Status.PASS: "No more came back than guessing brings, under"
        if guessed
        else "Nothing came back under",
        Status.FAIL: "It came back, or stayed behind the answers, under",
        Status.INCONCLUSIVE: "Open under",
    }
    return f"{said[status]} {listed}" if names and status in said else ""


def _rehearsed(gate: Gate, own: Sequence[Gate], unrehearsed: frozenset[Axis]) -> str:
    """Say how a gate of what is kept relates to what training rehearsed; nothing for others."""
    if not is_knowledge(gate):
        return ""
    if gate.axis in unrehearsed:
        return "Training never rehearsed these records"
    beside = [each for each in own if each.name == f"{gate.name}: {REHEARSED}"]
    if not beside:
        return "Training may have rehearsed some of these records"
    return (
        "Training never rehearsed these records. "
        f"Beside them, records that it rehearsed: {measured(beside[0])}"
    )


def _settle(axis: Axis, own: Sequence[Gate], status: Status) -> str:
    """Say what would settle an open question, and whether this request can give it."""
    if status is Status.NOT_COMPUTABLE:
        possible = "where the training can be repeated" if axis in _ERASURE else "yes"
        return _sentences(_MISSING[axis], f"Possible: {possible}")
    if status is not Status.INCONCLUSIVE:
        return ""
    open_ = [gate for gate in own if gate.status is status and not gate.part]
    needed = max((gate.needed or 0 for gate in open_), default=0)
    words = list(dict.fromkeys(_in_full(gate.settle) for gate in open_ if gate.settle))
    ways: list[str] = []
    chances: list[str] = []
    if needed:
        forgets = any(g.axis in _ERASURE or g.name.endswith("forget") for g in open_)
        more = "records to forget" if forgets else "records to keep"
        ways.append(f"about {needed} more {more}")
        chances.append(f"only if the request has {needed} more records" if forgets else "yes")
        words = [word for word in words if "more records" not in word]
    ways += words
    if any("reference model" in word for word in words):
        chances.append("reference models where the training can be repeated")
    elif words:
        chances.append("only if there are more such records")
    if not ways:
        return "Nothing that this request can give. Possible: no."
    return _sentences(" or ".join(ways), f"Possible: {'; '.join(chances)}")


def _in_full(settle: str) -> str:
    """Name golds in full, with the word by which the command line calls them."""
    return re.sub(r"reference models?", r"\g<0> (gold)", plain(settle))


def _sentences(*parts: str) -> str:
    """Join parts as sentences: each begins with a capital letter and ends with a full stop."""
    said = (part.strip() for part in parts if part.strip())
    return " ".join(p[:1].upper() + p[1:] + ("" if p.endswith((".", "?")) else ".") for p in said)
