"""The recovery ladder on paper: a sentence, a table, curves, and the worst transcripts."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from expunge.attacks.base import Attempt, knowledge, observable_of
from expunge.evals.recovery import UNION, AttackFinding, AttackRecovery
from expunge.evidence.store import Item
from expunge.metrics.outcomes import Status
from expunge.reporting.plot_data import relearning
from expunge.reporting.plots import alone
from expunge.reporting.redaction import OpenText, Redactor
from expunge.utils.file_names import ATTACK_PAGE, ATTACK_TABLE
from expunge.utils.io import write_json, write_text

SCHEMA = "expunge.attack/1"
"""Name and version of the layout of `attack.json`."""


SHOWN = 5
"""Transcripts of the worst attack."""

_CONTROL = "control items"

WORDS = {
    Status.FAIL: "came back",
    Status.PASS: "held",
    Status.INCONCLUSIVE: "open",
    Status.SCAR: "open",
    Status.NOT_COMPUTABLE: "not computable",
}
"""What is said of an attack by what it came to."""
_COUNTED = {
    "key-fact": "K is the share of facts stated.",
    "rouge-l-recall": "No record names its fact, so K is the share of the answer's words said "
    "(ROUGE-L recall): give key_answers to count facts.",
}
_HEAD = (
    "| attack | access | result | K model | K {anchor} | recovered | 95 % bounds | p | facts "
    "| tokens | steps | seconds |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """What a battery says in one sentence, and its main lines, the worst attack first."""

    result: str
    """`recovered`, `held`, `open`, or `nothing`."""
    sentence: str
    lines: tuple[str, ...]
    counted: str


def summarise(
    rungs: Sequence[AttackRecovery], *, items: Sequence[Item], access: str, left_out: int = 0
) -> Summary:
    """Say what the battery found: what came back, or that nothing did, or that it stays open.

    Args:
        rungs: The ladder.
        items: Facts and control items.
        access: What the attacker had.
        left_out: Number of facts that the original does not know, which are not judged.
    """
    came = [rung for rung in rungs if rung.status is Status.FAIL]
    still_open = [rung for rung in rungs if rung.status is Status.INCONCLUSIVE]
    held = [rung for rung in rungs if rung.status is Status.PASS]
    anchor = _anchor(items)
    gives = "give" if anchor == _CONTROL else "gives"
    if came:
        result = "recovered"
        sentence = f"RECOVERED: {len(came)} of {_attacks(rungs)} brought back more than {anchor} "
        sentence += f"{gives}; the worst is {came[0].attack}."
    elif still_open:
        result = "open"
        sentence = f"OPEN: nothing was shown to come back, but {len(still_open)} of "
        sentence += f"{_attacks(rungs)} cannot be settled with these facts."
    elif held:
        result = "held"
        sentence = f"HELD: {_attacks(held)} with access {access} brought nothing back beyond "
        sentence += f"{anchor}; {_bound(held)}."
    else:
        result = "nothing"
        sentence = "NOTHING TO ATTACK: no attack could be scored."
    lines = [_line(rung) for rung in rungs if rung.worst is not None]
    lines += [f"{r.attack}: not computable: {r.reason}" for r in rungs if r.worst is None]
    counted = _counted(items)
    if left_out:
        counted += f" Not judged: {left_out} that the original does not know."
    return Summary(result=result, sentence=sentence, lines=tuple(lines), counted=counted)


def _counted(items: Sequence[Item]) -> str:
    observable = observable_of(items)
    named = [bool(item.key_answers) for item in items if item.split == "forget"]
    if observable == "rouge-l-recall" or all(named):
        return _COUNTED[observable]
    return (
        f"{_COUNTED[observable]} Only {sum(named)} of {len(named)} records name their fact, and "
        "attacks that ask can judge no others: give key_answers for all."
    )


def _anchor(items: Sequence[Item]) -> str:
    """Name what the model is held against: control items are attacked only without gold."""
    return _CONTROL if any(item.split == "control" for item in items) else "gold"


def _bound(held: Sequence[AttackRecovery]) -> str:
    """Say what so few facts leave possible."""
    worst = max((r.worst for r in held if r.worst is not None), key=lambda test: test.high)
    return f"with {worst.n} facts, recovery of up to {min(1.0, worst.high):.0%} is not ruled out"


def _attacks(rungs: Sequence[AttackRecovery]) -> str:
    count = sum(rung.worst is not None for rung in rungs)
    return f"{count} attack" if count == 1 else f"{count} attacks"


def _line(rung: AttackRecovery) -> str:
    worst = rung.worst
    assert worst is not None
    where = "" if worst.variant == UNION else f" ({worst.variant})"
    more = f"; {worst.reason}" if worst.reason else ""
    if worst.needed:
        more += f"; about {worst.needed} more facts would settle it"
    if worst.drawn:
        more += f"; {worst.drawn}"
    return (
        f"{rung.attack}{where}: {WORDS[rung.status]}, {worst.rho:.2f} recovered "
        f"({worst.low:.2f} to {worst.high:.2f}), K {worst.judged:.2f} against {worst.anchor:.2f}, "
        f"{worst.n} facts{more}"
    )


def ladder_json(rungs: Sequence[AttackRecovery], summary: Summary) -> dict[str, Any]:
    """Return the content of `attack.json`: numbers only, floats with every digit."""
    rows = [asdict(rung) for rung in rungs]
    whole = {"schema": SCHEMA, "summary": asdict(summary), "rungs": rows}
    return json.loads(json.dumps(whole))


def write_ladder(
    folder: Path,
    rungs: Sequence[AttackRecovery],
    summary: Summary,
    *,
    attempts: Mapping[str, Sequence[Attempt]],
    items: Sequence[Item],
    redactor: Redactor,
) -> None:
    """Write `attack.json` (numbers only) and `attack.md` (with transcripts, redacted by default).

    Where an attack trained, its curves are drawn to `relearning.svg`.

    Args:
        folder: The run folder.
        rungs: The ladder.
        summary: What it says.
        attempts: What each attack brought out of the judged model.
        items: Facts and control items.
        redactor: Masks the texts of records.
    """
    write_json(folder / ATTACK_TABLE, ladder_json(rungs, summary))
    first = rungs[0] if rungs else None
    # What gold says under the same attack is no leak: nothing is shown of a model that held.
    worst = first if first and first.worst is not None and first.worst.rho > 0 else None
    shown = transcripts(worst, attempts[worst.attack], items, redactor) if worst else ""
    drawn = relearning(rungs)
    if drawn is not None:
        write_text(folder / "relearning.svg", alone(drawn))
    anchor = _anchor(items)
    parts = [
        f"# Attacks\n\n{summary.sentence}\n\n{summary.counted} Recovered = (K model - K {anchor}) "
        f"/ (K original - K {anchor}), the divisor by plain questions where these reach the facts; "
        "bounds are one-sided 95 %, p is adjusted for all attacks.\n",
        _HEAD.format(anchor=anchor) + "".join(f"{_row(rung)}\n" for rung in rungs),
        "![Relearning curves against gold](relearning.svg)\n" if drawn is not None else "",
        _curves(rungs, anchor),
        shown,
    ]
    text = "\n".join(part for part in parts if part)
    write_text(folder / ATTACK_PAGE, text, owner_only=isinstance(redactor, OpenText))


def _row(rung: AttackRecovery) -> str:
    cost, worst = rung.cost, rung.worst
    spent = f"{cost.tokens} | {cost.steps} | {cost.seconds:.0f}"
    if worst is None:
        result = f"{WORDS[rung.status]}: {rung.reason}"
        return f"| {rung.attack} | {rung.access} | {result} | | | | | | | {spent} |"
    where = "" if worst.variant == UNION else f" ({worst.variant})"
    left_out = f" ({rung.not_judged} not judged)" if rung.not_judged else ""
    result = f"{WORDS[rung.status]}{where}"
    result += f": {worst.reason}" if worst.reason else ""
    result += f"; about {worst.needed} more facts would settle it" if worst.needed else ""
    result += f"; {worst.drawn}" if worst.drawn else ""
    return (
        f"| {rung.attack} | {rung.access} | {result} | {worst.judged:.2f} | {worst.anchor:.2f} "
        f"| {worst.rho:.2f} | {worst.low:.2f} to {worst.high:.2f} | {worst.p:.3f} "
        f"| {worst.n}{left_out} | {spent} |"
    )


def _curves(rungs: Sequence[AttackRecovery], anchor: str) -> str:
    """Show the variants of attacks that have several: relearning curves, depths, strengths."""
    lines: list[str] = []
    for rung in rungs:
        if len(rung.tests) < 2:
            continue
        columns = f"| variant | K model | K {anchor} | recovered | bounds |"
        lines.append(f"\n## {rung.attack}\n\n{columns}")
        lines.append("|---|---|---|---|---|")
        lines += [_point(test) for test in sorted(rung.tests, key=lambda t: _natural(t.variant))]
    return "\n".join(lines) + "\n" if lines else ""


def _point(test: AttackFinding) -> str:
    bounds = f"{test.low:.2f} to {test.high:.2f}"
    numbers = f"{test.judged:.2f} | {test.anchor:.2f} | {test.rho:.2f} | {bounds}"
    return f"| {test.variant} | {numbers} |"


def _natural(variant: str) -> list[tuple[int, float, str]]:
    """Order `step 8` before `step 32`."""
    found: list[tuple[int, float, str]] = []
    for word in variant.split():
        number = word.rstrip("%,")
        digits = number.replace(".", "", 1).replace("e-", "", 1).isdigit()
        found.append((0, float(number), "") if digits else (1, 0.0, word))
    return found


def transcripts(
    rung: AttackRecovery, attempts: Sequence[Attempt], items: Sequence[Item], redactor: Redactor
) -> str:
    """Show what the worst attack brought out, masked: the first facts that came back, by id."""
    by_id = {item.record: item for item in items}
    worst = rung.worst
    assert worst is not None
    observable = observable_of(items)
    fitting = [a for a in attempts if worst.variant in (UNION, a.variant) and a.text]
    known: dict[str, tuple[float, Attempt]] = {}
    for attempt in fitting:
        value = knowledge(attempt, by_id[attempt.record], observable) or 0.0
        if value > 0 and value > known.get(attempt.record, (0.0, attempt))[0]:
            known[attempt.record] = (value, attempt)
    ranked = sorted(known.items(), key=lambda pair: (-pair[1][0], pair[0]))
    if not ranked:
        return ""
    lines = [f"\n## What {rung.attack} brought out\n"]
    for name, (_, attempt) in ranked[:SHOWN]:
        item = by_id[name]
        begun = f" [begun: {redactor.text(attempt.given)}]" if attempt.given else ""
        lines.append(f"- asked: {_flat(redactor.text(attempt.told))}{begun}")
        lines.append(f"  said: {_flat(redactor.text(attempt.text))}")
        lines.append(f"  true: {_flat(redactor.text(item.answer))}")
    return "\n".join(lines) + "\n"


def _flat(text: str) -> str:
    return " / ".join(line.strip() for line in text.splitlines() if line.strip())
