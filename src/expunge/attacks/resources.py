"""Tools: what an attacker brings along: prompts, a translator, a sibling of the model."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from expunge.attacks.base import Attack
from expunge.attacks.prompting.custom_prompts import NAME as OWN_PROMPTS
from expunge.attacks.prompting.custom_prompts import read_prompts
from expunge.attacks.prompting.plain import Plainly
from expunge.attacks.prompting.translation import Translation, Translator
from expunge.attacks.weight_space.interpolation import Merge
from expunge.errors import InputError, UsageError
from expunge.utils.registry import imported


@dataclass(frozen=True, kw_only=True, slots=True)
class AttackResources:
    """What is at hand beside the model; empty texts: nothing."""

    prompts: str = ""
    """File of the user's own prompts."""
    translator: str = ""
    """`module:function`, called with a text and a language code."""
    sibling: str = ""
    """Reference of a model to merge with."""

    def used_by(self, named: Sequence[str]) -> "AttackResources":
        """Return those that attacks of these names use."""
        return AttackResources(
            prompts=self.prompts if OWN_PROMPTS in named else "",
            translator=self.translator if Translation().name in named else "",
            sibling=self.sibling if Merge().name in named else "",
        )


def from_levels(named: Sequence[str], tools: AttackResources) -> tuple[str, ...]:
    """Return the names of attacks that levels have: for one's own prompts the plain question.

    `with_resources` adds the prompts themselves, for they come from a file and not from a level.

    Raises:
        UsageError: Own prompts are named, and there is no file of them.
    """
    if OWN_PROMPTS in named and not tools.prompts:
        raise UsageError(
            "no-own-prompts",
            what=f"{OWN_PROMPTS} is named, and no file of prompts",
            why="this attack asks what you have written yourself",
            fix="give the file: --prompts FILE, in an audit --set audit.prompts=FILE",
        )
    return tuple(Plainly().name if name == OWN_PROMPTS else name for name in named)


def with_resources(attacks: Sequence[Attack], tools: AttackResources) -> tuple[Attack, ...]:
    """Return a battery whose attacks use the tools, the user's own prompts last.

    Raises:
        UsageError: No attack of the battery uses a tool, or there is no such translator.
        InputError: The file of prompts is missing or malformed.
    """
    found = list(attacks)
    if tools.translator:
        _require_used(found, Translation, "a translator", "translation")
        translator = _imported(tools.translator)
        found = [
            replace(each, translator=translator, named=tools.translator)
            if isinstance(each, Translation)
            else each
            for each in found
        ]
    if tools.sibling:
        _require_used(found, Merge, "a sibling", "merge")
        found = [
            replace(each, sibling=tools.sibling) if isinstance(each, Merge) else each
            for each in found
        ]
    if tools.prompts:
        # What the model says when asked plainly is no merit of a prompt, so that is asked, too.
        plainly = [] if Plainly() in found else [Plainly()]
        found = [*plainly, *found, read_prompts(Path(tools.prompts))]
    return tuple(found)


def _require_used(attacks: Sequence[Attack], kind: type[Attack], tool: str, name: str) -> None:
    if not any(isinstance(each, kind) for each in attacks):
        raise UsageError(
            "no-such-attack-here",
            what=f"{tool} is given, and no attack of this battery uses it",
            why="it would be ignored without a word",
            fix=f"take level standard, or add the attack: --only {name}, in an audit"
            f" --set audit.attacks={name}",
        )


def _imported(reference: str) -> Translator:
    module, colon, name = reference.partition(":")
    try:
        found = imported(module, name)
    except (ImportError, KeyError, ValueError) as error:
        raise UsageError(
            "no-translator",
            what=f"cannot import {reference}" if colon else f"{reference!r} is not MODULE:FUNCTION",
            why=str(error),
            fix="give module:function; it is called with a text and a language code",
        ) from error
    if not callable(found):
        raise InputError(
            "no-translator",
            what=f"{reference} is not a function",
            why="it is called with a text and a language code, and returns the translation",
            fix="name a function",
        )
    return cast("Translator", found)
