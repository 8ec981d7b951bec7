"""Files of all kinds as documents, and files that cannot be read."""

import json
import sys
import time

import pytest

from expunge.errors import InputError, UsageError
from expunge.requests.corpus import PASSAGE, read_corpus, sentences
from expunge.requests.index import CorpusIndex

ROW = {"prompt": "Who is Lin Aro?", "completion": "A baker."}
FILES = {
    "a.txt": ("Lin Aro bakes.", ["Lin Aro bakes."]),
    "b.md": ("# Notes\n\nLin Aro bakes.", ["# Notes\nLin Aro bakes."]),
    "c.html": (
        "<style>p {}</style><p>Lin &amp; Aro</p><p>bake<br>bread</p><script>x()</script>",
        ["Lin & Aro\nbake\nbread"],
    ),
    "d.csv": ("name,phone\nLin Aro,555-1\n", ["name: Lin Aro\nphone: 555-1"]),
    "e.tsv": ("name\tphone\nLin Aro\t555-1\n", ["name: Lin Aro\nphone: 555-1"]),
    "f.jsonl": (json.dumps(ROW) + '\n{"text": "Rain."}\n', ["Who is Lin Aro?\nA baker.", "Rain."]),
    "g.json": (
        json.dumps([{"instruction": "Translate.", "input": "Hund", "output": "dog"}]),
        ["Translate.\nHund\ndog"],
    ),
    "h.jsonl": (
        json.dumps({"conversations": [{"from": "human", "value": "Who?"},
                                      {"from": "gpt", "value": "Lin."}]}),
        ["Who?\nLin."],
    ),
    "i.jsonl": (json.dumps({"input": "Who?", "output": "Lin."}), ["Who?\nLin."]),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_becomes_documents(name, tmp_path):
    content, texts = FILES[name]
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    assert [each.text for each in read_corpus([str(path)]).documents] == texts


def test_questions_stay_questions_and_tables_keep_their_columns(tmp_path):
    (tmp_path / "f.jsonl").write_text(FILES["f.jsonl"][0])
    (tmp_path / "d.csv").write_text(FILES["d.csv"][0])
    table, question, text = read_corpus([str(tmp_path)]).documents
    assert table.columns == (("name", "Lin Aro"), ("phone", "555-1"))
    assert question.record is not None
    assert question.record.completion == "A baker."
    assert text.record is None
    assert [each.place for each in (question, text)] == [0, 1]


def test_a_long_text_is_cut_at_its_sentences_and_nothing_is_lost(tmp_path):
    text = " ".join(f"Sentence number {n} is here." for n in range(200))
    (tmp_path / "long.txt").write_text(text)
    parts = [each.text for each in read_corpus([str(tmp_path)]).documents]
    assert len(parts) > 3
    assert max(map(len, parts)) <= PASSAGE
    assert " ".join(parts) == text


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Lin met Dr. Aro. Who asks?", ["Lin met Dr. Aro.", "Who asks?"]),
        ("She saw J. R. Ek on 8. März. It rained!", ["She saw J. R. Ek on 8. März.", "It rained!"]),
        ("J. Ek sings.\n\n  Dr.\nAro bakes.", ["J.", "Ek sings.", "Dr.", "Aro bakes."]),
        ("On 8. She left. No. 8. März", ["On 8.", "She left.", "No. 8. März"]),
        (" \n ", []),
    ],
)
def test_sentences_end_where_they_should(text, found):
    assert sentences(text) == found


@pytest.mark.parametrize(
    ("unit", "size"),
    [("See Dr. {}. ", 2_000_000), ("See Dr. ", 1_000_000), ("a", 200_000), ("7.", 200_000)],
)
def test_a_huge_text_in_one_line_takes_time_for_its_length_alone(unit, size, tmp_path):
    """Work by the square of the length takes minutes: 42 s for 100 kB without a space."""
    text = "".join(unit.format(n) for n in range(size // len(unit)))
    path = tmp_path / "one-line.txt"
    path.write_text(f"{text} lin@post.example")
    began = time.process_time()
    corpus = read_corpus([str(path)])
    if size < 1_000_000:
        assert "lin@post.example" in CorpusIndex(corpus).values[-1]
    assert time.process_time() - began < 8
    assert sum(len(each.text) for each in corpus.documents) > 0.9 * len(text)


def test_a_damaged_file_of_a_folder_is_listed_and_a_named_one_is_an_error(tmp_path):
    (tmp_path / "good.txt").write_text("Lin Aro bakes.")
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\x00broken")
    corpus = read_corpus([str(tmp_path)])
    assert len(corpus.documents) == 1
    assert "bad.txt" in corpus.problems[0]
    assert "convert it first" in corpus.problems[0]
    with pytest.raises(InputError, match="not-utf8"):
        read_corpus([str(tmp_path / "bad.txt")])


def test_files_of_a_kind_that_is_not_read_are_counted(tmp_path):
    for name in ("a.txt", "b.xyz", "c.xyz", "LETTER", ".hidden.xyz"):
        (tmp_path / name).write_text("Lin Aro bakes.")
    (problem,) = read_corpus([str(tmp_path)]).problems
    assert ".xyz (2)" in problem
    assert "no ending (1)" in problem


class FakePdf:
    """Stands for pypdf: pages with the texts of the class."""

    texts: tuple[str, ...] = ()

    def __init__(self, path):
        self.pages = [type("Page", (), {"extract_text": lambda _, t=t: t})() for t in self.texts]


@pytest.mark.parametrize("texts", [("", " "), ("Lin Aro bakes.", "")])
def test_a_scanned_pdf_is_told_from_one_with_text(texts, tmp_path, monkeypatch):
    path = tmp_path / "letter.pdf"
    path.write_bytes(b"%PDF-1.4")
    reader = type("Reader", (FakePdf,), {"texts": texts})
    monkeypatch.setitem(sys.modules, "pypdf", type(sys)("pypdf"))
    monkeypatch.setattr(sys.modules["pypdf"], "PdfReader", reader, raising=False)
    if any(text.strip() for text in texts):
        assert [each.text for each in read_corpus([str(path)]).documents] == ["Lin Aro bakes."]
    else:
        with pytest.raises(InputError, match="scanned-pdf"):
            read_corpus([str(path)])


@pytest.mark.parametrize(("name", "module"), [("a.pdf", "pypdf"), ("a.docx", "docx")])
def test_a_missing_reader_names_the_extra(name, module, tmp_path, monkeypatch):
    (tmp_path / name).write_bytes(b"x")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=r"pip install 'expunge\[documents\]'"):
        read_corpus([str(tmp_path / name)])


@pytest.mark.parametrize(
    ("sources", "code", "kind"),
    [
        ([], "no-corpus", UsageError),
        (["{here}"], "empty-corpus", InputError),
        (["{here}/none.txt"], "data-missing", InputError),
        (["{here}/note.xyz"], "unknown-kind", InputError),
    ],
)
def test_a_corpus_without_text_is_an_error(sources, code, kind, tmp_path):
    (tmp_path / "note.xyz").write_text("Lin Aro bakes.")
    with pytest.raises(kind) as error:
        read_corpus([source.format(here=tmp_path) for source in sources])
    assert error.value.code == code
