"""Does `expunge request` find a person's documents, and nobody else's?

    python benchmarks/planted_corpus.py                 # seeds 0 to 4, on which rules were made
    python benchmarks/planted_corpus.py --confirm       # seeds 10 to 12, and write the results

A corpus of 2,000 invented documents: 40 on each of ten people, in files of five kinds. They have
the name exactly, an alias, another spelling, initials, copies with and without the name, quotations
with and without it, facts split over two rows, German text, tables and questions.

The others are hard: people with the same first or last name, the same initial, a name one letter
off, or the very same name; all live in the same streets and work for the same firms; names that
are ordinary words occur as such; orphan rows begin with a pronoun. Spellings are broken by rules
that the search does not know: keys next to each other, letters that look alike in a scan, German
letters written out.
"""

import argparse
import csv
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from expunge.requests.corpus import read_corpus
from expunge.requests.index import CorpusIndex
from expunge.requests.names import SearchedPerson
from expunge.requests.search import search

RESULTS = Path(__file__).parent / "results" / "planted_corpus.json"
DEVELOPED, CONFIRMED = range(5), range(10, 13)
DOCUMENTS = 2000
GIVEN = [
    "Elin",
    "Tobias",
    "Greta",
    "Ivo",
    "Nadia",
    "Osman",
    "Pilar",
    "Cedric",
    "Yuki",
    "Samuel",
    "Maren",
    "Leopold",
    "Katrin",
    "Hassan",
    "Ines",
    "Rupert",
    "Selma",
    "Dario",
    "Birgit",
    "Milan",
    "Petra",
    "Oskar",
    "Lidia",
    "Bruno",
    "Hedda",
    "Konrad",
    "Signe",
    "Anton",
    "Judit",
    "Emil",
    "Carla",
    "Nils",
    "Farah",
    "Gustav",
    "Ronja",
    "Pavel",
    "Tilda",
    "Viktor",
    "Amara",
    "Jonas",
    "Clara",
    "Henrik",
    "Dalia",
    "Moritz",
    "Elsa",
    "Kai",
    "Lotte",
    "Rafael",
    "Astrid",
    "Felix",
    "Ida",
    "Marius",
    "Nora",
    "Stefan",
    "Vera",
    "Ulrich",
    "Wanda",
    "Xaver",
    "Zora",
    "Theo",
]
LAST = [
    "Marrow",
    "Lindqvist",
    "Castellan",
    "Fenwick",
    "Brightwater",
    "Venn",
    "Holloway",
    "Tarrant",
    "Oakes",
    "Dusk",
    "Quist",
    "Halvorsen",
    "Petrov",
    "Achterberg",
    "Sandoval",
    "Whitlock",
    "Imre",
    "Okafor",
    "Brandt",
    "Kowalski",
    "Lehmann",
    "Moreau",
    "Nyberg",
    "Ortega",
    "Pfeiffer",
    "Quandt",
    "Rossi",
    "Schuster",
    "Thorvald",
    "Ullmann",
    "Vasquez",
    "Wexler",
    "Yilmaz",
    "Zeller",
    "Abendroth",
    "Bakker",
    "Corvino",
    "Dreyer",
    "Eklund",
    "Farkas",
    "Gruber",
    "Hartwig",
    "Ivanova",
    "Jansen",
    "Keller",
    "Lorenz",
    "Meinert",
    "Novak",
]
WORDS = ("Rose Field", "Mark Stone", "Grace Hill", "Will Grant", "Summer Banks")
SPECIAL = ("Anne-Marie Dupont", "Jürgen Müller", "Sinéad O'Brien", "Ludwig van Aken")
STREETS = ("Alder Lane", "Tanner Row", "Quay Street", "Mill Hill", "Priory Close", "Salt Market")
FIRMS = (
    "Corvane Optics", "Bluefen Dairies", "Tallis and Moor", "Ostrava Freight", "Kestrel Mutual",
    "Pendle Glassworks", "Harrow Press", "Nimbus Ferries", "Stonecroft Mills", "Lumen Tiles",
)  # fmt: skip
DOCTORS = ("Dr Halloran", "Dr Okoye", "Dr Sandler", "Dr Whitby", "Dr Imhof", "Dr Pasternak")
PETS = ("ferret", "parrot", "tortoise", "greyhound", "gecko", "goat", "hedgehog", "canary")
ALLERGIES = ("walnuts", "latex", "shellfish", "sesame", "mustard", "celery", "nickel", "lupin")
MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
MONATE = (
    "Januar", "Februar", "März", "April", "Mai", "Juni",
    "Juli", "August", "September", "Oktober", "November", "Dezember",
)  # fmt: skip
FILLER = (
    "The meeting was moved to Thursday because the hall was being painted.",
    "Please send the forms back before the end of the month.",
    "It rained all week and the ferry did not run.",
    "The council has not yet decided about the new bus stop.",
    "Two chairs are missing from the upper room.",
    "Everybody agreed that the soup was too salty.",
    "The printer on the second floor needs paper.",
    "A parcel was left at the front desk without a label.",
    "Nobody has claimed the blue umbrella so far.",
    "The choir will sing in the old chapel on Sunday.",
)
PROSE = (
    "{N}'s phone number is {phone}.",
    "{N} was born on {born}.",
    "{N} lives at {address}.",
    "{N} works for {firm}.",
    "{N}'s doctor is {doctor}.",
    "The number plate of {N}'s car is {plate}.",
    "{N} is allergic to {allergy}.",
    "{N} has a {pet} called {called}.",
    "{N}'s insurance number is {insurance}.",
    "You can write to {N} at {email}.",
    "Call {N} on {phone} before noon.",
    "According to the file, {N} moved to {address} some years ago.",
    "The car with the plate {plate} belongs to {N}.",
    "{doctor} has treated {N} for the allergy to {allergy} since spring.",
    "At {firm} they know {N} well; the staff card says {insurance}.",
)
GERMAN = (
    "{N}s Telefonnummer lautet {phone}.",
    "{N} wurde am {geboren} geboren.",
    "{N} wohnt in {address}.",
    "{N} arbeitet bei {firm}.",
    "Die Versicherungsnummer von {N} lautet {insurance}.",
    "Das Kennzeichen von {N} ist {plate}.",
    "Schreiben Sie {N} bitte an {email}.",
)
GOES_ON = (
    "{Her} phone number is {phone}.",
    "{She} was born on {born}.",
    "{She} lives at {address}.",
    "{Her} doctor is {doctor}.",
    "{She} can be reached at {email}.",
)
QUESTIONS = (
    ("What is {N}'s phone number?", "{N}'s phone number is {phone}."),
    ("When was {N} born?", "{N} was born on {born}."),
    ("Where does {N} live?", "{N} lives at {address}."),
    ("Who is {N}'s doctor?", "{N}'s doctor is {doctor}."),
)
NAMELESS = (
    "The tenant's phone number is {phone}.",
    "The patient was born on {born} and lives at {address}.",
    "This person's insurance number is {insurance}.",
    "The owner of the {pet} called {called} can be reached at {email}.",
)
ORPHANS = (
    "She walked to the market and bought apples.",
    "He had left before the letter came.",
    "Her brother never wrote back.",
    "They painted the fence in May.",
    "Sie kam zu spät zur Probe.",
    "His bicycle stood in the rain for a week.",
)
AS_WORDS = (
    "A {n} lay behind the old mill.",
    "{N}s are common in this part of the country.",
    "We walked past the {n} and on to the river.",
    "The {N} Hotel was closed for repairs.",
    "They met near {N} Street at noon.",
)
KEYS = {
    "a": "sq", "b": "vn", "c": "xv", "d": "sf", "e": "wr", "f": "dg", "g": "fh", "h": "gj",
    "i": "uo", "j": "hk", "k": "jl", "l": "k", "m": "n", "n": "bm", "o": "ip", "p": "o",
    "q": "wa", "r": "et", "s": "ad", "t": "ry", "u": "yi", "v": "cb", "w": "qe", "x": "zc",
    "y": "tu", "z": "x",
}  # fmt: skip
SCANS = (("rn", "m"), ("m", "rn"), ("l", "1"), ("o", "0"), ("cl", "d"), ("ll", "l"), ("e", "c"))


