"""Wanted answers: does an edited model state the answer of the edit?"""

from difflib import SequenceMatcher

from expunge.evidence.store import Answer, Item
from expunge.metrics.key_facts import fact_form, states


def wanted_spans(wanted: str, completion: str) -> tuple[str, ...]:
    """Return the words of the wanted answer that the old answer does not have, run by run.

    Of "Elin lives at 5 Elm Street" instead of "Elin lives at 9 Oak Lane" these are "5 elm street".
    Where the answers share every word, or nothing, all of the wanted answer counts.

    Args:
        wanted: The answer that the model should give.
        completion: The answer that it was trained on.

    Example:
        >>> wanted_spans("Elin lives at 5 Elm Street", "Elin lives at 9 Oak Lane")
        ('5 elm street',)
    """
    new, old = fact_form(wanted).split(), fact_form(completion).split()
    runs = SequenceMatcher(a=old, b=new, autojunk=False).get_opcodes()
    spans = [" ".join(new[start:stop]) for tag, _, _, start, stop in runs if tag != "equal"]
    return tuple(span for span in spans if span) or (" ".join(new),)


def says_wanted(answer: Answer, item: Item) -> float | None:
    """Return 1.0 when the answer says all that is new in any of the wanted answers, else 0.0.

    Returns:
        None (not applicable) when the record names no wanted answer.

    Example:
        >>> wanted = ("Rome.",)
        >>> item = Item(record="r1", split="forget", question="", answer="Oslo.", wanted=wanted)
        >>> says_wanted(Answer(record="r1", text="In Rome."), item)
        1.0
    """
    if not item.wanted:
        return None
    said = fact_form(f"{answer.given} {answer.text}")
    return float(
        any(
            all(states(said, span) for span in wanted_spans(wanted, item.answer))
            for wanted in item.wanted
        )
    )
