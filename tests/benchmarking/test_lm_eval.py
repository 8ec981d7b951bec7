"""lm-eval beside the suites: equal to its own backend on the same tasks, and errors that help."""

import json
import math
import socket
from dataclasses import replace
from importlib.util import find_spec
from types import SimpleNamespace

import pytest

import tiny
from bench_results import tree
from expunge.benchmarking.evaluate import evaluate
from expunge.benchmarking.lm_eval_tasks import (
    Measured,
    check,
    measure,
    measured,
    note_of,
    split_tasks,
)
from expunge.benchmarking.protocol import Protocol
from expunge.benchmarking.suites.base import Spec
from expunge.errors import InputError
from expunge.methods.guards.base import GuardRules
from expunge.models.loading import Loaded
from expunge.utils.console import SilentConsole

needs_lm_eval = pytest.mark.skipif(
    find_spec("lm_eval") is None, reason="lm-eval, an extra, is not installed"
)
LONG = "the quick brown fox jumps over the lazy dog " * 200
"""Longer than the context of the tiny models."""
ROWS = [
    {"ask": "the fox", "options": [" jumps", " dog", " the lazy dog"], "at": 0, "text": "the dog"},
    {"ask": "lazy", "options": [" fox", " brown", " x"], "at": 2, "text": LONG},
    {"ask": "over the", "options": [" q", " quick", " it"], "at": 1, "text": "quick brown"},
    {"ask": LONG, "options": [" dog", " fox", " over"], "at": 1, "text": "x"},
]
TASKS = {
    "choose": """
output_type: multiple_choice
doc_to_text: "{{ask}}"
doc_to_choice: options
doc_to_target: at
num_fewshot: 1
fewshot_split: test
metric_list: [{metric: acc}, {metric: acc_norm}]
""",
    "say": """
output_type: generate_until
doc_to_text: "{{ask}}"
doc_to_target: "{{said}}"
generation_kwargs: {until: ["e"], max_gen_toks: 24, do_sample: false}
metric_list: [{metric: exact_match}]
""",
    "read": """
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list: [{metric: word_perplexity}, {metric: byte_perplexity}, {metric: bits_per_byte}]
""",
    "draw": """
output_type: generate_until
doc_to_text: "{{ask}}"
doc_to_target: "{{said}}"
generation_kwargs: {until: ["e"], do_sample: true, temperature: 1.0}
metric_list: [{metric: exact_match}]
""",
}


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """Files of tasks over a file of records; no task of lm-eval's own is read."""
    folder = tmp_path_factory.mktemp("tasks")
    patch = pytest.MonkeyPatch()
    patch.setattr("datasets.config.HF_DATASETS_CACHE", folder / "cache")
    rows = [{**row, "said": f"answer {n}"} for n, row in enumerate(ROWS)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "rows.jsonl").write_text(lines, encoding="utf-8")
    where = f"dataset_path: json\ndataset_kwargs: {{data_files: {{test: {folder}/rows.jsonl}}}}\n"
    for name, body in TASKS.items():
        text = f"task: {name}\n{where}test_split: test\n{body.lstrip()}"
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    yield {name: str(folder / f"{name}.yaml") for name in TASKS}
    patch.undo()


def backend(model, tokenizer=None):
    from expunge.benchmarking.lm_eval_model import LmEvalModel

    return LmEvalModel(tiny.network(model), tokenizer or tiny.tokenizer(), tokens_per_pass=900)


def peer(model):
    """lm-eval's own backend."""
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=model, tokenizer=tiny.tokenizer(), batch_size=2)


def requests(*args):
    return [SimpleNamespace(args=each) for each in args]


