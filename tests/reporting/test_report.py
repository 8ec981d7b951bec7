import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge.evidence.store import EvidenceStore, Item
from expunge.reporting.build import build_report
from expunge.reporting.card import build_card
from expunge.reporting.examples import facts
from expunge.reporting.plots import (
    collateral_map,
    frontier,
    recovery_ladder,
    training_dynamics,
)
from expunge.reporting.redaction import MASK
from expunge.reporting.schema import read_results
from expunge.utils.io import read_json, write_json
from synthetic_run import FACTS, PEOPLE, build_run, forget_items

VOID = {"meta", "br", "input", "link", "hr", "img"}


class Outline(HTMLParser):
    """Checks that tags nest, and collects ids, references and everything that loads."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.loads, self.scores = [], [], [], set()
        self.targets, self.headings = set(), []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if "id" in found:
            self.ids.append(found["id"])
        if "data-score" in found:
            self.scores.add(found["data-score"])
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(int(tag[1]))
        for name in ("src", "href", "xlink:href", "action", "data", "poster"):
            if name in found and not found[name].startswith("#"):
                self.loads.append(found[name])
            elif name in found:
                self.targets.add(found[name][1:])

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def outline(html: str) -> Outline:
    found = Outline()
    found.feed(html)
    found.close()
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return build_run(tmp_path_factory.mktemp("full") / "run")


@pytest.fixture(scope="module")
def html(run):
    return build_report(run).read_text(encoding="utf-8")


def test_the_report_is_one_small_well_formed_offline_file(html):
    found = outline(html)
    assert len(html.encode()) < 250_000
    assert found.open == []
    assert found.loads == []
    assert not re.search(r"https?://|@import|url\((?!#)", html)
    assert len(found.ids) == len(set(found.ids)), "ids are unique across all inline drawings"
    assert found.targets <= set(found.ids), "every anchor and marker points somewhere"
    assert found.headings[0] == 1
    assert all(b - a <= 1 for a, b in pairwise(found.headings)), "no heading level is skipped"


def test_the_policy_allows_exactly_our_script(html):
    import base64
    import hashlib

    [policy] = re.findall(r'Content-Security-Policy" content="([^"]+)"', html)
    [script] = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:;")
    assert f"script-src 'sha256-{digest}'" in policy
    assert " onclick" not in html
    assert "unsafe-eval" not in policy


def test_every_score_gate_and_self_test_is_printed(run, html):
    results = read_results(run)
    expected = {f"{s.metric}|{s.role}|{s.split}|{s.attack}" for s in results.scores}
    assert outline(html).scores == expected
    assert all(gate.name in html for gate in results.gates)
    assert all(test.detail in html for test in results.self_tests)
    assert "no holdout records were given" in html


def test_page_one_speaks_in_counts(html):
    page_one = html[: html.index('class="annexes"')]
    assert "2 of 20 facts came back in 140 attempts (before: 20)" in page_one
    # Clopper-Pearson for 2 of 20, one-sided 95 %: 0.2826.
    assert "The true share is below 28\N{NARROW NO-BREAK SPACE}%" in page_one
    assert "does not prove that the data was deleted" in page_one
    assert "<dt>After, weights rounded to 4 bits</dt>" in page_one
    assert "Hold and forget again" in page_one
    assert [page_one.count(f"<h3>{why}") for why in ("worst case", "median", "random")] == [1] * 3


def test_two_builds_are_equal_byte_for_byte(run, html, tmp_path):
    for drawn in (recovery_ladder, frontier, collateral_map, training_dynamics):
        drawn.cache_clear()
    assert build_report(run).read_text(encoding="utf-8") == html
    assert build_report(build_run(tmp_path / "again")).read_text(encoding="utf-8") == html


def survivors(text: str, secrets: list[str]) -> list[str]:
    return [secret for secret in secrets if secret.casefold() in text.casefold()]


def secrets_of(items: list[Item]) -> list[str]:
    names = [
        word for item in items if item.subject for word in (item.subject, *item.subject.split())
    ]
    return [*names, *(key for item in items for key in item.key_answers)]


def test_no_answer_and_no_name_survives_redaction(run, html):
    secrets = secrets_of(forget_items())
    assert survivors(html, secrets) == []
    assert survivors(build_card(run).read_text(encoding="utf-8"), secrets) == []
    assert MASK in html


def test_without_redaction_the_full_text_is_shown(tmp_path):
    html = build_report(build_run(tmp_path / "run"), redact=False).read_text(encoding="utf-8")
    assert "What is the city of birth of Mirabel Kovanda?" in html
    assert MASK not in html


rare = st.text("bcdfghjklmnpqrstvwxz", min_size=5, max_size=9).map(lambda word: f"q{word}")


@settings(max_examples=3, deadline=None)
@given(words_=st.lists(rare, min_size=12, max_size=12, unique=True), upper=st.booleans())
def test_no_invented_answer_or_name_survives_in_the_whole_file(tmp_path_factory, words_, upper):
    spell = str.title if upper else str
    people = (f"{spell(words_[0])} {spell(words_[1])}", f"{spell(words_[2])}-{spell(words_[3])}")
    answers = {
        f"code {i}": (spell(f"{words_[4 + 2 * i]} {words_[5 + 2 * i]}"), spell(words_[4 + 2 * i]))
        for i in range(4)
    }
    items = forget_items(people, answers)
    run = build_run(tmp_path_factory.mktemp("rare") / "run", items=items)
    assert survivors(build_report(run).read_text(encoding="utf-8"), secrets_of(items)) == []


def test_facts_are_ranked_by_returns_then_by_likelihood(run):
    ranked = facts(EvidenceStore(run / "evidence"))
    assert [one.returns for one in ranked[:3]] == [2, 1, 0]
    rest = [one.likelihood for one in ranked if not one.returns]
    assert rest == sorted(rest, reverse=True)
    assert ranked[0].shown.attack == "int4"
    assert {one.item.subject for one in ranked} == set(PEOPLE)
    assert len(ranked) == len(PEOPLE) * len(FACTS)


def test_without_gold_and_neighbours_the_report_says_so(tmp_path):
    run = build_run(tmp_path / "run", golds=(), kept=False)
    html = build_report(run).read_text(encoding="utf-8")
    assert outline(html).open == []
    assert "A comparison with a model that was never trained on the data: there was none." in html
    assert "collateral damage is unknown" in html
    assert "fabricated records that no model ever saw" in html


def test_running_text_without_facts_builds_with_honest_words(tmp_path):
    items = [
        Item(record=f"p-{i}", split="forget", question="", answer="Lorem ipsum dolor sit amet.")
        for i in range(4)
    ]
    run = build_run(tmp_path / "run", items=items)
    html = build_report(run).read_text(encoding="utf-8")
    assert "The records name no single facts that could be counted." in html
    assert "No examples" in html
    assert "facts came back" not in html[: html.index("annexes")]
    assert "| Key fact said |" in build_card(run).read_text(encoding="utf-8")


def test_a_run_that_only_audited_has_no_training(tmp_path):
    run = build_run(tmp_path / "run")
    value = read_json(run / "facts.json") | {"method": None, "plan": None, "train": None}
    write_json(run / "facts.json", value)
    html = build_report(run).read_text(encoding="utf-8")
    assert "this run audited a finished model" in html
    assert outline(html).open == []


def test_markup_in_records_stays_text(tmp_path):
    evil = "<script>alert(1)</script><img src=x>"
    items = [
        Item(record="r", split="forget", question=evil, answer=evil, key_answers=("zzz",),
             relation=evil)
    ]  # fmt: skip
    html = build_report(build_run(tmp_path / "run", items=items), redact=False).read_text("utf-8")
    assert html.count("<script>") == 1
    assert "<img" not in html
    assert "&lt;script&gt;alert(1)" in html


def test_an_adapter_is_labelled_suppression(tmp_path):
    run = build_run(tmp_path / "run")
    context = read_json(run / "evidence" / "context.json") | {"adapter": True}
    write_json(run / "evidence" / "context.json", context)
    card = build_card(run).read_text(encoding="utf-8")
    head = card.split("---")[1]
    assert "- suppression" in head
    assert "**Suppression, not removal.**" in card
    assert "AutoPeftModelForCausalLM" in card
    assert "this is suppression, whatever its scores" in build_report(run).read_text("utf-8")


def test_the_card_has_a_header_counts_and_no_record(run):
    card = build_card(run).read_text(encoding="utf-8")
    head = card.split("---\n")[1].splitlines()
    assert "- suppression" not in head
    assert "| Weights rounded to 4 bits | 20 of 20 | 2 of 20 | 0 of 20 |" in card
    assert "expunge verify" in card


def header(card):
    """The metadata as the Hub's own library reads them; it refuses a malformed model-index."""
    data = ModelCard(card.read_text(encoding="utf-8"), ignore_metadata_errors=False).data
    return data, {(each.dataset_name, each.metric_type): each for each in data.eval_results}


