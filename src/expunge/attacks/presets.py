"""The table of attacks, and which of them with which budget make a level.

And what an attacker brings along: prompts of one's own, a translator, a sibling of the model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from expunge.attacks.base import Attack
from expunge.attacks.finetuning.base import Sweep
from expunge.attacks.finetuning.benign import RetainOnly
from expunge.attacks.finetuning.related_text import RelatedText
from expunge.attacks.finetuning.relearn import Relearn
from expunge.attacks.finetuning.same_syntax import SameSyntax
from expunge.attacks.internals.activation_patching import Patching
from expunge.attacks.internals.linear_probe import LinearProbe
from expunge.attacks.internals.logit_lens import EarlyExit, LogitLens
from expunge.attacks.optimized_prompts.embedding import EmbeddingAttack
from expunge.attacks.optimized_prompts.gcg import GCG
from expunge.attacks.optimized_prompts.soft_prompt import SoftPrompt
from expunge.attacks.prompting.alias import Alias
from expunge.attacks.prompting.cloze import Cloze
from expunge.attacks.prompting.custom_prompts import NAME as OWN_PROMPTS
from expunge.attacks.prompting.custom_prompts import read_prompts
from expunge.attacks.prompting.formats import Formats
from expunge.attacks.prompting.in_context import InContext
from expunge.attacks.prompting.multi_hop import MultiHop
from expunge.attacks.prompting.multi_turn import MultiTurn
from expunge.attacks.prompting.multiple_choice import MultipleChoice
from expunge.attacks.prompting.paraphrase import FORMS, Paraphrase, Wordings
from expunge.attacks.prompting.plain import Plainly
from expunge.attacks.prompting.prefill import OPENING, Affirm, Prefill
from expunge.attacks.prompting.reverse_question import Inverse
from expunge.attacks.prompting.role_play import RolePlay
from expunge.attacks.prompting.translation import Translation, Translator
from expunge.attacks.sampling.extraction import Extraction
from expunge.attacks.sampling.inverse_greedy import InverseGreedy
from expunge.attacks.sampling.near_verbatim import NearVerbatim
from expunge.attacks.sampling.sampling import Sampling
from expunge.attacks.weight_space.direction_ablation import DirectionAblation
from expunge.attacks.weight_space.interpolation import Interpolation, Merge
from expunge.attacks.weight_space.original_routing import OriginalRouting
from expunge.attacks.weight_space.pruning_and_noise import Noise, Pruning
from expunge.attacks.weight_space.quantization import Rounding
from expunge.attacks.weight_space.real_quantizers import RealKernel
from expunge.attacks.weight_space.remove_adapter import Unplug
from expunge.attacks.weight_space.set_difference import SetDifference
from expunge.config.catalogue import Level
from expunge.errors import InputError, UsageError
from expunge.utils.registry import build_named, imported, unknown

_OPENINGS = (
    OPENING,
    "Of course. As far as I remember,",
    "Yes, I know this one:",
)
_QUICK = Sweep(lora_rates=(), upper_rates=(1e-3,), looks=(0, 8, 32))
_CHEAP = replace(_QUICK, seeds=2)
_SWEEP = Sweep(
    lora_rates=(1e-3,), upper_rates=(2e-4, 1e-3), full_rates=(5e-5,), looks=(0, 8, 32), seeds=2
)
_WIDE = Sweep(
    lora_rates=(1e-4, 5e-4, 2e-3), full_rates=(1e-5, 5e-5, 2e-4), looks=(0, 8, 32, 100), seeds=3
)

AUDIT_FORMS = (
    Paraphrase(most=1),
    Affirm(),
    Prefill(share=0.25),
    Prefill(share=0.5),
    Rounding(form="int8"),
    Rounding(form="int4"),
)
"""Forms in which every audit asks about each forget record, beside the plain question."""

OTHER_FORMS: tuple[Attack, ...] = (
    Formats(facts=8),
    Inverse(most=8),
    Sampling(samples=8, temperatures=(1.0,), most=4),
    InverseGreedy(most=8),
    MultipleChoice(variants=("letter", "yes-no"), most=8),
)
"""What level quick asks beside the questions of the audit itself, about as many answers as those:
a model that answers by format is caught on the few facts that each format is asked of."""

QUICK: tuple[Attack, ...] = (
    Plainly(),
    Unplug(),
    *AUDIT_FORMS,
    Wordings(forms=FORMS[:2]),
    *OTHER_FORMS,
)

_ASKING: tuple[Attack, ...] = (
    Paraphrase(),
    Wordings(),
    Formats(),
    RolePlay(),
    Alias(),
    Inverse(),
    Cloze(),
    MultipleChoice(),
    Translation(),
    MultiHop(),
    InContext(),
    InContext(as_notes=True, counts=(1, 5, 20)),
    MultiTurn(),
    Affirm(openings=_OPENINGS),
    Prefill(share=0.1),
    Prefill(share=0.25),
    Prefill(share=0.5),
    Extraction(),
)

_WEIGHTS: tuple[Attack, ...] = (
    Interpolation(),
    Merge(),
    OriginalRouting(),
    Pruning(),
    Noise(),
    Rounding(form="int8"),
    Rounding(form="int4"),
    Rounding(form="nf4"),
    Rounding(form="q8_0"),
    Rounding(form="q4_0"),
    RealKernel(kernel="torchao-int8"),
    RealKernel(kernel="torchao-int4"),
    RealKernel(kernel="bitsandbytes-int8"),
    RealKernel(kernel="bitsandbytes-nf4"),
)

_INSIDE: tuple[Attack, ...] = (LogitLens(), EarlyExit(), LinearProbe(), Patching())

STANDARD: tuple[Attack, ...] = (
    Plainly(),
    Unplug(),
    *_ASKING,
    Sampling(samples=32, temperatures=(1.0,)),
    InverseGreedy(),
    NearVerbatim(),
    *_WEIGHTS,
    *_INSIDE,
    Relearn(sweep=_SWEEP),
    RelatedText(sweep=_CHEAP),
    SameSyntax(sweep=_CHEAP),
    RetainOnly(sweep=_CHEAP),
)

PARANOID: tuple[Attack, ...] = (
    Plainly(),
    Unplug(),
    *_ASKING,
    Sampling(samples=128, temperatures=(0.7, 1.0, 1.3)),
    InverseGreedy(),
    NearVerbatim(width=100),
    *_WEIGHTS,
    *_INSIDE,
    DirectionAblation(),
    SetDifference(),
    Relearn(sweep=_WIDE),
    RelatedText(sweep=_SWEEP),
    SameSyntax(sweep=_SWEEP),
    RetainOnly(sweep=_SWEEP, counts=(10, 100, 1000)),
    SoftPrompt(seeds=3),
    EmbeddingAttack(),
    GCG(),
)

NAMED: tuple[Attack, ...] = (
    Paraphrase(most=8),
    Sampling(samples=8, temperatures=(1.0,)),
    Relearn(sweep=_QUICK),
)
"""What level quick has only for those who name it: all wordings, or a minute or two each."""

LEVELS: Mapping[Level, tuple[Attack, ...]] = {
    "quick": QUICK,
    "standard": STANDARD,
    "paranoid": PARANOID,
}


def extra_attacks(level: Level, named: tuple[str, ...]) -> tuple[Attack, ...]:
    """Return the attacks that an audit makes beside its questions: those of its level, those named.

    Level quick has the other forms here; its other attacks are questions of the audit itself.

    Raises:
        UsageError: There is no attack of that name.
    """
    own = (Plainly(), *OTHER_FORMS) if level == "quick" else LEVELS[level]
    return merge_attacks(level, named, own=own)


def merge_attacks(
    level: Level, named: tuple[str, ...], *, own: tuple[Attack, ...]
) -> tuple[Attack, ...]:
    """Return the named attacks with the budget of a level, then its own; none is made twice.

    Who names an attack gets the budget of those that are named, where it is another one.

    Raises:
        UsageError: There is no attack of that name.
    """
    further = select_attacks(level, named) if named else ()
    taken = {attack.name for attack in further}
    return (*further, *(attack for attack in own if attack.name not in taken))


def attack_names() -> list[str]:
    """Return the names of all attacks, in the order of the battery."""
    return list(dict.fromkeys(attack.name for attack in (*PARANOID, *STANDARD, *QUICK)))


def select_attacks(level: Level, only: tuple[str, ...]) -> tuple[Attack, ...]:
    """Return the attacks of a level, or the named ones with the budget of that level.

    A named attack that the level does not have gets the budget of the next level that has it; level
    quick has small budgets of its own for some (`NAMED`). The plain question is always asked.

    Raises:
        UsageError: There is no attack of that name.
    """
    if not only:
        return LEVELS[level]
    small = NAMED if level == "quick" else ()
    known = {
        attack.name: attack
        for each in (PARANOID, STANDARD, QUICK, LEVELS[level], small)
        for attack in each
    }
    for name in only:
        if name not in known:
            raise unknown("attack", name, attack_names(), otherwise="choose one of these")
    wanted = dict.fromkeys((Plainly().name, *only))
    return tuple(known[name] for name in wanted)


def own_attack(reference: str) -> Attack:
    """Import an attack of the user's own; never from a name that stands in a file.

    Args:
        reference: `package.module:Class`, a frozen dataclass that is an `Attack`.

    Raises:
        UsageError: There is none, or it has no meta, no run, or the name of an attack of ours.
    """
    kinds: dict[str, type[Attack]] = {}
    made = build_named(kinds, reference, {}, what="attack")
    missing = [part for part in ("meta", "name", "run") if part not in dir(made)]
    if missing or made.name in attack_names():
        raise UsageError(
            "no-attack",
            what=f"{reference} is no attack of its own",
            why=f"it has no {missing[0]}" if missing else f"{made.name} is an attack of expunge",
            fix="see `An attack outside this repository` in CONTRIBUTING.md",
        )
    return made


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
