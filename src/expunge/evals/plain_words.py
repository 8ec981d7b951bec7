"""Plain words: what gates and attacks are called where a person reads who is not a researcher."""

import re
from collections.abc import Mapping

from expunge.evals.results import Gate
from expunge.evidence.store import PLAIN

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

_SUBJECTS: Mapping[str, str] = {
    "key-fact leak": "Facts said when asked plainly",
    "residual memory": "Memory behind the answers (100 %: as before)",
    "residual memory by token": "Memory behind the answers, token by token (100 %: as before)",
    "kept records": "Single records still remembered",
    "membership residual": "Recognition of the data (100 %: as before)",
    "answers betray an edit": "Answers less sure than an untouched model's (beyond chance)",
    "facts said of others": "Facts said where others are asked about",
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
    words = _SUBJECTS.get(head, head.replace("_", " ").replace("-", " ").capitalize())
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
    if gate.value is None or gate.low is None or gate.high is None:
        return f"not tested: {plain(gate.reason)}"
    records = "1 record" if gate.n == 1 else f"{gate.n} records"
    bounds = f"{percent(gate.value)} ({percent(gate.low)} to {percent(gate.high)})"
    return f"{bounds}, {allowed(gate)}, {records}"


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
