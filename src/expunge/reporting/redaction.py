"""Redaction: a reader can follow the sentence, and cannot learn the fact from it.

Three rules, in this order, word by word:

1. Words of a key answer, wherever the whole answer occurs, are masked in full.
2. Words of a subject's name, and every word that is not among a few hundred common English words,
   keep their first character; those of one or two characters keep none.
3. Common words stay as they are.

The third rule is a list of what may stay, not of what must go: a word that nobody thought of, a
foreign word, a number, an address is masked.
"""

import re
import unicodedata
from collections.abc import Iterable

from expunge.evidence.store import Item

MASK = "█"

_COMMON = frozenset(
    """
    a about above after again against all almost along already also although always am among an and
    another any anyone anything are around as ask asked at away back be became because become been
    before began begin behind being below between both but by call called came can cannot come
    comes could day did do does doing done during each either else ever every everyone everything
    example few find first following for found from further gave general get give given go goes
    going gone had has have having he her here hers herself him himself his how however i if in
    information inside instead into is it its itself just keep kept kind knew know known knows last
    later least less let like list live lived lives long made main make makes many me mean means
    mentioned might more most much must my myself name named names near never new next no nobody
    none nor not nothing now of off often old on once one only or other others our ours out over
    own part people perhaps person place please possible question questions quite rather really
    said same say says second see seen several shall she should since so some someone something
    sometimes soon sorry still such sure take taken tell tells than thank that the their theirs
    them themselves then there these they thing things this those though through time to today
    together told too toward under until up upon us use used using very want was way we well went
    were what whatever when where whether which while who whole whom whose why with within without
    word words work worked works would write year years yes yet you your yours yourself
    birth birthday book books born brother child children city company country date email father
    job mother number parents phone profession sister town written wrote
    answer answers assistant don t didn doesn isn wasn aren m s re ve ll d
    """.split()  # noqa: SIM905 - a list of 350 quoted words is not readable
)

_WORD = re.compile(r"[^\W_]+")
_SHORTEST_NAME = 4


def _fold(word: str) -> str:
    decomposed = unicodedata.normalize("NFKD", word.casefold())
    return "".join(char for char in decomposed if not unicodedata.combining(char))


def _words(text: str) -> tuple[str, ...]:
    return tuple(_fold(word) for word in _WORD.findall(text))


def _mask(word: str, *, keep: int) -> str:
    return word[:keep] + MASK * (len(word) - keep)


def _pattern(phrases: Iterable[str]) -> re.Pattern[str] | None:
    spellings = {tuple(_WORD.findall(form)) for p in phrases for form in (p, " ".join(_words(p)))}
    named = [
        spelling
        for spelling in spellings
        if len("".join(spelling)) >= _SHORTEST_NAME and not {*map(_fold, spelling)} <= _COMMON
    ]
    if not named:
        return None
    longest_first = sorted(named, key=lambda spelling: (-len("".join(spelling)), spelling))
    alternatives = (r"[\W_]*".join(map(re.escape, spelling)) for spelling in longest_first)
    return re.compile("|".join(alternatives), re.IGNORECASE)


class Redactor:
    """Masks the texts of records. Pure: the same items and text give the same masked text."""

    def __init__(self, items: Iterable[Item]) -> None:
        items = tuple(items)
        answers = {key for item in items for key in item.key_answers}
        subjects = {item.subject for item in items if item.subject}
        self._keys: dict[str, set[tuple[str, ...]]] = {}
        for key in filter(None, map(_words, answers)):
            self._keys.setdefault(key[0], set()).add(key)
        self._subject_words = frozenset(word for name in subjects for word in _words(name))
        self._names = _pattern(answers | subjects | {w for name in subjects for w in name.split()})
        self._whole = self._names and re.compile(
            rf"(?<![^\W_])(?:{self._names.pattern})(?![^\W_])", re.IGNORECASE
        )

    def text(self, text: str) -> str:
        """Mask the text of a record, or what a model said about one, by the three rules."""
        text = unicodedata.normalize("NFC", text)
        found = list(_WORD.finditer(text))
        folded = [_fold(match.group()) for match in found]
        hidden = self._key_positions(folded)
        masked: list[str] = []
        end = 0
        for i, match in enumerate(found):
            masked.append(text[end : match.start()])
            end = match.end()
            if i in hidden:
                masked.append(_mask(match.group(), keep=0))
            elif folded[i] in _COMMON and folded[i] not in self._subject_words:
                masked.append(match.group())
            else:
                masked.append(_mask(match.group(), keep=int(len(match.group()) > 2)))
        return "".join(masked) + text[end:]

    def _key_positions(self, folded: list[str]) -> set[int]:
        hidden: set[int] = set()
        for start, word in enumerate(folded):
            for key in self._keys.get(word, ()):
                if tuple(folded[start : start + len(key)]) == key:
                    hidden.update(range(start, start + len(key)))
        return hidden

    def label(self, text: str) -> str:
        """Mask key answers and subjects in text that is not a record's: paths, names of sets.

        Finds them inside longer words too, as in `data/jane_doe.jsonl` or `JaneDoe`. Answers of
        fewer than four letters and of common words only are left, or nothing would be readable.
        """
        if self._names is None:
            return text
        text = unicodedata.normalize("NFC", text)
        return self._names.sub(lambda match: _mask(match.group(), keep=0), text)

    def names(self, text: str) -> bool:
        """Tell whether a key answer or a subject stands in a text, in words of its own.

        `Elin` is in no `baseline`. What `label` leaves because it is short or common is left here.
        """
        return self._whole is not None and self._whole.search(text) is not None


class Masks:
    """Masks what users wrote in sentences that expunge wrote.

    A fact such as `Paris` would be found inside `comparison`, and the mask would give it away. So
    in such sentences only the words of users are looked at: how they call sets and relations.
    """

    def __init__(self, redactor: "Redactor", written: Iterable[str]) -> None:
        masked = {text: redactor.label(text) for text in written if text}
        self._masked = {text: label for text, label in masked.items() if text != label}

    def sentence(self, text: str) -> str:
        """Return the sentence with the words of users masked."""
        for written in sorted(self._masked, key=len, reverse=True):
            text = text.replace(written, self._masked[written])
        return text


class OpenText(Redactor):
    """Shows everything: for a reader who is allowed to see the records."""

    def __init__(self) -> None:
        super().__init__(())

    def text(self, text: str) -> str:
        """Return the text as it is."""
        return text
