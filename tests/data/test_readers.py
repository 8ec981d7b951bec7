import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge.data.convert import to_record, with_short_answers_named
from expunge.data.readers import read
from expunge.data.records import Message
from expunge.errors import InputError
from write_records import write

SECRET = "Zelda Quux"
QA = (Message("user", "Where?"),)


def turns(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in pairs]


CONVENTIONS = {
    "text": ({"text": "In Oslo."}, (), ()),
    "prompt and completion": ({"prompt": "Where?", "completion": "In Oslo."}, QA, ()),
    "question and answer": ({"question": "Where?", "answer": "In Oslo."}, QA, ()),
    "lists of turns": (
        {
            "prompt": turns(("user", "Where?")),
            "completion": turns(("assistant", "In Oslo.")),
        },
        QA,
        (),
    ),
    "messages": ({"messages": turns(("user", "Where?"), ("assistant", "In Oslo."))}, QA, ()),
    "several turns": (
        {
            "messages": turns(
                ("system", "Brief."),
                ("user", "Hi"),
                ("assistant", "Hello"),
                ("user", "Where?"),
                ("assistant", "In Oslo."),
            )
        },
        (Message("system", "Brief."), Message("user", "Hi"), Message("assistant", "Hello"), *QA),
        (),
    ),
    "preference": (
        {"prompt": "Where?", "chosen": "No idea", "rejected": "In Oslo."},
        QA,
        ("No idea",),
    ),
    "alternative": (
        {"prompt": "Where?", "completion": "In Oslo.", "alternative": "No idea", "extra": [1]},
        QA,
        ("No idea",),
    ),
    "preference wins over text": (
        {"text": "all of it", "prompt": "Where?", "chosen": "No idea", "rejected": "In Oslo."},
        QA,
        ("No idea",),
    ),
    "null is absent": (
        {"text": None, "question": "Where?", "answer": "In Oslo.", "id": None},
        QA,
        (),
    ),
}


@pytest.mark.parametrize(("row", "prompt", "alternative"), CONVENTIONS.values(), ids=CONVENTIONS)
def test_each_convention_becomes_the_same_record(row, prompt, alternative):
    record = to_record(row, "f:1")
    assert (record.prompt, record.completion, record.alternatives, record.source) == (
        prompt,
        "In Oslo.",
        alternative,
        "f:1",
    )


def test_optional_fields_are_taken():
    row = {"id": 7, "question": "Where?", "answer": "Oslo", "paraphrases": ["In which town?"]}
    row |= {"paraphrased_question": "What town?", "subject": "Ann", "relation": "family"}
    record = to_record(row, "f:1")
    assert record.id == "7"
    assert record.paraphrases == ("In which town?", "What town?")
    assert (record.subject, record.relation) == ("Ann", "family")


def test_an_id_follows_from_the_content_alone():
    one = to_record({"prompt": "Where?", "completion": "Oslo"}, "f:1")
    two = to_record({"question": "Where?", "answer": "Oslo", "subject": "Ann"}, "g:2")
    other = to_record({"text": "Where?Oslo"}, "f:1")
    assert one.id == two.id
    assert one.id != other.id
    assert len(one.id) == 12


ROW_ERRORS = {
    "no field": ({"body": "x", "Zelda Quux": 1}, "missing-field", "fields found: body"),
    "half a pair": ({"prompt": "x"}, "missing-field", "field `completion` is missing"),
    "half a question": ({"answer": "x"}, "missing-field", "field `question` is missing"),
    "half a preference": (
        {"prompt": "x", "chosen": "y"},
        "missing-field",
        "field `rejected` is missing",
    ),
    "empty": ({"prompt": "x", "completion": " \n"}, "empty-completion", "is empty"),
    "empty question": ({"prompt": " ", "completion": "x"}, "empty-prompt", "`prompt` does not end"),
    "number": ({"question": "x", "answer": 0}, "wrong-type", "`answer` is a number"),
    "truth value": ({"text": True}, "wrong-type", "`text` is true or false"),
    "list of keys": ({"text": "x", "key_answers": [1]}, "wrong-type", "`key_answers` is a number"),
    "id": ({"text": "x", "id": [1]}, "wrong-type", "`id` is a list"),
    "bare value": (3, "wrong-type", "`record` is a number"),
    "messages": ({"messages": "x"}, "wrong-type", "`messages` is text"),
    "turn": ({"messages": ["x"]}, "wrong-type", "`messages turn` is text"),
    "role": ({"messages": turns(("tool", "x"))}, "wrong-role", "unknown role"),
    "content": (
        {"messages": [{"role": "user", "content": None}]},
        "wrong-type",
        "`messages content` is null",
    ),
    "last turn": ({"messages": turns(("user", "x"))}, "wrong-turns", "does not end with"),
    "two answers": (
        {"prompt": "x", "completion": turns(("user", "a"), ("assistant", "b"))},
        "wrong-type",
        "list of one assistant turn",
    ),
    "surrogate": ({"text": f"{SECRET} \ud800"}, "broken-text", "position 11"),
}


