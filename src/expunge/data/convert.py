"""One row of a data set becomes one record: the field conventions of TRL, checked."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from expunge.data.records import Message, Record, record_id
from expunge.errors import InputError

FIELDS = ("text", "prompt", "completion", "question", "answer", "chosen", "rejected", "messages")
"""Names by which a table of records is recognised."""

_ROLES = ("system", "user", "assistant")
_FINAL_PUNCTUATION = " \t\r\n.,;:!?\u2026\u3002\uff01\uff1f"
_MOST_KEY_WORDS = 5
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,30}")
_MOST_NAMES = 8


class _Body(NamedTuple):
    """What a row says before its optional fields are looked at."""

    prompt: tuple[Message, ...]
    completion: str
    alternatives: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()


def to_record(row: object, source: str) -> Record:
    """Turn one row into a record.

    The first of these conventions whose fields are all there is used: `prompt`/`chosen`/`rejected`
    (`rejected` is what to forget, `chosen` the alternative), `prompt`/`completion` and its alias
    `question`/`answer`, `messages` (the last turn, the assistant's, is the completion), `text`.
    Optional: `id`, `key_answers`, `paraphrases`, `paraphrased_question`, `subject`, `relation`,
    `alternative` or `alternatives` (one or a list), `paraphrased_answer` and `perturbed_answer`
    (one or a list: the true answer reworded, and false ones of its form), `parent` (the id of the
    record that this one was made from, or a list of ids). Beside `question` and
    `answer`, `choices` (a list, or texts by letter) holds all options; `answer` is then the right
    one's text, letter or place from 0, and the others are false answers. Null counts as absent.
    Other fields are ignored: public data sets carry many.

    Args:
        row: What one line, table row or array element holds; a bare text is a plain passage.
        source: Where it came from, for messages; becomes `Record.source`.

    Raises:
        InputError: A field is missing, has the wrong type, or is empty. Messages name the field and
            the source, never what the field holds.
    """
    if isinstance(row, str):
        row = {"text": row}
    if not isinstance(row, dict):
        raise _wrong_type(source, "record", row, "an object with named fields, or text")
    fields: dict[str, object] = {str(k): v for k, v in row.items() if v is not None}
    body = _body(fields, source)
    if not body.completion.strip():
        raise InputError(
            "empty-completion",
            what=f"{source}: the text to score is empty",
            why="a record without text teaches nothing and cannot be forgotten",
            fix="fill in the completion, or delete the record",
        )
    return Record(
        id=_identifier(fields, source) or record_id(body.prompt, body.completion),
        prompt=body.prompt,
        completion=body.completion,
        alternatives=body.alternatives
        + _texts(fields, "alternative", source)
        + _texts(fields, "alternatives", source),
        key_answers=_texts(fields, "key_answers", source),
        paraphrases=_texts(fields, "paraphrases", source)
        + _texts(fields, "paraphrased_question", source),
        restated=_texts(fields, "paraphrased_answer", source),
        wrong=body.wrong + _texts(fields, "perturbed_answer", source),
        subject=_optional_text(fields, "subject", source),
        relation=_optional_text(fields, "relation", source),
        parents=_parents(fields, source),
        source=source,
    )


def _body(fields: Mapping[str, object], source: str) -> _Body:
    if {"prompt", "chosen", "rejected"} <= fields.keys():
        return _Body(
            _conversation(fields["prompt"], "prompt", source),
            _answer(fields["rejected"], "rejected", source),
            (_answer(fields["chosen"], "chosen", source),),
        )
    if {"question", "answer", "choices"} <= fields.keys():
        return _chosen(fields, source)
    for prompt, completion in (("prompt", "completion"), ("question", "answer")):
        if {prompt, completion} <= fields.keys():
            return _Body(
                _conversation(fields[prompt], prompt, source),
                _answer(fields[completion], completion, source),
            )
    if "messages" in fields:
        return _last_turn(fields["messages"], source)
    if "text" in fields:
        return _Body((), _text(fields["text"], "text", source))
    raise _missing(fields, source)


def _chosen(fields: Mapping[str, object], source: str) -> _Body:
    options, answer = fields["choices"], fields["answer"]
    named = dict(options) if isinstance(options, dict) else {}
    listed = _json_list(options) if isinstance(options, str) else options
    if not isinstance(listed, list | tuple | dict):
        raise _wrong_type(source, "choices", options, "a list of texts, or texts by letter")
    texts = [_text(option, "choices", source) for option in (named.values() or listed)]
    places = {str(place): place for place in range(len(texts))}  # as a table's cell says it
    places |= {str(key): place for place, key in enumerate(named)}
    places |= {text: place for place, text in enumerate(texts)}
    right = answer if isinstance(answer, int) else places.get(str(answer), -1)
    if isinstance(right, bool) or not 0 <= right < len(texts):
        raise InputError(
            "no-right-choice",
            what=f"{source}: `answer` names none of the {len(texts)} `choices`",
            why="it must be the right option's text, its letter, or its place counted from 0",
            fix="correct `answer`, or leave `choices` out",
        )
    return _Body(
        _conversation(fields["question"], "question", source),
        texts[right],
        wrong=tuple(text for place, text in enumerate(texts) if place != right and text.strip()),
    )


def _last_turn(value: object, source: str) -> _Body:
    messages = _messages(value, "messages", source)
    roles = [message.role for message in messages]
    if roles[-2:] != ["user", "assistant"]:
        raise InputError(
            "wrong-turns",
            what=f"{source}: `messages` does not end with a user's and an assistant's turn",
            why="the last assistant turn is what is scored, and the turn before it is the question",
            fix="end each conversation with a user turn and the assistant's answer to it",
        )
    return _Body(messages[:-1], messages[-1].content)


def _conversation(value: object, field: str, source: str) -> tuple[Message, ...]:
    if isinstance(value, str):
        messages: tuple[Message, ...] = (Message("user", _text(value, field, source)),)
    else:
        messages = _messages(value, field, source)
    if messages[-1].role != "user" or not messages[-1].content.strip():
        raise InputError(
            "empty-prompt",
            what=f"{source}: `{field}` does not end with a question",
            why="a completion is scored as the answer to the last user turn",
            fix="fill in the question, or use the field `text` for a plain passage",
        )
    return messages


def _answer(value: object, field: str, source: str) -> str:
    if isinstance(value, str):
        return _text(value, field, source)
    messages = _messages(value, field, source)
    if [message.role for message in messages] != ["assistant"]:
        raise _wrong_type(source, field, value, "text or a list of one assistant turn")
    return messages[0].content


def _messages(value: object, field: str, source: str) -> tuple[Message, ...]:
    allowed = "text or a list of {role, content}" if field != "messages" else "a list of turns"
    if not isinstance(value, list | tuple) or not value:
        raise _wrong_type(source, field, value, allowed)
    messages: list[Message] = []
    for turn in value:
        if not isinstance(turn, dict):
            raise _wrong_type(source, f"{field} turn", turn, "an object {role, content}")
        role = turn.get("role")
        if role not in _ROLES:
            raise InputError(
                "wrong-role",
                what=f"{source}: a turn of `{field}` has an unknown role",
                why=f"a turn is one of {', '.join(_ROLES)}",
                fix="rename the role, or leave the turn out",
            )
        content = _text(turn.get("content"), f"{field} content", source)
        messages.append(Message(str(role), content))
    return tuple(messages)


def with_short_answers_named(records: Sequence[Record]) -> tuple[Record, ...]:
    """Let answers of at most five words be their own key answers, without final punctuation.

    Only in a set of which at least half then name their fact: one short answer among long ones
    must not decide that only what names a fact is judged. Key answers that are there stay.
    """
    named = tuple(replace(r, key_answers=r.key_answers or _short_answer(r)) for r in records)
    return named if 2 * sum(bool(r.key_answers) for r in named) >= len(named) else tuple(records)


def _short_answer(record: Record) -> tuple[str, ...]:
    if not record.prompt or len(record.completion.split()) > _MOST_KEY_WORDS:
        return ()
    key = record.completion.strip().rstrip(_FINAL_PUNCTUATION)
    return (key,) if key else ()


def _identifier(fields: Mapping[str, object], source: str) -> str | None:
    value = fields.get("id")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    text = _optional_text(fields, "id", source)
    return text.strip() or None if text is not None else None


def _parents(fields: Mapping[str, object], source: str) -> tuple[str, ...]:
    value = fields.get("parent")
    if isinstance(value, int) and not isinstance(value, bool):
        return (str(value),)
    return tuple(text.strip() for text in _texts(fields, "parent", source))


def _optional_text(fields: Mapping[str, object], field: str, source: str) -> str | None:
    value = fields.get(field)
    return None if value is None else _text(value, field, source)


def _texts(fields: Mapping[str, object], field: str, source: str) -> tuple[str, ...]:
    """One text, a list of texts, or, from a table cell, a JSON list; blank ones are left out."""
    value = fields.get(field, ())
    if isinstance(value, str):
        value = _json_list(value)
    if not isinstance(value, list | tuple):
        raise _wrong_type(source, field, value, "text or a list of texts")
    return tuple(text for item in value if (text := _text(item, field, source)).strip())


def _json_list(text: str) -> list[object]:
    if text.lstrip().startswith("["):
        try:
            parsed = json.loads(text)
        except (ValueError, RecursionError):
            return [text]
        if isinstance(parsed, list):
            return list(parsed)
    return [text]


def _text(value: object, field: str, source: str) -> str:
    if not isinstance(value, str):
        raise _wrong_type(source, field, value, "text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            "broken-text",
            what=f"{source}: `{field}` holds half a character (a lone surrogate)",
            why=f"it cannot be written as UTF-8 (position {error.start})",
            fix="write the character whole, or take the escape out",
        ) from None
    return value


def _wrong_type(source: str, field: str, value: object, allowed: str) -> InputError:
    return InputError(
        "wrong-type",
        what=f"{source}: `{field}` is {_type_name(value)}",
        why=f"it must be {allowed}",
        fix=f"change `{field}` in this record, and see whether others look like it",
    )


def _type_name(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list() | tuple():
            return "a list"
        case _:
            return "an object"


def _missing(fields: Mapping[str, object], source: str) -> InputError:
    pairs = {"prompt": "completion", "question": "answer", "completion": "prompt"}
    pairs |= {"answer": "question", "rejected": "prompt", "chosen": "prompt"}
    partner = next((pairs[name] for name in pairs if name in fields), None)
    if {"prompt", "chosen"} <= fields.keys() or {"prompt", "rejected"} <= fields.keys():
        partner = "rejected" if "chosen" in fields else "chosen"
    # A key that is not a plain name may itself be personal, as in {"Jane Doe": "..."}.
    found = [name for name in fields if _PLAIN_NAME.fullmatch(name)][:_MOST_NAMES]
    return InputError(
        "missing-field",
        what=f"{source}: field `{partner}` is missing"
        if partner
        else f"{source}: no field that holds text to forget or to keep",
        why=f"fields found: {', '.join(found) or 'none'}",
        fix="name the fields text, or prompt and completion, or question and answer, or messages,"
        " or prompt, chosen and rejected",
    )
