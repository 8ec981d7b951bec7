"""Peers' logs: read, turned to our direction, and counted their way from our evidence."""

import gzip
import json
import math
from dataclasses import replace

import pytest

from expunge.errors import InputError
from expunge.evals.evidence_table import Table
from expunge.evidence.store import Answer, Choices, EvidenceStore, Item, Layers, Scores, Unit
from expunge.interop import read_log, their_definitions
from expunge.interop.own_as_theirs import own_numbers
from expunge.metrics.membership import loss, min_k
from expunge.metrics.memorization import extraction_strength


def scored(*logp: float, hit: str = "", ends: bool = True) -> Scores:
    hits = tuple(mark == "1" for mark in hit) or (False,) * len(logp)
    return Scores(record="r", logp=logp, hit=hits, z=logp, ends=ends, zlib=9)


def asked(question: str = "q") -> Item:
    return Item(record="r", split="forget", question=question, answer="a")


@pytest.fixture
def written(tmp_path):
    def write(name: str, document: object):
        path = tmp_path / name
        text = json.dumps(document) if not isinstance(document, str) else document
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return path

    return write


def numbers(path, gold=None):
    return {each.name: each for each in read_log(path, gold=gold)[1]}


@pytest.mark.parametrize(
    ("hits", "theirs", "ours"),
    [
        # The last mark is the end token, which both leave out.
        ("111101", 0.2, 0.0),  # only the last content token wrong: E1
        ("000001", 0.2, 0.0),  # nothing right at all: the same number
        ("101111", 0.6, 0.6),
        ("111111", 1.0, 1.0),
    ],
)
def test_their_extraction_strength_has_no_zero(hits, theirs, ours):
    row = scored(*[-1.0] * 6, hit=hits)
    assert their_definitions.extraction_strength(row) == pytest.approx(theirs)
    assert extraction_strength(row) == pytest.approx(ours)


def test_an_empty_record_enters_their_mean_as_0():
    row = scored(-1.0, hit="1")
    assert their_definitions.extraction_strength(row) == 0.0
    assert extraction_strength(row) is None
    assert their_definitions.exact_memorisation(row) is None


def test_they_score_the_end_token_or_drop_the_last_one():
    row = scored(-1.0, -3.0, -5.0, hit="101")
    assert their_definitions.loss(row, asked()) == pytest.approx(3.0)
    assert loss(row) == pytest.approx(-2.0)
    assert their_definitions.probability(row, asked()) == pytest.approx(math.exp(-3.0))
    plain = scored(-1.0, -3.0, -5.0, ends=False)
    # E3: 4 labels, 3 scored
    assert their_definitions.loss(plain, asked("")) == pytest.approx(9 / 4)
    assert their_definitions.min_k(plain, share=1.0) == pytest.approx(
        2.0
    )  # E4: content token dropped
    assert min_k(plain, share=1.0) == pytest.approx(-3.0)
    assert their_definitions.exact_memorisation(row) == pytest.approx(0.5)


def test_their_gradient_is_a_mean_of_norms():
    assert their_definitions.gradient([3.0, 4.0]) == 3.5  # the global norm is 5
    assert their_definitions.gradient([]) is None


def test_their_gradient_attack_can_say_otherwise(tmp_path):
    store = EvidenceStore(tmp_path)
    store.write_items([])
    for split, values in (("forget", (3.0, 3.0)), ("holdout", (5.0, 0.0))):
        unit = Unit(role="original", split=split, attack="gradient", kind="layers")
        store.write(unit, [Layers(record="r", values=values)])
    (found,) = own_numbers(Table.read(store), ())
    # Global norms 4.24 and 5: a member. Means 3 and 2.5: not one.
    assert (found.name, found.value, found.ours) == ("original mia_gradnorm", 0.0, 1.0)


def test_their_zlib_min_k_plus_and_truth_ratio():
    row = scored(-1.0, -3.0, -5.0)  # 9 bytes of zlib; z equals logp
    assert their_definitions.zlib(row, asked()) == pytest.approx(3.0 / 9)
    assert their_definitions.min_k_plus(row, share=0.5) == pytest.approx(3.0)  # E4: -5 is dropped
    options = Choices(record="r", logp=(-2.0, -6.0), tokens=(1, 2), correct=0, ending=(-2.0, -3.0))
    # Mean losses with the end token: 4 / 2 and 9 / 3.
    assert their_definitions.truth_ratio(options) == pytest.approx(math.exp(-1), rel=1e-6)
    assert their_definitions.truth_ratio(replace(options, ending=())) is None


