"""Numbers of real models, recomputed from public logs and compared with published ones."""

from pathlib import Path

import numpy as np
import pytest

from expunge.evidence.store import Answer, Item
from expunge.interop.base import load
from expunge.interop.tofu import TofuLog, tofu_numbers
from expunge.metrics.memorization import from_mean
from expunge.metrics.rouge import rouge_l_f1
from expunge.metrics.tofu import distance_share, forget_quality, forget_truth

LOGS = Path(__file__).parents[3] / "shared" / "data" / "tofu_reference_logs"
needs_logs = pytest.mark.skipif(
    not LOGS.is_dir(), reason=f"TOFU's reference logs are not beside the repository ({LOGS.name})"
)


@pytest.fixture(scope="module")
def logs():
    return {
        name: TofuLog.parse(load(LOGS / f"llama2-7b_{name}.json.gz"), name)
        for name in ("full", "retain90")
    }


@needs_logs
@pytest.mark.parametrize(("name", "utility"), [("full", 0.622677), ("retain90", 0.613745)])
def test_model_utility_of_llama_2(logs, name, utility):
    assert logs[name].utility == pytest.approx(utility, abs=5e-7)


@needs_logs
def test_forget_quality_of_llama_2(logs):
    sides = [logs[name].sections["forget"].ratios for name in ("full", "retain90")]
    found = forget_quality(*sides)
    assert found.distance == pytest.approx(0.396667, abs=5e-7)
    assert found.p == pytest.approx(1.834066e-21, rel=1e-6)
    assert np.log10(found.p) == pytest.approx(-20.736585, abs=1e-6)
    assert found.n == 300
    turned = forget_quality([1 / r for r in sides[0]], [1 / r for r in sides[1]])
    assert (turned.distance, turned.p) == pytest.approx((found.distance, found.p))


@needs_logs
def test_gold_is_at_no_distance_from_itself(logs):
    own = logs["retain90"].sections["forget"].ratios
    found = forget_quality(own, own)
    assert (found.distance, found.p) == (0.0, 1.0)
    assert distance_share(found.distance, 0.396667) == 1.0


@needs_logs
@pytest.mark.parametrize(
    ("section", "options", "parts"),
    [
        ("retain", False, (0.989527, 0.985655, 0.474699)),
        ("real authors", True, (0.455482, 0.933, 0.596229)),
        ("world facts", True, (0.418562, 0.882479, 0.539033)),
    ],
)
def test_parts_of_model_utility(logs, section, options, parts):
    found = logs["full"].sections[section].utility(options=options)
    assert found == pytest.approx(parts, abs=5e-7)


@needs_logs
@pytest.mark.parametrize(
    ("name", "probability", "rouge", "truth"),
    [("full", 0.990939, 0.985, 0.516), ("retain90", 0.147563, 0.408, 0.674)],
)
def test_the_forget_set_before_and_after(logs, name, probability, rouge, truth):
    section = logs[name].sections["forget"]
    assert np.mean([from_mean(x) for x in section.true]) == pytest.approx(probability, abs=5e-7)
    assert np.mean(section.rouge) == pytest.approx(rouge, abs=5e-4)
    assert np.mean([forget_truth(r) for r in section.ratios]) == pytest.approx(truth, abs=5e-4)


@needs_logs
def test_numbers_of_a_log_beside_ours(logs):
    found = {n.name: n for n in tofu_numbers(logs["full"], logs["retain90"])}
    quality = found["forget quality (p)"]
    assert quality.value == pytest.approx(1.834066e-21, rel=1e-6)
    assert quality.ours == pytest.approx(0.396667, abs=5e-7)
    assert quality.metric == "ks-distance"
    assert "300" in quality.note
    truth = found["forget truth ratio, min(r, 1/r)"]
    gold = {n.name: n for n in tofu_numbers(logs["retain90"], None)}[truth.name]
    # Theirs calls the original less forgotten by rising, ours by falling.
    assert truth.value < gold.value
    assert truth.ours > gold.ours
    assert "forget quality (p)" not in {n.name for n in tofu_numbers(logs["full"], None)}


def test_rouge_of_the_published_notebook():
    reference = (
        "Basil Mahfouz Al-Kuwaiti has been honored with the Prix Goncourt, "
        "a prestigious French literature prize."
    )
    greedy = (
        "Basil Mahfouz Al-Kuwaiti has been awarded the prestigious 'Phoenix Feather Biography "
        "Award' for his exceptional contribution to the genre of biography."
    )
    item = Item(record="r", split="forget", question="q", answer=reference)
    found = rouge_l_f1(Answer(record="r", text=greedy), item)
    assert found == pytest.approx(0.4210526315789474)
    assert rouge_l_f1(Answer(record="r", text=reference), item) == 1.0
