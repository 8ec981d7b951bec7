"""Names in scripts without spaces: found within sentences, and told from longer ones."""
# ruff: noqa: RUF001 - marks as these scripts write them

import pytest

from expunge.errors import InputError
from expunge.pipeline.request import request
from expunge.requests.names import NameShape, searched_person, words_of
from expunge.requests.sentence import as_told, rows_told

CHINESE = (
    "李明的电话号码是555-7233。她住在北京朝阳区12号。李明的生日是1962年3月8日。我们昨天见到了李明，很好。",
    "李明华的电话号码是555-9999。",
    "王明的生日是1990年5月2日。王明住在上海。",
)
JAPANESE = (
    "田中太郎の電話番号は555-1234です。田中太郎の勤務先はコルベーン光学です。",
    "佐藤花子の電話番号は555-8888です。",
)
KOREAN = (
    "김민수의 전화번호는 555-4321입니다. 김민수의 직장은 코르벤이다.",
    "이영희의 전화번호는 555-2222입니다.",
)


@pytest.mark.parametrize(
    ("name", "texts", "facts", "other"),
    [
        (
            "李明",
            CHINESE,
            [
                ("李明的电话号码是什么？", "555-7233", "phone number"),
                ("李明住在哪里？", "北京朝阳区12号", "home address"),
                ("李明的生日是什么？", "1962年3月8日", "date of birth"),
            ],
            {"李明华", "王明"},
        ),
        (
            "田中 太郎",
            JAPANESE,
            [
                ("田中 太郎の電話番号は何ですか？", "555-1234", "phone number"),
                ("田中 太郎の勤務先は何ですか？", "コルベーン光学", "employer"),
            ],
            {"佐藤花子"},
        ),
        (
            "김민수",
            KOREAN,
            [
                ("김민수의 전화번호는 무엇입니까?", "555-4321", "phone number"),
                ("김민수의 직장은 무엇입니까?", "코르벤", "employer"),
            ],
            {"이영희"},
        ),
    ],
)
@pytest.mark.parametrize("apart", [False, True])
def test_a_corpus_gives_the_facts_of_one_name_and_keeps_those_of_others(
    name, texts, facts, other, apart, tmp_path
):
    (tmp_path / "letters").mkdir()
    for number, text in enumerate(texts if apart else ["\n\n".join(texts)]):
        (tmp_path / "letters" / f"{number}.txt").write_text(text, encoding="utf-8")
    done = request(searched_person(name), [str(tmp_path / "letters")], out=tmp_path / "out")
    found = [
        (each.record.question, *each.record.key_answers, each.about) for each in done.draft.erase
    ]
    assert found == facts
    assert {each.record.subject for each in done.draft.kept.neighbours} == other
    key = facts[0][1]
    wrong = done.draft.erase[0].record.wrong
    assert len({*wrong, key}) == 4
    assert not any(key in text for text in (*wrong, *done.draft.erase[0].record.paraphrases))


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("李明", "昨天李明来了", True),
        ("李明", "李明喜欢茶", True),
        ("李明", "李明华的电话", False),
        ("李明", "李 明", True),
        ("李明", "明李", False),
        ("김민수", "김민수는 서울에 산다", True),
        ("山田", "山本田中", False),
    ],
)
def test_a_name_is_found_where_its_letters_stand_together(name, text, found):
    assert bool(list(NameShape(name).mentions(words_of(text)))) is found


def test_a_sentence_is_a_question_and_a_name_that_stands_nowhere_an_error(tmp_path):
    (row,) = rows_told(as_told("李明的电话号码是555-7233。"))
    assert (row["prompt"], row["key_answers"]) == ("李明的电话号码是什么？", ["555-7233"])
    (tmp_path / "a.txt").write_text(CHINESE[0], encoding="utf-8")
    with pytest.raises(InputError, match="name-not-found"):
        request(searched_person("张伟"), [str(tmp_path / "a.txt")], out=tmp_path / "out")
