"""Write docs/attacks.md, the page of all attacks, from the code itself.

    python scripts/make_attack_page.py

The page cannot drift: a test writes it again and compares.
"""

import inspect
import re
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

from expunge.attacks import presets
from expunge.attacks.base import FAMILIES, Attack
from expunge.attacks.finetuning.base import Sweep
from expunge.attacks.prompting.custom_prompts import OwnPrompts
from expunge.methods.describe import flowing

PAGE = Path(__file__).parents[1] / "docs" / "attacks.md"
ATTACKS = Path(presets.__file__).parent

_HEAD = """# Attacks

`expunge attack MODEL --against REQUEST` runs them; `--level` chooses how many and how hard,
`--only NAME` picks some. Every attack is made in the same way on the golds, or on control items
where there is no gold, and scored as excess over them. An attack that learns uses one half of the
facts and is tested on the other, then the halves change places; a fact that the other half states
is not tested. What an attack needs and does not get makes it `not computable`, with the need as
the reason.

Access: what the attacker must have: T1 queries, T2 a fine-tuning service, T3 the weights;
`--access` leaves out what takes more. In verdicts rounding counts from T0 on, since models are
served rounded every day. Level: the first that has the attack. Budget: what it spends per model,
with its numbers at each level where they differ (q quick, s standard, p paranoid). Protocols follow
below the table; deviations from the papers stand in them.

| attack | level | access | learns | budget | needs | source |
|---|---|---|---|---|---|---|
"""


def page() -> str:
    """Return the text of the page."""
    known = [*every(), OwnPrompts(prompts=())]
    parts = [_HEAD + "".join(f"{_row(attack)}\n" for attack in known)]
    for family, about in FAMILIES.items():
        parts.append(f"## {family.capitalize()}\n\n{about.capitalize()}.\n")
        modules: dict[str, list[str]] = {}
        for attack in known:
            if attack.family == family:
                modules.setdefault(type(attack).__module__, []).append(f"`{attack.name}`")
        for module, names in modules.items():
            text = flowing(inspect.getdoc(sys.modules[module]) or "")
            parts.append(f"**{', '.join(names)}** ({_file(module)}). {text}\n")
    return "\n".join(parts)


def every() -> list[Attack]:
    """Return each attack once, as the first level that has it makes it."""
    found: dict[str, Attack] = {}
    for attacks in presets.LEVELS.values():
        for attack in attacks:
            found.setdefault(attack.name, attack)
    first = [name for name in presets.attack_names() if name in found]
    return [found[name] for name in first]


def _row(attack: Attack) -> str:
    at = {
        level: same
        for level, attacks in presets.LEVELS.items()
        for same in attacks
        if same.name == attack.name
    }
    level = next(iter(at), "with `--prompts`")
    budget = "; ".join(part for part in (_budget(attack), _numbers(at)) if part)
    cells = (
        f"`{attack.name}`",
        level,
        attack.access,
        "yes" if attack.learns else "",
        budget,
        attack.needs,
        _sources(attack),
    )
    return f"| {' | '.join(cells)} |"


def _doc(attack: Attack) -> str:
    return " ".join((inspect.getdoc(sys.modules[type(attack).__module__]) or "").split())


def _budget(attack: Attack) -> str:
    found = re.search(r"Budget: ([^.;]+)", _doc(attack))
    return found[1] if found else ""


def _sources(attack: Attack) -> str:
    ids = dict.fromkeys(re.findall(r"\d{4}\.\d{5}", _doc(attack)))
    return ", ".join(f"[{each}](https://arxiv.org/abs/{each})" for each in ids)


def _numbers(at: dict[str, Attack]) -> str:
    """Show the numbers of an attack, level by level where they change."""
    shown: dict[str, str] = {}
    for level, attack in at.items():
        text = ", ".join(f"{name} {_value(value)}" for name, value in _knobs(attack) if value)
        if text and text not in shown.values():
            shown[level[0]] = text
    if len(shown) == 1:
        return next(iter(shown.values()))
    return "; ".join(f"{level}: {text}" for level, text in shown.items())


def _knobs(owner: object) -> list[tuple[str, object]]:
    """Return what is a number or a row of numbers; of a list of texts, its length."""
    assert is_dataclass(owner)
    found: list[tuple[str, object]] = []
    for field in fields(owner):
        value = getattr(owner, field.name)
        if isinstance(value, Sweep):
            found += _knobs(value)
        elif isinstance(value, tuple) and any(isinstance(each, str | tuple) for each in value):
            found.append((field.name, len(value)))
        elif isinstance(value, int | float | tuple) and not isinstance(value, bool):
            found.append((field.name, value))
    return [(name.replace("_", " "), value) for name, value in found]


def _value(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(f"{each:g}" for each in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _file(module: str) -> str:
    path = Path(sys.modules[module].__file__ or "").relative_to(ATTACKS)
    return f"`{path.as_posix()}`"


def main() -> None:
    """Write the page."""
    text = page()
    PAGE.write_text(text, encoding="utf-8")
    print(f"{PAGE.name}: {text.count(chr(10))} lines")


if __name__ == "__main__":
    main()
