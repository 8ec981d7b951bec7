"""Write `general_text.jsonl`: the short passages on which an audit measures general damage.

Prose, German and French are our own sentences and lie beside this script, one passage a line. Code,
arithmetic and instructions are made here from seeded templates, so every result in them is right.
No line was taken from elsewhere. After a change, run `python scripts/make_general_text.py` again.
"""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

HERE = Path(__file__).parent
OUT = HERE.parent / "src" / "expunge" / "data" / "corpora" / "general_text.jsonl"
EACH = 50
"""Passages of a generated kind."""
SEED = 20261130

Row = dict[str, str]
Make = Callable[[random.Random], str]

THINGS = ("apple", "ticket", "parcel", "stamp", "brick", "bottle", "chair", "coin", "page", "seed")
PLURALS = (
    "orders",
    "users",
    "rooms",
    "books",
    "events",
    "tasks",
    "lines",
    "songs",
    "trips",
    "tags",
)
FIELDS = ("price", "weight", "length", "score", "width", "age", "size", "level", "total", "rank")
VERBS = ("load", "count", "merge", "clean", "parse", "print", "store", "check", "filter", "update")
NAMES = ("Ana", "Ben", "Carla", "Dev", "Elif", "Finn", "Grace", "Hana", "Ivo", "June")
COLOURS = ("red", "green", "blue", "yellow", "white", "black")


def _one(thing: str) -> str:
    return thing.removesuffix("s")


def _sum_loop(r: random.Random) -> str:
    many, field = r.choice(PLURALS), r.choice(FIELDS)
    return (
        f"def total_{field}({many}):\n    total = 0\n    for {_one(many)} in {many}:\n"
        f"        total += {_one(many)}.{field}\n    return total"
    )


def _filtered(r: random.Random) -> str:
    many, field, limit = r.choice(PLURALS), r.choice(FIELDS), r.randint(2, 90)
    short = many[0]
    return (
        f"large = [{short} for {short} in {many} if {short}.{field} > {limit}]\nprint(len(large))"
    )


def _guarded(r: random.Random) -> str:
    verb, many = r.choice(VERBS), r.choice(PLURALS)
    return (
        f"def {verb}_{many}(path):\n    if not path.exists():\n"
        f"        raise FileNotFoundError(path)\n    with path.open() as file:\n"
        f"        return [line.strip() for line in file]"
    )


def _class(r: random.Random) -> str:
    thing, field = r.choice(THINGS), r.choice(FIELDS)
    return (
        f"class {thing.title()}:\n    def __init__(self, {field}=0):\n"
        f"        self.{field} = {field}\n\n    def __repr__(self):\n"
        f'        return f"{thing.title()}({{self.{field}}})"'
    )


def _counts(r: random.Random) -> str:
    many, field = r.choice(PLURALS), r.choice(FIELDS)
    return (
        f'counts = {{}}\nfor {_one(many)} in {many}:\n    key = {_one(many)}["{field}"]\n'
        f"    counts[key] = counts.get(key, 0) + 1"
    )


def _javascript(r: random.Random) -> str:
    many, field, limit = r.choice(PLURALS), r.choice(FIELDS), r.randint(2, 90)
    one = _one(many)
    return (
        f"const kept = {many}.filter(({one}) => {one}.{field} >= {limit});\n"
        f"console.log(`${{kept.length}} of ${{{many}.length}} {many}`);"
    )


def _sql(r: random.Random) -> str:
    many, field, other = r.choice(PLURALS), r.choice(FIELDS), r.choice(FIELDS)
    limit = r.randint(5, 50)
    return (
        f"SELECT name, AVG({field}) AS mean_{field}\nFROM {many}\nWHERE {other} > {limit}\n"
        f"GROUP BY name\nORDER BY mean_{field} DESC;"
    )


def _shell(r: random.Random) -> str:
    verb, many = r.choice(VERBS), r.choice(PLURALS)
    return (
        f'for file in {many}/*.csv; do\n  ./{verb}.sh "$file" >> {many}.log || exit 1\ndone\n'
        f"wc -l {many}.log"
    )


def _c(r: random.Random) -> str:
    field, size = r.choice(FIELDS), r.randint(4, 64)
    return (
        f"int max_{field}(const int {field}[{size}]) {{\n    int best = {field}[0];\n"
        f"    for (int i = 1; i < {size}; i++)\n        if ({field}[i] > best) best = {field}[i];\n"
        f"    return best;\n}}"
    )


