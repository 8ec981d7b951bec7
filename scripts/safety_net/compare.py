"""Comparison of two records, value by value."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from values import Value

RENAMED: dict[str, str] = {}
"""Old name to new name of a key, or of a value that is a name; applied to both sides."""


def renamed(values: Mapping[str, Value]) -> dict[str, Value]:
    """Return values under the new names of keys, methods and attacks."""
    if not RENAMED:
        return dict(values)
    words = re.compile("|".join(rf"(?<![\w-]){re.escape(old)}(?![\w-])" for old in RENAMED))

    def new(text: str) -> str:
        return words.sub(lambda found: RENAMED[found.group()], text)

    return {new(key): new(v) if isinstance(v, str) else v for key, v in values.items()}


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """Yield every value that differs, by case and name, the world first."""
    for case in sorted(before.keys() | after.keys(), key=lambda name: (name != "world", name)):
        if case not in before or case not in after:
            yield f"{case}: only in the {'second' if case in after else 'first'} file"
            continue
        old, new = renamed(before[case]), renamed(after[case])
        for key in sorted(old.keys() | new.keys()):
            first, second = (each.get(key, "absent") for each in (old, new))
            if first != second or type(first) is not type(second):
                yield f"{case}: {key}: {first} -> {second}"


def compare(before: Path, after: Path, *, shared: bool) -> int:
    """Print every difference of two records; return the exit code."""
    first, second = (json.loads(path.read_text(encoding="utf-8")) for path in (before, after))
    if shared:
        first, second = (
            {k: a[k] for k in a if k in b} for a, b in ((first, second), (second, first))
        )
    found = list(differences(first, second))
    for line in found:
        print(line)
    values = sum(len(each) for each in first.values())
    print(f"{len(found)} differences in {len(first)} cases, {values} values")
    return 1 if found else 0
