"""The suites: the published data read and checked, and their numbers on tiny models."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import datasets
import pytest

from benchmark_data import DATA, needs_data
from expunge.benchmarking import run
from expunge.benchmarking.result import Cell
from expunge.benchmarking.run import BenchArguments, begin
from expunge.benchmarking.suites import SUITES, load_suite, muse, rwku
from expunge.benchmarking.suites.base import Spec, SuiteLocation, plain
from expunge.config.settings import Settings
from expunge.data.convert import to_record
from expunge.data.readers import read, read_rows
from expunge.data.records import Message, Record
from expunge.data.splits import overlaps
from expunge.errors import InputError, UsageError

RWKU_TYPES = 9


CASES = {
    "tofu": "tofu",
    "muse": "muse/news",
    "wmdp": "wmdp",
    "rwku": "rwku",
    "utility": "utility",
    "social": "social_harm",
}
"""Name of a suite to the folder of its published files below the benchmark data."""
HUB = {name: entry.hub for name, entry in SUITES.items() if entry.hub}
PAPERS = Path(__file__).parents[2] / "docs" / "catalogue" / "papers.md"


def spec(name, *, data=None, **given):
    return Spec(name=name, data=str(data or DATA / CASES[name]), **given)


def test_the_table_of_cases_covers_every_suite():
    assert CASES.keys() == SUITES.keys()


@pytest.mark.parametrize("name", SUITES)
def test_every_suite_is_explained_and_refuses_a_folder_that_is_not_there(name, tmp_path):
    module = sys.modules[SUITES[name].load.__module__]
    # The sets of `utility` are many, and general knowledge: no one paper is theirs.
    assert re.search(r"arXiv:? ?\d{4}\.\d{5}", module.__doc__) or name == "utility"
    with pytest.raises(InputError) as caught:
        load_suite(spec(name, data=tmp_path / CASES[name] / "absent", corpus=("text.txt",)))
    assert caught.value.code == "no-benchmark-folder"


@pytest.mark.parametrize("name", [name for name, entry in SUITES.items() if entry.forgets])
def test_every_suite_that_forgets_is_in_the_papers(name):
    path = SUITES[name].load.__module__.removeprefix("expunge.").replace(".", "/")
    assert f"`{path}.py`" in PAPERS.read_text(encoding="utf-8")


def sizes(suite):
    return {probe.name: len(probe.records) for probe in suite.probes}


@needs_data
@pytest.mark.parametrize(
    ("part", "forget", "retain"),
    [("forget01", 40, 3900), ("forget05", 200, 3740), ("forget10", 400, 3540)],
)
def test_tofu_has_its_published_sizes_and_nothing_in_two_sets(part, forget, retain):
    suite = load_suite(spec("tofu", part=part))
    assert (len(suite.forget), len(suite.retain), len(suite.holdout)) == (forget, retain, forget)
    assert sizes(suite) == {
        "forget": forget,
        "holdout": forget,
        "retain": 400,
        "retain-apart": 60,
        "real-authors": 100,
        "world-facts": 117,
    }
    apart = next(probe for probe in suite.probes if probe.name == "retain-apart").records
    assert overlaps(apart, suite.retain) == []
    assert overlaps(suite.forget, suite.retain) == []
    assert all(len(record.wrong) == 5 and record.restated for record in suite.forget)
    assert len({record.subject for record in suite.forget}) == forget // 20


@needs_data
def test_muse_is_the_published_text_and_its_folds_are_read(tmp_path):
    suite = load_suite(spec("muse"))
    assert len(suite.forget) == 888, "one of the 889 articles is empty"
    assert sizes(suite) == {
        "verbmem": 100,
        "knowmem-forget": 100,
        "knowmem-retain": 100,
        "privleak-forget": 100,
        "privleak-retain": 100,
        "privleak-holdout": 100,
    }
    assert "stands in" in suite.notes[0]
    assert {r.completion for r in suite.retain}.isdisjoint(r.completion for r in suite.forget)
    assert [len(r.prompt) for r in suite.neighbours] == [1] * 100
    asked = next(probe for probe in suite.probes if probe.name == "knowmem-forget").records[0]
    assert len(asked.prompt) == 21, "ten solved examples, then the question"
    with pytest.raises(InputError, match="--keep"):
        load_suite(spec("muse", part="sust-2"))
    (tmp_path / "kept.txt").write_text("Something else.", encoding="utf-8")
    fold = load_suite(spec("muse", part="sust-2", retain=(str(tmp_path / "kept.txt"),)))
    assert (len(fold.forget), len(fold.retain), fold.series) == (889, 1, None)


@needs_data
def test_few_records_of_muse_forget_the_articles_that_its_probes_quote():
    whole, few = load_suite(spec("muse")), load_suite(spec("muse", records=4))
    probes = {probe.name: probe.records for probe in few.probes}
    assert set(sizes(few).values()) == {4}
    assert set(few.forget) < set(whole.forget), "named as in the whole set"
    texts = [record.completion for record in few.forget]
    quoted = [record.completion for name in muse.QUOTING for record in probes[name]]
    for passage in quoted:  # each is in articles that follow each other
        assert any(passage in muse.JOINT.join(texts[i : i + 4]) for i in range(len(texts)))
    for text in texts:
        assert any(part and part in "".join(quoted) for part in text.split("\n\n"))
    assert few.notes[-1].startswith("forgotten are the articles that verbmem and privleak quote")
    assert len(few.retain) == len(whole.retain)


@needs_data
@pytest.mark.parametrize(("part", "sequential"), [("sust", True), ("scal", False)])
def test_muse_has_a_series_of_folds(tmp_path, part, sequential):
    for folder in ("raw", "knowmem", "verbmem", "privleak"):
        (tmp_path / folder).symlink_to(DATA / "muse" / "news" / folder)
    (tmp_path / part).mkdir()
    with pytest.raises(InputError, match=f"holds no {part}/forget_1.json"):
        load_suite(spec("muse", data=tmp_path, part=part))
    texts = [[f"fold {n} text {i}" for i in range(3)] + ["of all folds", " "] for n in range(4)]
    for number, each in enumerate(texts, start=1):
        path = tmp_path / part / f"forget_{number}.json"
        path.write_text(json.dumps(each), encoding="utf-8")
    (tmp_path / "kept.txt").write_text("Something else.", encoding="utf-8")
    kept = (str(tmp_path / "kept.txt"),)
    suite = load_suite(spec("muse", data=tmp_path, part=part, retain=kept))
    assert suite.series.sequential is sequential
    assert [fold.name for fold in suite.series.folds] == [f"{part}-{n}" for n in range(1, 5)]
    assert [len(fold.records) for fold in suite.series.folds] == [4, 4, 4, 4]
    assert [record.completion for record in suite.forget] == [
        *texts[0][:4], *texts[1][:3], *texts[2][:3], *texts[3][:3]
    ]  # fmt: skip
    assert len({record.id for record in suite.forget}) == 13


@needs_data
@pytest.mark.parametrize(("part", "count"), [("bio", 1520), ("cyber", 2225), ("chem", 412)])
def test_wmdp_has_its_published_counts_and_every_order_of_options(part, count, tmp_path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("Some text of the domain.", encoding="utf-8")
    suite = load_suite(spec("wmdp", part=part, corpus=(str(corpus),)))
    assert sizes(suite) == {"choices": 4 * count, "open": count}
    assert suite.notes == (f"WMDP {part}, first release, {count} questions",)
    answers = [r.completion for r in suite.probes[0].records]
    assert {letter: answers.count(letter) for letter in "ABCD"} == dict.fromkeys("ABCD", count)


@needs_data
def test_wmdp_without_text_to_forget_says_what_to_do():
    with pytest.raises(UsageError, match="--corpus"):
        load_suite(spec("wmdp"))


@needs_data
def test_rwku_reads_all_targets_levels_and_types():
    suite = load_suite(spec("rwku", part="1_Stephen_King"))
    assert sizes(suite) == {
        "forget_level1": 8,
        "forget_level2": 10,
        "forget_level3": 29,
        "neighbor_level1": 30,
        "neighbor_level2": 30,
        "forget_mia": 55,
        "retain_mia": 37,
        "truthful": 50,
        "mmlu": 4 * 171,
        "triviaqa": 100,
        "bbh": 81,
        "fluency": 50,
    }
    assert len(suite.neighbours) == 30
    names = sorted(path.stem for path in (DATA / "rwku" / "targets").glob("*.json"))
    suites = [load_suite(spec("rwku", part=name)) for name in names]
    probes = [{probe.name: probe.records for probe in suite.probes} for suite in suites]
    assert len(suites) == 100
    assert sum(len(each["forget_level3"]) for each in probes) == 3435
    kinds = {record.relation for each in probes for record in each["forget_level3"]}
    assert len(kinds) == RWKU_TYPES


def rwku_target():
    """The sets of one invented target, two records each."""
    asked = {"query": "Q?", "answer": "A", "type": "role play", "subject": "T"}
    choice = {"question": "Which?", "choices": ["a", "b", "c", "d"], "answer": 2}
    return {
        **{name: [asked, asked] for name in (*rwku.LEVELS, *rwku.NEIGHBOURS)},
        "passage": [{"text": "One."}, {"text": "Two."}],
        "retain_mmlu": [choice, choice],
    }


def test_a_limited_question_of_rwku_keeps_all_its_orders(tmp_path):
    (tmp_path / "targets").mkdir()
    (tmp_path / "targets" / "T.json").write_text(json.dumps([rwku_target()]), encoding="utf-8")
    suite = load_suite(spec("rwku", data=tmp_path, records=1))
    assert sizes(suite) == {**dict.fromkeys((*rwku.LEVELS, *rwku.NEIGHBOURS), 1), "mmlu": 4}
    assert sorted(record.completion for record in suite.probes[-1].records) == list("ABCD")
    assert len(suite.forget) == 1


def test_the_neighbours_of_a_suite_are_asked_and_not_trained_on(monkeypatch, tmp_path):
    monkeypatch.setattr(run, "contents_of", lambda *_, **__: {})  # there is no model
    (tmp_path / "targets").mkdir()
    (tmp_path / "targets" / "T.json").write_text(json.dumps([rwku_target()]), encoding="utf-8")
    request = {"goal": "removal", "forget": [str(tmp_path / "matrix" / "data" / "forget.jsonl")]}
    settings = Settings.model_validate({"model": "m", "request": request})
    protocol = begin(BenchArguments(what="rwku", data=str(tmp_path)), tmp_path / "matrix", settings)
    asked = protocol.of(Cell(kind="method", name="npo", values={}, seed=0)).request
    assert [len(read(asked.neighbours).records), asked.rehearse] == [1, False]
    assert asked.assume_known, "passages are not known by heart: the probes ask for what is known"


@pytest.mark.parametrize("left_out", ["passage", "forget_level2"])
def test_a_target_of_rwku_that_lacks_a_set_is_refused(left_out, tmp_path):
    whole = rwku_target()
    del whole[left_out]
    for name in ("targets", "T"):
        (tmp_path / name).mkdir()
    (tmp_path / "targets" / "T2.json").write_text(json.dumps([whole]), encoding="utf-8")
    for name, rows in whole.items():
        (tmp_path / "T" / f"{name}.json").write_text(json.dumps(rows), encoding="utf-8")
    with pytest.raises(InputError, match=f"lacks {left_out}"):
        load_suite(spec("rwku", data=tmp_path, part="T2"))
    with pytest.raises(InputError, match=f"holds no T/{left_out}.json"):
        load_suite(spec("rwku", data=tmp_path, part="T"))


@needs_data
def test_utility_and_social_sets_are_whole():
    few = load_suite(spec("utility", records=5))
    assert sizes(few)["mmlu"] == 20
    assert len(few.probes) == 11
    harm = load_suite(spec("social"))
    assert sizes(harm) == {
        "bbq": 1556 + 1576 + 1200 + 864,
        "crows-more": 1508,
        "crows-less": 1508,
        "winogender-female": 60,
        "winogender-male": 60,
    }
    relations = {record.relation for record in harm.probes[0].records}
    assert relations == {f"ambig {n}" for n in (0, 1)} | {f"disambig {n}" for n in (0, 1, -2)}


@needs_data
def test_records_with_a_next_line_character_stay_whole():
    rows = SuiteLocation(root=str(DATA / "utility")).rows("mmlu_test.jsonl", "", count=14_042)
    assert any("\x85" in json.dumps(row.value, ensure_ascii=False) for row in rows)


PUBLISHED = {
    "locuslab/TOFU": lambda config, split: f"tofu/{config}.json",
    "muse-bench/MUSE-News": lambda config, split: f"muse/news/{config}/{split}.json",
    "cais/wmdp": lambda config, split: f"wmdp/{config.removeprefix('wmdp-')}-questions.json",
}
"""Where the rows of a data set of the Hub lie, by config and split."""


@pytest.fixture
def hub(monkeypatch):
    """The Hub, with the layout of its data sets; what is not here it does not have."""

    def load(name, config=None, *, split):
        file = DATA / PUBLISHED[name](config, split)
        if name == "cais/wmdp" and split != "test":
            raise ValueError(f"Unknown split {split}.")
        found = next(
            (path for path in (file, file.with_suffix(".json.gz")) if path.is_file()), None
        )
        if found is None:
            raise ValueError(f"Unknown split {split}.")
        rows = [row.value for row in read_rows(str(found))]
        return [{"text": row} if isinstance(row, str) else row for row in rows]

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(datasets, "load_dataset", load)


@needs_data
@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("name", HUB)
def test_the_hub_gives_the_same_suite_as_the_folder(name, tmp_path):
    (tmp_path / "text.txt").write_text("Something else.", encoding="utf-8")
    text = (str(tmp_path / "text.txt"),)
    ways = (str(DATA / CASES[name]), HUB[name])
    local, remote = (load_suite(spec(name, data=way, corpus=text, retain=text)) for way in ways)
    for mine, theirs in (
        (local.forget, remote.forget),
        (local.retain, remote.retain),
        (local.holdout, remote.holdout),
        *((a.records, b.records) for a, b in zip(local.probes, remote.probes, strict=True)),
    ):
        assert [plain(record) for record in mine] == [plain(record) for record in theirs]
    assert (local.name, sizes(local)) == (remote.name, sizes(remote))


@needs_data
@pytest.mark.usefixtures("hub")
def test_nothing_stands_in_for_what_the_hub_has(tmp_path):
    with pytest.raises(InputError, match="raw:retain1"):
        load_suite(spec("muse", data=HUB["muse"]))


@pytest.mark.parametrize("name", HUB)
def test_the_hub_is_not_asked_offline(name, monkeypatch):
    def load(*_, split):
        assert datasets.config.HF_HUB_OFFLINE
        raise ConnectionError("offline")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(InputError, match="data-offline"):
        load_suite(spec(name, data=HUB[name], corpus=("f.txt",), offline=True))


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("tofu", "/nowhere/tofu", "no folder /nowhere/tofu"),
        ("tofu", "here/tofu", "no folder here/tofu"),
        ("rwku", "jinzhuoran/RWKU", "not from the Hub"),
        ("rwku", "/nowhere", "no folder /nowhere"),
        ("utility", "nobody/utility", "not from the Hub"),
        ("social", "/nowhere", "no folder /nowhere"),
    ],
)
def test_a_folder_that_is_not_there_is_named(name, data, message, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        load_suite(spec(name, data=data))
    assert caught.value.code == "no-benchmark-folder"


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("tofu", {"part": "forget50"}, "forget10, forget05, forget01"),
        ("pistol", {}, "there is no suite"),
    ],
)
def test_unknown_suites_and_parts_name_the_known_ones(name, given, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        load_suite(spec(name, data=tmp_path, **given))


def test_data_of_another_size_are_refused(tmp_path):
    (tmp_path / "forget01_perturbed.json").write_text('{"question": "Q?", "answer": "A"}\n')
    with pytest.raises(InputError, match="1 records, 40 were published"):
        load_suite(spec("tofu", data=tmp_path, part="forget01"))
    with pytest.raises(InputError, match=r"holds no raw/forget\.json"):
        load_suite(spec("muse", data=tmp_path))


def test_a_record_survives_being_written():
    record = Record(
        id="r",
        prompt=(Message("user", "Q?"), Message("assistant", "A"), Message("user", "And?")),
        completion="B\x85C",
        key_answers=("B",),
        paraphrases=("And then?",),
        restated=("It is B",),
        wrong=("D", "E"),
        subject="S",
        relation="family",
    )
    read = to_record(json.loads(json.dumps(plain(record))), "f:1")
    assert replace(read, source="") == record
    passage = Record(id="p", prompt=(), completion="text")
    assert replace(to_record(plain(passage), "f:1"), source="") == passage