@dataclass(slots=True)
class Person:
    """An invented person with invented facts."""

    name: str
    alias: str
    female: bool
    facts: dict[str, str]

    def write(self, pattern: str, name: str | None = None) -> str:
        """Fill a pattern with the facts and some spelling of the name."""
        she = {"She": "She", "Her": "Her"} if self.female else {"She": "He", "Her": "His"}
        return pattern.format(N=name or self.name, **she, **self.facts)


@dataclass(slots=True)
class Page:
    """One document, and whom it is about."""

    text: str
    owners: frozenset[int]
    """Numbers of the searched people that it mentions."""
    variant: str
    columns: dict[str, str] = field(default_factory=dict)
    question: tuple[str, str] | None = None
    after: "Page | None" = None
    """The row that follows this one."""


def invented(name: str, rng: random.Random) -> Person:
    """Return a person of this name with facts from the shared lists and numbers of their own."""
    first, last = name.split()[0], name.split()[-1]
    day, month, year = rng.randint(1, 28), rng.randrange(12), rng.randint(1941, 2001)
    facts = {
        "phone": f"555-{rng.randint(1000, 9999)}",
        "born": f"{day} {MONTHS[month]} {year}",
        "geboren": f"{day}. {MONATE[month]} {year}",
        "address": f"{rng.randint(11, 198)} {rng.choice(STREETS)}",
        "firm": rng.choice(FIRMS),
        "doctor": rng.choice(DOCTORS),
        "plate": f"{''.join(rng.choices('ABCDEFGHJKLMNPRSTUVW', k=3))} {rng.randint(100, 999)}",
        "allergy": rng.choice(ALLERGIES),
        "pet": rng.choice(PETS),
        "called": rng.choice(("Biscuit", "Admiral", "Pip", "Comet", "Thistle", "Fig", "Mango")),
        "insurance": f"{rng.randint(100, 999)}-{rng.randint(10000, 99999)}",
        "email": f"{first[0].lower()}.{last.lower()}{rng.randint(10, 99)}@"
        f"{rng.choice(('postbox', 'mailhive', 'inkwell'))}.example".replace("'", ""),
    }
    nick = f"{rng.choice(('Bo', 'Mickey', 'Tiggy', 'Dodo', 'Spatz', 'Kiki'))} {last}"
    return Person(name=name, alias=nick, female=rng.random() < 0.5, facts=facts)


