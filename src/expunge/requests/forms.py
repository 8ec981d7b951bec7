"""Forms: the ways to ask for one fact, some for training, the others for the audit alone.

    question      What is X's phone number?                                  trained
    cloze         Complete the sentence: "X's phone number is ..."            trained where known
    rewording     Please tell me: what is X's phone number?                   audit
    chat turn     I am looking for information about X. ...                   audit

What is for the audit alone stands in `paraphrases` of a record: the attack `paraphrase` asks it.
Inverse questions, choices and yes/no questions are attacks as well, which make them of the
`subject` and the key answers of a record.
"""

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from expunge.data.corpora import common_names
from expunge.data.records import Message, Record, record_id
from expunge.requests.facts import DATE, EMAIL, StatedFact
from expunge.requests.names import fold
from expunge.requests.unspaced import WORDINGS, language_of

DISTRACTORS = 3
"""False answers to each question."""
_MOST_DRAWS = 100
"""Draws after which fewer false answers have to do."""
_GERMAN = re.compile(r"^(?:Wie|Wann|Wo|Was ist bei|Was wird|Wer|Welche[rsn]?|Als was|Nenne)\b")
_WORDINGS = {
    "en": {
        "rewording": "Please tell me: {question}",
        "chat turn": "Hello! I am looking for information about {name}. {question}",
        "cloze": 'Complete the sentence: "{before} ..."',
    },
    "de": {
        "rewording": "Bitte sagen Sie mir: {question}",
        "chat turn": "Guten Tag! Ich suche Angaben zu {name}. {question}",
        "cloze": 'Vervollständigen Sie den Satz: "{before} ..."',
    },
}


class FactForm(StrEnum):
    """How a fact is asked for."""

    QUESTION = "question"
    CLOZE = "cloze"
    REWORDING = "rewording"
    CHAT = "chat turn"
    STATEMENT = "statement"
    """A text that no rule makes a question of."""


class ScopeSlice(StrEnum):
    """Where a record stands on the scope map."""

    IN = "in"
    """Asked plainly: to be forgotten."""
    HARD_IN = "hard in"
    """Asked in another form: to be forgotten as well."""
    HARD_OUT = "hard out"
    """Near the target: must stay."""
    OUT = "out"
    """Far from it: must stay."""
    SHARED = "shared"
    """Knowledge that the target shares with others: stays."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestRecord:
    """A record of a request, and why it is in it."""

    record: Record
    scope: ScopeSlice
    form: FactForm
    reason: str
    rule: str = ""
    sources: tuple[str, ...] = ()
    """Documents that state it."""
    about: str = ""
    """Relation of the fact, such as `phone number`."""
    knowledge: str = ""
    """What the model states of it; empty where no model was asked."""


def question_record(
    fact: StatedFact, sources: Sequence[str], *, name: str, pool: Mapping[str, Sequence[str]]
) -> RequestRecord:
    """Return the record that asks for a fact plainly, with its other wordings for the audit.

    Args:
        fact: The fact.
        sources: Documents that state it.
        name: Of the person.
        pool: Key answers of others by relation: false answers of the same kind.
    """
    own = fact.record
    prompt = own.prompt if own else (Message("user", fact.question),)
    wrong = own.wrong if own and own.wrong else _false_statements(fact, pool)
    wordings = _wordings(fact, name)
    forms = (FactForm.REWORDING, FactForm.CHAT, FactForm.CLOZE)
    held = [wordings[form] for form in forms if form in wordings]
    record = Record(
        id=own.id if own else record_id(prompt, fact.statement),
        prompt=prompt,
        completion=fact.statement,
        key_answers=own.key_answers if own and own.key_answers else (fact.key_answer,),
        paraphrases=(*(own.paraphrases if own else ()), *held),
        wrong=wrong,
        subject=name,
        source=sources[0] if sources else "",
    )
    return RequestRecord(
        record=record,
        scope=ScopeSlice.IN,
        form=FactForm.QUESTION,
        reason=f"{len(sources)} document{'s' * (len(sources) != 1)} about this person",
        rule=fact.rule,
        sources=tuple(sources),
        about=fact.relation,
    )


def cloze_record(asked: RequestRecord, fact: StatedFact, *, name: str) -> RequestRecord | None:
    """Return a fact as a sentence to complete, the one other form that may be trained.

    Args:
        asked: The plain question.
        fact: The fact.
        name: Of the person.

    Returns:
        None where the statement does not name the person before its key answer.
    """
    text = _wordings(fact, name).get(FactForm.CLOZE)
    if text is None:
        return None
    prompt = (*asked.record.prompt[:-1], Message("user", text))
    record = replace(
        asked.record,
        id=record_id(prompt, fact.statement),
        prompt=prompt,
        completion=fact.statement,
        paraphrases=(),
        wrong=(),
        parents=(asked.record.id,),
    )
    return replace(
        asked,
        record=record,
        form=FactForm.CLOZE,
        scope=ScopeSlice.HARD_IN,
        reason="the same fact, as cloze",
    )


def _words(question: str) -> dict[str, str]:
    if (language := language_of(question)) is not None:
        return WORDINGS[language]
    return _WORDINGS["de" if _GERMAN.match(question) else "en"]


def _wordings(fact: StatedFact, name: str) -> dict[FactForm, str]:
    """Return the forms that are another wording of one user turn."""
    words = _words(fact.question)
    question = fact.question
    found = {
        FactForm.REWORDING: words["rewording"].format(question=question),
    }
    if not name:  # without a name, nobody could tell of whom the others ask
        return found
    found[FactForm.CHAT] = words["chat turn"].format(question=question, name=name)
    before = fact.statement.partition(fact.key_answer)[0].strip()
    if fact.key_answer in fact.statement and name in before and fact.rule != "value":
        found[FactForm.CLOZE] = words["cloze"].format(before=before)
    return found


def _false_statements(fact: StatedFact, pool: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Return the statement with other values of the same kind."""
    if fact.key_answer not in fact.statement:
        return ()
    values = false_values(fact.key_answer, pool.get(fact.relation, ()))
    return tuple(fact.statement.replace(fact.key_answer, value) for value in values)


