"""Instruction form: does an answer have the form that the instruction requests?

The content is ignored: a model that lost what it knew can still reply with a number, and one
that was destroyed cannot. Forms are those of the general text that ships with expunge.
"""

import json
import re
from collections.abc import Callable, Mapping

from expunge.evidence.store import Answer, Item

_NUMBER = re.compile(r"-?\d+([.,]\d+)?")


def _items(text: str, count: str) -> bool:
    parts = [part.strip() for part in text.rstrip(".").split(",")]
    return len(parts) == int(count) and all(parts)


def _words(text: str, count: str) -> bool:
    return len(text.split()) == int(count)


def _dashes(text: str, count: str) -> bool:
    lines = [line for line in text.splitlines() if line.strip()]
    return len(lines) == int(count) and all(line.lstrip().startswith("-") for line in lines)


def _json(text: str, keys: str) -> bool:
    try:
        row = json.loads(text)
    except json.JSONDecodeError:
        return False
    return isinstance(row, dict) and set(row) == set(keys.split("-"))


_FORMS: Mapping[str, Callable[[str, str], bool]] = {
    "upper-case": lambda text, _: text.isupper(),
    "number": lambda text, _: _NUMBER.fullmatch(text.rstrip(".")) is not None,
    "yes-no": lambda text, _: text.rstrip(".!").lower() in ("yes", "no"),
    "question": lambda text, _: text.endswith("?") and "\n" not in text,
    "items": _items,
    "words": _words,
    "dashes": _dashes,
    "json": _json,
}


def follows(form: str, text: str) -> bool:
    """Tell whether a text has a form.

    Args:
        form: `upper-case`, `number`, `yes-no`, `question`, `items-N` (between commas), `words-N`,
            `dashes-N` (lines of a list), or `json-KEY-KEY...` (an object with these keys).
        text: An answer; outer white space does not count.

    Raises:
        ValueError: There is no such form.

    Example:
        >>> follows("number", " 42 "), follows("items-3", "red, green")
        (True, False)
    """
    name = form if form in _FORMS else form.partition("-")[0]
    if name not in _FORMS:
        raise ValueError(f"{form!r} is no form of an answer")
    return _FORMS[name](text.strip(), form.removeprefix(name).removeprefix("-"))


def form_missed(answer: Answer, item: Item) -> float | None:
    """Return 1 when an answer lacks the requested form, else 0.

    None for a record without a requested form.

    Example:
        >>> item = Item(record="r1", split="generic", question="Sum?", answer="7", form="number")
        >>> form_missed(Answer(record="r1", text="seven"), item)
        1.0
    """
    return None if item.form is None else float(not follows(item.form, answer.text))