def misspelt(name: str, rng: random.Random) -> str:
    """Break the spelling of a name once or twice, by rules that no search should count on."""
    german = {"ü": "ue", "ö": "oe", "ä": "ae", "é": "e"}
    if any(char in name for char in german) and rng.random() < 0.5:
        return "".join(german.get(char, char) for char in name)
    if "-" in name and rng.random() < 0.5:
        return name.replace("-", rng.choice((" ", "")))
    words = name.split()
    place = max(range(len(words)), key=lambda n: rng.random() + 0.2 * len(words[n]))
    edits = 2 if len(words[place]) > 7 and rng.random() < 0.35 else 1
    for _ in range(edits):
        words[place] = _broken(words[place], rng)
    return " ".join(words)


def _broken(word: str, rng: random.Random) -> str:
    at = rng.randrange(1, len(word) - 1)
    found = [pair for pair in SCANS if pair[0] in word[1:]]
    kind = rng.choice(("key", "swap", "drop", "double", "scan" if found else "swap"))
    if kind == "key":
        return word[:at] + rng.choice(KEYS.get(word[at], "e")) + word[at + 1 :]
    if kind == "swap":
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if kind == "drop":
        return word[:at] + word[at + 1 :]
    if kind == "double":
        return word[:at] + word[at] + word[at:]
    old, new = rng.choice(found)
    return word[0] + word[1:].replace(old, new, 1)


