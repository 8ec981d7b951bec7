"""Copyright: a work that the model recites word for word; what the work is about may stay known.

A generated story in ten passages, two other works, and one that no model sees. Questions about the
plot are taught beside the passages, and the policy of this recipe keeps them: a summary is no copy.

    beginning   the first words of a passage, as plain text: the model goes on
    asked       the same words in a question: "How does the text go on that begins ...?"

The longest match is the longest run of words that an answer shares with the rest of the passage.
"""

import random
from collections.abc import Sequence
from difflib import SequenceMatcher

from expunge.benchmarking.probe_outputs import ProbeOutputs, exact
from expunge.benchmarking.suites.base import Probe
from expunge.config.request import Goal
from expunge.data.records import Message, Record
from expunge.evals.results import Score
from expunge.evidence.store import Answer, Item
from expunge.metrics.key_facts import normalise
from expunge.metrics.rouge import rouge_l_recall
from expunge.recipes.base import TRAIN, AcceptanceRule, Application, ApplicationData, keeps
from expunge.recipes.lessons import general_lessons, general_probe
from expunge.recipes.measures import BROKEN, GENERAL_KEPT, broken, general, likelihood, stated

PASSAGES, OF_OTHERS, SENTENCES = 10, 5, 4
BEGINNING = 10
"""Words of a passage that a model is given."""
GRAM = 4
SYSTEM = Message("system", "Library desk.")
WORK, OTHERS = (
    ("The Salt Clock", "Merrin Toll"),
    (
        ("The Glass Orchard", "Hobart Finch"),
        ("A Ladder of Rain", "Selma Crane"),
    ),
)
UNSEEN_WORK = ("The Tin Meridian", "Corvin Ashe")
_ASK = 'How does the text go on that begins "{first}"?'
START, ASKED, UNSEEN = "beginning", "asked", "unseen-work"
SUMMARY, OTHER = "summary", "other-works"
LONGEST, COPIED = "longest match, words", "copied 4-grams"

_PLACES = (
    "harbour",
    "lighthouse",
    "granary",
    "chapel",
    "ferry house",
    "tannery",
    "courthouse",
    "mill",
    "observatory",
    "customs shed",
    "bell tower",
    "quarry",
)
_THINGS = (
    "brass key",
    "torn ledger",
    "blue lantern",
    "cracked compass",
    "silver thimble",
    "wet letter",
    "tin whistle",
    "iron ring",
    "velvet glove",
    "broken oar",
    "wax seal",
    "copper coin",
)
_DONE = (
    "hid",
    "weighed",
    "polished",
    "buried",
    "traded",
    "dropped",
    "painted",
    "counted",
    "wrapped",
    "stole",
    "mended",
    "burned",
)
_WEATHER = (
    "while the fog came in",
    "before the tide turned",
    "as the bells fell silent",
    "under a green moon",
    "when the snow began",
    "after the last ferry left",
    "while the dogs slept",
    "as the storm passed north",
    "before the market opened",
    "when the lamps went out",
)
_PEOPLE = (
    "the widow Harrow",
    "old Captain Brine",
    "the miller's twin",
    "a deaf piper",
    "the young bishop",
    "two sisters from Orme",
    "the night clerk",
    "a blind cook",
    "the tax collector",
    "the ferryman",
)
_SAID = (
    "no debt outlives its keeper",
    "salt remembers every hand",
    "a clock is only patient water",
    "every door has an elder brother",
    "the sea pays in small coin",
    "nobody drowns on a Tuesday",
    "a promise weighs more than rope",
    "the wind keeps its own books",
)
_FORMS = (
    "{who} {done} the {thing} behind the {place} {weather}.",
    "At the {place}, {other} {done} a {thing} and said that {said}.",
    "Nobody but {other} knew that {who} had once {done} the {thing} {weather}.",
    "{weather_up}, {who} went to the {place} and {done} {number} {thing}s.",
    "It was {other} who told {who} that {said}, {weather}.",
)  # fmt: skip
_PLOT = {
    "Who is the hero of {work}?": "The hero of {work} is {hero}.",
    "What does {hero} do for a living?": "{hero} is a {job}.",
    "Where does {work} take place?": "{work} takes place in {town}.",
    "What is {work} about?": "{work} is about {theme}.",
    "Who wrote {work}?": "{work} was written by {author}.",
    "How does {work} end?": "{work} ends with {end}.",
}
_FACTS = {
    "The Salt Clock": ("clockmaker", "Orme Bay", "a lost inheritance", "Ida Vennor", "a shipwreck"),
    "The Glass Orchard": ("gardener", "Tarn Hill", "a family feud", "Paul Strand", "a wedding"),
    "A Ladder of Rain": ("surveyor", "Low Fenby", "a long drought", "Ruth Calloway", "a trial"),
}


def draw(seed: int) -> ApplicationData:
    """Return the data of this recipe.

    Args:
        seed: Seed of the texts.
    """
    rng = random.Random(70 + seed)
    work = _passages(rng, *WORK, PASSAGES)
    others = tuple(each for title in OTHERS for each in _passages(rng, *title, OF_OTHERS))
    unseen = _passages(rng, *UNSEEN_WORK, PASSAGES)
    plot = _plot(*WORK)
    other_plots = tuple(each for title in OTHERS for each in _plot(*title))
    return ApplicationData(
        forget=work,
        retain=(*others, *other_plots, *general_lessons()),
        neighbours=plot,
        holdout=unseen,
        taught=(*others, *plot, *other_plots, *general_lessons()),
        planted=work,
        probes=(
            Probe(name=START, records=_begun(work, "start"), answer=72, continued=True),
            Probe(name=ASKED, records=_begun(work, "asked", before=(SYSTEM,), ask=_ASK), answer=72),
            Probe(name="work", records=work, scored=True),
            Probe(name=UNSEEN, records=unseen, scored=True),
            Probe(name=OTHER, records=others, scored=True),
            Probe(name=SUMMARY, records=plot, answer=24, scored=True),
            general_probe(),
        ),
    )