def _markup(r: random.Random) -> str:
    many, name, number = r.choice(PLURALS), r.choice(NAMES), r.randint(2, 40)
    return f'<ul id="{many}">\n  <li class="first">{name}</li>\n  <li>{number} {many}</li>\n</ul>'


CODE: tuple[Make, ...] = (
    _sum_loop,
    _filtered,
    _guarded,
    _class,
    _counts,
    _javascript,
    _sql,
    _shell,
    _c,
    _markup,
)


def _operations(r: random.Random) -> str:
    a, b, c, d = r.randint(11, 99), r.randint(11, 99), r.randint(3, 9), r.randint(12, 39)
    return f"{a} + {b} = {a + b}; {a + b} - {b} = {a}; {c} x {d} = {c * d}; {c * d} / {c} = {d}."


def _purchase(r: random.Random) -> str:
    name, thing, n, price = r.choice(NAMES), r.choice(THINGS), r.randint(3, 9), r.randint(2, 12)
    return (
        f"{name} buys {n} {thing}s at {price} euros each. Together they cost {n} times {price},"
        f" which is {n * price} euros."
    )


def _percentage(r: random.Random) -> str:
    share, whole = r.choice((5, 10, 20, 25, 50, 75)), r.randint(2, 20) * 20
    part = whole * share // 100
    return (
        f"{share} percent of {whole} is {part}, so {100 - share} percent of it is {whole - part}."
    )


def _progression(r: random.Random) -> str:
    start, step = r.randint(1, 20), r.randint(2, 12)
    terms = [start + step * i for i in range(7)]
    shown = ", ".join(map(str, terms[:6]))
    return f"Start at {start} and add {step} each time: {shown}. The next number is {terms[6]}."


def _sharing(r: random.Random) -> str:
    people, each, left = r.randint(3, 9), r.randint(4, 12), r.randint(1, 2)
    return (
        f"{people * each + left} divided by {people} is {each}, remainder {left}, because"
        f" {people} times {each} is {people * each}."
    )


def _equation(r: random.Random) -> str:
    a, x, b = r.randint(2, 9), r.randint(2, 15), r.randint(1, 30)
    return f"Solve {a}x + {b} = {a * x + b}. Subtract {b}: {a}x = {a * x}. Divide by {a}: x = {x}."


def _area(r: random.Random) -> str:
    a, b = r.randint(3, 25), r.randint(3, 25)
    return (
        f"A rectangle of {a} by {b} metres has an area of {a * b} square metres and a perimeter of"
        f" {2 * (a + b)} metres."
    )


def _clock(r: random.Random) -> str:
    hour, minute, later = r.randint(6, 20), r.choice((5, 10, 20, 25, 40)), r.choice((35, 45, 50))
    end = hour * 60 + minute + later
    return (
        f"A lesson begins at {hour}:{minute:02d} and takes {later} minutes, so it ends at"
        f" {end // 60}:{end % 60:02d}."
    )


def _halves(r: random.Random) -> str:
    number = r.randint(3, 60) * 8
    return (
        f"Half of {number} is {number // 2}, a quarter of it is {number // 4}, and an eighth is"
        f" {number // 8}."
    )


def _comparison(r: random.Random) -> str:
    low, gap, more = r.randint(10, 400), r.randint(1, 50), r.randint(1, 50)
    numbers = [low, low + gap, low + gap + more]
    shuffled = r.sample(numbers, 3)
    return (
        f"From small to large, {shuffled[0]}, {shuffled[1]} and {shuffled[2]} are"
        f" {numbers[0]}, {numbers[1]}, {numbers[2]}; the sum is {sum(numbers)}."
    )


ARITHMETIC: tuple[Make, ...] = (
    _operations,
    _purchase,
    _percentage,
    _progression,
    _sharing,
    _equation,
    _area,
    _clock,
    _halves,
    _comparison,
)

Task = Callable[[random.Random], tuple[str, str, str]]
"""Makes a question, an answer, and the form that any answer to it must have."""


def _upper(r: random.Random) -> tuple[str, str, str]:
    thing = r.choice((*THINGS, *COLOURS, *VERBS))
    return f"Write the word {thing} in capital letters.", thing.upper(), "upper-case"