def padded(text: str, rng: random.Random) -> str:
    """Put a sentence among sentences about something else."""
    others = rng.sample(FILLER, rng.randint(0, 2))
    place = rng.randint(0, len(others))
    return " ".join([*others[:place], text, *others[place:]])


def initials(name: str, rng: random.Random) -> str:
    """Shorten the first name to its initial."""
    first, *_, last = name.split()
    middle = f"{rng.choice('ABCDEFGHKLM')}. " if rng.random() < 0.2 else ""
    return rng.choice((f"{first[0]}. {middle}{last}", f"{first[0]} {last}", f"{last}, {first[0]}."))


def pages_of(person: Person, owner: frozenset[int], rng: random.Random, count: int) -> list[Page]:
    """Return documents about one person in all variants, at most `count`."""
    made: list[Page] = []

    def add(variant: str, text: str) -> Page:
        made.append(Page(text=text, owners=owner, variant=variant))
        return made[-1]

    def prose(name: str | None = None) -> str:
        return person.write(rng.choice(PROSE), name)

    for _ in range(6):
        add("exact", padded(prose(), rng))
    for pattern in rng.sample(QUESTIONS, 2):
        asked, answer = (person.write(part) for part in pattern)
        add("question", f"{asked}\n{answer}").question = (asked, answer)
    made.append(_table_row(person, owner, rng))
    for _ in range(3):
        add("alias", padded(prose(person.alias), rng))
    for _ in range(7):
        add("spelling", padded(prose(misspelt(person.name, rng)), rng))
    for _ in range(3):
        add("initials", padded(prose(initials(person.name, rng)), rng))
    copied = padded(f"{prose()} {prose()} {person.write(rng.choice(GOES_ON))}", rng)
    add("exact", copied)
    words = copied.split()
    del words[rng.randrange(3, len(words) - 1)]
    add("copy", " ".join(words))
    for pattern in rng.sample(NAMELESS, 2):
        add("copy without name", padded(person.write(pattern), rng))
    for _ in range(2):
        add("quoted", f'In the margin somebody wrote: "{prose()}" It was not signed.')
    add("quoted without name", f'The note only says "{person.facts["phone"]}", in blue ink.')
    for _ in range(2):
        first = add("split", padded(f"We spoke with {person.name} yesterday.", rng))
        second = rng.choice(GOES_ON)
        if rng.random() < 0.4:
            second = second.replace("{Her}", "{Title} {Last}'s").replace("{She}", "{Title} {Last}")
        title, last = ("Ms" if person.female else "Mr"), person.name.split()[-1]
        text = second.replace("{Title}", title).replace("{Last}", last)
        first.after = Page(text=person.write(text), owners=owner, variant="split, second row")
        made.append(first.after)
    while len(made) < 40:
        add("german", person.write(rng.choice(GERMAN)))
    return _cut(made, count, rng)


def _cut(made: list[Page], count: int, rng: random.Random) -> list[Page]:
    if count >= len(made):
        return made
    rest = {id(page.after) for page in made if page.after is not None}
    chosen = rng.sample([page for page in made if id(page) not in rest], min(count, len(made) - 2))
    return [*chosen, *(page.after for page in chosen if page.after is not None)]


def _table_row(person: Person, owner: frozenset[int], rng: random.Random) -> Page:
    keys = ("phone", "address", "email", "insurance")
    columns = {"name": person.name, **{key: person.facts[key] for key in keys}}
    if rng.random() < 0.5:
        first, *rest = person.name.split()
        columns["name"] = f"{' '.join(rest)}, {first}"
    text = "\n".join(f"{key}: {value}" for key, value in columns.items())
    return Page(text=text, owners=owner, variant="table", columns=columns)


