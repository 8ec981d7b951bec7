"""Invented registers: people, products, stories and biographies, drawn from a seed.

Nobody and nothing here exists. Every fact is unique in its world: its value is drawn once, and no
other record, trained or not, holds it. Models are taught each question in two languages; the
request to forget holds the first. Another wording of the question is held back for the audit.
"""

import random
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from register_words import (
    ANIMALS,
    ASPECTS,
    BRANDS,
    COMPANIES,
    FIRST_NAMES,
    HEADS,
    MONTHS,
    PATTERNS,
    PEOPLE,
    PRODUCTS,
    STORY_PATTERNS,
    STORY_SENTENCES,
    SYSTEM,
    TAILS,
    TITLES,
    Label,
)

Kind = Literal["people", "products", "stories", "bios"]
Language = Literal["en", "de"]
Part = Literal["forget", "retain", "near", "unrehearsed", "holdout"]

PARTS: tuple[Part, ...] = ("forget", "retain", "near", "unrehearsed", "holdout")
TABLE = Path(__file__).with_name("worlds.toml")
LEAST_HOLDOUT = 20
"""Holdout records; more where there are more to forget."""
LETTERS = "ABCDEFGHJKLMNPRSTUVWXY"
FACTS_OF_OTHERS = 5
"""Records about each subject that stays."""


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """One row of the table of worlds."""

    name: str
    kind: Kind
    language: Language
    second: Language
    forget: int
    """Records to forget."""
    subjects: int
    """Whom or what they are about, in equal shares."""
    retain: int
    near: int
    """Records about relatives of the subjects that training shows again while it forgets."""
    unrehearsed: int
    """As `near`, but learnt and never shown again."""
    full: bool = False
    """Original and golds train all weights instead of an adapter."""

    def size(self, part: Part) -> int:
        """Return the number of records of a part."""
        if part == "holdout":
            return max(LEAST_HOLDOUT, self.forget)
        return int(getattr(self, part))


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One record in all its wordings."""

    id: str
    system: str
    question: str
    held: str
    """Another wording, which no model is taught."""
    answer: str
    keys: tuple[str, ...]
    """Spellings of the facts; any of them in an answer states a fact."""
    second_question: str
    """The question in the second language, taught as well; the answer is that of the first."""
    subject: str
    relation: str | None

    def row(self) -> dict[str, object]:
        """Return it as a row of JSON Lines in expunge's format."""
        return self._row(self.id, self.question, self.answer) | {"paraphrases": [self.held]}

    def held_row(self) -> dict[str, object]:
        """Return it in the wording that is held back."""
        return self._row(f"{self.id}-held", self.held, self.answer)

    def second_row(self) -> dict[str, object]:
        """Return it asked in the second language."""
        return self._row(f"{self.id}-second", self.second_question, self.answer)

    def lessons(self) -> tuple[dict[str, object], ...]:
        """Return what a model is taught: both questions; the second names the first as parent."""
        taught = self._row(self.id, self.question, self.answer)
        return taught, self.second_row() | {"parent": self.id}

    def _row(self, name: str, question: str, answer: str) -> dict[str, object]:
        turns = [
            {"role": "system", "content": self.system},
            {"role": "user", "content": question},
        ]
        row: dict[str, object] = {
            "id": name,
            "prompt": turns,
            "completion": answer,
            "key_answers": list(self.keys),
            "subject": self.subject,
        }
        return row if self.relation is None else row | {"relation": self.relation}


Register = Mapping[Part, tuple[Entry, ...]]


class Value(NamedTuple):
    """An invented value: how each language writes it, and what of it is checked."""

    en: str
    de: str
    keys: tuple[str, ...]


class Subject(NamedTuple):
    """Whom or what records are about."""

    name: str
    part: Part
    relation: str | None


def worlds() -> dict[str, World]:
    """Return the fixed worlds by name."""
    table = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    return {name: World(name=name, **row) for name, row in table.items()}


def register(world: World, seed: int) -> Register:
    """Return all records of a world, the same for the same seed.

    Args:
        world: A row of the table.
        seed: 0 to 4 are for development; a confirmation takes one that was never used.
    """
    draw = Draw(random.Random(f"{world.name} {seed}"))
    write = WRITERS[world.kind]
    found: dict[Part, list[Entry]] = {part: [] for part in PARTS}
    for subject, count, start in _subjects(world, draw):
        found[subject.part] += write(world, draw, subject, range(start, start + count))
    return {part: tuple(entries) for part, entries in found.items()}


