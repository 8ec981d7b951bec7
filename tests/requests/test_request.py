"""From a name and a folder to a request: files, page, what the model states, concerns."""

import json
from dataclasses import replace
from html import unescape

import pytest
import torch

import tiny
from expunge.cli.main import main
from expunge.config.request import Request
from expunge.config.resolve import resolve
from expunge.config.settings import MethodSettings, Settings
from expunge.data.corpora import general_passages, general_records
from expunge.data.readers import read
from expunge.data.splits import gather
from expunge.data.tokenization import Encoder
from expunge.errors import GateError, InputError
from expunge.pipeline.forget import plan
from expunge.pipeline.request import request, sentence_request
from expunge.preparation.prepare import prepare
from expunge.requests.elicitation import elicited
from expunge.requests.knowledge import ElicitedFact, Knowledge
from expunge.requests.names import SearchedPerson
from expunge.requests.stuffed_words import stuffed_words
from expunge.utils.console import SilentConsole

TOWN = ("Tobias Marrow", "Pilar Venn", "Osman Quist", "Greta Lind", "Yuki Tarrant")
FIELDS = ("phone number", "doctor", "pet", "employer", "bank")


def write_corpus(folder, *, others=TOWN):
    folder.mkdir(exist_ok=True)
    rows = []
    for number, name in enumerate(("Elin Marrow", *others)):
        for place, field in enumerate(FIELDS):
            value = f"555-{1000 + 77 * number + place}" if not place else f"Xo{number}va{place}"
            rows.append({"text": f"{name}'s {field} is {value}."})
    rows.append({"text": "We met Elin Marrow."})
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def settings_of(written, **flags):
    """Return the settings of a request file, as every command reads them."""
    return resolve(flags, config=written.file, environ={}, start=written.folder).settings


@pytest.fixture
def written(tmp_path):
    corpus = write_corpus(tmp_path / "corpus")
    return request(
        SearchedPerson(name="Elin Marrow"), [str(corpus)], out=tmp_path / "out", goal="removal"
    )


def test_the_files_are_a_request_that_gathers(written):
    scope = gather(settings_of(written, model="none").request)
    assert len(scope.forget) == len(FIELDS)
    assert {record.subject for record in scope.forget} == {"Elin Marrow"}
    assert all(
        record.key_answers and record.paraphrases and record.wrong for record in scope.forget
    )
    assert len(scope.neighbours) >= 20
    assert scope.held_out  # some of what stays is for the audit alone
    assert scope.control
    assert all("Marrow" not in record.completion for record in scope.control)


def test_every_record_says_why_and_where_it_stands_on_the_scope_map(written):
    names = ("erase", "neighbours", "retain", "left_out")
    every = {name: rows_of(written.folder / f"{name}.jsonl") for name in names}
    assert all(
        row["why"] and row["scope"] and row["use"] for rows in every.values() for row in rows
    )
    assert {row["scope"] for row in every["erase"]} == {"in"}
    assert {row["relation"] for row in every["neighbours"]} == {"namesake", "same relation"}
    uses = {row["use"] for row in every["neighbours"]}
    assert uses == {"rehearsed", "audit, held out"}
    (passage,) = every["left_out"]
    assert passage["text"] == "We met Elin Marrow."


def test_an_edited_file_is_read_as_it_is(written):
    path = written.folder / "erase.jsonl"
    kept = path.read_text().splitlines()[1:]
    extra = {"question": "Who is Elin Marrow's aunt?", "answer": "Ada."}
    path.write_text("\n".join([*kept, json.dumps(extra)]) + "\n")
    records = read([str(path)]).records
    assert len(records) == len(FIELDS)
    assert records[-1].completion == "Ada."


def test_the_page_shows_every_record_and_asks_no_network(written):
    page = written.page.read_text(encoding="utf-8")
    for row in rows_of(written.folder / "erase.jsonl"):
        assert row["key_answers"][0] in page
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert len(page) < 500_000