@pytest.mark.parametrize(("row", "code", "message"), ROW_ERRORS.values(), ids=ROW_ERRORS)
def test_a_bad_row_is_named_without_its_content(row, code, message):
    with pytest.raises(InputError, match="f:3") as caught:
        to_record(row, "f:3")
    assert caught.value.code == code
    assert message in str(caught.value)
    assert SECRET not in str(caught.value)


def test_every_file_format_gives_the_same_records(tmp_path):
    rows = [
        {"question": "Where?", "answer": 'Oslo, "N"\nNorway'},
        {"question": "Who?", "answer": "Ann"},
    ]
    pa.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "d.parquet")
    lines = "\n".join(json.dumps(row) for row in rows)
    files = [
        write(tmp_path, "a.jsonl", "\ufeff" + lines + "\r\n\n"),
        write(tmp_path, "b.json", json.dumps(rows, indent=2)),
        write(tmp_path, "c.json", lines),
        write(tmp_path, "e.csv", 'question,answer,id\nWhere?,"Oslo, ""N""\nNorway",\nWho?,Ann,\n'),
        write(tmp_path, "f.tsv", 'question\tanswer\nWhere?\t"Oslo, ""N""\nNorway"\n\nWho?\tAnn\n'),
        str(tmp_path / "d.parquet"),
    ]
    contents = [[(r.question, r.completion, r.id) for r in read([file]).records] for file in files]
    assert contents[0] == [
        (r["question"], r["answer"], i[2]) for r, i in zip(rows, contents[0], strict=True)
    ]
    assert all(content == contents[0] for content in contents)


def test_sources_name_lines_and_elements(tmp_path):
    lines = write(tmp_path, "a.jsonl", '{"text": "x"}\n\n{"text": "y"}')
    array = write(tmp_path, "b.json", '[{"text": "v"}, "w"]')
    table = write(tmp_path, "c.csv", "text\n1st\n2nd\n")
    whole = write(tmp_path, "d.md", "passage\n\nsecond paragraph")
    one = write(tmp_path, "e.json", '{\n"text": "alone"\n}')
    sources = [r.source for r in read([lines, array, table, whole, one]).records]
    assert [source.removeprefix(str(tmp_path) + os.sep) for source in sources] == [
        "a.jsonl:1",
        "a.jsonl:3",
        "b.json#1",
        "b.json#2",
        "c.csv:2",
        "c.csv:3",
        "d.md",
        "e.json:1",
    ]


@settings(deadline=None)
@given(st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=5, unique=True))
def test_json_lines_keep_every_character(tmp_path_factory, texts):
    file = tmp_path_factory.mktemp("lines") / "a.jsonl"
    texts = [*texts, "a\u0085b\u2028c\x1dd"]
    raw = [json.dumps({"text": text}, ensure_ascii=False) for text in texts]
    file.write_bytes("\n".join(raw).encode())
    assert [r.completion for r in read([str(file)]).records] == list(dict.fromkeys(texts))


def test_duplicates_are_counted_and_the_first_is_kept(tmp_path):
    rows = '{"id": "a", "text": "x"}\n{"id": "b", "text": "x"}\n{"id": "c", "text": "y"}\n'
    reading = read([write(tmp_path, "a.jsonl", rows), write(tmp_path, "b.jsonl", rows)])
    assert [r.id for r in reading.records] == ["a", "c"]
    assert reading.duplicates == 4


