"""Values by name: what commands left in a folder, without times, memory, paths and wording."""

import hashlib
import html
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

Value = str | int | float | bool | None

TABLES = ("results.json", "facts.json", "manifest.json", "attack.json", "leaderboard.json")
TABLES = (*TABLES, "chosen.json", "guard.json", "config.toml", "chosen.toml", "search.json")
LEFT_OUT = {
    *("seconds", "cpu", "audit_seconds", "peak_gib", "created", "begun", "run", "run_id"),
    "registered",
    *("command", "versions", "version", "device", "machine", "files", "digest", "expires"),
    *("schema", "advice", "sentences", "out", "train s", "GiB", "unit", "higher_is_better"),
}
IDENTITY = ("axis", "metric", "role", "split", "attack", "name", "variant", "step")
SKIPPED = {"evidence", "checkpoints", "shared", "store", "attacks"}
HASHED = re.compile(r"-[0-9a-f]{8}$")
MEASURED = re.compile(
    r"\d{4}-\d\d-\d\d(T[\d:+]+)?|\d+:\d\d(:\d\d)?|\b\d[\d.,]*\s?(ms|s|min|h|GiB|MiB|GB|MB)\b"
)
NUMBER = re.compile(r"(?<![\w.,/:-])-?\d+(?:\.\d+)?(?:e[-+]?\d+)?(?![\w]|[.,/-]\d|-\w)")
LONG = 5
"""Lists of more scalars than this are recorded as a digest."""


def numbers(text: str) -> list[str]:
    """Return the numbers in a text that stand alone and are not times, dates or memory."""
    joined = re.sub(r"(?<=\d)[\u202f\u00a0\u2009](?=\d{3})", "", text)
    return NUMBER.findall(MEASURED.sub(" ", joined.replace("\u2212", "-")))


def shown(text: str) -> dict[str, Value]:
    """Return the numbers that a page shows: those of two decimals and more with their counts."""
    if "<html" in text:
        text = re.sub(r"<(style|script|pre|code)\b.*?</\1>", " ", text, flags=re.DOTALL)
        text = html.unescape(re.sub(r"<[^>]*>", " ", text))
    if "| seconds |" in text:
        text = re.sub(r"\| \d+ \|$", "|", text, flags=re.MULTILINE)
    found: dict[str, Value] = {}
    for number in numbers(re.sub(r"(?m)^```.*?^```", "", text, flags=re.DOTALL)):
        key, exact = f"shows {number}", len(number.partition(".")[2]) > 1
        found[key] = int(found.get(key) or 0) + 1 if exact else True
    return found


def weights(path: Path) -> str:
    """Return the SHA-256 of the tensors of a file: names, number formats, shapes and bytes."""
    import torch
    from safetensors import safe_open

    digest = hashlib.sha256()
    if not path.exists():
        return "no file"
    with safe_open(path, framework="pt") as file:
        for name in sorted(file.keys()):
            tensor = file.get_tensor(name).contiguous()
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def gathered(folder: Path, work: str) -> dict[str, Value]:
    """Return every value that commands left in a folder, by file and place."""
    found: dict[str, Value] = {}
    paths = sorted(folder.rglob("*"))
    stems = unhashed([path.name for path in paths if path.is_dir()])
    for path in paths:
        inside = path.relative_to(folder)
        if not path.is_file() or SKIPPED & set(inside.parts[:-1]):
            continue
        name = "/".join((*(stems.get(part, part) for part in inside.parts[:-1]), path.name))
        if path.suffix == ".safetensors":
            found[f"{name} weights"] = weights(path)
        elif path.name in TABLES:
            text = path.read_text(encoding="utf-8").replace(work, "WORK")
            tree = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
            found |= dict(flat(tree, name))
        elif path.suffix in (".html", ".md") and not path.name.startswith("leaderboard"):
            text = path.read_text(encoding="utf-8")
            found |= {f"{name} {key}": value for key, value in shown(text).items()}
        elif path.name.endswith("-plan.out"):
            for line in path.read_text(encoding="utf-8").splitlines():
                if (told := json.loads(line)).get("event") == "plan":
                    found |= dict(flat(told, name))
        elif path.name.endswith("-compat.out"):
            text = path.read_text(encoding="utf-8")
            found |= {f"{name} {key}": value for key, value in shown(text).items()}
    return found


def unhashed(names: Sequence[str]) -> dict[str, str]:
    """Return names without the hash at their end, numbered where they are then equal."""
    found: dict[str, str] = {}
    for name in sorted(set(names)):
        stem = HASHED.sub("", name)
        taken = sum(HASHED.sub("", other) == stem for other in found)
        found[name] = f"{stem} #{taken + 1}" if taken else stem
    return found


def flat(tree: object, name: str) -> Iterator[tuple[str, Value]]:
    """Yield the values of a tree of tables and lists, each with its path as its name."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            if key not in LEFT_OUT:
                yield from flat(value, f"{name} / {key}")
    elif is_sheet(tree):
        header, rows = tree
        for row in rows:
            for column, cell in zip(header[1:], row[1:], strict=True):
                if column not in LEFT_OUT:
                    told = numbers(cell)
                    yield f"{name} / {row[0]} / {column}", " ".join(told) or cell
    elif isinstance(tree, list):
        if len(tree) > LONG and not any(isinstance(each, dict) for each in tree):
            yield name, "sha256:" + hashlib.sha256(json.dumps(tree).encode()).hexdigest()
            return
        for label, each in labelled(tree):
            rest = {k: v for k, v in each.items() if k not in named(each)} if named(each) else each
            yield from flat(rest, f"{name} / {label}")
    elif isinstance(tree, str) and len(tree.split()) > 3:
        if told := numbers(tree):
            yield name, " ".join(told)
    elif tree is not None or name.endswith(" / value"):
        yield name, tree


def named(row: object) -> dict[str, str]:
    """Return what names an entry of a list; a sentence is no name."""
    if not isinstance(row, Mapping) or len(str(row.get("name", "")).split()) > 6:
        return {}
    found = {key: row[key] for key in IDENTITY if isinstance(row.get(key), str | int)}
    return {key: str(value) for key, value in found.items()}


def is_sheet(tree: object) -> bool:
    """Return whether a tree is a header and rows of texts, as in a leaderboard."""
    match tree:
        case [[str(), *_], [*rows]]:
            cells = [cell for row in rows for cell in (row if isinstance(row, list) else [None])]
            return bool(cells) and all(isinstance(cell, str) for cell in cells)
        case _:
            return False


def labelled(rows: Sequence[object]) -> Iterator[tuple[str, object]]:
    """Yield the entries of a list with what tells them apart, or with their place."""
    counts: dict[str, int] = {}
    for place, row in enumerate(rows):
        found = named(row)
        label = " ".join(found.values()) if found else str(place)
        counts[label] = counts.get(label, 0) + 1
        yield (label if counts[label] == 1 else f"{label} #{counts[label]}"), row
