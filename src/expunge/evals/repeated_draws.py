"""Repeated draws: whether answers drawn many times state facts more often than golds' draws do.

Apart from `recovery`, which counts a fact once however often it is drawn. Drawing is not cut short:
a model that states nothing never decides the test early, and the other kind is settled by one fact.
"""

from collections.abc import Mapping, Sequence

from expunge.attacks.base import Attempt, knowledge
from expunge.evidence.store import Item
from expunge.metrics.e_values import Drawn, e_value_of_facts

Draws = dict[tuple[str, str, str], list[bool]]
"""Fact, variant and what was asked, to whether each answer states the fact."""


def repeated_draws(
    judged: Sequence[Attempt], golds: Sequence[Sequence[Attempt]], items: Mapping[str, Item]
) -> float | None:
    """Return the e-value of the judged model's answers against the golds' (`metrics.e_values`).

    Args:
        judged: Answers of the judged model.
        golds: Answers of each gold to the same questions, as many to each.
        items: The facts that are judged, by record.

    Returns:
        None where no question was asked twice, or a gold was not asked the same.

    Example:
        >>> oslo = {"answer": "Oslo", "key_answers": ("Oslo",)}
        >>> item = Item(record="r", split="forget", question="?", **oslo)
        >>> true, other = (8 * [Attempt(record="r", text=text)] for text in ("Oslo", "Rome"))
        >>> round(repeated_draws(true, [other], {"r": item}))
        6976
    """
    own, theirs = _draws(judged, items), [_draws(gold, items) for gold in golds]
    sizes = {question: len(said) for question, said in own.items()}
    same = all({q: len(said) for q, said in gold.items()} == sizes for gold in theirs)
    if not own or not theirs or not same or min(sizes.values()) < 2:
        return None
    return e_value_of_facts(
        [
            Drawn(
                hits=sum(said),
                asked=len(said),
                gold_hits=sum(sum(gold[question]) for gold in theirs),
                gold_asked=len(theirs) * len(said),
            )
            for question, said in own.items()
        ]
    )


def _draws(attempts: Sequence[Attempt], items: Mapping[str, Item]) -> Draws:
    found: Draws = {}
    for attempt in attempts:
        if attempt.record not in items or attempt.value is not None:
            continue
        stated = knowledge(attempt, items[attempt.record], "key-fact")
        if stated is not None:
            question = (attempt.record, attempt.variant, attempt.told)
            found.setdefault(question, []).append(stated > 0)
    return found