def test_a_run_is_counted_as_open_unlearning_counts(tmp_path):
    """Two forget records, one of them known by heart; nothing of the holdout is."""
    store = EvidenceStore(tmp_path)
    answers = {"a": "the red door", "b": "a blue gate"}
    items = [
        Item(record=f"{split}-{name}", split=split, question="q", answer=text)
        for split in ("forget", "holdout")
        for name, text in answers.items()
    ]
    store.write_items(items)
    for role, known in (("original", {"forget-a", "forget-b"}), ("gold-0", set())):
        for split in ("forget", "holdout"):
            rows = [
                replace(scored(*[-0.1 if item.record in known else -2.0] * 4), record=item.record)
                for item in items
                if item.split == split
            ]
            store.write_scores(Unit(role=role, split=split, kind="scores"), rows)
        said = [
            Answer(record=item.record, text=item.answer if item.record in known else "the green")
            for item in items
            if item.split == "forget"
        ]
        store.write_answers(Unit(role=role, split="forget", kind="answers"), said)
        wrong = -6.0 if known else -2.0
        options = [
            Choices(
                record=item.record, logp=(-2.0, wrong), tokens=(2, 2), correct=0, ending=(0.0, 0.0)
            )
            for item in items
            if item.split == "forget"
        ]
        store.write(Unit(role=role, split="forget", attack="perturbed", kind="choices"), options)
    found = {each.name: each for each in own_numbers(Table.read(store), ("gold-0",))}
    assert found["original forget Q_A_ROUGE"].value == 1.0
    assert found["gold-0 forget Q_A_ROUGE"].value == pytest.approx(1 / 6)  # one of three, none
    # r = exp(-6 / 3) / exp(-2 / 3) with the end token, exp(-3) / exp(-1) without.
    assert found["original forget_truth_ratio"].value == pytest.approx(math.exp(-4 / 3), rel=1e-6)
    assert found["original forget_truth_ratio"].ours == pytest.approx(1 / (1 + math.exp(-2)))
    assert found["gold-0 forget_truth_ratio"].value == pytest.approx(1.0)
    assert found["original forget_quality"].value == pytest.approx(1 / 3)  # two against two
    assert found["original forget_quality"].ours == 1.0
    assert "gold-0 forget_quality" not in found, "there is no other gold to compare with"
    for name in ("mia_loss", "mia_zlib", "mia_min_k", "mia_min_k_plus_plus"):
        assert (found[f"original {name}"].value, found[f"gold-0 {name}"].value) == (1.0, 0.5)


OPEN = {
    "forget_truth_ratio": {
        "agg_value": 0.5,
        "value_by_index": {"0": {"score": 0.5}, "1": {"score": 2.0}},
    },
    "forget_quality": {"agg_value": 0.001},
    "extraction_strength": {"agg_value": 0.3},
    "mia_min_k": {"agg_value": 0.9},
    "privleak": {"agg_value": -80.0},
    "model_utility": {"agg_value": 0.6},
    "ra_Truth_Ratio": {"agg_value": 0.4},
    "mia_loss": {"agg_value": None},
    "config": {"x": 1},
}
GOLD = {
    "forget_truth_ratio": {"value_by_index": {"0": {"score": 4.0}, "1": {"score": 5.0}}},
    "mia_min_k": {"agg_value": 0.5},
}


def test_open_unlearning_logs(written):
    alone = numbers(written("TOFU_EVAL.json", OPEN))
    assert alone["forget_truth_ratio"].ours == pytest.approx((1 / 1.5 + 1 / 3) / 2)
    assert alone["forget_quality"].ours is None
    assert alone["privleak"].ours is None
    assert "E7" in alone["privleak"].note
    assert alone["extraction_strength"].ours is None
    assert "E1" in alone["extraction_strength"].note
    assert alone["ra_Truth_Ratio"].metric == "truth-utility"
    assert "mia_loss" not in alone
    assert "config" not in alone
    beside = numbers(written("TOFU_EVAL.json", OPEN), written("gold.json", GOLD))
    assert beside["forget_quality"].ours == 1.0
    assert beside["privleak"].ours == pytest.approx(0.4)


