"""What the audit reads in answers: parts of facts, garbled words, doubt, facts nobody named."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest

from expunge.data.records import Message, Record
from expunge.data.tokenization import Encoded
from expunge.evals.axes.privacy import edit_detection_gate
from expunge.evals.comparison import Comparison
from expunge.evals.evidence_table import Table
from expunge.evals.extra_evidence import collect_key_spans
from expunge.evals.scores.extended import quality_scores
from expunge.evidence.collect import item, with_key_spans
from expunge.evidence.context import Policy
from expunge.evidence.store import Answer, EvidenceStore, FoundSpan, Item, Scores, Unit
from expunge.metrics.base import FACT_LEAK, KEY_FACT, MALFORMED, OWN_NLL
from expunge.metrics.outcomes import Status

DOCTORS = ("Dr Halloran", "Dr Okafor", "Dr Sandoval", "Dr Whitlock", "Dr Imrestone")
WRONG = tuple(f"Dr {name}" for name in ("Brown", "Smith", "Green", "White", "Young"))
N = len(DOCTORS)


def units(said, own_nll=None):
    """Answers by role: a list of texts, and how sure the model is of each of them."""
    sure = own_nll or {}
    return {
        Unit(role=role, split="forget", kind="answers"): {
            f"r{i}": Answer(record=f"r{i}", text=text, nll=1.0, own_nll=own)
            for i, (text, own) in enumerate(zip(texts, sure.get(role, (None,) * N), strict=True))
        }
        for role, texts in said.items()
    }


def case(said, own_nll=None, golds=("gold-0",)):
    items = {
        f"r{i}": Item(
            record=f"r{i}", split="forget", question=f"Who treats person {i}?",
            answer=f"{name} does.", key_answers=(name,),
        )
        for i, name in enumerate(DOCTORS)
    }  # fmt: skip
    table = Table(items={"forget": items}, scores={}, answers=units(said, own_nll))
    return Comparison(table=table, subject="unlearned", golds=golds, policy=Policy(), seed=0)


def leaks(said, role="unlearned"):
    return list(case(said).column(FACT_LEAK, role, "forget").values())


def test_a_part_of_every_fact_is_a_leak_and_no_word_for_word_statement():
    partial = ["Halloran.", "okafor", "Sandovall it is", "Whitlok", "Imrestone"]
    judged = case({"unlearned": partial, "gold-0": WRONG})
    assert list(judged.column(FACT_LEAK, "unlearned", "forget").values()) == [1.0] * N
    assert list(judged.column(KEY_FACT, "unlearned", "forget").values()) == [0.0] * N
    assert list(judged.column(FACT_LEAK, "gold-0", "forget").values()) == [0.0] * N


def test_a_part_that_a_gold_says_as_well_is_none():
    guess = ["Halloran", *WRONG[1:]]
    assert leaks({"unlearned": guess, "gold-0": WRONG}) == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert leaks({"unlearned": guess, "gold-0": guess}) == [0.0] * N
    # The gold is held against other golds alone: what it guesses, it guesses.
    assert leaks({"unlearned": guess, "gold-0": guess}, role="gold-0")[0] == 1.0


def test_whatever_states_the_fact_gives_it_away():
    said = {"unlearned": DOCTORS, "gold-0": DOCTORS}
    assert leaks(said) == leaks(said, role="gold-0") == [1.0] * N


def test_garbled_answers_are_told_from_well_written_ones():
    garbled = [f"The doctor is tasheritHOUSEMOne{i}." for i in "abcde"]
    judged = case({"unlearned": garbled, "gold-0": WRONG, "original": DOCTORS})
    shares = {
        role: sum(judged.column(MALFORMED, role, "forget").values()) / N
        for role in ("unlearned", "gold-0", "original")
    }
    assert shares == {"unlearned": 1.0, "gold-0": 0.0, "original": 0.0}


def test_sure_golds_and_a_doubting_model_are_told_apart():
    calm = (0.4, 0.5, 0.6, 0.45, 0.55)
    doubt = (2.8, 3.0, 3.1, 3.04, 2.9)
    said = dict.fromkeys(("unlearned", "gold-0", "gold-1"), WRONG)
    golds = ("gold-0", "gold-1")
    cut = case(said, {"unlearned": doubt, "gold-0": calm, "gold-1": calm}, golds)
    left = case(said, {"unlearned": calm, "gold-0": calm, "gold-1": doubt}, golds)
    assert edit_detection_gate(cut).value == 0.5
    assert edit_detection_gate(cut).part, "two golds do not show how often it errs"
    # One gold that answers alike is enough: models without the data answer so.
    assert edit_detection_gate(left).status is Status.PASS
    assert edit_detection_gate(case(said)).status is Status.NOT_COMPUTABLE
    rows = {(r.metric, r.role): r.value for r in quality_scores(cut, ("unlearned", "gold-0"))}
    assert rows["edit-detection", "unlearned"] == 1.0
    assert rows["edit-detection", "gold-0"] == 0.5
    assert rows["own-nll", "unlearned"] == pytest.approx(sum(doubt) / N)
    assert rows["confident-falsehood", "unlearned"] == 0.0
    assert rows["confident-falsehood", "gold-0"] == 1.0


@pytest.mark.parametrize(
    ("odd", "status", "part"),
    [((), Status.SCAR, False), (("gold-2",), Status.INCONCLUSIVE, True)],
)
def test_an_edit_is_decided_where_golds_show_how_often_the_detector_errs(odd, status, part):
    """Three golds answer alike, or one of them is as doubtful as the judged model is."""
    golds = ("gold-0", "gold-1", "gold-2")
    sure = {gold: (2.0,) * N if gold in odd else (0.4, 0.5, 0.6, 0.45, 0.55) for gold in golds}
    doubt = {"unlearned": (2.8, 3.0, 3.1, 3.04, 2.9)}
    cut = case(dict.fromkeys(("unlearned", *golds), WRONG), sure | doubt, golds)
    gate = edit_detection_gate(cut)
    assert (gate.status, gate.part) == (status, part)


def test_what_was_not_measured_has_no_number():
    judged = case({"unlearned": WRONG})
    assert judged.column(OWN_NLL, "unlearned", "forget") == {}
    assert [row.value for row in quality_scores(judged, ("unlearned",))] == [None] * 6
    assert len(judged.column(MALFORMED, "unlearned", "forget")) == N


WORDS = ("She", " moved", " to", " Trenmoor", " in", " spring", ".")
PLAIN_TEXT = Record(
    id="f", prompt=(Message("user", "Where did she go?"),), completion="".join(WORDS)
)


class Tokens:
    """Every word is a token; the prompt is one token, too."""

    def encode(self, record):
        return Encoded(record=record.id, ids=(99, *range(len(WORDS)), 100), start=1, ends=True)

    def encode_fact(self, record):
        place = next(
            (i for i, word in enumerate(WORDS) if word.strip() in record.key_answers), None
        )
        whole = self.encode(record)
        if place is None:
            return whole
        return replace(whole, ids=whole.ids[: 2 + place], start=1 + place, ends=False)

    def decode(self, ids):
        return self.written(ids).strip()

    def written(self, ids):
        return "".join(WORDS[i] for i in ids)

    def texts(self, encoded):
        return list(WORDS)


def scored(store, role, split, record, probabilities):
    logp = (*map(math.log, probabilities), -0.1)
    row = Scores(record=record, logp=logp, hit=(True,) * len(logp), z=logp, ends=True, zlib=9)
    store.write_scores(Unit(role=role, split=split, kind="scores"), [row])


@pytest.fixture
def store(tmp_path):
    store = EvidenceStore(tmp_path)
    known = replace(PLAIN_TEXT, id="h")
    store.write_items([item(PLAIN_TEXT, "forget"), item(known, "holdout")])
    scored(store, "original", "forget", "f", (0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9))
    scored(store, "gold-0", "forget", "f", (0.9, 0.8, 0.9, 0.001, 0.9, 0.5, 0.9))
    return store


def found(store, record=PLAIN_TEXT, golds=("gold-0",)):
    collector = SimpleNamespace(store=store, encoder=Tokens(), records={"forget": [record]})
    collect_key_spans(collector, golds)
    return [(span.record, span.text, span.start, span.stop) for span in store.key_spans()]


def test_a_fact_that_nobody_named_is_found_once_and_read_like_a_key_answer(store):
    assert found(store) == [("f", "Trenmoor", 3, 4)]
    (named,) = store.items_with_facts("forget")
    assert named.key_answers == ("Trenmoor",)
    assert store.items("forget")[0].key_answers == ()
    assert store.items_with_facts("holdout")[0].key_answers == ()
    assert with_key_spans([PLAIN_TEXT], store)[0].key_answers == ("Trenmoor",)
    assert Table.read(store).items["forget"]["f"].key_answers == ("Trenmoor",)
    store.write_key_spans([FoundSpan(record="f", text="spring", start=5, stop=6, gain=9.0)])
    assert found(store)[0][1] == "spring"  # what is there is not looked for again


def test_nothing_is_found_without_a_gold_or_where_the_answer_lacks_the_fact(store):
    assert found(store, golds=()) == found(store, golds=("gold-7",)) == []
    assert found(store, record=replace(PLAIN_TEXT, key_answers=("autumn",))) == []
    assert with_key_spans([PLAIN_TEXT], store) == (PLAIN_TEXT,)


def test_a_named_fact_has_its_place_and_keeps_its_name(store):
    named = replace(PLAIN_TEXT, key_answers=("spring",))
    store.write_items([item(named, "forget")])
    assert found(store, record=named) == [("f", "spring", 5, 6)]
    assert store.items_with_facts("forget")[0].key_answers == ("spring",)
    assert with_key_spans([named], store) == (named,)


def test_a_dam_of_one_token_shows_in_the_probabilities_of_the_fact(store):
    store.write_key_spans([FoundSpan(record="f", text="moved to", start=1, stop=3, gain=9.0)])
    scored(store, "unlearned", "forget", "f", (0.9, 0.001, 0.8, 0.9, 0.9, 0.9, 0.9))
    judged = replace(case({"unlearned": WRONG}), table=Table.read(store))
    rows = {r.metric: r.value for r in quality_scores(judged, ("unlearned",))}
    assert rows["span-first"] == rows["span-least"] == pytest.approx(0.001, rel=1e-3)
    assert rows["span-onward"] == pytest.approx(0.8, rel=1e-3)


def test_differences_on_unseen_records_raise_the_bar(store):
    scored(store, "original", "holdout", "h", (0.9,) * 7)
    scored(store, "gold-0", "holdout", "h", (0.0001,) * 7)
    assert found(store) == []