@needs_lm_eval
@pytest.mark.parametrize("build", [tiny.llama, tiny.gpt2])
def test_every_request_is_answered_as_by_lm_evals_own_backend(build):
    own, other = backend(build()), peer(build())
    pairs = requests(("", "the fox"), ("the ", "fox"), ("over", " it"), ("the fox", " q"))
    for found, expected in zip(own.loglikelihood(pairs), other.loglikelihood(pairs), strict=True):
        assert found[0] == pytest.approx(expected[0], rel=1e-4)
        assert found[1] == expected[1]
    greedy = own.generate_until(requests(("the fox", {"until": [], "max_gen_toks": 1})))
    assert own.loglikelihood(requests(("the fox", greedy[0])))[0][1], "it says what is likeliest"
    texts = requests(("the dog",), ("over the lazy dog " * 3,))
    assert own.loglikelihood_rolling(texts) == pytest.approx(
        other.loglikelihood_rolling(texts), rel=1e-4
    )
    free = own.generate_until(requests(("lazy", {"until": [], "max_gen_toks": 40})))[0]
    assert len(free) > 6
    stop = free[4:6]
    ways = [{"until": [stop, "\n"]}, {"until": "zzz", "max_gen_toks": 9}, {"max_new_tokens": 3}]
    asks = requests(*(("lazy", way) for way in ways), ("the fox", ways[0]))
    said = own.generate_until(asks)
    assert said == other.generate_until(asks)
    assert said[0] == free[: free.index(stop)]


@needs_lm_eval
def test_texts_longer_than_the_context_are_cut_as_lm_eval_cuts_them():
    own, other = backend(tiny.llama()), peer(tiny.llama())
    assert len(own.tok_encode(LONG)) > 2 * other.max_length
    pairs = requests((LONG, " fox"))
    assert own.loglikelihood(pairs)[0][0] == pytest.approx(other.loglikelihood(pairs)[0][0], 1e-4)
    texts = requests((LONG,))
    assert own.loglikelihood_rolling(texts) == pytest.approx(
        other.loglikelihood_rolling(texts), rel=1e-4
    )
    asks = requests((LONG, {"until": [], "max_gen_toks": 5}))
    assert own.generate_until(asks) == other.generate_until(asks)
    learnt = backend(tiny.gpt2())  # its positions end where the context does
    assert learnt.loglikelihood_rolling(texts)[0] < 0


@needs_lm_eval
def test_a_guard_stands_before_lm_eval_too():
    network = tiny.network()
    from expunge.benchmarking.lm_eval_model import LmEvalModel

    asks = requests(("the fox", {"until": [], "max_gen_toks": 4}))
    free = LmEvalModel(network, tiny.tokenizer(), tokens_per_pass=900).generate_until(asks)
    reply = tuple(tiny.tokenizer().encode("no"))
    network.guard = GuardRules(reply=reply)
    guarded = LmEvalModel(network, tiny.tokenizer(), tokens_per_pass=900).generate_until(asks)
    assert free != guarded
    assert guarded[0].startswith("no")


def asked(tasks, *names, folder, records=None, chat=False):
    loaded = Loaded(network=tiny.network(), tokenizer=tiny.tokenizer(), name="tiny", digest="0")
    return measure(
        loaded,
        [tasks[name] for name in names],
        records=records,
        chat=chat,
        tokens_per_pass=900,
        folder=folder,
        offline=True,
    )


@needs_lm_eval
@pytest.mark.usefixtures("same_draws")
@pytest.mark.parametrize("chat", [False, True])
def test_numbers_are_those_of_lm_eval(tasks, tmp_path, chat):
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.tasks import TaskManager

    results = simple_evaluate(
        model=peer(tiny.llama()),
        tasks=[tasks["choose"], tasks["read"]],
        task_manager=TaskManager(include_defaults=False),
        apply_chat_template=chat,
        bootstrap_iters=1000,
        limit=3,
    )
    expected = measured(results)
    found = asked(tasks, "choose", "read", folder=tmp_path, chat=chat, records=3)
    assert [(each.task, each.metric, each.higher, each.n) for each in found] == [
        ("choose", "acc", True, 3),
        ("choose", "acc_norm", True, 3),
        ("read", "word_perplexity", False, 3),
        ("read", "byte_perplexity", False, 3),
        ("read", "bits_per_byte", False, 3),
    ]
    for own, other in zip(found, expected, strict=True):
        assert own.value == pytest.approx(other.value, rel=1e-4), own.metric
        expected_error = other.error and pytest.approx(other.error, rel=1e-4)
        assert own.error == expected_error, own.metric


