"""One sentence, question or name on the command line: what somebody means who has no file.

path         no blanks, or a beginning or ending that only paths have    ./erase me.jsonl
name         two to four words with capitals, and no fact                Lin Aro
question     a question mark, or the first word of a question            Where does Lin live
statement    the end of a sentence, a fact, or four words and more       Lin Aro lives in Oslo
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from expunge.data.records import Message, Record, record_id
from expunge.errors import InputError, UsageError
from expunge.requests.corpus import Document, sentences
from expunge.requests.facts import NAME, StatedFact, facts_by_sentence, stated_facts
from expunge.requests.forms import question_record
from expunge.utils.io import expanded

_LONGEST_NAME = 255
_FEWEST = 3
"""Words of a sentence that ends as one."""
_SURE = 4
"""Words of a text that is no path, however it ends."""
_SOURCE = "the command line"
_FILE = re.compile(
    r"^(?:\.{0,2}/|~|[A-Za-z]:\\)|\.(?:jsonl?|[ct]sv|parquet|txt|md|html?|pdf|docx|toml|gz|bz2)$",
    re.IGNORECASE,
)
_ASKS = re.compile(
    r"^(?:who|whose|whom|what|when|where|which|why|how|wer|wessen|wem|wen|was|wann|wo|welche[rsnm]?"
    r"|warum|wie) (?!is$)",
    re.IGNORECASE,
)
_MARKS = "?？؟"  # noqa: RUF001 - as other scripts write it
_ENDS = (".", "!", "…", "。", "！", "।", "۔", *_MARKS)  # noqa: RUF001
_QUOTES = {'"': '"', "'": "'", "“": "”", "„": "“", "«": "»", "‘": "’", "「": "」"}  # noqa: RUF001
_TOPIC = re.compile(
    r"^(?:forget|delete|remove|erase|unlearn|vergiss|lösche)"
    r" (?:everything|all|anything|what|alles)\b",
    re.IGNORECASE,
)
_ORDER = re.compile(r"^(?:please,? )?(?:forget|unlearn|erase) that ", re.IGNORECASE)
_PLEASE = re.compile(r"^(?:please|bitte),? ", re.IGNORECASE)
_NOBODY = re.compile(
    r"^(?:(?:She|He|They|Her|His|Their|We|Our|My|You|Your|Sie|Er|Ihre?|Seine?|Wir|Unsere?|Ich"
    r"|Meine?) (?=[a-zäöü])|I (?=[a-z])|(?:Meine?|Ihre?|Seine?|Unsere?) [A-ZÄÖÜ])"
)


class TextKind(StrEnum):
    """What a text on the command line is."""

    PATH = "path"
    NAME = "name"
    QUESTION = "question"
    STATEMENT = "statement"


@dataclass(frozen=True, kw_only=True, slots=True)
class ToldText:
    """A text as a question, a statement, or a question with its answer."""

    question: str
    statement: str


def kind_of(text: str) -> TextKind:
    """Tell what a text on the command line is; what lies on the disk is a path.

    Example:
        >>> [kind_of(each).value for each in ("erase.jsonl", "Lin Aro", "Lin Aro lives in Oslo")]
        ['path', 'name', 'statement']
        >>> kind_of("where does Lin Aro live").value
        'question'
    """
    if len(text.encode()) <= _LONGEST_NAME and expanded(text).exists():
        return TextKind.PATH
    plain = _plain(text)
    words = plain.split()
    ended = plain.endswith(_ENDS)
    marked = ended and not plain.endswith(".") and any(ord(each) > 0x2FF for each in plain)
    if not re.search(r"\w", plain) and len(words) > 1:
        return TextKind.STATEMENT  # refused there, by name
    if (len(words) < 2 and not marked) or plain[:1] in ("{", "[") or _FILE.search(plain):
        return TextKind.PATH
    if len(words) >= _FEWEST and (plain.endswith(tuple(_MARKS)) or _ASKS.match(plain)):
        return TextKind.QUESTION
    if marked:
        return TextKind.QUESTION if plain.endswith(tuple(_MARKS)) else TextKind.STATEMENT
    if _is_name(words) and not _facts(plain):
        return TextKind.NAME
    stated = len(words) >= (_FEWEST if ended else _SURE) or bool(_facts(plain))
    return TextKind.STATEMENT if stated else TextKind.PATH


def require_fact(text: str) -> None:
    """Refuse a text that states no fact about anybody, before a library is loaded.

    Args:
        text: A name, a question or a statement.

    Raises:
        InputError: `only-a-name`: it is a name, or asks for all about one.
        UsageError: `no-words`, `nobody-named`, `several-questions`.
    """
    plain = _plain(text)
    if not re.search(r"\w", plain):
        raise UsageError(
            "no-words",
            what="a text to forget has no word in it",
            why="what to forget is never guessed",
            fix='state the fact in quotes: "First Last lives in Oslo."',
        )
    if kind_of(text) == TextKind.NAME or _TOPIC.match(_PLEASE.sub("", plain)):
        raise InputError(
            "only-a-name",
            what="this names somebody or something, and no file or folder has that name",
            why="a name states no fact: what the model shall forget of it is not guessed",
            fix='look through documents: expunge request "NAME" --corpus FOLDER; or state the fact'
            ' in quotes: "First Last lives in Oslo."',
        )
    told = as_told(text)
    if not told.question and _NOBODY.match(told.statement):
        raise UsageError(
            "nobody-named",
            what="the sentence begins with a word such as she, he, my or I, and names nobody",
            why="the model would learn to forget it of everybody",
            fix="write the name in its place",
        )


def as_told(text: str) -> ToldText:
    """Return the question and the statement of a text; one of them may be empty.

    Raises:
        UsageError: `several-questions`: there are two, or a statement before one.

    Example:
        >>> as_told("Where does Lin Aro live? In Oslo.")
        ToldText(question='Where does Lin Aro live?', statement='In Oslo.')
    """
    plain = _ORDER.sub("", _plain(text))
    plain = plain[:1].upper() + plain[1:] if _ORDER.match(_plain(text)) else plain
    parts = sentences(plain)
    asked = [part for part in parts if part.endswith(tuple(_MARKS))]
    if len(asked) > 1 or (asked and parts[0] not in asked):
        raise UsageError(
            "several-questions",
            what="the text holds more than one question, or a statement before its question",
            why="each question is answered by the model, and a statement is forgotten as it is",
            fix="give each in quotes of its own: expunge forget MODEL QUESTION STATEMENT",
        )
    if asked:
        return ToldText(question=asked[0], statement=" ".join(parts[1:]))
    if kind_of(plain) == TextKind.QUESTION:
        return ToldText(question=f"{plain.rstrip('.!… ')}?", statement="")
    plain = plain.rstrip("… ")
    return ToldText(question="", statement=plain if plain.endswith(_ENDS) else f"{plain}.")


def rows_told(told: ToldText) -> list[dict[str, object]]:
    """Return the rows to forget: a question for each fact, and each other sentence as a text.

    Args:
        told: A statement, or a question with its answer.
    """
    if told.question:
        prompt = (Message("user", told.question),)
        own = Record(id=record_id(prompt, told.statement), prompt=prompt, completion=told.statement)
        page = replace(_page(told.statement), record=own)
        facts = [each for each in stated_facts(page) if each.key_answer]
        plain: dict[str, object] = {"prompt": told.question, "completion": told.statement}
        return [_row(each) for each in facts] or [plain]
    rows: list[dict[str, object]] = []
    about = _first_name(told.statement)
    for sentence, found in facts_by_sentence(_page(told.statement)):
        facts = found or _facts(sentence) or stated_facts(_page(sentence), about=about)
        rows += [_row(each) for each in facts] or [{"text": sentence}]
    unique = {(str(row.get("prompt")), str(row.get("text", row.get("completion")))): row
              for row in rows}  # fmt: skip
    return list(unique.values())


def _row(fact: StatedFact) -> dict[str, object]:
    record = question_record(fact, [_SOURCE], name=fact.subject, pool={}).record
    row: dict[str, object] = {
        "prompt": record.question,
        "completion": record.completion,
        "key_answers": list(record.key_answers),
        "paraphrases": list(record.paraphrases),
        "perturbed_answer": list(record.wrong),
    }
    return row | ({"subject": record.subject} if record.subject else {})


def _page(text: str) -> Document:
    return Document(text=text, source=_SOURCE, file="", place=0)


def _facts(sentence: str) -> list[StatedFact]:
    """Return the facts of a sentence; without any capital, names are looked for all the same."""
    if facts := stated_facts(_page(sentence)):
        return facts
    words = sentence.split()
    if sentence.lower() == sentence:
        for count in range(2, min(4, len(words) - 1) + 1):
            name = " ".join(word[:1].upper() + word[1:] for word in words[:count])
            facts = stated_facts(_page(" ".join([name, *words[count:]])))
            if facts and len(facts[0].subject.split()) == count:
                return facts
    return []


def _first_name(text: str) -> str | None:
    """Return the first name of two words and more in a text."""
    found = (match for match in re.findall(NAME, text) if len(match.split()) > 1)
    return next(found, None)


def _is_name(words: Sequence[str]) -> bool:
    """Tell whether a text is nothing but a name: words with capitals, and particles."""
    letters = [word.strip(".,'’-") for word in words]  # noqa: RUF001
    small = {"van", "von", "de", "der", "den", "di", "da", "la", "le", "bin", "al", "el", "und"}
    plain = all(re.fullmatch(r"[^\W\d_]+(?:[-'’.][^\W\d_]+)*", word) for word in letters)  # noqa: RUF001
    capital = [word[0].isupper() for word in letters if word and word not in small]
    return 2 <= len(words) <= 4 and plain and bool(capital) and all(capital)


def _plain(text: str) -> str:
    """Return a text on one line, without quotes around it, pictures behind it and odd marks."""
    kept = "".join(each if each.isprintable() or each.isspace() else " " for each in text)
    plain = " ".join(kept.split())
    while len(plain) > 1 and _QUOTES.get(plain[0]) == plain[-1] and plain[1:-1].strip():
        if plain[0] in plain[1:-1] or plain[-1] in plain[1:-1]:
            break
        plain = plain[1:-1].strip()
    bare = plain
    while bare and unicodedata.category(bare[-1]) in ("So", "Sk", "Mn", "Cf"):
        bare = bare[:-1].rstrip()
    plain = bare if bare.endswith(_ENDS) else plain
    # ?! asks, and a semicolon ends nothing.
    return re.sub(r"[!?]*\?[!?]*$", "?", plain).rstrip("; ")