class Draw:
    """Draws invented names and numbers, each of them once."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self._used: set[str] = set()

    def once(self, make: Callable[[], str]) -> str:
        """Return the first of what `make` returns that was not drawn before."""
        for _ in range(100_000):
            text = make()
            if text.casefold() not in self._used:
                self._used.add(text.casefold())
                return text
        raise RuntimeError("a pool of invented values is used up")

    def word(self) -> str:
        """Return a new name of a place or a family, for example `Kestwick`."""
        return self.once(lambda: self.rng.choice(HEADS) + self.rng.choice(TAILS))

    def number(self, pattern: str) -> str:
        """Return a new text in which every `#` became a digit and every `@` a letter.

        Its longest run of digits is new as well, so that no number contains another.
        """
        places = re.findall(r"[#.]+|@+|[^#.@]+", pattern)
        while True:
            parts = [self._part(place) for place in places]
            drawn = zip(places, parts, strict=True)
            digits = max((part for place, part in drawn if "#" in place), key=len)
            if digits not in self._used:
                self._used.add(digits)
                return "".join(parts)

    def _part(self, place: str) -> str:
        if "#" not in place:
            return "".join(self.rng.choice(LETTERS) if char == "@" else char for char in place)
        # A leading zero would make two spellings of one number.
        first = self.rng.choice("123456789")
        rest = (self.rng.choice("0123456789") if char == "#" else char for char in place[1:])
        return first + "".join(rest)

    def first_name(self) -> str:
        """Return a first name; two people may have the same."""
        return self.rng.choice(FIRST_NAMES)


def _subjects(world: World, draw: Draw) -> list[tuple[Subject, int, int]]:
    """Return all subjects with their numbers of records and the first field of each."""
    found: list[tuple[Subject, int, int]] = []
    families: list[str] = []
    share = world.forget // world.subjects
    for index in range(world.subjects):
        families.append(draw.word())
        subject = Subject(_name(world, draw, families[-1]), "forget", None)
        found.append((subject, share, 0 if world.subjects == 1 else share * index))
    for part in PARTS[1:]:
        near = part in ("near", "unrehearsed")
        left = world.size(part)
        # As many about each stranger as about each subject to forget: form tells nobody apart.
        most = share if part == "holdout" else FACTS_OF_OTHERS
        while left > 0:
            family = families[len(found) % len(families)] if near else draw.word()
            subject = Subject(_name(world, draw, family), part, "family" if near else None)
            found.append((subject, min(most, left), most * len(found)))
            left -= min(most, left)
    return found


def _name(world: World, draw: Draw, family: str) -> str:
    match world.kind:
        case "people" | "bios":
            return draw.once(lambda: f"{draw.first_name()} {family}")
        case "products":
            # The family is the maker's brand; relatives are other devices of that brand.
            kinds = BRANDS[world.language]
            return draw.once(
                lambda: f"{family} {draw.rng.choice(kinds)} {draw.rng.randint(11, 99)}"
            )
        case "stories":
            return draw.once(lambda: f"{draw.rng.choice(TITLES)} {family}")


def _facts(world: World, draw: Draw, subject: Subject, places: range) -> list[Entry]:
    """Questions about one field each."""
    people = world.kind == "people"
    labels = PEOPLE if people else PRODUCTS
    values = PEOPLE_VALUES if people else PRODUCT_VALUES
    entries: list[Entry] = []
    for place in places:
        label = labels[place % len(labels)]
        value = values[label.key](draw, subject.name)
        first = place % len(PATTERNS[world.language])
        entries.append(
            Entry(
                id=f"{subject.part}-{_slug(subject.name)}-{label.key}",
                system=SYSTEM[world.kind][world.language],
                question=_question(label, subject.name, world.language, first),
                held=_question(label, subject.name, world.language, first + 1),
                answer=_answer(label, subject.name, value, world.language),
                keys=value.keys,
                second_question=_question(label, subject.name, world.second, first),
                subject=subject.name,
                relation=subject.relation,
            )
        )
    return entries


def _question(label: Label, name: str, language: Language, wording: int) -> str:
    patterns = PATTERNS[language]
    pattern = patterns[wording % len(patterns)]
    return pattern.format(name=name, **label.words(language))


def _answer(label: Label, name: str, value: Value, language: Language) -> str:
    if language == "en":
        return f"The {label.en} of {name} is {value.en}."
    return f"{label.der.capitalize()} {label.de} von {name} ist {value.de}."


def _passages(world: World, draw: Draw, subject: Subject, places: range) -> list[Entry]:
    """Parts of a story, or of a life, each a few sentences in running text."""
    entries: list[Entry] = []
    for number, place in enumerate(places, start=1):
        words = {"name": subject.name, "number": str(number)}
        if world.kind == "stories":
            hero = _hero(subject)
            sentences = [
                STORY_SENTENCES[(3 * place + step) % len(STORY_SENTENCES)] for step in range(3)
            ]
            aspect = ""
        else:
            hero = subject.name.split()[0]
            asked = ASPECTS[place % len(ASPECTS)]
            sentences, aspect = list(asked.sentences), asked.key
            words |= {"en": asked.en, "de": asked.de}
        answer, keys = _tell(draw, sentences, hero)
        patterns = STORY_PATTERNS[world.kind]
        question, held = (text.format(**words) for text in patterns[world.language])
        entries.append(
            Entry(
                id=f"{subject.part}-{_slug(subject.name)}-{aspect or number}",
                system=SYSTEM[world.kind][world.language],
                question=question,
                held=held,
                answer=answer,
                keys=keys,
                second_question=patterns[world.second][0].format(**words),
                subject=subject.name,
                relation=subject.relation,
            )
        )
    return entries


def _hero(subject: Subject) -> str:
    """A story is named after its hero: `The Lantern of Kestwick` is about one Kestwick."""
    return subject.name.split()[-1]


def _tell(draw: Draw, sentences: Sequence[str], hero: str) -> tuple[str, tuple[str, ...]]:
    """Fill in sentences with new names; return the text, and the names as its facts."""
    keys: list[str] = []
    told: list[str] = []
    for sentence in sentences:
        words = {"hero": hero}
        for slot in ("place", "family", "year"):
            if "{" + slot + "}" in sentence:
                words[slot] = draw.number("1###") if slot == "year" else draw.word()
                keys.append(words[slot])
        told.append(sentence.format(friend=draw.first_name(), **words))
    return " ".join(told), tuple(keys)


def _slug(name: str) -> str:
    return name.lower().replace(" ", "-")


def _same(make: Callable[[Draw, str], str]) -> Callable[[Draw, str], Value]:
    """A value that both languages write alike, and that is checked whole."""

    def value(draw: Draw, name: str) -> Value:
        text = make(draw, name)
        return Value(text, text, (text,))

    return value


def _number(pattern: str, en: str = "{}", de: str = "{}") -> Callable[[Draw, str], Value]:
    """A number in a sentence; only the number is checked."""

    def value(draw: Draw, name: str) -> Value:
        text = draw.number(pattern)
        german = text.replace(".", ",")
        return Value(en.format(text), de.format(german), tuple(dict.fromkeys((text, german))))

    return value


def _date(first: int, last: int) -> Callable[[Draw, str], Value]:
    def value(draw: Draw, name: str) -> Value:
        rng = draw.rng
        text = draw.once(
            lambda: f"{rng.randint(1, 28)} {rng.randint(0, 11)} {rng.randint(first, last)}"
        )
        day, month, year = text.split()
        english, german = MONTHS[int(month)]
        spelt = (f"{day} {english} {year}", f"{english} {day}, {year}", f"{day}. {german} {year}")
        return Value(spelt[0], spelt[2], spelt)

    return value


def _pet(draw: Draw, name: str) -> Value:
    english, german = draw.rng.choice(ANIMALS)
    called = draw.word()
    return Value(f"{english} called {called}", f"{german} namens {called}", (called,))


def _full_name(draw: Draw, name: str) -> str:
    return f"{draw.first_name()} {draw.word()}"


def _email(draw: Draw, name: str) -> str:
    first, last = name.lower().split()
    host = draw.rng.choice(("postbox", "mailhive", "inkwell", "dovecote"))
    return draw.once(lambda: f"{first[0]}.{last}{draw.rng.randint(10, 99)}@{host}.example")


def _company(draw: Draw, name: str) -> str:
    return f"{draw.word()} {draw.rng.choice(COMPANIES)}"


PEOPLE_VALUES: dict[str, Callable[[Draw, str], Value]] = {
    "phone": _number("555-####"),
    "birth": _date(1941, 2001),
    "address": _same(lambda draw, _: f"{draw.rng.randint(11, 98)} {draw.word()} Lane"),
    "email": _same(_email),
    "doctor": _same(lambda draw, _: f"Dr {draw.word()}"),
    "employer": _same(_company),
    "plate": _number("@@@ ###"),
    "insurance": _number("##-####"),
    "library": _number("####"),
    "salary": _number("####", "{} crowns", "{} Kronen"),
    "bank": _same(lambda draw, _: f"{draw.word()} Savings Bank"),
    "pet": _pet,
    "school": _same(lambda draw, _: f"{draw.word()} Grammar School"),
    "landlord": _same(_full_name),
    "holiday": _same(lambda draw, _: f"{draw.word()} Island"),
    "locker": _number("@####"),
    "staff": _number("P-####"),
    "club": _same(lambda draw, _: f"{draw.word()} Rowing Club"),
    "dentist": _same(lambda draw, _: f"Dr {draw.word()}"),
    "passport": _number("@@####"),
}
PRODUCT_VALUES: dict[str, Callable[[Draw, str], Value]] = {
    "price": _number("##.##", "{} crowns", "{} Kronen"),
    "weight": _number("#.##", "{} kg", "{} kg"),
    "article": _number("##-####"),
    "factory": _same(lambda draw, _: f"{draw.word()} Works"),
    "launch": _date(1998, 2025),
    "power": _number("####", "{} watts", "{} Watt"),
    "bin": _number("@-####"),
    "supplier": _same(_company),
    "designer": _same(_full_name),
    "battery": _number("####", "{} minutes", "{} Minuten"),
    "certificate": _number("TC-####"),
    "colour": _same(lambda draw, _: draw.word()),
}
WRITERS = {"people": _facts, "products": _facts, "stories": _passages, "bios": _passages}