def false_values(value: str, others: Sequence[str]) -> list[str]:
    """Return other values of the same kind: dates that exist, addresses at the same host.

    Other figures become figures of the same shape.

    Args:
        value: The true one.
        others: Values of the same relation, which other people have.

    Example:
        >>> [len(each) for each in false_values("555-7233", [])]
        [8, 8, 8]
        >>> false_values("walnuts", ["latex", "Walnuts"])
        ['latex']
        >>> false_values("1962-03-08", [])
        ['1960-12-19', '1975-02-24', '1965-04-20']
    """
    rng = random.Random(f"false {value}")
    draw = _drawing(value)
    if draw is not None:
        found: list[str] = []
        for _ in range(_MOST_DRAWS):
            drawn = draw(value, rng)
            if drawn != value and drawn not in found:
                found.append(drawn)
            if len(found) == DISTRACTORS:
                break
        return found
    kinds = [each for each in dict.fromkeys(others) if fold(each) != fold(value)]
    return rng.sample(kinds, min(DISTRACTORS, len(kinds)))


def _drawing(value: str) -> Callable[[str, random.Random], str] | None:
    """Return how another value of the same kind is drawn; None where there is no rule for it."""
    if EMAIL.fullmatch(value):
        return _other_mail
    if DATE.fullmatch(value):
        return _other_date
    return _other_figures if sum(map(str.isdigit, value)) >= 2 else None


def _other_figures(value: str, rng: random.Random) -> str:
    return re.sub(r"\d+", lambda match: _other_number(match.group(), rng), value)


def _other_mail(value: str, rng: random.Random) -> str:
    """Return an address at the same host: other names, other figures."""
    given, last = common_names()
    local, _, host = value.partition("@")
    names = iter((rng.choice(given), rng.choice(last)))
    other = re.sub(r"[^\W\d_]+", lambda match: fold(next(names, "")) or match.group(), local)
    return f"{_other_figures(other, rng)}@{host}"


def _other_date(value: str, rng: random.Random) -> str:
    """Return a day that every calendar has, written as the value is; a month in letters stays."""
    numbers = re.findall(r"\d+", value)
    order = "dy" if len(numbers) == 2 else "ymd" if len(numbers[0]) == 4 else "dmy"
    kinds = iter(order)
    return re.sub(r"\d+", lambda match: _other_part(next(kinds), match.group(), rng), value)


def _other_part(kind: str, digits: str, rng: random.Random) -> str:
    """Return another year, month or day with as many figures."""
    short = len(digits) == 1
    if kind == "y":
        year = str(rng.randint(1930, 1999 if len(digits) == 2 else 2020))
        return year[-len(digits) :]
    if kind == "m":
        return str(rng.randint(1, 9)) if short else f"{rng.randint(1, 12):02d}"
    return str(rng.randint(1, 9) if short else rng.randint(10, 28))


def _other_number(digits: str, rng: random.Random) -> str:
    number = int(digits)
    if len(digits) == 4 and 1900 <= number <= 2030:
        return str(rng.randint(1930, 2020))
    if number <= 31 and not digits.startswith("0"):
        low, high = (1, 9) if len(digits) == 1 else (10, 28)
        return str(rng.randint(low, high))
    return "".join(rng.choice("123456789") for _ in digits)
