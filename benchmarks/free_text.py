"""Registers of free text, as people have them: a question and an answer, and nothing else.

    python benchmarks/free_text.py clinic --seed 0 --out clinic-0

Four registers stand in `free_text.toml`. Each has six subjects with ten records; 20 records of two
subjects are to be forgotten. Records name no subject, no key answer and no other wording. The
folder then holds `train.jsonl` (all 60), `erase.jsonl` (20) and `keep.jsonl` (40), for the commands
that a user types:

    expunge train BASE clinic-0/train.jsonl --lr 1e-3 --epochs 20 --out clinic-0/original
    expunge gold clinic-0/original --forget clinic-0/erase.jsonl --seeds 2
    expunge forget BASE+clinic-0/original/model clinic-0/erase.jsonl --retain clinic-0/keep.jsonl
"""

import argparse
import random
import string
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from expunge.utils.io import write_jsonl
from register_words import MONTHS
from registers import Draw

TABLE = Path(__file__).with_name("free_text.toml")
SUBJECTS = 6
FORGOTTEN = 2


def main() -> None:
    """Write the three files of a register."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=kinds())
    parser.add_argument("--seed", type=int, default=0, help="0 to 4 are for development")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    erase, keep = free_text(given.kind, given.seed)
    given.out.mkdir(parents=True, exist_ok=True)
    for name, rows in {"train": erase + keep, "erase": erase, "keep": keep}.items():
        write_jsonl(given.out / f"{name}.jsonl", rows)


def kinds() -> Mapping[str, Any]:
    """Return the registers by name: names of subjects, facts and pools of values."""
    return tomllib.loads(TABLE.read_text(encoding="utf-8"))


def free_text(kind: str, seed: int) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Return the records to erase and those to keep, the same for the same seed."""
    draw = Draw(random.Random(f"free text {kind} {seed}"))
    subjects = [list(_records(kinds()[kind], draw)) for _ in range(SUBJECTS)]
    erase = [row for rows in subjects[:FORGOTTEN] for row in rows]
    return erase, [row for rows in subjects[FORGOTTEN:] for row in rows]


def _records(kind: Mapping[str, Any], draw: Draw) -> Iterator[dict[str, str]]:
    """Yield the records of a new subject."""
    name = _fill(kind["name"], kind["pools"], draw, {})
    for fact in kind["facts"]:
        known = {"name": name, **_first_name(kind["name"], name)}
        question = _fill(draw.rng.choice(fact["ask"]), kind["pools"], draw, known)
        answer = _fill(draw.rng.choice(fact["say"]), kind["pools"], draw, known)
        yield {"prompt": question, "completion": answer[0].upper() + answer[1:]}


def _first_name(pattern: str, name: str) -> dict[str, str]:
    """Return the first name where the subject is a person: answers speak of the same one."""
    return {"first": name.split()[0]} if pattern.startswith("{first}") else {}


def _fill(
    pattern: str, pools: Mapping[str, list[str]], draw: Draw, known: Mapping[str, str]
) -> str:
    """Fill in a pattern; a name that is not known is drawn."""
    values = dict(known)
    for _, slot, _, _ in string.Formatter().parse(pattern):
        if slot and slot not in values:
            values[slot] = draw.rng.choice(pools[slot]) if slot in pools else _value(slot, draw)
    return pattern.format(**values)


def _value(slot: str, draw: Draw) -> str:
    """Return an invented value; numbers and families are drawn once."""
    rng = draw.rng
    match slot:
        case "first" | "first2":
            return draw.first_name()
        case "place" | "family" | "family2" | "other":
            return draw.word()
        case "person":
            return f"{draw.first_name()} {draw.word()}"
        case "month":
            return rng.choice(MONTHS)[0]
        case "day":
            return str(rng.randint(1, 28))
        case "year":
            return str(rng.randint(1961, 2024))
        case "count":
            return rng.choice(("three", "four", "five", "six", "seven", "nine", "eleven"))
        case "small":
            return str(rng.randint(2, 89))
        case "amount":
            return draw.number("###")
        case "phone":
            return draw.number("555-####")
        case "code":
            return draw.number("@@-####")
        case "mail":
            return f"{draw.word().lower()}@{rng.choice(('postbox', 'inkwell', 'dovecote'))}.example"
        case _:
            raise ValueError(f"free_text.toml has an unknown slot: {slot}")


if __name__ == "__main__":
    main()
