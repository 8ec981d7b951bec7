"""Mutations of bytes, and of the fields of JSON and TOML, drawn from a random generator."""

import json
import math
import random
import tomllib
from collections.abc import Callable, Iterator
from typing import Any

import tomli_w

Mutation = Callable[[bytes, random.Random], bytes]

ODD: tuple[object, ...] = (
    None,
    True,
    -1,
    0,
    10**30,
    1e308,
    "",
    "two",
    "\x1b]0;owned\x07",
    "../../x",
    "~",
    "a\nb",
    "\u202egnp.",
    [],
    [1, "a", None],
    {},
    {"a": {"b": []}},
    "x" * 5000,
)
"""Values of other types and of no sense, which every field may be given."""


def flip(data: bytes, draw: random.Random) -> bytes:
    """Change one bit."""
    place = draw.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << draw.randrange(8)]) + data[place + 1 :]


def cut(data: bytes, draw: random.Random) -> bytes:
    """Leave the beginning."""
    return data[: draw.randrange(len(data))]


def without(data: bytes, draw: random.Random) -> bytes:
    """Take a piece out."""
    first = draw.randrange(len(data))
    return data[:first] + data[first + 1 + draw.randrange(20) :]


def more(data: bytes, draw: random.Random) -> bytes:
    """Put bytes in."""
    place = draw.randrange(len(data) + 1)
    return data[:place] + draw.randbytes(1 + draw.randrange(8)) + data[place:]


def twice(data: bytes, draw: random.Random) -> bytes:
    """Say a piece twice."""
    first = draw.randrange(len(data))
    piece = data[first : first + 1 + draw.randrange(200)]
    return data[:first] + piece + data[first:]


def zeros(data: bytes, draw: random.Random) -> bytes:
    """Write zeros over a piece, as a file system does after a power cut."""
    first = draw.randrange(len(data))
    size = min(len(data) - first, 1 + draw.randrange(512))
    return data[:first] + bytes(size) + data[first + size :]


BYTES: dict[str, Mutation] = {
    "one bit": flip,
    "cut off": cut,
    "a piece less": without,
    "bytes more": more,
    "a piece twice": twice,
    "zeros": zeros,
    "empty": lambda data, draw: b"",
    "junk": lambda data, draw: draw.randbytes(max(64, len(data) // 2)),
}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every field below a value of JSON."""
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    for key, each in inside:
        yield (*path, key)
        if isinstance(each, dict | list):
            yield from places(each, (*path, key))


def field_changed(value: Any, draw: random.Random) -> Any:
    """Remove one field, name it otherwise, or give it another value."""
    found = list(places(value))
    if not found:
        return draw.choice(ODD)
    *above, last = draw.choice(found)
    table = value
    for key in above:
        table = table[key]
    kind = draw.randrange(6)
    if kind == 0:
        del table[last]
    elif kind == 1 and isinstance(table, dict):
        table[f"{last}s"] = table.pop(last)
    elif kind == 2 and isinstance(table[last], int | float):
        table[last] = draw.choice((-table[last] - 1, table[last] * 1000 + 1, math.nan, math.inf))
    else:
        table[last] = draw.choice(ODD)
    return value


def json_field(data: bytes, draw: random.Random) -> bytes:
    """Change one field of a JSON file."""
    return json.dumps(field_changed(json.loads(data), draw), ensure_ascii=False).encode()


def jsonl_field(data: bytes, draw: random.Random) -> bytes:
    """Change one field of one line of JSON Lines."""
    rows = data.decode().splitlines()
    place = draw.randrange(len(rows))
    rows[place] = json.dumps(field_changed(json.loads(rows[place]), draw))
    return "".join(f"{row}\n" for row in rows).encode()


def toml_field(data: bytes, draw: random.Random) -> bytes:
    """Change one field of a TOML file."""
    while True:
        tree = field_changed(tomllib.loads(data.decode()), draw)
        try:
            return tomli_w.dumps(tree).encode()
        except (TypeError, AttributeError, ValueError):  # what TOML cannot hold
            continue


def deep(data: bytes, draw: random.Random) -> bytes:
    """Nest beyond reason."""
    return (b"[" if draw.random() < 0.5 else b'{"a":') * 100_000


def again(data: bytes, draw: random.Random) -> bytes:
    """Say a line twice."""
    lines = data.splitlines(keepends=True)
    place = draw.randrange(len(lines))
    return b"".join([*lines[: place + 1], *lines[place:]])


FIELDS: dict[str, Mutation] = {
    ".json": json_field,
    ".jsonl": jsonl_field,
    ".toml": toml_field,
    ".sig": json_field,
}
"""By the ending of a file."""
