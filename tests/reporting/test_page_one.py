"""Page one for a person who is not a researcher: four cases of real verdicts, and what they say."""

import html as entities
import json
import re

import pytest

from expunge.evals.assess import assess
from expunge.evals.plain_words import ANSWERS, NOT_APPLICABLE, QUESTIONS
from expunge.evals.results import Executed
from expunge.evidence.store import EvidenceStore
from expunge.metrics.outcomes import Axis
from expunge.reporting.build import LISTED, LONGEST, build_report
from expunge.reporting.schema import read_results, write_facts, write_results
from expunge.reporting.wording import lines
from expunge.utils.io import read_json, write_json, write_text
from synthetic_audit import SIZES, Model, never, trained, world
from synthetic_run import CONFIG, build_run, facts, forget_items

PERFECT = Model(knows=never, noise=4000)
CASES = {
    "PASS": (PERFECT, 2),
    "PASS-WITH-SCAR": (Model(knows=never, noise=4000, shift=-1.2), 2),
    "FAIL-RESIDUAL": (Model(knows=trained, noise=1000), 2),
    "INCONCLUSIVE": (PERFECT, 0),
}
"""Ruling to the judged model and the number of golds; without golds, no control records either."""

UNSEEN = ("holdout", "control")

FORBIDDEN = {
    "a statistic": r"\bAUC\b|\bnats?\b|p-value|percentile|bootstrap",
    "a tier letter": r"\bG[1-4]\b",
    "a threat letter": r"\bT[0-3]\b",
    "a claim letter": r"\bE[0-4]\b",
    "a private word": r"\b(told|heard|standing|anatomy|knobs?|rungs?|anchors?|twins?)\b",
    "a metric": r"membership|extraction.strength|min-k|zlib|\bnll\b|seq-rep|key-fact",
    "a promise": r"\bcertified\b|(is|are|been) deleted",
}
"""What page one never says, by what it would be."""

REFERENCE = re.compile(r"retrained reference models? \(gold\)", re.IGNORECASE)


def finished(run, model, golds, *, twin=""):
    """Write evidence and all that follows from it; the forgotten facts have two-token answers."""
    sizes = SIZES if golds else {name: n for name, n in SIZES.items() if name not in UNSEEN}
    store = world(run / "evidence", model, golds=golds, sizes=sizes)
    for role in ("original", "unlearned", *store.context().golds) if twin else ():
        store.identify(role, "same" if role in (twin, "unlearned") else role)
    write_results(run, assess(store))
    write_facts(run, facts())
    write_text(run / "config.toml", CONFIG)
    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    made = {name: finished(tmp_path_factory.mktemp("case"), *case) for name, case in CASES.items()}
    for run in made.values():
        build_report(run)
    return made


def page_one(run) -> str:
    html = (run / "report.html").read_text(encoding="utf-8")
    return html[html.index("<header>") : html.index('<div class="annexes">')]


def visible(html: str) -> str:
    return " ".join(entities.unescape(re.sub(r"<[^>]+>", " ", html)).split())


@pytest.fixture(params=list(CASES))
def case(request, runs):
    return request.param, runs[request.param]


def test_the_four_cases_are_what_they_are_named(case):
    name, run = case
    assert read_results(run).verdict.ruling.value == name
    assert f"<h2>{name} (provisional)</h2>" in page_one(run)


def test_every_question_has_an_answer(case):
    _, run = case
    row = re.compile(r"<dt>([^<]+)<small>.*?<span class=\"light \w+\">([^<]+)</span>", re.DOTALL)
    rows = row.findall(page_one(run))
    assert [question for question, _ in rows] == [*QUESTIONS.values()]
    assert {answer for _, answer in rows} <= {*ANSWERS.values(), NOT_APPLICABLE}
    open_ = [answer for _, answer in rows if answer in ("not settled", "not tested")]
    assert page_one(run).count("Would settle it:") == len(open_)


@pytest.mark.parametrize("kind", list(FORBIDDEN))
def test_page_one_holds_no_forbidden_word(case, kind):
    _, run = case
    text = visible(page_one(run).replace("expunge audit", "").replace("--gold", ""))
    assert re.findall(FORBIDDEN[kind], text, re.IGNORECASE if "letter" not in kind else 0) == []


def test_gold_is_explained_where_it_is_first_said(case):
    _, run = case
    text = visible(page_one(run))
    first = re.search(r"\bgolds?\b", text)
    named = REFERENCE.search(text)
    assert first is not None
    assert named is not None
    assert named.start() < first.start() < named.end()


def test_both_bounds_stand_beside_every_figure(case):
    _, run = case
    text = visible(page_one(run)).replace("\N{NARROW NO-BREAK SPACE}", " ")
    limits = len(re.findall(r"allowed|none allowed", text))
    assert limits == len(re.findall(r"% \(\S+ % to \S+ %\), (?:none )?allowed", text))
    for gate in read_results(run).gates:
        if gate.two_sided and gate.value is not None:
            assert "allowed \N{MINUS SIGN}" in text