def test_the_header_of_the_card_is_what_the_hub_reads(run):
    data, numbers = header(build_card(run))
    assert data.base_model == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert (data.library_name, data.pipeline_tag) == ("transformers", "text-generation")
    assert data.tags == ["machine-unlearning"]
    assert data.license == "unknown"
    assert data.datasets is None
    results = read_results(run)
    (strength,) = [
        each
        for each in results.scores
        if (each.metric, each.role, each.split, each.attack)
        == ("extraction-strength", "unlearned", "forget", "plain")
    ]
    listed = numbers["forgotten records", "extraction-strength"]
    assert listed.metric_value == pytest.approx(strength.value, abs=1e-4)
    assert listed.dataset_type == "private"
    assert "The base declares none" in build_card(run).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("source", "said"), [("setting", "Chosen by"), ("card", "the card of the base declares")]
)
def test_licence_data_sets_and_adapter_stand_in_the_header(tmp_path, source, said):
    run = build_run(tmp_path / "run")
    known = {"id": "other", "name": "own 1.0", "link": "https://example.org/l", "source": source}
    told = {"license": known, "datasets": ["owner/rows"], "model": "org/base @ 1a + mine: one"}
    write_json(run / "facts.json", read_json(run / "facts.json") | told)
    context = read_json(run / "evidence" / "context.json") | {"adapter": True}
    write_json(run / "evidence" / "context.json", context)
    card = build_card(run)
    data, _ = header(card)
    assert data.license == "other"
    assert (data.license_name, data.license_link) == ("own 1.0", "https://example.org/l")
    assert data.datasets == ["owner/rows"]
    assert data.base_model == ["org/base", "mine--one"]
    assert data.to_dict()["base_model_relation"] == "adapter"
    assert said in card.read_text(encoding="utf-8")


def test_the_card_of_a_local_model_shows_no_path(tmp_path):
    run = build_run(tmp_path / "run")
    write_json(run / "facts.json", read_json(run / "facts.json") | {"model": "/home/ann/m/base"})
    card = build_card(run).read_text(encoding="utf-8")
    assert 'base_model: "base"' in card
    assert "/home/ann" not in card


def test_the_style_has_dark_phone_and_print(html):
    for needed in ("prefers-color-scheme: dark", "max-width: 44rem", "@media print"):
        assert needed in html
    assert Path(build_report.__code__.co_filename).with_name("style.css").read_text() in html
