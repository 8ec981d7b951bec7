"""Does `expunge request` notice requests that ask for more than one person's own data?

    python benchmarks/hostile_requests.py --tofu FOLDER

Planted corpora, seeds 10 and 11: each of ten people is searched for as they would ask (a grave
concern is a false alarm), with the name of another person as alias, with an e-mail address of
another person as identifier; and each street and firm is searched for as if it were a person.

TOFU: of each author of forget10 the records as they are against 400 of retain90 (false alarms), and
with K ordinary words appended to a share of the questions.
"""

import argparse
import json
import random
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from expunge.data.corpora import common_words
from expunge.data.readers import read
from expunge.data.records import Message, Record
from expunge.errors import InputError, UsageError
from expunge.requests.corpus import read_corpus
from expunge.requests.draft import RequestDraft, drafted, questions_of
from expunge.requests.index import CorpusIndex
from expunge.requests.names import SearchedPerson
from expunge.requests.screening import usable_aliases
from expunge.requests.search import search
from expunge.requests.stuffed_words import stuffed_words
from planted_corpus import FIRMS, STREETS, corpus, write

SEEDS = (10, 11)
AUTHOR = 20
"""Records of one author of TOFU."""
STUFFING = tuple((count, share) for count in (3, 5, 8) for share in (1.0, 0.6))


def draft(index: CorpusIndex, person: SearchedPerson) -> RequestDraft:
    """Return the request that a search leads to."""
    searched, concerns = usable_aliases(index, person)
    result = search(index, searched)
    return drafted(index, result, questions_of(index, result), concerns=concerns)


def cases(seed: int) -> Iterator[tuple[str, CorpusIndex, SearchedPerson]]:
    """Yield what is asked for in one corpus, and what kind of request it is."""
    pages, people, _ = corpus(seed)
    with tempfile.TemporaryDirectory() as temporary:
        write(pages, Path(temporary), random.Random(seed))
        index = CorpusIndex(read_corpus([temporary]))
    for place, one in enumerate(people):
        other = people[place - 1]
        own = SearchedPerson(name=one.name, aliases=(one.alias,), identifiers=(one.facts["email"],))
        yield "own data", index, own
        yield "alias of another", index, replace(own, aliases=(other.name,))
        yield "identifier of another", index, replace(own, identifiers=(other.facts["email"],))
    for kind, names in (("street", STREETS), ("firm", FIRMS)):
        for name in names:
            yield kind, index, SearchedPerson(name=name)


def planted() -> dict[str, str]:
    """Return for each kind of request how many have a grave concern or are refused at once."""
    noticed, every = Counter[str](), Counter[str]()
    for seed in SEEDS:
        for kind, index, person in cases(seed):
            every[kind] += 1
            try:
                noticed[kind] += any(each.grave for each in draft(index, person).concerns)
            except (InputError, UsageError):
                noticed[kind] += 1
    return {kind: f"{noticed[kind]} of {count}" for kind, count in every.items()}


def stuffed(records: Sequence[Record], count: int, share: float, seed: int) -> list[Record]:
    """Return records with ordinary words appended to a share of the questions."""
    rng = random.Random(f"{seed} {count} {share}")
    words = " ".join(rng.sample([word for word in common_words()[:3000] if word.isalpha()], count))
    return [
        replace(each, prompt=(Message("user", f"{each.question} {words}"),))
        if rng.random() < share
        else each
        for each in records
    ]


def tofu(folder: Path) -> dict[str, str]:
    """Return of how many authors stuffed words are found."""
    forget = read([str(folder / "forget10.json")]).records
    kept = read([str(folder / "retain90.json")]).records[:400]
    authors = [forget[start : start + AUTHOR] for start in range(0, len(forget), AUTHOR)]
    found = {"as they are": sum(bool(stuffed_words(each, kept)) for each in authors)}
    for count, share in STUFFING:
        hits = [
            bool(stuffed_words(stuffed(each, count, share, seed), kept))
            for seed, each in enumerate(authors)
        ]
        found[f"{count} words in {share:.0%} of the questions"] = sum(hits)
    return {name: f"{hits} of {len(authors)}" for name, hits in found.items()}


def main() -> None:
    """Print one JSON object a part."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--tofu", type=Path, help="folder with forget10.json and retain90.json")
    given = parser.parse_args()
    print(json.dumps({"planted": planted()}))
    if given.tofu is not None:
        print(json.dumps({"tofu": tofu(given.tofu)}))


if __name__ == "__main__":
    main()