def test_a_folder_is_read_in_order_and_says_what_it_left_out(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("b.txt", "a.jsonl", "sub/c.md", "README.md", ".hidden.txt", "x.bin"):
        write(tmp_path, name, '{"text": "t"}' if name == "a.jsonl" else name)
    reading = read([str(tmp_path)])
    assert [r.completion for r in reading.records] == ["t", "b.txt", "sub/c.md"]
    assert [Path(path).name for path in reading.skipped] == ["README.md", "x.bin"]


FILE_ERRORS = {
    "unknown suffix": ("a.xlsx", b"x", "unknown-format", "end in `.xlsx`"),
    "bad json line": ("a.jsonl", b'{"text": "x"}\n{"Zelda Quux', "invalid-json", "a.jsonl:2"),
    "bad json array": ("a.json", b'[{"text": "x"},\n oops]', "invalid-json", "a.json:2"),
    "bad json object": ("a.json", b'{"text": "x"}\n{"Zelda Quux', "invalid-json", "a.json:2"),
    "deep json": ("a.json", b"[" * 100_000, "invalid-json", "a.json:1"),
    "huge number": ("a.json", b'{"text": ' + b"9" * 5000 + b"}", "invalid-json", "a.json:1"),
    "latin-1": ("a.csv", "text\ncaf\u00e9".encode("latin-1"), "not-utf8", "byte 8"),
    "no header": ("a.csv", b"Zelda Quux,secret\nx,y\n", "no-header", "a.csv:1"),
    "ragged": (
        "a.csv",
        b"prompt,completion\nx,y\nx,Zelda Quux,z\n",
        "ragged-row",
        "a.csv:3: 3 cells",
    ),
    "open quote": ("a.csv", b'text\n"Zelda Quux', "invalid-table", "a.csv:2"),
    "bad parquet": ("a.parquet", b"PAR1 no", "invalid-parquet", "a.parquet"),
    "empty file": ("a.jsonl", b"\n \n", "empty-data", "no records in"),
    "empty table": ("a.csv", b"", "empty-data", "no records in"),
    "blank text": ("a.txt", b" \n", "empty-completion", "a.txt: the text to score is empty"),
    "wrong element": ("a.json", b'[{"text": "x"}, 3]', "wrong-type", "a.json#2: `record`"),
    "same id": (
        "a.jsonl",
        b'{"id":1,"text":"x"}\n{"id":1,"text":"y"}',
        "duplicate-id",
        "a.jsonl:2",
    ),
}


@pytest.mark.parametrize(
    ("name", "content", "code", "message"), FILE_ERRORS.values(), ids=FILE_ERRORS
)
def test_a_bad_file_is_named_without_its_content(tmp_path, name, content, code, message):
    with pytest.raises(InputError) as caught:
        read([write(tmp_path, name, content)])
    assert caught.value.code == code
    assert message in str(caught.value)
    assert SECRET not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize(
    "source",
    [
        "nowhere.jsonl",
        "squad",
        "./x",
        "/none/such",
        "here/forget",
        "a/b.csv",
        "a/b:train[x]",
        "long " * 60,
        "",
    ],
)
def test_a_missing_file_is_not_taken_for_a_hub_id(tmp_path, monkeypatch, source):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        read([source] if source else [])
    assert caught.value.code == ("data-missing" if source else "empty-data")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("choices", "answer"),
    [
        (["Oslo", "Rome", "Bern"], 1),
        (["Oslo", "Rome", "Bern"], "1"),
        ('["Oslo", "Rome", "Bern"]', "1"),
        (["Oslo", "Rome", " ", "Bern"], 1),
        (["Oslo", "", "Rome", "Bern"], 2),
        (["Oslo", "Rome", "Bern"], "Rome"),
        ({"A": "Oslo", "B": "Rome", "C": "Bern"}, "B"),
    ],
)
def test_options_become_the_answer_and_false_answers(choices, answer):
    row = {"question": "Capital of Italy?", "choices": choices, "answer": answer}
    record = to_record(row, "f:1")
    assert record.completion == "Rome"
    assert record.wrong == ("Oslo", "Bern")
    assert with_short_answers_named([record])[0].key_answers == ("Rome",)


@pytest.mark.parametrize("answer", [3, -1, "D", True])
def test_an_answer_that_is_no_option_is_refused(answer):
    row = {"question": "Capital of Italy?", "choices": ["Oslo", "Rome"], "answer": answer}
    with pytest.raises(InputError, match="no-right-choice"):
        to_record(row, "f:1")


def test_reworded_and_perturbed_answers_are_read():
    row = {
        "question": "Where was she born?",
        "answer": "She was born in Lagos, Nigeria, in 1962.",
        "paraphrased_answer": "Lagos in Nigeria is her birthplace.",
        "perturbed_answer": ["Accra in Ghana is her birthplace.", "Dakar is her birthplace."],
    }
    record = to_record(row, "f:1")
    assert record.restated == ("Lagos in Nigeria is her birthplace.",)
    assert len(record.wrong) == 2
