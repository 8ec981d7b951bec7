"""Scripts without spaces between words: Chinese, Japanese; Korean, whose particles are glued.

Every character is a word, so that a name is found inside a sentence. Rules for facts:

    X的电话号码是 ...    X住在 ...    X出生于 ...
    Xの電話番号は ...です    X의 전화번호는 ...입니다
"""
# ruff: noqa: RUF001, RUF002 - marks as these scripts write them

import re
from collections.abc import Sequence
from typing import NamedTuple

UNSPACED = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3\uf900-\ufaff"
"""Ranges of the letters, as they stand in a class of an expression."""
_ONE = re.compile(f"[{UNSPACED}]")
_NAME = f"[{UNSPACED}·・ ]{{1,16}}?"
_PRONOUNS = frozenset("他 她 它 彼 彼女 그 그녀".split())  # noqa: SIM905
_BEHIND = frozenset("的是在于於和与與说說有住出为為のはがをにでとさもへ의은는이가을를과와도에")
"""Letters that often stand behind a name: particles, and verbs of the rules."""
_OWNS = frozenset("的是住在のはが의은는")
"""Of these, those that stand behind the name of whoever has or does something."""
_SAME = {
    "phone number": "电话 电话号码 手机 手机号 手机号码 電話 電話號碼 電話番号 전화번호",
    "date of birth": "生日 出生日期 生年月日 誕生日 생일 생년월일",
    "home address": "地址 住址 家庭住址 住所 주소",
    "e-mail address": "邮箱 电子邮件 电子邮箱 郵箱 メールアドレス 이메일",
    "employer": "雇主 单位 工作单位 公司 勤務先 직장",
    "doctor": "医生 主治医生 医師 主治医 의사",
}
_RELATIONS = {word: name for name, words in _SAME.items() for word in words.split()}
_RELATION = "(?P<relation>[^的是为為のは，。、：:\\s]{1,12}?)"
_VALUE = "(?P<value>[^，。]{1,160}?)"
_WHO = rf"^(?P<subject>{_NAME})"
_END = "[。！.]?$"
_RULES = (
    (rf"{_WHO}的{_RELATION}(?:是|为|為|：|:) ?{_VALUE}{_END}", "{name}的{relation}是什么？"),
    (rf"{_WHO}(?:现在|目前)?(?:住在|居住在) ?{_VALUE}{_END}", "{name}住在哪里？"),
    (rf"{_WHO}(?:出生于|生于) ?(?P<value>\d[^，。]{{3,20}}?){_END}", "{name}是什么时候出生的？"),
    (rf"{_WHO}(?:出生于|出生在|生于) ?{_VALUE}{_END}", "{name}出生在哪里？"),
    (
        rf"{_WHO}の{_RELATION}は、? ?{_VALUE}(?:です|である|だ)?{_END}",
        "{name}の{relation}は何ですか？",
    ),
    (
        rf"{_WHO}의 ?{_RELATION}[은는] {_VALUE}(?:입니다|이다|예요|이에요)?{_END}",
        "{name}의 {relation}{topic} 무엇입니까?",
    ),
)
_COMPILED = tuple((re.compile(pattern), question) for pattern, question in _RULES)
_ALONE = {"住在哪": "home address", "时候出生": "date of birth", "出生在哪": "place of birth"}
WORDINGS = {
    "zh": {
        "rewording": "请告诉我：{question}",
        "chat turn": "你好！我想了解{name}的信息。{question}",
        "cloze": '请补全句子："{before}..."',
    },
    "ja": {
        "rewording": "教えてください：{question}",
        "chat turn": "こんにちは。{name}について調べています。{question}",
        "cloze": '文を完成させてください："{before}..."',
    },
    "ko": {
        "rewording": "알려 주세요: {question}",
        "chat turn": "안녕하세요! {name}에 대해 알아보고 있습니다. {question}",
        "cloze": '문장을 완성하세요: "{before}..."',
    },
}
"""How a question is asked otherwise."""


class UnspacedFact(NamedTuple):
    """What a sentence states."""

    subject: str
    relation: str
    question: str
    statement: str
    value: str


def language_of(text: str) -> str | None:
    """Return which of the languages a text is in; None where it is another.

    Example:
        >>> [language_of(text) for text in ("李明", "リンの電話", "김민수", "Lin Aro")]
        ['zh', 'ja', 'ko', None]
    """
    if re.search("[\u3040-\u30ff]", text):
        return "ja"
    if re.search("[\uac00-\ud7a3]", text):
        return "ko"
    return "zh" if _ONE.search(text) else None


def is_unspaced(words: Sequence[str]) -> bool:
    """Tell whether all words are single letters of these scripts."""
    return bool(words) and all(len(word) == 1 and _ONE.match(word) for word in words)


def begins_longer(following: Sequence[str]) -> bool:
    """Tell whether a name goes on behind its last letter: 李明 in 李明华的 is another's.

    Args:
        following: The two words behind it, without space; fewer where the text ends.

    Example:
        >>> [begins_longer(text) for text in ("华的", "的电", "喜欢", "")]
        [True, False, False, False]
    """
    if len(following) < 2 or not is_unspaced(following[:1]):
        return False
    return following[0] not in _BEHIND and following[1] in _OWNS


def _topic(word: str) -> str:
    """Return the particle behind a Korean word, which depends on its last letter."""
    return "은" if word and (ord(word[-1]) - 0xAC00) % 28 else "는"


def unspaced_fact(sentence: str, last: str | None) -> UnspacedFact | None:
    """Return the fact that a sentence states.

    Args:
        sentence: The sentence.
        last: Whom the sentence before was about: pronouns are this person.

    Example:
        >>> unspaced_fact("李明的电话号码是555-7233。", None).question
        '李明的电话号码是什么？'
    """
    if _ONE.search(sentence) is None:
        return None
    for pattern, question in _COMPILED:
        if (match := pattern.match(sentence)) is None:
            continue
        name, statement = match["subject"].strip(), sentence
        if name in _PRONOUNS or name[0] in "他她":
            if last is None or name not in _PRONOUNS:
                return None
            statement = last + sentence[len(name) :]
            name = last
        own = match.groupdict().get("relation") or ""
        alone = next((each for key, each in _ALONE.items() if key in question), own)
        return UnspacedFact(
            subject=name,
            relation=_RELATIONS.get(own, alone),
            question=question.format(name=name, relation=own, topic=_topic(own)),
            statement=statement,
            value=match["value"].strip(),
        )
    return None
