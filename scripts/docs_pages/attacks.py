"""The catalogue of attacks, from the code."""

import inspect
import sys
from dataclasses import fields, is_dataclass

from docs_pages.markdown import GENERATED, papers, sentence, table
from docs_pages.registries import ATTACK_FAMILIES, Attack, OwnPrompts, Sweep, flowing, presets

_HEAD = """# Attacks

`expunge attack MODEL --against REQUEST` runs them. `--level` chooses how many and how hard.
`--only NAME` picks single attacks.
[Attack a model](../how-to/attack-a-model.md) explains the score.

- **Level**: the first level that has the attack.
- **Access**: what the attacker needs. T1 queries, T2 a fine-tuning service, T3 the weights.
  In verdicts rounding counts from T0 on, because models are served in few bits every day.
- **Learns**: the attack uses one half of the facts and is tested on the other, then in reverse.
- **Needs**: a missing need makes the attack `not computable`.

The sections below the table describe each attack with its budget per model. q, s and p mark levels
(quick, standard, paranoid) where numbers differ.
"""


def page() -> str:
    """Return the text of the page."""
    known = [*every(), OwnPrompts(prompts=())]
    head = ("attack", "level", "access", "learns", "needs", "source")
    parts = [GENERATED + _HEAD.rstrip(), table(head, [_row(attack) for attack in known])]
    for family, about in ATTACK_FAMILIES.items():
        parts.append(f"## {family.capitalize()}\n\n{sentence(about)}")
        modules: dict[str, list[Attack]] = {}
        for attack in known:
            if attack.meta.family == family:
                modules.setdefault(type(attack).__module__, []).append(attack)
        for module, own in modules.items():
            names = ", ".join(f"`{attack.name}`" for attack in own)
            text = flowing(inspect.getdoc(sys.modules[module]) or "")
            parts.append(f"### {names}\n\n{text}")
            if lines := [_spends(attack) for attack in own if _numbers(_at(attack))]:
                parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def every() -> list[Attack]:
    """Return each attack once, as the first level that has it makes it."""
    found: dict[str, Attack] = {}
    for attacks in presets.LEVELS.values():
        for attack in attacks:
            found.setdefault(attack.name, attack)
    return [found[name] for name in presets.attack_names() if name in found]


def _at(attack: Attack) -> dict[str, Attack]:
    """Return the attack as each level makes it."""
    return {
        level: same
        for level, attacks in presets.LEVELS.items()
        for same in attacks
        if same.name == attack.name
    }


def _spends(attack: Attack) -> str:
    return f"- `{attack.name}`: {_numbers(_at(attack))}"


def _row(attack: Attack) -> tuple[object, ...]:
    return (
        f"`{attack.name}`",
        next(iter(_at(attack)), "with `--prompts`"),
        attack.meta.access,
        "yes" if attack.meta.learns else "",
        attack.meta.needs,
        papers(_doc(attack)),
    )


def _doc(attack: Attack) -> str:
    return " ".join((inspect.getdoc(sys.modules[type(attack).__module__]) or "").split())


def _numbers(at: dict[str, Attack]) -> str:
    """Show the numbers of an attack, level by level where they change."""
    shown: dict[str, str] = {}
    for level, attack in at.items():
        text = ", ".join(f"{name} {_value(value)}" for name, value in _budgets(attack) if value)
        if text and text not in shown.values():
            shown[level[0]] = text
    if len(shown) == 1:
        return next(iter(shown.values()))
    return "; ".join(f"{level}: {text}" for level, text in shown.items())


def _budgets(owner: object) -> list[tuple[str, object]]:
    """Return what is a number or a row of numbers; of a list of texts, its length."""
    assert is_dataclass(owner)
    found: list[tuple[str, object]] = []
    for field in fields(owner):
        value = getattr(owner, field.name)
        if isinstance(value, Sweep):
            found += _budgets(value)
        elif isinstance(value, tuple) and any(isinstance(each, str | tuple) for each in value):
            found.append((field.name, len(value)))
        elif isinstance(value, int | float | tuple) and not isinstance(value, bool):
            found.append((field.name, value))
    return [(name.replace("_", " "), value) for name, value in found]


def _value(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(f"{each:g}" for each in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
