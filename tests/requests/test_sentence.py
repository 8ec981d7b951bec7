"""One text on the command line: which form it has, what becomes of it, and what is refused."""

import json

import pytest

import tiny
from expunge.cli.main import main
from expunge.errors import ExpungeError
from expunge.pipeline.request import sentence_request
from expunge.requests.sentence import TextKind, as_told, kind_of, require_fact, rows_told
from expunge.utils.console import SilentConsole

OSLO = ("Where does Lin Aro live?", "Lin Aro lives in Oslo.", "Oslo")
PHONE = ("What is Lin Aro's phone number?", "Lin Aro's phone number is 555-7233.", "555-7233")

STATED = [
    ("Lin Aro lives in Oslo.", [OSLO]),
    ("Lin Aro lives in Oslo", [OSLO]),
    ("Lin Aro lives in Oslo…", [OSLO]),
    ("Lin Aro lives in Oslo. 🐹", [OSLO]),
    ('"Lin Aro lives in Oslo."', [OSLO]),
    ("“Lin Aro lives in Oslo.”", [OSLO]),
    ("Please forget that Lin Aro lives in Oslo.", [OSLO]),
    ("Lin Aro's phone\n number is\t555-7233", [PHONE]),
    ("lin aro's phone number is 555-7233.", [PHONE]),
    ("Lin Aro lives in Oslo. " * 200, [OSLO]),
    (
        "Lin Aro writes from lin@post.example",
        [
            (
                'Complete the sentence: "Lin Aro writes from ..."',
                "Lin Aro writes from lin@post.example.",
                "lin@post.example",
            )
        ],
    ),
    ("Where does Lin Aro live? In Oslo.", [(OSLO[0], "In Oslo.", "Oslo")]),
    ("Lin Aro lives in Oslo. The bells rang.", [OSLO, (None, "The bells rang.", None)]),
    ("The bells rang over the mill", [(None, "The bells rang over the mill.", None)]),
    ("Лин Аро живёт в Осло.", [(None, "Лин Аро живёт в Осло.", None)]),  # noqa: RUF001
    ("رقم هاتف لين آرو هو 555-7233.", [(None, "رقم هاتف لين آرو هو 555-7233.", None)]),
]


@pytest.mark.parametrize(("text", "expected"), STATED, ids=lambda each: str(each)[:40])
def test_a_statement_becomes_questions_and_loses_no_sentence(text, expected):
    assert kind_of(text) in (TextKind.STATEMENT, TextKind.QUESTION)
    require_fact(text)
    rows = rows_told(as_told(text))
    said = [row.get("completion", row.get("text")) for row in rows]
    keys = [(row.get("key_answers") or [None])[0] for row in rows]
    asked = [row.get("prompt") for row in rows]
    assert list(zip(asked, said, keys, strict=True)) == expected


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("erase.jsonl", TextKind.PATH),
        ("./data/erase me.jsonl", TextKind.PATH),
        ("my own records.jsonl", TextKind.PATH),
        ("owner/name:train", TextKind.PATH),
        ('{"prompt": "Where is Lin now?", "completion": "In Oslo."}', TextKind.PATH),
        ("Lin Aro", TextKind.NAME),
        ("Lin van Aro.", TextKind.NAME),
        ("Лин Аро", TextKind.NAME),  # noqa: RUF001
        ("where does Lin Aro live", TextKind.QUESTION),
        ("Wo wohnt Lin Aro", TextKind.QUESTION),
        ("Where does Lin Aro live?!", TextKind.QUESTION),
        ("李明住在哪里？", TextKind.QUESTION),  # noqa: RUF001
        ("李明住在北京。", TextKind.STATEMENT),
    ],
)
def test_a_text_is_told_from_a_path_and_a_name(text, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert kind_of(text) == kind
    if "/" not in text and len(text) < 40:
        (tmp_path / text).touch()
        assert kind_of(text) == TextKind.PATH


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("", "no-words"),
        ("  \n ", "no-words"),
        ("? ? ?", "no-words"),
        ("Lin Aro", "only-a-name"),
        ("Please forget everything about Lin Aro.", "only-a-name"),
        ("She lives in Oslo.", "nobody-named"),
        ("My phone number is 555-7233.", "nobody-named"),
        ("Who is Lin Aro? Where does she live?", "several-questions"),
        ("Lin Aro lives in Oslo. Where does she work?", "several-questions"),
        ("x" * 5000, "data-missing"),
        ('{"prompt": "Where is Lin Aro?", "completion": "In Oslo."}', "data-missing"),
    ],
)
def test_what_states_no_fact_is_refused_without_its_words(
    text, name, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    tiny.save(tmp_path / "model", tiny.llama())
    capsys.readouterr()
    assert main(["--offline", "forget", "model", text, "--goal", "removal"]) in (2, 4)
    said = capsys.readouterr().err
    assert f"error[{name}]: " in said
    assert "fix: " in said
    assert not any(word in said for word in ("Aro", "555", "she live", "Oslo.\n", "x" * 30))
    assert not (tmp_path / "runs").exists()


def test_a_file_that_was_edited_stays_and_another_answer_has_another_file(tmp_path, monkeypatch):
    given = {"root": tmp_path, "offline": True, "console": SilentConsole()}
    path = sentence_request("Lin Aro lives in Oslo.", model="none", **given)
    edited = path.read_text().replace("Oslo", "Bergen")
    path.write_text(edited)
    assert sentence_request("Lin Aro lives in Oslo", model="none", **given) == path
    assert path.read_text() == edited

    model = str(tiny.save(tmp_path / "model", tiny.llama()))
    files = []
    for answer in ("Dr. Aro lives in Oslo. Ask more.", "In Bergen."):
        said = tuple(tiny.tokenizer()(answer).input_ids)
        monkeypatch.setattr("expunge.models.generation.greedy", lambda *a, _said=said, **k: [_said])
        files.append(sentence_request("Where does Dr. Aro live?", model=model, **given))
    rows = [json.loads(file.read_text()) for file in files]
    assert [row["completion"] for row in rows] == ["Dr. Aro lives in Oslo.", "In Bergen."]
    assert [row["key_answers"] for row in rows] == [["Oslo"], ["Bergen"]]


def test_a_question_that_names_nobody_has_no_wording_with_an_empty_name():
    (row,) = rows_told(as_told("what is the code of the door? It is 4711."))
    assert row["key_answers"] == ["4711"]
    assert row["paraphrases"] == ["Please tell me: what is the code of the door?"]


def test_a_model_that_says_nothing_is_an_error(tmp_path):
    model = str(tiny.save(tmp_path / "model", tiny.llama()))
    with pytest.raises(ExpungeError, match="model-states-nothing"):
        sentence_request(
            "Where is Lin Aro?", model=model, root=tmp_path, offline=True, console=SilentConsole()
        )