def test_the_terminal_says_the_same(case):
    _, run = case
    verdict = read_results(run).verdict
    said = lines(verdict)
    assert [line.partition(":")[0] for line in said[: len(QUESTIONS)]] == [*QUESTIONS.values()]
    assert all(one.detail in line for one, line in zip(verdict.findings, said, strict=False))
    assert [line.partition(":")[0] for line in said[-3:]] == [
        "Tested against",
        "Compared with",
        "Kind of claim",
    ]
    for kind in ("a tier letter", "a threat letter", "a claim letter"):
        assert not re.search(FORBIDDEN[kind], " ".join(said))


@pytest.mark.parametrize("twin", ["original", "gold-0"])
def test_a_judged_model_that_is_a_known_one_is_said_in_the_first_line(tmp_path, twin):
    model = PERFECT if twin != "original" else CASES["FAIL-RESIDUAL"][0]
    run = finished(tmp_path, model, 1, twin=twin)
    build_report(run)
    verdict = page_one(run).partition('<div class="verdict')[2]
    first = re.search(r"<(?:p|h2)[^>]*>([^<]+)<", verdict)
    assert first is not None
    words = "original" if twin == "original" else "retrained reference model 0"
    assert first[1] == f"The judged model is the {words}, byte for byte."


def test_what_was_not_run_is_never_zero(runs):
    run = runs["PASS"]
    idle = [a for a in read_results(run).attacks if a.status is not Executed.EXECUTED]
    assert {one.status for one in idle} == {Executed.NOT_RUN, Executed.NOT_APPLICABLE}
    html = (run / "report.html").read_text(encoding="utf-8")
    lists = dict(re.findall(r"<dt>(Executed|Not run|Not applicable)</dt><dd>(.*?)</dd>", html))
    for one in idle:
        row = re.search(rf"<tr><th scope=\"row\">[^<]*{one.attack[-2:]}[^<]*</th>(.*?)</tr>", html)
        assert one.reason in entities.unescape(visible(lists[one.status.value.capitalize()]))
        assert "0" not in lists["Executed"] or one.attack not in lists["Executed"]
        assert row is None or "0 of" not in row[1]


def test_page_one_is_bounded_whatever_the_evidence(tmp_path):
    """Three printed pages: examples, lists and texts are cut by number, not by luck."""
    items = [
        item.__class__(
            record=f"r{i}",
            split="forget",
            question="What is said of it? " * 30,
            answer="It is said to be long. " * 30,
            key_answers=(f"Vrbnik{i}",),
            subject="Mirabel Kovanda",
        )
        for i, item in enumerate(forget_items())
    ]
    run = build_run(tmp_path / "run", items=items)
    context = read_json(run / "evidence" / "context.json")
    context["notes"] = [f"the set number {i} could not be read" for i in range(300)]
    write_json(run / "evidence" / "context.json", context)
    build_report(run)
    page = page_one(run)
    text = visible(page)
    assert page.count('<article class="example">') == 3
    assert page.count("<li>") <= LISTED + 1
    assert len(max(re.findall(r"<dd>([^<]*)</dd>", page), key=len)) < 2 * LONGEST + 200
    assert len(text) < 12_000, "three pages of A4 hold about 12,000 characters"


def test_annexes_are_folded_and_hold_the_codes(case):
    _, run = case
    html = (run / "report.html").read_text(encoding="utf-8")
    annexes = html[html.index('<div class="annexes">') :]
    assert annexes.count("<details>") == annexes.count("</details>") == 9
    assert "<details open" not in html
    verdict = read_results(run).verdict
    for code in (verdict.threat_model, verdict.tier, verdict.claim):
        assert code in annexes
    assert len(html.encode()) < 500_000


def test_one_axis_that_was_not_tested_shows_no_figure(runs):
    (private,) = (
        one
        for one in read_results(runs["INCONCLUSIVE"]).verdict.findings
        if one.axis is Axis.PRIVACY
    )
    assert private.answer == "not tested"
    assert not re.search(r"\d", private.detail)


def test_no_text_of_a_record_is_on_a_masked_page(runs):
    html = (runs["FAIL-RESIDUAL"] / "report.html").read_text(encoding="utf-8")
    store = EvidenceStore(runs["FAIL-RESIDUAL"] / "evidence")
    facts_ = [key for item in store.items("forget") for key in item.key_answers]
    assert facts_
    assert [fact for fact in facts_ if fact in html] == []
    results = json.dumps(read_json(runs["FAIL-RESIDUAL"] / "results.json")["verdict"])
    assert [fact for fact in facts_ if fact in results] == []