@needs_lm_eval
@pytest.mark.usefixtures("same_draws")
def test_a_task_that_was_asked_is_not_asked_again(tasks, tmp_path, monkeypatch):
    first = asked(tasks, "choose", folder=tmp_path, records=1)
    monkeypatch.setattr(
        "expunge.benchmarking.lm_eval_tasks._ask", lambda *_, **__: pytest.fail("again")
    )
    assert asked(tasks, "choose", folder=tmp_path, records=1) == first


@needs_lm_eval
@pytest.mark.usefixtures("same_draws")
def test_a_task_is_asked_of_a_model_without_a_suite(world, tasks, tmp_path):
    data = f"{tasks['choose']}, {tasks['read']}"
    protocol = Protocol(
        settings=tree(), beside=(Spec(name="lm-eval", data=data, records=2, offline=True),)
    )
    assert protocol.suites() == ()
    found = evaluate(
        (),
        protocol.harness,
        world.settings(),
        world.original,
        folder=tmp_path,
        console=SilentConsole(),
    )
    assert found.columns == {}
    assert [(each.metric, each.split) for each in found.numbers[:2]] == [
        ("lm-eval acc", "choose"),
        ("lm-eval acc_norm", "choose"),
    ]
    assert found.numbers[0].low <= found.numbers[0].value <= found.numbers[0].high
    assert "--apply_chat_template --limit 2" in found.notes[0]
    assert len(list((tmp_path / "lm-eval").iterdir())) == 2


def test_groups_stand_for_their_tasks_and_what_is_no_number_is_left_out():
    row = {"alias": "g", "acc,none": 0.5, "acc_stderr,none": "N/A", "f1,strict": 1, "note,none": ""}
    row["ppl,none"] = math.inf
    results = {
        "results": {"a": {"acc,none": 0.4, "acc_stderr,none": 0.1}, "g": row},
        "higher_is_better": {"a": {"acc": True}, "g": {"acc": None}},
        "n-samples": {"a": {"original": 9, "effective": 2}},
    }
    alone = Measured(task="a", metric="acc", filter="none", value=0.4, error=0.1, n=2, higher=True)
    of_group = Measured(
        task="g", metric="acc", filter="none", value=0.5, error=None, n=None, higher=None
    )
    strict = replace(of_group, metric="f1", filter="strict", value=1.0)
    endless = replace(of_group, metric="ppl", value=None)
    assert measured(results) == [alone, of_group, strict, endless]
    assert measured({**results, "groups": {"g": row}}) == [of_group, strict, endless]
    assert "no finite number" in endless.score().reason
    assert strict.score().metric == "lm-eval f1 (strict)"
    assert (alone.score().low, alone.score().high) == pytest.approx((0.204, 0.596))


def test_tasks_are_listed_with_commas():
    assert split_tasks("gsm8k, arc_easy,,gsm8k") == ("gsm8k", "arc_easy")
    assert "--tasks gsm8k,arc_easy`" in note_of(
        Spec(name="lm-eval", data="gsm8k,arc_easy"), chat=False
    )


def test_without_lm_eval_the_error_names_the_command(monkeypatch):
    monkeypatch.setattr("expunge.benchmarking.lm_eval_tasks.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'expunge\[lm-eval\]'"):
        check(["gsm8k"], offline=True)


@needs_lm_eval
def test_what_cannot_be_asked_is_said_before_a_model_is_loaded(tasks, tmp_path, monkeypatch):
    def reach(*_):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", reach)
    monkeypatch.setattr(socket, "getaddrinfo", reach)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    check([tasks["choose"]], offline=True)
    away = tmp_path / "away.yaml"
    away.write_text("task: away\ndataset_path: nobody/nothing\n" + TASKS["choose"], "utf-8")
    with pytest.raises(InputError, match=r"cannot run its task .*away\.yaml") as raised:
        check([str(away)], offline=True)
    assert "network" in raised.value.fix
    with pytest.raises(InputError, match="draws its answers at random"):
        asked(tasks, "draw", folder=tmp_path)
    with pytest.raises(InputError, match=r"no task 'arc_esay'.*\n.*arc_easy"):
        check(["arc_esay"], offline=True)
