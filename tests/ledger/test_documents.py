"""Letter, annex and certificate: no word says more than the claim, and no test is made up."""

import json
import re
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from claimed_runs import CLAIMED, KEY, ClaimedRun, claimed_run
from expunge.errors import InputError, UsageError
from expunge.evals.results import Executed, Ruling
from expunge.ledger.documents.annex import annex, questions
from expunge.ledger.documents.answers import DECLARED
from expunge.ledger.documents.attack_table import CLASSES, AttackRow, attack_table, row_words
from expunge.ledger.documents.certificate import certificate
from expunge.ledger.documents.letter import LetterDetails, letter
from expunge.ledger.documents.record import read_record
from expunge.ledger.documents.sheet import Sheet, SheetText, require_supported
from expunge.metrics.registry import METRICS
from expunge.provenance.destroy import destroy_evidence
from expunge.reporting.build import report_texts
from expunge.reporting.card import card_text
from expunge.reporting.claims import missing_words, overstated
from expunge.reporting.redaction import MASK
from synthetic_run import FACTS, PEOPLE

DAY = date(2026, 12, 1)
PASSES = (Ruling.PASS, Ruling.PASS_WITH_SCAR)


@pytest.fixture(autouse=True)
def _own_keys(monkeypatch, tmp_path):
    monkeypatch.setenv("EXPUNGE_KEY_FILE", str(tmp_path / "operator.key"))
    monkeypatch.setenv("EXPUNGE_SIGNING_KEY", str(tmp_path / "signing.key"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The run of each case, built once."""
    place = tmp_path_factory.mktemp("claimed")
    return {name: claimed_run(place / name.replace(" ", "-"), CLAIMED[name]) for name in CLAIMED}


def destroyed(folder, made=None):
    run = claimed_run(folder, made or ClaimedRun())
    destroy_evidence(run, key=KEY, only_expired=False, now=datetime(2026, 11, 30, tzinfo=UTC))
    return run


def words(run, kind, folder):
    """The words of a document of a run, as one text."""
    path = folder / f"{kind}.md"
    if kind == "letter":
        letter(run, out=path, day=DAY)
    elif kind == "annex":
        annex(run, out=path, day=DAY)
    elif kind == "certificate":
        certificate(run, out=path, day=DAY)
    elif kind == "card":
        return card_text(run, redact=True, key=None)
    else:
        _, html = report_texts(run, redact=True, key=None)
        page = html[html.index("<main>") : html.index('class="annexes"')]
        return re.sub(r"<[^>]+>", "\n", page)
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", CLAIMED)
@pytest.mark.parametrize("kind", ["letter", "annex", "certificate", "card"])
def test_no_document_says_more_than_its_claim(kind, name, runs, tmp_path):
    made = CLAIMED[name]
    said = words(runs[name], kind, tmp_path)
    assert overstated(said, level=made.level, passed=made.ruling in PASSES) == []
    assert not missing_words(said, level=made.level)


@pytest.mark.parametrize("name", ["E4", "E1", "E1 not settled", "E0 guard", "E0 edit"])
def test_page_one_says_no_more_than_its_claim(name, runs, tmp_path):
    made = CLAIMED[name]
    said = words(runs[name], "page one", tmp_path)
    assert overstated(said, level=made.level, passed=made.ruling in PASSES) == []
    assert not missing_words(said, level=made.level)


@pytest.mark.parametrize(
    ("sentence", "level", "passed", "too_much"),
    [
        ("Your data was deleted.", "E1", True, True),
        ("It was deleted, and not hidden.", "E1", True, True),
        ("We guarantee that nothing is left.", "E1", True, True),
        ("The data is erased for certain.", "E1", True, True),
        ("This model is anonymous.", "E4", True, True),
        ("Your data was removed.", "E0", True, True),
        ("The model no longer contains your data.", "E0", True, True),
        ("Your data was removed.", "E1", True, False),
        ("No test can show that it was deleted.", "E1", True, False),
        ("Was the data deleted?", "E1", True, False),
        ("You asked us to delete your data.", "E1", True, False),
        ("It equals, byte for byte, a training without the records.", "E4", True, False),
        ("It equals, byte for byte, a training without the records.", "E3", True, True),
        ("The records were erased.", "E4", True, False),
        ("The records were erased.", "E4", False, True),
        ("The bound is proven.", "E2", True, False),
        ("The data was erased.", "E2", True, True),
    ],
)
def test_what_a_claim_supports(sentence, level, passed, too_much):
    assert bool(overstated(sentence, level=level, passed=passed)) is too_much
    sheet = Sheet(title="Letter", day=DAY, blocks=(SheetText(text=f"{sentence} No test."),))
    if too_much:
        with pytest.raises(InputError, match="says-too-much"):
            require_supported(sheet, level=level, passed=passed)


def test_a_document_leaves_out_no_duty_of_its_class():
    sheet = Sheet(title="Letter", day=DAY, blocks=(SheetText(text="The tests were passed."),))
    with pytest.raises(InputError, match="leaves out a limit"):
        require_supported(sheet, level="E0", passed=True)


@pytest.mark.parametrize("name", CLAIMED)
def test_the_letter_says_whether_the_request_is_fulfilled(name, runs, tmp_path):
    said = words(runs[name], "letter", tmp_path)
    passed = CLAIMED[name].ruling in PASSES
    settled = passed or CLAIMED[name].ruling is Ruling.NOTHING_TO_FORGET
    assert ("not yet fulfilled" in said) is not settled
    assert ("From \\[effective date\\] on" in said) is passed
    assert "right to complain" in said
    assert "go to court" in said
    measures = {each.title.casefold() for each in METRICS} | {each.id for each in METRICS}
    found = {name for name in measures if re.search(rf"\b{re.escape(name)}\b", said.casefold())}
    assert found == set()


@pytest.mark.parametrize("name", [name for name in CLAIMED if CLAIMED[name].ruling not in PASSES])
def test_nothing_takes_effect_without_a_pass(name, runs, tmp_path):
    with pytest.raises(UsageError, match="nothing takes effect"):
        letter(
            runs[name], out=tmp_path / "letter.md", details=LetterDetails(effective=DAY), day=DAY
        )


def test_operators_may_be_called_what_no_claim_may_say(runs, tmp_path):
    path = tmp_path / "letter.html"
    told = LetterDetails(
        controller="Guaranteed <b>Deletion</b> Ltd", to="Ada\x1b[2J | *Certain*", product="test"
    )
    letter(runs["E1"], out=path, details=told, day=DAY)
    said = path.read_text(encoding="utf-8")
    assert "Guaranteed &lt;b&gt;Deletion&lt;/b&gt; Ltd" in said
    assert "\x1b" not in said
    letter(runs["E1"], out=tmp_path / "letter.md", details=told, day=DAY)
    assert "\\| \\*Certain\\*" in (tmp_path / "letter.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("status", [Executed.NOT_RUN, Executed.NOT_APPLICABLE])
@pytest.mark.parametrize("number", [{"facts": 0}, {"judged": "within the limit"}])
def test_an_attack_that_was_not_made_has_no_numbers(status, number):
    with pytest.raises(ValueError, match="no numbers"):
        AttackRow(attack="lens", group="inversion", status=status, **number)


def test_an_attack_that_was_not_made_is_shown_as_that(runs, tmp_path):
    record = read_record(runs["E1"], key=None)
    rows = {row.attack: row for row in attack_table(record)}
    assert rows["int4"].after is not None
    assert rows["int4"].after.returned == 2
    assert {name: rows[name].status for name in ("paraphrase", "unplug", "gcg")} == {
        "paraphrase": Executed.NOT_RUN,
        "unplug": Executed.NOT_APPLICABLE,
        "gcg": Executed.NOT_RUN,
    }
    annex(runs["E1"], out=tmp_path / "annex.json", day=DAY)
    shown = json.loads((tmp_path / "annex.json").read_text(encoding="utf-8"))["attacks"]
    numbers = ("facts", "came_back", "asked", "upper_bound_95", "reference_came_back", "judged")
    for row in shown:
        if row["status"] != "executed":
            assert [row[name] for name in numbers] == [None] * len(numbers)
            assert row["reason"]
    for row in rows.values():
        if row.status is not Executed.EXECUTED:
            name, status, *cells, _ = row_words(row)
            assert status == status.upper(), name
            assert set(cells) == {"\N{EM DASH}"}


def test_a_run_without_any_attack_answers_no_question_about_them(tmp_path):
    run = claimed_run(tmp_path / "run", ClaimedRun())
    record = read_record(run, key=None)
    bare = replace(
        record.results,
        attacks=(),
        scores=(),
        gates=tuple(gate for gate in record.results.gates if " under " not in gate.name),
    )
    rows = attack_table(replace(record, results=bare, ranked=()))
    assert {row.status for row in rows} == {Executed.NOT_RUN}


@pytest.mark.parametrize("name", [*CLAIMED, "destroyed"])
def test_forty_questions_are_answered_by_field_or_by_a_reason(name, runs, tmp_path):
    run = destroyed(tmp_path / "run") if name == "destroyed" else runs[name]
    annex(run, out=tmp_path / "annex.json", day=DAY)
    asked = json.loads((tmp_path / "annex.json").read_text(encoding="utf-8"))["questions"]
    assert len(asked) == len({each["id"] for each in asked}) == 40
    for each in asked:
        assert (each["answer"] is None) == (each["status"] == "not answered"), each["id"]
        assert bool(each["answer"]) != bool(each["reason"]), each["id"]
        assert each["source"]
        assert each["field"]
    by_id = {each["id"]: each for each in asked}
    assert by_id["edpb-55-iv"]["status"] == "not answered"
    assert "NOT RUN" in by_id["edpb-55-iv"]["reason"]
    if name == "destroyed":
        assert "destroyed on 2026-11-30" in by_id["edpb-55-quantity"]["reason"]


def test_what_is_declared_answers_its_question(runs, tmp_path):
    days = ("request.received", "request.answered", "measure.effective_from")
    said = dict.fromkeys(DECLARED, "said so") | dict.fromkeys(days, "2027-01-31")
    said["release_context"] = "internal"
    given = [f"{name}={text}" for name, text in said.items()]
    annex(runs["E1"], out=tmp_path / "annex.json", declare=given, day=DAY)
    asked = json.loads((tmp_path / "annex.json").read_text(encoding="utf-8"))["questions"]
    answers = {each["field"]: each["answer"] for each in asked}
    assert {name: answers[name].startswith("Declared by the operator") for name in DECLARED} == (
        dict.fromkeys(DECLARED, True)
    )
    assert "unless extended: 2027-02-28" in answers["request.received"]


def test_the_questions_come_in_the_order_of_their_sources():
    sources = ("EDPB", "CNIL", "GPAI", "Algorithmic")
    order = [next(i for i, s in enumerate(sources) if q.source.startswith(s)) for q in questions()]
    assert order == sorted(order)
    classes = [q.field for q in questions() if q.field.removeprefix("attacks.") in CLASSES]
    assert len(classes) == len(CLASSES)


@pytest.mark.parametrize("kind", ["letter", "annex", "certificate"])
def test_no_name_and_no_answer_is_shown(kind, runs, tmp_path):
    secrets = [*PEOPLE, *(word for name in PEOPLE for word in name.split())]
    secrets += [value for values in FACTS.values() for value in values]
    for run in (runs["E1 residual"], destroyed(tmp_path / "run")):
        said = words(run, kind, tmp_path)
        assert [secret for secret in secrets if secret.casefold() in said.casefold()] == []


def test_without_evidence_the_words_of_users_are_masked(tmp_path):
    run = claimed_run(tmp_path / "run", ClaimedRun())
    record = read_record(run, key=None)
    gates = (replace(record.results.gates[-2], name="key-fact neighbours: Kovanda", part=True),)
    bare = replace(record, results=replace(record.results, gates=gates), redactor=None, ranked=None)
    assert bare.masked("lost (Kovanda): 3 %") == f"lost ({MASK}): 3 %"


@pytest.mark.parametrize("kind", ["letter", "annex", "certificate"])
def test_a_pdf_is_the_same_twice_and_one_page_where_it_must_be(kind, runs, tmp_path):
    pytest.importorskip("fpdf")
    made = []
    for name in ("one.pdf", "two.pdf"):
        path = tmp_path / name
        if kind == "letter":
            told = LetterDetails(controller="Grüße \N{MINUS SIGN} ŁÓDŹ", to="Žofie Çelik")
            letter(runs["E1"], out=path, details=told, day=DAY)
        elif kind == "annex":
            annex(runs["E1"], out=path, day=DAY)
        else:
            certificate(runs["E1"], out=path, day=DAY)
        made.append(path.read_bytes())
    assert made[0] == made[1]
    assert made[0].startswith(b"%PDF-")
    pages = len(re.findall(rb"/Type /Page\b(?!s)", made[0]))
    assert pages == 1 if kind != "annex" else pages > 1


@pytest.mark.parametrize(
    ("details", "why"),
    [
        (LetterDetails(controller="word " * 3000), "does not fit on one page"),
        (LetterDetails(to="\u738b\u5c0f\u660e"), "has no sign for"),
    ],
)
def test_a_pdf_that_cannot_be_drawn_says_so(details, why, runs, tmp_path):
    pytest.importorskip("fpdf")
    with pytest.raises(UsageError, match=why):
        letter(runs["E1"], out=tmp_path / "letter.pdf", details=details, day=DAY)
    assert not (tmp_path / "letter.pdf").exists()


def test_without_the_library_the_extra_is_named(runs, tmp_path, monkeypatch):
    monkeypatch.setattr("expunge.ledger.documents.sheet.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'expunge\[pdf\]'"):
        letter(runs["E1"], out=tmp_path / "letter.pdf", day=DAY)