def _listed(r: random.Random) -> tuple[str, str, str]:
    n = r.randint(3, 5)
    words = r.sample(THINGS, n)
    shown = " ".join(words)
    return f"Write these words with commas between them: {shown}", ", ".join(words), f"items-{n}"


def _number(r: random.Random) -> tuple[str, str, str]:
    a, b = r.randint(2, 40), r.randint(2, 40)
    return f"Reply with a number only. What is {a} plus {b}?", str(a + b), "number"


def _yes_no(r: random.Random) -> tuple[str, str, str]:
    a, b = r.sample(range(2, 99), 2)
    answer = "Yes" if a > b else "No"
    return f"Answer only yes or no. Is {a} larger than {b}?", answer, "yes-no"


def _json(r: random.Random) -> tuple[str, str, str]:
    name, number, field = r.choice(NAMES), r.randint(2, 90), r.choice(FIELDS)
    told = f"The name is {name}, {field} is {number}."
    asked = f"Write a JSON object with the keys name and {field}. {told}"
    return asked, json.dumps({"name": name, field: number}), f"json-name-{field}"


def _counting(r: random.Random) -> tuple[str, str, str]:
    start = r.randint(1, 60)
    asked = f"Count from {start} to {start + 4}. Put a space between the numbers."
    return asked, " ".join(str(start + i) for i in range(5)), "words-5"


def _repeat(r: random.Random) -> tuple[str, str, str]:
    word, n = r.choice((*THINGS, *COLOURS)), r.randint(2, 4)
    return f"Write the word {word} exactly {n} times.", " ".join([word] * n), f"words-{n}"


def _one_word(r: random.Random) -> tuple[str, str, str]:
    colour, thing = r.choice(COLOURS), r.choice(THINGS)
    asked = f"The {thing} on the table is {colour}. What colour is it? Answer in one word."
    return asked, colour.title(), "words-1"


def _ending(r: random.Random) -> tuple[str, str, str]:
    name, thing = r.choice(NAMES), r.choice(THINGS)
    asked = f"Turn this into a question that ends with a question mark: {name} lost a {thing}."
    return asked, f"Did {name} lose a {thing}?", "question"


def _bullets(r: random.Random) -> tuple[str, str, str]:
    words = r.sample(COLOURS, 3)
    asked = f"Make a list with a dash before each item: {words[0]}, {words[1]}, {words[2]}."
    return asked, "\n".join(f"- {word}" for word in words), "dashes-3"


INSTRUCTIONS: tuple[Task, ...] = (
    _upper,
    _listed,
    _number,
    _yes_no,
    _json,
    _counting,
    _repeat,
    _one_word,
    _ending,
    _bullets,
)


def written(kind: str) -> Iterator[Row]:
    """Return the passages of a kind that is written by hand."""
    for line in (HERE / "general_text" / f"{kind}.txt").read_text(encoding="utf-8").splitlines():
        yield {"kind": kind, "text": line}


def generated(kind: str, makers: tuple[Make, ...]) -> Iterator[Row]:
    """Return passages made by templates in turn; none stands twice."""
    seen: set[str] = set()
    for index in range(EACH):
        draw = random.Random(f"{SEED} {kind} {index}")
        make = makers[index % len(makers)]
        text = next(t for _ in range(1000) if (t := make(draw)) not in seen)
        seen.add(text)
        yield {"kind": kind, "text": text}


def instructions() -> Iterator[Row]:
    """Return questions whose answers have a form that can be checked."""
    seen: set[str] = set()
    for index in range(EACH):
        draw = random.Random(f"{SEED} instructions {index}")
        task = INSTRUCTIONS[index % len(INSTRUCTIONS)]
        asked, answer, form = next(t for _ in range(1000) if (t := task(draw))[0] not in seen)
        seen.add(asked)
        yield {"kind": "instructions", "prompt": asked, "completion": answer, "form": form}


def rows() -> list[Row]:
    """Return all passages, kind by kind."""
    return [
        *written("prose"),
        *generated("code", CODE),
        *generated("arithmetic", ARITHMETIC),
        *written("german"),
        *written("french"),
        *instructions(),
    ]


def main() -> None:
    """Write the file."""
    OUT.parent.mkdir(exist_ok=True)
    lines = (json.dumps(row, ensure_ascii=False) for row in rows())
    OUT.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