def test_open_unlearning_summaries(written):
    found = numbers(written("TOFU_SUMMARY.json", {"forget_quality": 0.5, "model_utility": 0.6}))
    assert found["model_utility"].ours == 0.6
    assert found["model_utility"].better == "higher"


def test_muse_tables(written):
    text = "name,verbmem_f,privleak,knowmem_f,knowmem_r\ntarget,57.9,-99.8,64.4,\n"
    found = numbers(written("out.csv", text))
    assert found["target verbmem_f"].ours == pytest.approx(0.579)
    assert found["target privleak"].ours is None
    assert found["target knowmem_f"].better == "lower"
    assert "target knowmem_r" not in found


def test_muse_aucs_are_turned_round(written):
    own = {"forget_holdout_Min-40%": 0.0009, "retain_holdout_PPL": 0.5}
    gold = {"forget_holdout_Min-40%": 0.4772}
    found = numbers(written("auc.json", own), written("gold.json", gold))
    assert found["forget_holdout_Min-40%"].ours == pytest.approx(0.9991)
    assert found["privleak"].value == pytest.approx(-99.81, abs=0.005)
    assert found["privleak"].ours == pytest.approx(0.4763)
    assert found["retain_holdout_PPL"].ours is None


def test_lm_eval_results(written):
    document = {
        "results": {
            "piqa": {
                "alias": "piqa",
                "acc,none": 0.7,
                "acc_stderr,none": 0.01,
                "acc_norm,none": 0.72,
            },
            "wikitext": {"word_perplexity,none": 20.0, "word_perplexity_stderr,none": "N/A"},
            "gsm8k": {"exact_match,strict-match": 0.1},
        },
        "higher_is_better": {"piqa": {"acc": True}},
    }
    found = numbers(written("results.json.gz", document))
    assert found["piqa acc"].ours == 0.7
    assert "0.0196" in found["piqa acc"].note
    assert found["piqa acc_norm"].ours is None
    assert found["wikitext word_perplexity"].better == "lower"
    assert found["gsm8k exact_match (strict-match)"].metric == "open-accuracy"
    assert len(found) == 4


def section(**changes):
    return {
        "avg_gt_loss": {"0": 0.1},
        "avg_paraphrased_loss": {"0": 0.2},
        "average_perturb_loss": {"0": [1.0, 2.0]},
        "rougeL_recall": {"0": 0.5},
    } | changes


def test_a_tofu_folder_is_read_like_its_aggregate(tmp_path):
    (tmp_path / "eval_log_forget.json").write_text(json.dumps(section()))
    name, found = read_log(tmp_path)
    assert name == "TOFU"
    assert [each.name for each in found][:2] == ["forget probability", "forget ROUGE-L recall"]


@pytest.mark.parametrize(
    ("name", "document", "code"),
    [
        ("x.json", {"hello": 1}, "unknown-log"),
        ("x.json", [1], "unreadable-log"),
        ("x.json", "{", "unreadable-log"),
        ("x.csv", "a,b\n1,2\n", "not-a-muse-table"),
        ("x.json", {"eval_log_forget.json": {}}, "broken-log"),
        ("x.json", {"eval_log_forget.json": section(average_perturb_loss={})}, "broken-log"),
        ("x.json", {"eval_log_forget.json": section(rougeL_recall={"0": "?"})}, "broken-log"),
    ],
)
def test_what_is_no_log_is_said_to_be_none(written, name, document, code):
    with pytest.raises(InputError) as caught:
        read_log(written(name, document))
    assert caught.value.code == code


def test_missing_files_and_golds_of_another_kind(tmp_path, written):
    with pytest.raises(InputError, match="unreadable-log"):
        read_log(tmp_path / "none.json")
    with pytest.raises(InputError, match="other-log"):
        read_log(written("a.json", OPEN), gold=written("b.json", {"forget_holdout_PPL": 0.5}))
