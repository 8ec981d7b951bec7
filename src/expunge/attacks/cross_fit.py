"""Halves: what an attack may use is never what it is tested on.

An attack that learns (relearning, soft prompts, worked examples) gets one half of the facts and is
tested on the other, then the halves change places, so every fact is tested once. A tested fact
whose key answer stands anywhere in the other half is left out of the test: the attack would teach
it (information injection, arXiv:2506.00688).
"""

import random
from collections.abc import Sequence
from typing import NamedTuple

from expunge.data.records import Record
from expunge.metrics.key_facts import fact_form, states


class Half(NamedTuple):
    """One direction of the split; `used` and `tested` share no record and no key answer."""

    used: tuple[Record, ...]
    tested: tuple[Record, ...]
    injected: tuple[str, ...]
    """Ids of facts that are not tested because `used` states them."""


def halves(records: Sequence[Record], *, seed: int) -> tuple[Half, Half]:
    """Split facts at random into two halves, within each subject, and test each on the other.

    A function of the ids and the seed alone: every model is attacked with the same halves.
    """
    by_subject: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda each: each.id):
        by_subject.setdefault(record.subject or "", []).append(record)
    sides: tuple[list[Record], list[Record]] = ([], [])
    for subject, group in sorted(by_subject.items()):
        random.Random(f"{seed} halves {subject}").shuffle(group)
        # An odd group gives its last fact to the smaller side.
        first = int(len(sides[0]) > len(sides[1]))
        for index, record in enumerate(group):
            sides[(index + first) % 2].append(record)
    return _half(sides[0], sides[1]), _half(sides[1], sides[0])


def _half(used: Sequence[Record], tested: Sequence[Record]) -> Half:
    texts = [fact_form(text) for record in used for text in _texts(record)]
    kept: list[Record] = []
    injected: list[str] = []
    for record in tested:
        facts = [fact_form(fact) for fact in record.key_answers]
        taught = any(states(text, fact) for text in texts for fact in facts if fact)
        if taught:
            injected.append(record.id)
        else:
            kept.append(record)
    return Half(tuple(used), tuple(kept), tuple(injected))


def _texts(record: Record) -> list[str]:
    return [record.completion, *(turn.content for turn in record.prompt)]
