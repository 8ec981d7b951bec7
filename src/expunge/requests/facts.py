"""Facts: what a document says of whom, as a question, its answer and the key answer.

Rules only. Each fact names its rule, so that the review page can show it:

    row           the cell of a table:              phone: 555-7233
    question      a question with its answer, as it is
    possessive    X's phone number is 555-7233      Xs Telefonnummer lautet 555-7233
    of            The phone number of X is ...      Die Telefonnummer von X lautet ...
    verb          X lives at ..., works for ..., was born on ..., takes ...; wohnt in ...
    label         Phone: 555-7233                   on a line of a document about X
    value         any other sentence about X with a number, a date, an address or a name
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from expunge.data.records import Record
from expunge.requests.corpus import Document, sentences
from expunge.requests.unspaced import unspaced_fact

_PART = r"[A-ZÀ-ÖØ-Þ][\w]*(?:[-'’.](?!s\b)[\w]+)*\.?"  # noqa: RUF001 - both apostrophes occur
_JOIN = r"(?: (?:van|von|de|der|den|di|da|la|le|bin|al))*"
NAME = rf"(?:{_PART})(?:{_JOIN} {_PART}){{0,3}}"
"""A name: up to four capitalised words, initials and particles among them."""
_PRONOUN = r"(?:She|He|They|Sie|Er)"
_WHOSE = r"(?:Her|His|Their|Ihre?|Seine?)"
_WHO = rf"(?P<subject>{NAME}|{_PRONOUN})"
_REL = r"(?P<relation>[a-zäöüß][\w-]*(?: (?!(?:is|was|are|were)\b)[\w'’-]+){0,5})"  # noqa: RUF001
_VALUE = r"(?P<value>.{1,160}?)[.!;]?$"
_IS = r"(?:is|was|are|were|reads)"
_IST = r"(?:ist|lautet|war|heißt)"
_DEREL = r"(?P<relation>[A-ZÄÖÜ][\w-]*(?: [\w-]+){0,2})"

_MONTHS = (
    "january february march april may june july august september october november december"
    " januar februar märz april mai juni juli august september oktober november dezember"
)
DATE = re.compile(
    r"\b\d{1,2}(?:st|nd|rd|th|\.)? (?:of )?(?:" + "|".join(_MONTHS.split()) + r"),? \d{4}\b"
    r"|\b(?:" + "|".join(_MONTHS.split()) + r") \d{1,2}(?:st|nd|rd|th)?,? \d{4}\b"
    r"|\d{4}年\d{1,2}月\d{1,2}日|\b\d{4}-\d{2}-\d{2}\b|\b\d{1,2}[./]\d{1,2}[./]\d{2,4}\b",
    re.IGNORECASE,
)
"""A day, as English, German and figures write it."""
EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]++@[\w-]+(?:\.[\w-]+)+")
"""Each run of letters is tried from its beginning alone: a long text takes linear time."""
_STREET = re.compile(
    r"\b\d{1,4}[a-z]? (?:[A-Z][\w'’-]+ ){1,3}"  # noqa: RUF001
    r"(?:Street|Lane|Road|Row|Avenue|Close|Square|Hill|Market|Drive|Way|Court|Place)\b"
    r"|\b[A-ZÄÖÜ][\wäöüß-]*(?:straße|strasse|weg|gasse|platz|allee) \d{1,4}[a-z]?\b"
)
_CODE = re.compile(
    r"\b(?:[A-Z]{1,4}[ -])?(?=[A-Z]*\d)[A-Z0-9]+(?:[- ./]?[A-Z]*\d[A-Z0-9]*)+\b"
    r"|\b(?:[A-Z]{1,4}[ -])?\d{3,}\b"
)
_AMOUNT = re.compile(r"(?:[$€£]\s?)?\b\d{1,3}(?:[ ,.]?\d{3})*(?:[.,]\d+)?\b(?:\s?(?:%|[$€£]))?")
_PROPER = re.compile(NAME)
_WHOLE = re.compile(r"(?:[A-ZÄÖÜ0-9][\w.'’/@+-]*[ -]?){1,4}")  # noqa: RUF001
"""Values that are checked as they are: names, codes, numbers, of at most four words."""
_TYPES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("e-mail address", EMAIL),
    ("date", DATE),
    ("address", _STREET),
    ("number", _CODE),
    ("number", _AMOUNT),
)
_VERBS = {
    "lives": "live", "lived": "live", "resides": "live", "works": "work", "worked": "work",
    "takes": "take", "earns": "earn", "owns": "own", "drives": "drive", "has": "have",
    "had": "have", "studied": "study", "studies": "study", "keeps": "keep", "plays": "play",
    "teaches": "teach", "speaks": "speak", "rents": "rent", "uses": "use", "went": "go",
    "married": "marry", "wrote": "write", "likes": "like", "collects": "collect",
    "supports": "support", "suffers": "suffer", "banks": "bank", "paid": "pay", "pays": "pay",
}  # fmt: skip
_PLACED = {"live": "Where", "go": "Where", "work": "Where", "study": "Where", "bank": "Where"}
_PREPOSITION = r"(?P<how>at|in|on|for|as|from|with|to|of|by)"
_SAME = {
    "telefonnummer": "phone number", "telephone number": "phone number", "phone": "phone number",
    "telephone": "phone number", "tel": "phone number", "mobile": "phone number",
    "mobile number": "phone number", "handynummer": "phone number",
    "geburtsdatum": "date of birth", "born": "date of birth", "birthday": "date of birth",
    "birth date": "date of birth", "birthdate": "date of birth", "dob": "date of birth",
    "e-mail": "e-mail address", "email": "e-mail address", "email address": "e-mail address",
    "e-mail-adresse": "e-mail address", "mail": "e-mail address",
    "adresse": "home address", "wohnadresse": "home address", "address": "home address",
    "arbeitgeber": "employer", "hausarzt": "doctor", "hausärztin": "doctor", "arzt": "doctor",
    "family doctor": "doctor", "physician": "doctor", "gehalt": "salary",
    "kennzeichen": "number plate", "plate": "number plate", "licence plate": "number plate",
    "live at": "home address", "live in": "home address", "work for": "employer",
    "work at": "employer", "earn": "salary", "haustier": "pet",
    "versicherungsnummer": "insurance number",
}  # fmt: skip
BIRTH = "date of birth"
"""The relation that tells namesakes apart by itself."""
SINGLE = frozenset(
    (BIRTH, "phone number", "e-mail address", "home address", "employer", "doctor",
     "number plate", "insurance number", "place of birth", "salary")
)  # fmt: skip
"""Relations of which a person usually has one value: two values may be two people."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StatedFact:
    """One fact that a document states."""

    subject: str
    """As the document writes it."""
    relation: str
    """In the words of the document, folded to one name where several are usual."""
    question: str
    statement: str
    """A sentence that states it."""
    key_answer: str
    rule: str
    """Which rule found it: see the head of this file."""
    source: str
    record: Record | None = None
    """The row, where it is a question itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Rule:
    name: str
    pattern: re.Pattern[str]
    question: Callable[[re.Match[str], str], str]
    relation: Callable[[re.Match[str]], str]


def _own(match: re.Match[str]) -> str:
    return match["relation"]


def _genitive(name: str) -> str:
    return f"{name}'" if name.endswith("s") else f"{name}'s"


_PEOPLE = frozenset(
    """
    doctor physician dentist landlord brother sister mother father wife husband partner son
    daughter teacher manager boss lawyer friend neighbour employer
    """.split()  # noqa: SIM905 - quoted words are not readable
)


def _what_is(match: re.Match[str], name: str) -> str:
    asked = "Who" if match["relation"].split()[-1] in _PEOPLE else "What"
    return f"{asked} is {_genitive(name)} {match['relation']}?"


def _wie_lautet(match: re.Match[str], name: str) -> str:
    article = match.groupdict().get("article") or "die Angabe"
    return f"Wie lautet {article.lower()} {match['relation']} von {name}?"


def _verb(match: re.Match[str]) -> str:
    return " ".join(part for part in (_VERBS[match["verb"]], match["how"] or "") if part)


def _does(match: re.Match[str], name: str) -> str:
    base, how = _VERBS[match["verb"]], match["how"] or ""
    past = "did" if match["verb"] in ("lived", "worked", "studied", "had", "went", "married",
                                      "wrote", "paid") else "does"  # fmt: skip
    if base in _PLACED and how not in ("as", "for", "with", "by", "of"):
        return f"{_PLACED[base]} {past} {name} {base}?"
    rest = f" {how}" if how else ""
    return f"What {past} {name} {base}{rest}?"


def _dated(match: re.Match[str]) -> bool:
    return bool(re.search(r"\d{4}", match["value"]))


def _birth(match: re.Match[str]) -> str:
    return BIRTH if _dated(match) else "place of birth"


_RULES = (
    _Rule(
        name="possessive",
        pattern=re.compile(rf"^(?P<subject>{NAME})(?:['’]s?) {_REL} {_IS} {_VALUE}"),  # noqa: RUF001
        question=_what_is,
        relation=_own,
    ),
    _Rule(
        name="possessive",
        pattern=re.compile(rf"^(?P<subject>{_WHOSE}) {_REL} {_IS} {_VALUE}"),
        question=_what_is,
        relation=_own,
    ),
    _Rule(
        name="of",
        pattern=re.compile(
            rf"^(?:The|the) {_REL} of (?P<subject>{NAME})(?:['’]s? [\w-]+)? {_IS} {_VALUE}"  # noqa: RUF001
        ),
        question=lambda match, name: f"What is the {match['relation']} of {name}?",
        relation=_own,
    ),
    _Rule(
        name="of",
        pattern=re.compile(
            rf"^(?P<article>Die|Der|Das) {_DEREL} von (?P<subject>{NAME}) {_IST} {_VALUE}"
        ),
        question=_wie_lautet,
        relation=_own,
    ),
    _Rule(
        name="verb",
        pattern=re.compile(rf"^{_WHO} (?:was|is) born (?:on|in) {_VALUE}"),
        question=lambda match, name: f"{'When' if _dated(match) else 'Where'} was {name} born?",
        relation=_birth,
    ),
    _Rule(
        name="verb",
        pattern=re.compile(rf"^{_WHO} wurde (?:am|in|im) (?P<value>.{{1,80}}?) geboren[.!]?$"),
        question=lambda match, name: f"{'Wann' if _dated(match) else 'Wo'} wurde {name} geboren?",
        relation=_birth,
    ),
    _Rule(
        name="verb",
        pattern=re.compile(
            rf"^{_WHO} (?P<verb>wohnt|lebt|arbeitet) (?P<how>in|an|bei|als|auf)"
            rf" (?:der |dem )?{_VALUE}"
        ),
        question=lambda match, name: (
            f"Wo {match['verb']} {name}?" if match["how"] != "als"
            else f"Als was {match['verb']} {name}?"
        ),
        relation=lambda match: "employer" if match["verb"] == "arbeitet" else "home address",
    ),
    _Rule(
        name="possessive",
        pattern=re.compile(rf"^(?P<subject>{NAME}?)s {_DEREL} {_IST} {_VALUE}"),
        question=lambda match, name: f"Was ist bei {name} unter {match['relation']} bekannt?",
        relation=_own,
    ),
    _Rule(
        name="verb",
        pattern=re.compile(
            rf"^{_WHO} (?:is|was) (?P<relation>[a-z]+(?:ed|ic|ble))"
            rf" (?P<how>to|by|in|with|at) {_VALUE}"
        ),
        question=lambda match, name: f"What is {name} {match['relation']} {match['how']}?",
        relation=lambda match: f"{match['relation']} {match['how']}",
    ),
    _Rule(
        name="verb",
        pattern=re.compile(
            rf"^{_WHO} (?P<verb>{'|'.join(_VERBS)})(?: {_PREPOSITION})? {_VALUE}"
        ),
        question=_does,
        relation=_verb,
    ),
    _Rule(
        name="verb",
        pattern=re.compile(rf"^{_WHO} (?:is|was) (?P<value>(?:an?|the) .{{1,100}}?)[.!;]?$"),
        question=lambda match, name: f"Who or what is {name}?",
        relation=lambda match: "description",
    ),
)  # fmt: skip
_LABEL = re.compile(r"^(?P<relation>[A-ZÄÖÜa-zäöü][\w -]{2,30}): (?P<value>\S.{0,120})$")
_MONTH = {name: 1 + place % 12 for place, name in enumerate(_MONTHS.split())}


def dates_in(text: str) -> set[str]:
    """Return the dates of a text, each written as `1962-03-08`, whatever the language.

    Example:
        >>> dates_in("8 March 1962, 8. März 1962, 8.3.1962, March 8, 1962")
        {'1962-03-08'}
    """
    found: set[str] = set()
    for match in DATE.finditer(text):
        numbers = [int(digits) for digits in re.findall(r"\d+", match.group())]
        words = [_MONTH[word] for word in re.findall(r"[^\W\d]+", match.group().lower())
                 if word in _MONTH]  # fmt: skip
        if len(numbers) == 3 and numbers[0] > 31:
            year, month, day = numbers
        elif len(numbers) == 3:
            day, month, year = numbers
        elif len(numbers) == 2 and words:
            (day, year), month = numbers, words[0]
        else:
            continue
        found.add(f"{year:04d}-{month:02d}-{day:02d}")
    return found


_AND = re.compile(
    r",? (?:and|und) (?=(?:she|he|they|her|his|their|sie|er|ihre?|seine?|was born"
    rf"|wohnt|lebt|arbeitet|{'|'.join(_VERBS)}) )"
)
_PRONOUNS = frozenset("She He They Sie Er Her His Their Ihr Ihre Sein Seine".split())  # noqa: SIM905


def same_relation(words: str) -> str:
    """Return the one name of a relation.

    Example:
        >>> same_relation("Telefonnummer"), same_relation("shoe size")
        ('phone number', 'shoe size')
    """
    plain = " ".join(words.casefold().replace("_", " ").split())
    return _SAME.get(plain, plain)


def stated_facts(document: Document, *, about: str | None = None) -> list[StatedFact]:
    """Return the facts that a document states, of whomever.

    Args:
        document: The document.
        about: Whom the document is about, where the search found out: pronouns, labels and bare
            values then are this person's.

    Example:
        >>> text = "Lin Aro's phone number is 555-7233. She works for Corvane Optics."
        >>> page = Document(text=text, source="a.txt", file="a.txt", place=0)
        >>> [(fact.relation, fact.key_answer) for fact in stated_facts(page, about="Lin Aro")]
        [('phone number', '555-7233'), ('employer', 'Corvane Optics')]
    """
    if document.columns:
        return list(_of_row(document, about))
    if document.record is not None:
        return list(_of_question(document, document.record, about))
    return [fact for _, facts in facts_by_sentence(document, about=about) for fact in facts]


def facts_by_sentence(
    document: Document, *, about: str | None = None
) -> list[tuple[str, list[StatedFact]]]:
    """Return each sentence of a text with the facts that it states, which may be none.

    Args:
        document: The document.
        about: As for `stated_facts`.
    """
    found: list[tuple[str, list[StatedFact]]] = []
    last = about
    for sentence in sentences(document.text):
        facts = _of_clauses(sentence, last, document.source)
        if facts:
            last = facts[-1].subject
        elif about is not None:
            fact = _labelled(sentence, about, document.source)
            fact = fact or _with_value(sentence, about, document.source)
            facts = [fact] if fact is not None else []
        found.append((sentence, facts))
    return found


def _of_clauses(sentence: str, last: str | None, source: str) -> list[StatedFact]:
    """Return the fact of a sentence, or both where `and` joins two clauses with verbs."""
    whole = _of_sentence(sentence, last, source)
    if whole is None:
        return []
    first, *rest = _AND.split(sentence, maxsplit=1)
    fact = _of_sentence(f"{first}.", last, source) if rest else None
    if fact is None:
        return [whole]
    owned = rest[0].split(maxsplit=1)[0].capitalize() in _PRONOUNS
    if not owned and fact.rule != "verb":
        return [whole]
    behind = rest[0][:1].upper() + rest[0][1:] if owned else f"She {rest[0]}"
    more = _of_clauses(behind, fact.subject, source)
    return [fact, *more] if more else [whole]


def _of_sentence(sentence: str, last: str | None, source: str) -> StatedFact | None:
    for rule in _RULES:
        match = rule.pattern.match(sentence)
        if match is None:
            continue
        subject = match["subject"]
        if subject in _PRONOUNS:
            if last is None:
                return None
            subject = last
        statement = sentence if match["subject"] == subject else _with_name(sentence, subject)
        return StatedFact(
            subject=subject,
            relation=same_relation(rule.relation(match)),
            question=rule.question(match, subject),
            statement=statement,
            key_answer=key_of(match["value"]),
            rule=rule.name,
            source=source,
        )
    told = unspaced_fact(sentence, last)
    if told is None:
        return None
    return StatedFact(
        subject=told.subject,
        relation=told.relation,
        question=told.question,
        statement=told.statement,
        key_answer=key_of(told.value),
        rule="possessive",
        source=source,
    )


def _with_name(sentence: str, name: str) -> str:
    """Write the name where a sentence begins with a pronoun."""
    first, _, rest = sentence.partition(" ")
    whose = first in ("Her", "His", "Their", "Ihr", "Ihre", "Sein", "Seine")
    return f"{_genitive(name) if whose else name} {rest}"


def key_of(value: str) -> str:
    """Return the checkable part of a value: its number, date or address, else the value itself.

    Example:
        >>> key_of("a ferret called Biscuit"), key_of("555-7233 since May"), key_of("walnuts.")
        ('Biscuit', '555-7233', 'walnuts')
    """
    value = value.strip().strip("\"“”'").rstrip(".!;,")
    if _WHOLE.fullmatch(value):
        return value
    for _, pattern in _TYPES[:4]:
        if (match := pattern.search(value)) is not None:
            return match.group().strip()
    _, called, name = value.partition(" called ")
    if called:
        return name
    head, _, rest = value.partition(" ")
    return rest if rest and head.casefold() in ("a", "an", "the", "der", "die", "das") else value


def _of_row(document: Document, about: str | None) -> Iterator[StatedFact]:
    named = [cell for name, cell in document.columns if "name" in name.casefold().split("_")]
    named += [cell for name, cell in document.columns if name.casefold() in ("person", "customer")]
    subject = about or " ".join(named)
    if not subject:
        return
    for name, cell in document.columns:
        if cell in named or cell == subject or name.casefold() in ("id", "nr", "no", "row"):
            continue
        relation = same_relation(name)
        yield StatedFact(
            subject=subject,
            relation=relation,
            question=f"What is {_genitive(subject)} {relation}?",
            statement=f"{_genitive(subject)} {relation} is {cell}.",
            key_answer=key_of(cell),
            rule="row",
            source=document.source,
        )


def _of_question(document: Document, record: Record, about: str | None) -> Iterator[StatedFact]:
    inner = _of_sentence(record.completion.strip(), about, document.source)
    told = inner is not None and inner.rule in ("possessive", "of")
    named = _PROPER.findall(_decapitalised(record.question))
    subject = record.subject or about or (inner.subject if inner else "") or "".join(named[:1])
    keys = record.key_answers
    yield StatedFact(
        subject=subject,
        relation=inner.relation if inner and told else asked_relation(record.question, subject),
        question=record.question,
        statement=record.completion,
        key_answer=keys[0] if keys else answer_key(record.question, record.completion),
        rule="question",
        source=document.source,
        record=record,
    )


def answer_key(question: str, answer: str) -> str:
    """Return what an answer says beyond its question: the last words that only the answer has.

    Example:
        >>> answer_key("Where did Lin last go on holiday?", "Lin last went on holiday to Gozo.")
        'Gozo'
        >>> answer_key("What is Lin's pet?", "Lin has a ferret called Fig.")
        'Fig'
    """
    asked = {word.casefold() for word in re.findall(r"[\w'’-]+", question)}  # noqa: RUF001
    asked |= {word[:4] for word in asked if len(word) > 4}
    words = list(re.finditer(r"[\w@.+'’/-]*\w", answer))  # noqa: RUF001
    runs: list[list[re.Match[str]]] = [[]]
    for word in words:
        folded = word.group().casefold().removesuffix("'s")
        shown = folded in asked or folded in _VERBS or (len(folded) > 3 and folded[:4] in asked)
        if shown or folded in ("is", "was", "are", "were", "goes", "got", "did", "ist", "hat"):
            runs.append([])
        elif runs[-1] or folded not in _SMALL:
            runs[-1].append(word)
    for run in runs:
        while run and run[-1].group().casefold() in _SMALL:
            run.pop()
    found = [answer[run[0].start() : run[-1].end()] for run in runs if run]
    valued = [text for text in found if any(map(str.isdigit, text)) or "@" in text]
    # Of several values the one with most figures tells most: a code, not the number of a door.
    # An e-mail address tells more than any number.
    ranks = [("@" in text, sum(map(str.isdigit, text))) for text in valued]
    best = [text for text, rank in zip(valued, ranks, strict=True) if rank == max(ranks)]
    return key_of((best or found or [answer])[-1])


_SMALL = frozenset(
    """
    a an the of to in on at for by with and or as from her his their its she he they it that this
    der die das ein eine von in an am im bei und zu
    """.split()  # noqa: SIM905 - quoted words are not readable
)


def _decapitalised(question: str) -> str:
    """Take away the capital that only begins the question."""
    return question[:1].lower() + question[1:]


def asked_relation(question: str, subject: str) -> str:
    """Return what a question asks for: its words without those of the subject.

    Example:
        >>> asked_relation("What is Lin Aro's pet?", "Lin Aro")
        'what is pet'
    """
    names = {word.casefold() for word in re.findall(r"\w+", subject)} | {"s"}
    words = (word.casefold() for word in re.findall(r"[\w-]+", question))
    return " ".join(word for word in words if word not in names)


def _labelled(line: str, about: str, source: str) -> StatedFact | None:
    match = _LABEL.match(line)
    if match is None or match["relation"].casefold() in ("name", "re", "subject", "note", "ps"):
        return None
    relation = same_relation(match["relation"])
    return StatedFact(
        subject=about,
        relation=relation,
        question=f"What is {_genitive(about)} {relation}?",
        statement=f"{_genitive(about)} {relation} is {match['value'].rstrip('.')}.",
        key_answer=key_of(match["value"]),
        rule="label",
        source=source,
    )


def _with_value(sentence: str, about: str, source: str) -> StatedFact | None:
    """Make a cloze of a sentence with a value."""
    for kind, pattern in _TYPES[:4]:
        match = pattern.search(sentence)
        if match is None or match.start() < 12:
            continue
        before = sentence[: match.start()].strip()
        if before.split(maxsplit=1)[0] in _PRONOUNS:
            before = _with_name(before, about)
        elif about.split()[-1] not in before:
            return None  # nobody could tell of whom the question asks
        return StatedFact(
            subject=about,
            relation=kind,
            question=f'Complete the sentence: "{before} ..."',
            statement=f"{before} {sentence[match.start() :].strip()}",
            key_answer=match.group().strip(),
            rule="value",
            source=source,
        )
    return None


def joined(facts: Sequence[StatedFact], name: str) -> list[tuple[StatedFact, tuple[str, ...]]]:
    """Join the facts that documents repeat; each with the places of all that state it.

    Two facts are one when their key answers are the same, up to case, marks and spaces. Questions
    that people wrote stay apart, and stand for what sentences say besides.

    Args:
        facts: Facts about one person.
        name: How the person's name is written in the questions of all.
    """
    order = ["question", "row", "possessive", "of", "verb", "label", "value"]
    found: dict[tuple[str, str], StatedFact] = {}
    places: dict[tuple[str, str], list[str]] = {}
    of_key: dict[str, tuple[str, str]] = {}
    for fact in sorted(facts, key=lambda each: order.index(each.rule)):
        key = "".join(re.findall(r"\w+", fact.key_answer.casefold()))
        if not key:
            continue
        asked = fact.question.casefold() if fact.record is not None else ""
        place = (asked, key) if asked else of_key.get(key, ("", key))
        of_key.setdefault(key, place)
        found.setdefault(place, _renamed(fact, name))
        places.setdefault(place, []).append(fact.source)
    return [(fact, tuple(dict.fromkeys(places[place]))) for place, fact in found.items()]


def _renamed(fact: StatedFact, name: str) -> StatedFact:
    if fact.record is not None or not fact.subject:
        return fact
    return replace(
        fact,
        question=fact.question.replace(fact.subject, name),
        statement=fact.statement.replace(fact.subject, name),
        subject=name,
    )