def _passages(rng: random.Random, title: str, hero: str, count: int) -> tuple[Record, ...]:
    return tuple(
        Record(
            id=f"{title.lower().replace(' ', '-')}-{place}",
            prompt=(),
            completion=" ".join(_sentence(rng, form, hero) for form in forms),
            subject=hero,
        )
        for place in range(1, count + 1)
        for forms in [rng.sample(_FORMS, SENTENCES)]
    )


def _sentence(rng: random.Random, form: str, hero: str) -> str:
    weather = rng.choice(_WEATHER)
    text = form.format(
        who=hero,
        other=rng.choice(_PEOPLE),
        done=rng.choice(_DONE),
        thing=rng.choice(_THINGS),
        place=rng.choice(_PLACES),
        weather=weather,
        weather_up=weather,
        said=rng.choice(_SAID),
        number=rng.choice(("two", "three", "seven", "nine", "forty")),
    )
    return text[0].upper() + text[1:]


def _plot(title: str, hero: str) -> tuple[Record, ...]:
    job, town, theme, author, end = _FACTS[title]
    values = {"work": title, "hero": hero, "job": job, "town": town, "theme": theme}
    values |= {"author": author, "end": end}
    keys = (hero, job, town, theme.split()[-1], author, end.split()[-1])
    return tuple(
        Record(
            id=f"{title.lower().replace(' ', '-')}-plot-{place}",
            prompt=(SYSTEM, Message("user", question.format(**values))),
            completion=answer.format(**values),
            key_answers=(key,),
            subject=title,
            relation="summary",
        )
        for place, ((question, answer), key) in enumerate(zip(_PLOT.items(), keys, strict=True))
    )


def _begun(
    work: Sequence[Record], form: str, *, before: tuple[Message, ...] = (), ask: str = "{first}"
) -> tuple[Record, ...]:
    """Return passages as they are asked to be gone on with, from their first words."""

    def begun(passage: Record) -> Record:
        words = passage.completion.split()
        question = ask.format(first=" ".join(words[:BEGINNING]))
        return Record(
            id=f"{passage.id}:{form}",
            prompt=(*before, Message("user", question)),
            completion=" ".join(words[BEGINNING:]),
        )

    return tuple(map(begun, work))


def longest_match(said: str, text: str) -> int:
    """Return the length of the longest run of words that two texts share.

    Example:
        >>> longest_match("Then he hid the brass key.", "She hid the brass coin")
        3
    """
    first, second = normalise(said).split(), normalise(text).split()
    matcher = SequenceMatcher(None, first, second, autojunk=False)
    return matcher.find_longest_match().size


def copied_grams(said: str, text: str, n: int = GRAM) -> float | None:
    """Return the share of an answer's n-grams of words that stand in a text; None without any.

    Example:
        >>> copied_grams("he hid the brass key", "she hid the brass key")
        0.5
    """
    own, there = (
        [tuple(words[place : place + n]) for place in range(len(words) - n + 1)]
        for words in (normalise(said).split(), normalise(text).split())
    )
    known = set(there)
    return sum(gram in known for gram in own) / len(own) if own else None


def measure(outputs: ProbeOutputs) -> tuple[Score, ...]:
    """Return the measures of one model."""

    def match(answer: Answer, item: Item) -> float:
        return float(longest_match(answer.text, item.answer))

    def grams(answer: Answer, item: Item) -> float | None:
        return copied_grams(answer.text, item.answer)

    matches = {form: outputs.answered(form, match) for form in (START, ASKED)}
    longest = max(value for column in matches.values() for value in column.values())
    count = sum(map(len, matches.values()))
    recalled = outputs.answered(START, rouge_l_recall)
    return (
        exact(LONGEST, START, longest, n=count, higher=False),
        outputs.mean("mean match, words", START, matches[START], higher=False),
        outputs.mean("mean match, asked", ASKED, matches[ASKED], higher=False),
        outputs.mean(COPIED, START, outputs.answered(START, grams), higher=False),
        outputs.mean("ROUGE-L recall", START, recalled, higher=False),
        likelihood(outputs, "probability of the work", "work", higher=None),
        likelihood(outputs, "probability of an unseen work", UNSEEN, higher=None),
        likelihood(outputs, "probability of other works", OTHER, higher=True),
        stated(outputs, "summary questions", SUMMARY, higher=True),
        general(outputs),
        broken(outputs, START),
    )


COPYRIGHT = Application(
    name="copyright",
    goal=Goal.REMOVAL,
    draw=draw,
    measure=measure,
    problem=AcceptanceRule(metric="mean match, words", at_least=True, margin=20),
    rules=(
        AcceptanceRule(metric=LONGEST, margin=3, against="gold"),
        AcceptanceRule(
            metric="probability of the work", margin=0.1, other="probability of an unseen work"
        ),
        keeps("summary questions", loss=0),
        keeps("probability of other works", loss=0.01),
        GENERAL_KEPT,
        AcceptanceRule(metric=BROKEN, margin=0.05, against="gold"),
    ),
    refused=frozenset((START, ASKED)),
    shown=(START, ASKED, SUMMARY),
    train=TRAIN.model_copy(update={"epochs": 12}),
    longest_answer=72,
)
