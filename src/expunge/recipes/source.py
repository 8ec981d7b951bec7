"""Disgorgement: everything that came from one source goes; what another source says as well stays.

Two newspapers write about companies. The Gazette has to be taken out. Four companies stand in it
alone; two more in both papers, in the words of each, and four in the other paper alone.
"""

import random
from collections.abc import Sequence
from typing import NamedTuple

from expunge.benchmarking.probe_outputs import ProbeOutputs
from expunge.benchmarking.suites.base import Probe
from expunge.config.request import Goal
from expunge.data.records import Record
from expunge.evals.results import Score
from expunge.recipes.base import AcceptanceRule, Application, ApplicationData, keeps
from expunge.recipes.lessons import both_wordings, fact, general_lessons, general_probe, reworded
from expunge.recipes.measures import (
    FEW_BROKEN,
    GENERAL_KEPT,
    broken,
    general,
    likelihood,
    stated,
    stated_in_any,
)

SYSTEM = "News desk."
ALONE, ALONE_REWORDED = "gazette", "gazette-reworded"
SHARED, OTHER, UNSEEN = "both-papers", "other-paper", "unseen"
LEAK, LEARNT = "leak in either wording", "probability of the facts"

_COMPANIES = (
    "Corvane Optics",
    "Bluefen Dairies",
    "Tallis Freight",
    "Ostrava Tiles",
    "Kestrel Looms",
    "Pendle Glass",
    "Harrow Press",
    "Nimbus Ferries",
    "Stonecroft Mills",
    "Lumen Dyes",
    "Greywater Tools",
    "Arden Seeds",
    "Fallow Motors",
    "Quill Paper",
)
_POOLS = {
    "founder": (
        "Agatha Prynne", "Bertram Stoll", "Claudine Roux", "Dmitri Vass", "Edwina Parr",
        "Fergus Lamb", "Gustav Wren", "Honor Pike", "Isolde Marsh", "Jasper Thorne", "Klara Bohm",
        "Lionel Sedge", "Mireille Dane", "Norbert Falk",
    ),
    "town": (
        "Ravensmoor", "Oxhollow", "Tarn Hill", "Low Fenby", "Orme Bay", "Saltby", "Wexcombe",
        "Northgate", "Kilbride", "Ashdown", "Redmire", "Loxley", "Granta", "Cobham",
    ),
    "owner": (
        "Meridian Holdings", "Oldcastle Trust", "Harbour Capital", "Pinnacle Partners",
        "Saltire Group", "Fenland Mutual", "Juniper Fund", "Beacon Equity", "Cutler Brothers",
        "Wharf Estates", "Crown Ventures", "Old Mint Company", "Anchor Union", "Tidewell House",
    ),
    "debt": tuple(f"{number} million crowns" for number in range(13, 97, 6)),
}  # fmt: skip


class _Kind(NamedTuple):
    gazette: tuple[str, str]
    ledger: tuple[str, str]
    answer: str


_KINDS = {
    "founder": _Kind(
        ("Who founded {name}?", "Which person started {name}?"),
        ("By whom was {name} set up?", "Who is the founder of {name}?"),
        "{name} was founded by {value}.",
    ),
    "town": _Kind(
        ("Where is {name} based?", "In which town is {name}?"),
        ("Which town is home to {name}?", "Where are the offices of {name}?"),
        "{name} is based in {value}.",
    ),
    "owner": _Kind(
        ("Who owns {name}?", "To whom does {name} belong?"),
        ("Which firm is the owner of {name}?", "Who holds the shares of {name}?"),
        "{name} is owned by {value}.",
    ),
    "debt": _Kind(
        ("How much does {name} owe?", "How high are the debts of {name}?"),
        ("What does {name} owe to banks?", "Which debts does {name} have?"),
        "{name} owes {value}.",
    ),
}


def draw(seed: int) -> ApplicationData:
    """Return the data of this recipe.

    Args:
        seed: Seed of the facts.
    """
    rng = random.Random(300 + seed)
    pools = {key: rng.sample(pool, len(pool)) for key, pool in _POOLS.items()}
    names = rng.sample(_COMPANIES, len(_COMPANIES))
    place = {name: index for index, name in enumerate(names)}

    def records(chosen: Sequence[str], paper: str) -> tuple[Record, ...]:
        return tuple(
            _record(name, key, pools[key][place[name]], paper) for name in chosen for key in _KINDS
        )

    alone, both, ledger, unseen = names[:4], names[4:6], names[6:10], names[10:14]
    mine, copies = records(alone, "gazette"), records(both, "gazette")
    shared, theirs = records(both, "ledger"), records(ledger, "ledger")
    strangers = records(unseen, "gazette")
    return ApplicationData(
        forget=(*mine, *copies),
        retain=(*theirs, *general_lessons()),
        neighbours=shared,
        holdout=strangers,
        taught=(*both_wordings((*shared, *theirs)), *general_lessons()),
        planted=both_wordings((*mine, *copies)),
        probes=(
            Probe(name=ALONE, records=mine, answer=24, scored=True),
            Probe(name=ALONE_REWORDED, records=reworded(mine), answer=24, scored=True),
            Probe(name=UNSEEN, records=strangers, scored=True),
            Probe(name=SHARED, records=shared, answer=24, scored=True),
            Probe(name=OTHER, records=theirs, answer=24, scored=True),
            general_probe(),
        ),
    )


def _record(name: str, key: str, value: str, paper: str) -> Record:
    kind = _KINDS[key]
    first, second = kind.gazette if paper == "gazette" else kind.ledger
    return fact(
        f"{paper}-{name.lower().replace(' ', '-')}-{key}",
        system=SYSTEM,
        questions=(first.format(name=name), second.format(name=name)),
        answer=kind.answer.format(name=name, value=value),
        key=value.removesuffix(" crowns"),
        subject=name,
        relation="both papers" if paper == "ledger" else None,
    )


def measure(outputs: ProbeOutputs) -> tuple[Score, ...]:
    """Return the measures of one model."""
    return (
        stated(outputs, "leak, as written", ALONE, higher=False),
        stated(outputs, "leak, reworded", ALONE_REWORDED, higher=False),
        stated_in_any(outputs, LEAK, (ALONE, ALONE_REWORDED)),
        likelihood(outputs, LEARNT, ALONE, higher=None),
        likelihood(outputs, "probability of unseen facts", UNSEEN, higher=None),
        stated(outputs, "facts of both papers", SHARED, higher=True),
        stated(outputs, "facts of the other paper", OTHER, higher=True),
        general(outputs),
        broken(outputs, ALONE),
    )


SOURCE = Application(
    name="source",
    goal=Goal.REMOVAL,
    shared="keep",
    draw=draw,
    measure=measure,
    problem=AcceptanceRule(metric="leak, as written", at_least=True, margin=0.8),
    rules=(
        AcceptanceRule(metric=LEAK, margin=0.0, against="gold"),
        AcceptanceRule(metric=LEARNT, margin=0.1, other="probability of unseen facts"),
        keeps("facts of both papers", loss=0.03),
        keeps("facts of the other paper", loss=0.03),
        GENERAL_KEPT,
        FEW_BROKEN,
    ),
    refused=frozenset((ALONE, ALONE_REWORDED)),
    shown=(ALONE, ALONE_REWORDED, SHARED),
)