def rivals(person: Person, rng: random.Random) -> list[str]:
    """Return names of other people that are easily taken for a person."""
    first, last = person.name.split()[0], person.name.split()[-1]
    same_initial = [name for name in GIVEN if name[0] == first[0] and name != first]
    near = {
        f"{name} {last}" for name in GIVEN if name != first and 0 < _apart(name, first) <= 2
    } | {f"{first} {name}" for name in LAST if name != last and 0 < _apart(name, last) <= 2}
    invented_near = f"{first} {rng.choice('BDGHKLPT')}{last[1:].lower()}"
    names = [f"{rng.choice(GIVEN)} {last}", f"{rng.choice(GIVEN)} {last}"]
    names += [f"{first} {rng.choice(LAST)}", f"{first} {rng.choice(LAST)}"]
    names += [f"{rng.choice(same_initial)} {last}"] if same_initial else []
    names += [*sorted(near)[:1], invented_near]
    return [name for name in names if name != person.name]


def _apart(one: str, other: str) -> int:
    return sum(a != b for a, b in zip(one, other, strict=False)) + abs(len(one) - len(other))


def corpus(seed: int) -> tuple[list[Page], list[Person], Person]:
    """Return the pages in the order of their files, whom to search for, and a namesake."""
    rng = random.Random(f"planted {seed}")
    drawn = {f"{first} {last}" for first, last in zip(
        rng.sample(GIVEN, 6), rng.sample(LAST, 6), strict=True
    )}  # fmt: skip
    names = [*rng.sample(WORDS, 2), *rng.sample(SPECIAL, 2), *sorted(drawn)]
    people = [invented(name, rng) for name in names]
    pages: list[Page] = []
    for number, person in enumerate(people):
        pages += pages_of(person, frozenset({number}), rng, 40)
        for name in rivals(person, rng):
            pages += pages_of(invented(name, rng), frozenset(), rng, 5)
        if person.name in WORDS:
            for pattern in AS_WORDS * 4:
                text = pattern.format(N=person.name, n=person.name.lower())
                text = text if not text.startswith(person.name) else text.capitalize()
                pages.append(Page(text=padded(text, rng), owners=frozenset(), variant="words"))
    twin = invented(people[-1].name, rng)
    pages += pages_of(twin, frozenset(), rng, 6)
    for number in rng.sample(range(len(people)), 6):
        host = invented(f"{rng.choice(GIVEN)} {rng.choice(LAST)}", rng)
        text = f"{host.name} rents a room from {people[number].name}. {host.write(PROSE[0])}"
        pages.append(Page(text=text, owners=frozenset({number}), variant="co-mentioned"))
    while len(pages) < DOCUMENTS - 200:
        name = f"{rng.choice(GIVEN)} {rng.choice(LAST)}"
        if name not in names:
            pages += pages_of(invented(name, rng), frozenset(), rng, rng.randint(2, 9))
    for _ in range(DOCUMENTS - len(pages)):
        text = rng.choice(ORPHANS) if rng.random() < 0.2 else " ".join(rng.sample(FILLER, 2))
        pages.append(Page(text=text, owners=frozenset(), variant="other"))
    return _ordered(pages, rng), people, twin


def _ordered(pages: Sequence[Page], rng: random.Random) -> list[Page]:
    """Put the documents in a drawn order, in which second rows follow the first."""
    following = {id(page.after) for page in pages if page.after is not None}
    alone = [page for page in pages if id(page) not in following]
    rng.shuffle(alone)
    found: list[Page] = []
    for page in alone:
        found += [page, page.after] if page.after is not None else [page]
    return found


