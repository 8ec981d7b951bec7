"""Sets that both our utility suite and lm-eval can ask: a model scores the same on both."""

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

import tiny
from benchmark_data import DATA, needs_data
from expunge.benchmarking.evaluate import collect_outputs
from expunge.benchmarking.lm_eval_tasks import measure
from expunge.benchmarking.probe_outputs import right
from expunge.benchmarking.suites import load_suite
from expunge.benchmarking.suites.base import Probe, Spec
from expunge.benchmarking.suites.utility import CHOICES
from expunge.data.tokenization import Encoder
from expunge.models.loading import Loaded
from expunge.utils.console import SilentConsole

QUESTIONS = 60
LONGEST = 300
"""Characters: a tiny tokenizer knows little but bytes, and lm-eval cuts where the context ends."""
TASK = """task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{ask}}}}"
doc_to_choice: options
doc_to_target: at
metric_list: [{{metric: acc}}]
"""


def short(probe: Probe) -> Probe:
    """Keep the questions that a tiny model reads whole."""
    fits = [
        record
        for record in probe.records
        if len(record.question) + max(map(len, (record.completion, *record.wrong))) < LONGEST
    ]
    return replace(probe, records=tuple(fits))


def as_task(probe: Probe, folder: Path) -> str:
    """Write a probe as a task of lm-eval, the right option at each place in turn."""
    rows: list[dict[str, object]] = []
    for number, record in enumerate(probe.records):
        options = list(record.wrong)
        at = number % (1 + len(options))
        options.insert(at, record.completion)
        rows.append({"ask": record.question, "options": options, "at": at})
    path = folder / f"{probe.name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    task = folder / f"{probe.name}.yaml"
    task.write_text(TASK.format(name=probe.name, rows=path), encoding="utf-8")
    return str(task)


@needs_data
@pytest.mark.skipif(find_spec("lm_eval") is None, reason="lm-eval, an extra, is not installed")
@pytest.mark.usefixtures("same_draws")
def test_accuracy_is_that_of_lm_eval_on_the_same_questions(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    suite = load_suite(Spec(name="utility", data=str(DATA / "utility"), records=QUESTIONS))
    probes = [short(probe) for probe in suite.probes if probe.name in CHOICES]
    network, tokenizer = tiny.network(), tiny.tokenizer()
    heard = collect_outputs(
        network,
        Encoder(tokenizer, max_length=512),
        probes,
        folder=tmp_path / "own",
        tokens_per_pass=4096,
        console=SilentConsole(),
    )
    own = {probe.name: list(heard.weighed(probe.name, right).values()) for probe in probes}
    theirs = measure(
        Loaded(network=network, tokenizer=tokenizer, name="tiny", digest="0"),
        [as_task(probe, tmp_path) for probe in probes],
        records=None,
        chat=True,
        tokens_per_pass=4096,
        folder=tmp_path / "lm-eval",
        offline=True,
    )
    assert [each.task for each in theirs] == list(CHOICES)
    for each in theirs:
        assert each.n == len(own[each.task]) > QUESTIONS / 3, each.task
        assert each.value == pytest.approx(sum(own[each.task]) / each.n), each.task
    assert 0 < sum(map(sum, own.values())) < sum(map(len, own.values()))