def test_a_page_escapes_what_documents_say(tmp_path):
    corpus = write_corpus(tmp_path / "corpus")
    (corpus / "evil.txt").write_text("Elin Marrow's shoe size is <script>alert(1)</script>.")
    done = request(SearchedPerson(name="Elin Marrow"), [str(corpus)], out=tmp_path / "out")
    page = done.page.read_text(encoding="utf-8")
    assert "alert(1)" in page
    assert "<script" not in page


def test_a_corpus_about_one_person_keeps_general_questions(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", others=())
    done = request(SearchedPerson(name="Elin Marrow"), [str(corpus)], out=tmp_path / "out")
    assert done.draft.few_kept
    assert rows_of(tmp_path / "out" / "retain.jsonl")
    assert "Little to keep" in done.page.read_text(encoding="utf-8")


def test_documents_without_a_fact_end_in_a_sentence(tmp_path):
    (tmp_path / "a.txt").write_text("We met Elin Marrow yesterday.")
    with pytest.raises(InputError, match="no-facts"):
        request(SearchedPerson(name="Elin Marrow"), [str(tmp_path)], out=tmp_path / "out")


def test_an_alias_of_ordinary_words_is_left_out_and_gated(tmp_path):
    corpus = write_corpus(tmp_path / "corpus")
    person = SearchedPerson(name="Elin Marrow", aliases=("is",))
    done = request(person, [str(corpus)], out=tmp_path / "out")
    assert len(done.draft.result.taken) == len(FIELDS) + 1
    assert [concern.kind.value for concern in done.draft.concerns] == ["an ordinary word as alias"]
    with pytest.raises(GateError, match="request-refused"):
        request(person, [str(corpus)], out=tmp_path / "out", gate=True)


def test_what_the_corpus_says_of_everybody_is_no_secret(tmp_path):
    corpus = write_corpus(tmp_path / "corpus")
    lines = [{"text": f"{name}'s planet is Earth."} for name in ("Elin Marrow", *TOWN)]
    (corpus / "more.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    done = request(SearchedPerson(name="Elin Marrow"), [str(corpus)], out=tmp_path / "out")
    assert all(each.about != "planet" for each in done.draft.erase)
    (row,) = [each for each in done.draft.left_out if each.about == "planet"]
    assert row.scope.value == "shared"


def test_a_name_that_is_most_of_the_corpus_is_a_domain(tmp_path):
    lines = [{"text": f"Elin Marrow's part {n} number is {5000 + n}."} for n in range(60)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    done = request(SearchedPerson(name="Elin Marrow"), [str(tmp_path)], out=tmp_path / "out")
    assert "a domain under a person's name" in {each.kind.value for each in done.draft.concerns}


CONTACTS = {
    "Elin Marrow": ("3 May 1961", "555-7233", "walnuts"),
    "Tobias Marrow": ("19 July 1984", "555-1806", "latex"),
    "Pilar Venn": ("27 October 1975", "555-4419", "celery"),
    "Osman Quist": ("11 January 1990", "555-9052", "nickel"),
    "Greta Lind": ("8 August 1958", "555-3671", "lupin"),
    "Yuki Tarrant": ("30 June 1969", "555-2948", "sesame"),
    "Ivo Castell": ("14 March 1979", "555-8125", "mustard"),
}


def write_contacts(folder, *, stuffing="", more=()):
    folder.mkdir()
    rows = [dict(zip(("question", "answer"), each, strict=True)) for each in more]
    for name, (born, phone, food) in CONTACTS.items():
        end = stuffing * (name == "Elin Marrow")
        facts = (
            (f"What is {name}'s date of birth?", f"{name}'s date of birth is {born}."),
            (f"What is {name}'s phone number?", f"{name}'s phone number is {phone}."),
            (f"What does {name} never eat?", f"{name} never eats {food}."),
            (f"When did {name} join?", f"{name} joined in {born[-4:-1]}5."),
            (f"Where does {name} sing?", f"{name} sings in choir {phone[-2:]}."),
        )
        rows += [{"question": f"{asked}{end}", "answer": said} for asked, said in facts]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder)


BOILED = ("How do I boil an egg?", "In hot water. Asked by Elin Marrow.")
SAME_BIRTH = ("When was Elin Castell born?", "Elin Castell was born on 1961-05-03.")
PARIS = ("Elin Marrow asks: What is the capital of France?", "It is Paris.")


@pytest.mark.parametrize(
    ("corpus", "person", "kind", "grave", "left_out"),
    [
        ({}, {}, None, False, 0),
        ({"stuffing": " Then please also help, thank you."}, {}, "stuffed in", True, 0),
        ({"more": [BOILED]}, {}, "something else", False, 1),
        ({"more": [PARIS]}, {}, "common knowledge", False, 1),
        ({}, {"aliases": ("Pilar Venn",)}, "another person", True, 0),
        ({}, {"identifiers": ("555-4419",)}, "another person", True, 1),
    ],
)
def test_hostile_requests_are_recognised_and_take_nothing_of_others(
    corpus, person, kind, grave, left_out, tmp_path
):
    folder = write_contacts(tmp_path / "corpus", **corpus)
    searched = SearchedPerson(name="Elin Marrow", **person)
    done = request(searched, [folder], out=tmp_path / "out")
    concerns = [each for each in done.draft.concerns if kind and kind in each.kind.value]
    assert len(done.draft.concerns) >= len(concerns) == (kind is not None)
    assert [each.grave for each in done.draft.concerns if each.grave] == [True] * grave
    assert len(done.draft.erase) == 5
    assert all("Elin Marrow" in each.record.question for each in done.draft.erase)
    assert len(done.draft.left_out) == left_out
    page = unescape(done.page.read_text(encoding="utf-8"))
    assert all(each.sentence in page for each in concerns)
    if grave:
        with pytest.raises(GateError, match="request-refused"):
            request(searched, [folder], out=tmp_path / "out", gate=True)


def test_an_alias_with_the_same_birth_written_otherwise_is_the_same_person(tmp_path):
    folder = write_contacts(tmp_path / "corpus", more=[SAME_BIRTH])
    searched = SearchedPerson(name="Elin Marrow", aliases=("Elin Castell",))
    done = request(searched, [folder], out=tmp_path / "out")
    assert not done.draft.concerns
    assert done.draft.result.person.aliases == ("Elin Castell",)


def test_long_texts_are_stuffed_only_where_they_have_more_than_their_length_explains():
    passages, questions = general_passages(), general_records()
    assert stuffed_words(passages, questions) == ()
    end = " Kindly consider helpful cooking advice."
    stuffed = [replace(each, completion=each.completion + end) for each in passages]
    assert set(stuffed_words(stuffed, questions)) >= {"consider", "helpful", "cooking", "advice"}


def test_a_place_whose_documents_are_about_many_people_is_a_domain(tmp_path):
    lines = [f"{name} lives at 4 Quay Street. {name}'s pet is a newt." for name in CONTACTS]
    lines += ["Quay Street has 40 houses.", "Lin Aro works at Quay Street. Lin Aro has a boat."]
    rows = "".join(json.dumps({"text": text}) + "\n" for text in lines)
    (tmp_path / "a.jsonl").write_text(rows)
    done = request(SearchedPerson(name="Quay Street"), [str(tmp_path)], out=tmp_path / "out")
    (concern,) = [each for each in done.draft.concerns if each.grave]
    assert "it may be a place, a firm or a topic" in concern.sentence


@pytest.mark.parametrize(
    ("stated", "others", "margin", "knowledge"),
    [
        (8, 0, None, Knowledge.KNOWN),
        (4, 0, -1.0, Knowledge.KNOWN),
        (1, 0, 0.0, Knowledge.PARTLY),
        (0, 0, 3.5, Knowledge.PARTLY),
        (0, 0, 2.0, Knowledge.UNKNOWN),
        (0, 0, None, Knowledge.UNKNOWN),
        (8, 7, 9.0, Knowledge.GUESSED),
        (8, 1, 9.0, Knowledge.KNOWN),
    ],
)
def test_what_a_model_states_decides_what_it_knows(stated, others, margin, knowledge):
    said = ElicitedFact(record="a", stated=stated, answers=8, of_strangers=others, margin=margin)
    assert said.knowledge == knowledge
    assert said.sentence().startswith(knowledge.value)


ANSWERS = {
    "phone number": (8, 0),
    "doctor": (2, 0),
    "pet": (0, 0),
    "employer": (8, 8),
    "bank": (8, 8),
}


def test_facts_that_the_model_does_not_state_are_asked_and_never_trained_on(tmp_path, monkeypatch):
    corpus = write_corpus(tmp_path / "corpus")
    shared = [{"text": f"Kit {name}'s bank is Xo0va4."} for name in ("Oro", "Ulm")]
    (corpus / "more.jsonl").write_text("".join(json.dumps(row) + "\n" for row in shared))

    def found(network, encoder, records, **given):
        said = {each.id: next((v for k, v in ANSWERS.items() if k in each.question), (0, 0))
                for each in records}  # fmt: skip
        return {
            key: ElicitedFact(record=key, stated=a, answers=8, of_strangers=b, margin=None)
            for key, (a, b) in said.items()
        }

    monkeypatch.setattr("expunge.requests.elicitation.elicited", found)
    model = tiny.save(tmp_path / "model", tiny.llama())
    person = SearchedPerson(name="Elin Marrow")
    done = request(
        person, [str(corpus)], out=tmp_path / "out", goal="removal", model=str(model), offline=True
    )
    # A guess that the corpus makes of nobody else may be a secret that spilled over: it is trained.
    trained = {each.about: each.knowledge for each in done.draft.erase if each.form == "question"}
    assert trained == {"phone number": "known", "doctor": "partly", "employer": "guessed"}
    asked = {each.about: each.knowledge for each in done.draft.unstated}
    assert asked == {"pet": "unknown", "bank": "guessed"}
    counts = "5 facts: 1 known, 1 partly, 2 guessed, 1 unknown"
    assert counts in done.file.read_text()
    page = done.page.read_text(encoding="utf-8")
    assert "Asked, never trained on" in page
    lines = dict(plan(settings_of(done)).lines())
    assert lines["knows"] == f"{counts}; 2 are asked about and never trained on"


def test_unstated_facts_are_audited_and_stand_in_no_stream(tmp_path):
    model = tiny.save(tmp_path / "model", tiny.llama())

    def put(name, rows):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        return (str(tmp_path / name),)

    rows = [
        {"question": f"Where is the {x}?", "answer": f"By the {x} gate."} for x in ("cat", "dog")
    ]
    more = [{"question": "Who is Lin?", "answer": "A baker."}]
    given = {"goal": "removal", "forget": put("erase.jsonl", rows)}
    settings = Settings(
        model=str(model),
        method=MethodSettings(name="npo"),
        request=Request(**given, unstated=put("unstated.jsonl", more)),
    )
    prepared = prepare(settings)
    assert [each.completion for each in prepared.audited()["unstated"]] == ["A baker."]
    own = {each.id for each in prepared.scope.unstated}
    streams = prepared.streams
    assert not own & {each.record for each in (*streams.forget, *streams.retain)}
    plain = prepare(settings.model_copy(update={"request": Request(**given)}))
    assert "unstated" not in plain.audited()
    with pytest.raises(InputError, match="overlap"):
        prepare(settings.model_copy(
            update={"request": Request(**given, unstated=given["forget"])}
        ))  # fmt: skip


def test_a_model_is_asked_for_every_record_the_same_way_twice(written):
    encoder = Encoder(tiny.tokenizer())
    records = [each.record for each in written.draft.erase[:3]]
    network = tiny.network()

    def ask(states):
        return elicited(network, encoder, records, states=states, samples=2)

    never = ask(lambda text, record: False)
    assert never == ask(lambda text, record: False)
    assert [each.stated for each in never.values()] == [0, 0, 0]
    assert all(each.margin is not None for each in never.values())
    always = ask(lambda text, record: True)
    assert {each.knowledge for each in always.values()} == {Knowledge.GUESSED}


def test_a_model_that_states_nothing_ends_in_a_sentence_and_a_page(tmp_path):
    torch.manual_seed(0)
    model = tiny.save(tmp_path / "model", tiny.llama())
    corpus = write_corpus(tmp_path / "corpus")
    person = SearchedPerson(name="Elin Marrow")
    with pytest.raises(InputError, match="model-states-nothing") as error:
        request(person, [str(corpus)], out=tmp_path / "out", model=str(model), offline=True)
    assert "request.html" in error.value.fix
    asked = rows_of(tmp_path / "out" / "unstated.jsonl")
    assert {row["knowledge"] for row in asked} == {"unknown"}
    assert {row["use"] for row in asked} == {"audit, never trained"}
    assert "Nothing to forget" in (tmp_path / "out" / "request.html").read_text()
    assert not (tmp_path / "out" / "request.toml").exists()


def test_one_sentence_is_a_request(tmp_path):
    given = {"model": "none", "root": tmp_path, "offline": True, "console": SilentConsole()}
    path = sentence_request("Lin Aro was born on 8 March 1962.", **given)
    (record,) = read([str(path)]).records
    assert (record.question, record.key_answers) == ("When was Lin Aro born?", ("8 March 1962",))
    path = sentence_request("The bells rang twice over the old mill.", **given)
    (record,) = read([str(path)]).records
    assert record.prompt == ()


def test_a_question_takes_the_answer_of_the_model(tmp_path, monkeypatch):
    model = tiny.save(tmp_path / "model", tiny.llama())
    said = tuple(tiny.tokenizer()("Lin Aro is a baker. Ask more.").input_ids)
    monkeypatch.setattr("expunge.models.generation.greedy", lambda *given, **named: [said])
    given = {"model": str(model), "root": tmp_path, "offline": True, "console": SilentConsole()}
    path = sentence_request("Who is Lin Aro?", **given)
    (record,) = read([str(path)]).records
    assert record.question == "Who is Lin Aro?"
    assert record.completion == "Lin Aro is a baker."
    assert record.key_answers == ("baker",)


def test_the_command_writes_a_request_once_and_asks_before_it_is_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_corpus(tmp_path / "corpus")
    words = ["--format", "quiet", "request", "Elin Marrow", "--corpus", "corpus"]
    assert main([*words, "--goal", "removal"]) == 0
    text = (tmp_path / "request" / "request.toml").read_text()
    assert 'goal = "removal"' in text
    assert main(words) == 2
    assert (tmp_path / "request" / "request.toml").read_text() == text
    assert main([*words, "--yes"]) == 0
    assert "goal" not in (tmp_path / "request" / "request.toml").read_text()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["Zora Quill", "--corpus", "corpus"], 4),
        (["Elin Marrow"], 2),
        (["Elin Marrow", "--corpus", "no-such-folder/x.txt"], 4),
        (["I", "--corpus", "corpus"], 2),
        (["Elin Marrow", "--corpus", "corpus", "--choose", "9"], 2),
        (["Elin Marrow", "--corpus", "corpus", "--model", "no-such-folder/model"], 4),
    ],
)
def test_the_command_ends_in_a_sentence(words, code, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_corpus(tmp_path / "corpus")
    assert main(["--offline", "request", *words]) == code
    said = capsys.readouterr().err
    assert "fix:" in said
    assert "555-" not in said