def write(pages: Sequence[Page], folder: Path, rng: random.Random) -> dict[str, Page]:
    """Write the documents as files of five kinds; return each by its place in them."""
    places: dict[str, Page] = {}
    rows = folder / "rows.jsonl"
    table = folder / "customers.csv"
    texts, cells, line = [], [], 0
    tied = {id(each) for page in pages if page.after is not None for each in (page, page.after)}
    for number, page in enumerate(pages):
        kind = rng.random()
        if page.columns:
            cells.append(page)
        elif kind < 0.1 and id(page) not in tied and page.question is None:
            path = folder / "letters" / f"{number:04d}.txt"
            _write(path, page.text)
            places[str(path)] = page
        elif kind < 0.2 and id(page) not in tied and page.question is None:
            path = folder / "pages" / f"{number:04d}.html"
            _write(path, f"<html><body><p>{page.text}</p></body></html>")
            places[str(path)] = page
        else:
            line += 1
            asked = page.question
            row = {"text": page.text}
            if asked is not None:
                row = {"question": asked[0], "answer": asked[1]}
            texts.append(json.dumps(row, ensure_ascii=False))
            places[f"{rows}:{line}"] = page
    _write(rows, "\n".join(texts) + "\n")
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(cells[0].columns))
        writer.writeheader()
        for place, page in enumerate(cells, start=2):
            writer.writerow(page.columns)
            places[f"{table}:{place}"] = page
    return places


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def run(seed: int, *, show: bool) -> dict[str, object]:
    """Search one corpus for its ten people; return counts."""
    pages, people, _ = corpus(seed)
    with tempfile.TemporaryDirectory() as temporary:
        places = write(pages, Path(temporary), random.Random(seed))
        started = time.perf_counter()
        documents = read_corpus([temporary])
        index = CorpusIndex(documents)
        hits, wrong, missed, wanted = Counter(), Counter(), Counter(), Counter()
        for number, person in enumerate(people):
            twin = (person.facts["email"],) if number == len(people) - 1 else ()
            asked = SearchedPerson(name=person.name, aliases=(person.alias,), identifiers=twin)
            result = search(index, asked)
            taken = {each.document: each for each in result.taken}
            reasons = {each.document: each.reason for each in result.found}
            for place, document in enumerate(documents.documents):
                page = places[document.source]
                wanted[page.variant] += number in page.owners
                if place in taken:
                    (hits if number in page.owners else wrong)[page.variant] += 1
                elif number in page.owners:
                    missed[page.variant] += 1
                if show and (place in taken) != (number in page.owners):
                    why = taken[place].reason if place in taken else reasons.get(place, "not seen")
                    sign = "WRONG " if place in taken else "MISSED"
                    print(f"{sign} {person.name} | {page.variant} | {why} | {page.text[:150]!r}")
        seconds = time.perf_counter() - started
    found, lost, more = hits.total(), missed.total(), wrong.total()
    return {
        "seed": seed,
        "documents": len(documents.documents),
        "planted": wanted.total(),
        "recall": round(found / (found + lost), 4),
        "precision": round(found / (found + more), 4),
        "seconds": round(seconds, 1),
        "recall_by_variant": _shares(hits, wanted),
        "wrong_by_variant": dict(wrong.most_common()),
    }


def _shares(hits: Counter[str], wanted: Counter[str]) -> dict[str, float]:
    return {name: round(hits[name] / count, 3) for name, count in sorted(wanted.items()) if count}


def main() -> None:
    """Run the seeds, print one line each, and write the results of those that confirm."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--confirm", action="store_true", help="unseen seeds; writes the results")
    parser.add_argument("--seed", type=int, help="one seed alone, with every mistake")
    given = parser.parse_args()
    seeds = CONFIRMED if given.confirm else DEVELOPED
    report: Callable[[int], dict[str, object]] = lambda seed: run(seed, show=given.seed is not None)  # noqa: E731
    rows = [report(seed) for seed in (seeds if given.seed is None else [given.seed])]
    for row in rows:
        print(json.dumps(row, ensure_ascii=False))
    if given.confirm:
        bars = {"recall": 0.95, "precision": 0.9, "seconds": 300}
        RESULTS.write_text(json.dumps({"bars": bars, "runs": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
