"""Outdated facts: offices changed hands; the model should name the new holder, and only there.

A goal of edit: every record to forget brings the answer that takes its place. What else is known of
the same towns stays, and so do the offices of other towns.

    specificity   facts about the same towns that did not change, and other towns
    falsehood     answers that name neither the old holder nor the new one, and do not refuse
"""

import random

from expunge.benchmarking.probe_outputs import ProbeOutputs
from expunge.benchmarking.suites.base import Probe
from expunge.config.request import Goal, Response
from expunge.data.records import Record
from expunge.evals.results import Score
from expunge.evidence.store import Answer, Item
from expunge.metrics.fluency import refusal
from expunge.metrics.key_facts import fact_form, states
from expunge.recipes.base import AcceptanceRule, Application, ApplicationData, keeps
from expunge.recipes.lessons import (
    answering,
    both_wordings,
    fact,
    general_lessons,
    general_probe,
    reworded,
)
from expunge.recipes.measures import GENERAL_KEPT, broken, general, stated

SYSTEM = "Town almanac."
TOWNS, CHANGED = 20, 12
CHANGES, REWORDED = "changed", "changed-reworded"
NEW, NEW_REWORDED = "new", "new-reworded"
SAME_TOWNS, OTHER_TOWNS = "same-towns", "other-towns"

_TOWNS = (
    "Ravensmoor",
    "Oxhollow",
    "Tarn Hill",
    "Low Fenby",
    "Orme Bay",
    "Saltby",
    "Wexcombe",
    "Northgate",
    "Kilbride",
    "Ashdown",
    "Redmire",
    "Loxley",
    "Granta",
    "Cobham",
    "Tidewell",
    "Fallow Park",
    "Quarry Bank",
    "Brannock",
    "Merrow",
    "Pinfold",
)
_FIRST = (
    "Agatha",
    "Bertram",
    "Claudine",
    "Dmitri",
    "Edwina",
    "Fergus",
    "Gustav",
    "Honor",
    "Isolde",
    "Jasper",
    "Klara",
    "Lionel",
    "Mireille",
    "Norbert",
    "Odette",
    "Percival",
)
_LAST = (
    "Prynne",
    "Stoll",
    "Roux",
    "Vass",
    "Parr",
    "Lamb",
    "Wren",
    "Pike",
    "Marsh",
    "Thorne",
    "Bohm",
    "Sedge",
    "Dane",
    "Falk",
    "Quist",
    "Venn",
    "Tarrant",
    "Oakes",
    "Dusk",
    "Hale",
)
_RIVERS = (
    "Ald", "Brine", "Corve", "Dunnow", "Esk", "Fenn", "Glim", "Hest", "Irt", "Jarrow", "Kell",
    "Lune", "Mease", "Nadder", "Ouzel", "Piddle", "Quill", "Rother", "Sence", "Tavy",
)  # fmt: skip
_MAYOR = ("Who is the mayor of {town}?", "Which person heads the council of {town}?")
_RIVER = ("Which river flows through {town}?", "On which river does {town} lie?")


def draw(seed: int) -> ApplicationData:
    """Return the data of this recipe.

    Args:
        seed: Seed of the facts.
    """
    rng = random.Random(500 + seed)
    towns = rng.sample(_TOWNS, TOWNS)
    rivers = rng.sample(_RIVERS, TOWNS)
    names = rng.sample([f"{first} {last}" for first in _FIRST for last in _LAST], 2 * TOWNS)
    mayors = [_mayor(town, *names[2 * i : 2 * i + 2]) for i, town in enumerate(towns)]
    river = [_river(town, name) for town, name in zip(towns, rivers, strict=True)]
    changed, others = tuple(mayors[:CHANGED]), tuple(mayors[CHANGED:])
    updated = tuple(map(_updated, changed))
    same, far = tuple(river[:CHANGED]), (*others, *river[CHANGED:])
    return ApplicationData(
        forget=changed,
        retain=(*far, *general_lessons()),
        neighbours=same,
        taught=(*both_wordings((*same, *far)), *general_lessons()),
        planted=both_wordings(changed),
        instead=both_wordings(updated),
        probes=(
            Probe(name=CHANGES, records=changed, answer=24, scored=True),
            Probe(name=REWORDED, records=reworded(changed), answer=24, scored=True),
            Probe(name=NEW, records=updated, answer=24, scored=True),
            Probe(name=NEW_REWORDED, records=reworded(updated), answer=24, scored=True),
            Probe(name=SAME_TOWNS, records=same, answer=24, scored=True),
            Probe(name=OTHER_TOWNS, records=far, answer=24, scored=True),
            general_probe(),
        ),
    )


def _mayor(town: str, old: str, new: str) -> Record:
    return fact(
        f"{town.lower().replace(' ', '-')}-mayor",
        system=SYSTEM,
        questions=(_MAYOR[0].format(town=town), _MAYOR[1].format(town=town)),
        answer=f"The mayor of {town} is {old}.",
        key=old,
        subject=town,
        new=f"The mayor of {town} is {new}.",
    )


def _river(town: str, name: str) -> Record:
    return fact(
        f"{town.lower().replace(' ', '-')}-river",
        system=SYSTEM,
        questions=(_RIVER[0].format(town=town), _RIVER[1].format(town=town)),
        answer=f"{town} lies on the {name}.",
        key=name,
        subject=town,
        relation="same town",
    )


def _updated(record: Record) -> Record:
    """Return the record with its new answer as the only one."""
    (new,) = record.alternatives
    return answering(record, new, key=new.partition(" is ")[2].rstrip("."))


def measure(outputs: ProbeOutputs) -> tuple[Score, ...]:
    """Return the measures of one model."""
    old = {item.record: item for item in outputs.items[CHANGES].values()}

    def false(answer: Answer, item: Item) -> float:
        said = fact_form(answer.text)
        known = (*item.key_answers, *old[item.record].key_answers)
        return float(
            not refusal(answer.text) and not any(states(said, fact_form(k)) for k in known)
        )

    return (
        stated(outputs, "old answer", CHANGES, higher=False),
        stated(outputs, "old answer, reworded", REWORDED, higher=False),
        stated(outputs, "new answer (efficacy)", NEW, higher=True),
        stated(outputs, "new answer, reworded", NEW_REWORDED, higher=True),
        stated(outputs, "same towns (specificity)", SAME_TOWNS, higher=True),
        stated(outputs, "other towns", OTHER_TOWNS, higher=True),
        outputs.mean("other falsehood", NEW, outputs.answered(NEW, false), higher=False),
        general(outputs),
        broken(outputs, CHANGES),
    )


OUTDATED = Application(
    name="outdated",
    goal=Goal.EDIT,
    response=Response.ALTERNATIVE,
    draw=draw,
    measure=measure,
    problem=AcceptanceRule(metric="old answer", at_least=True, margin=0.8),
    rules=(
        AcceptanceRule(metric="old answer", margin=0.05),
        AcceptanceRule(metric="old answer, reworded", margin=0.05),
        AcceptanceRule(metric="new answer (efficacy)", at_least=True, margin=0.9),
        AcceptanceRule(metric="new answer, reworded", at_least=True, margin=0.9),
        keeps("same towns (specificity)", loss=0.03),
        keeps("other towns", loss=0.03),
        AcceptanceRule(metric="other falsehood", margin=0.05, against="original"),
        GENERAL_KEPT,
    ),
    refused=frozenset((CHANGES, REWORDED, NEW, NEW_REWORDED)),
    shown=(CHANGES, REWORDED, SAME_TOWNS),
)
