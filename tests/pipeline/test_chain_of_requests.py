"""Chains of requests: what is asked again, what turns a chain red, and the way back."""

import json
import shutil
from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from pathlib import Path

import pytest
import torch

import tiny
import tiny_world
from expunge.cli import main
from expunge.config.queue import read_queue
from expunge.errors import ExpungeError, GateError
from expunge.models.loading import Source, load
from expunge.models.number_formats import quantise_dequantise
from expunge.pipeline import chain as module
from expunge.pipeline import chain_probes
from expunge.pipeline.chain import chain, check_chain
from expunge.pipeline.chain_orders import NAME as ORDERS
from expunge.pipeline.chain_state import StepCost, read_state
from expunge.pipeline.rollback import rollback
from expunge.provenance.keys import operator_key
from expunge.provenance.signature import make_signing_key
from expunge.utils.io import read_json, write_json

REQUESTS = ("one", "two", "three")
SOURCE = Source(device=torch.device("cpu"), dtype=torch.float32, offline=True)


def written(world, folder: Path, *, ids=REQUESTS, facts=2, batches=()) -> Path:
    """A queue of requests of two facts each; the fourth repeats the first in other words."""
    rows = world.rows("forget")
    for place, name in enumerate(REQUESTS):
        lines = [json.dumps(row) + "\n" for row in rows[2 * place : 2 * place + 2]]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    again = [{**row, "id": f"again-{row['id']}", "prompt": row["prompt"].lower()} for row in rows]
    lines = [json.dumps(row) + "\n" for row in again[:2]]
    (folder / "again.jsonl").write_text("".join(lines), encoding="utf-8")
    tables = "".join(
        f'[[queue]]\nid = "{each}"\nforget = ["{each}.jsonl"]\nbatch = "{batch}"\n'
        for each, batch in zip_longest(ids, batches, fillvalue="")
    )
    text = f"""
model = "{world.original}"
device = "cpu"
offline = true
[request]
goal = "removal"
retain = ["{world.data("retain")}"]
neighbours = ["{world.data("neighbours")}"]
utility_budget = 0.9
[method]
name = "npo"
[train]
steps = 10
lr = 2e-3
batch = 12
[audit]
max_new_tokens = 8
[chain]
facts = {facts}
loss = 0.95
loss_per_request = 0.9
{tables}"""
    path = folder / "queue.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def only_known_text(monkeypatch):
    """Tiny models know no general text: what becomes of it is chance."""
    monkeypatch.setattr(chain_probes, "general_text", tuple)


@pytest.fixture
def queue(world, bench):
    return lambda **given: read_queue(written(world, bench, **given), environ={})


@pytest.fixture
def runs(world, monkeypatch):
    """A stand-in for `forget`: request to the model that its run leaves; by default the gold."""
    left: dict[str, str] = {}
    started: list[tuple[str, str, str | None]] = []

    def forget(settings, *, console):
        name = settings.request.id
        started.append((name, settings.model, settings.first_original))
        made = left.get(name, world.gold)
        if made == "nothing":
            raise module.InputError("nothing-to-forget", what="-", why="-", fix="-")
        shutil.copytree(made, Path(settings.out) / "model", dirs_exist_ok=True)
        (Path(settings.out) / "config.toml").write_text("", encoding="utf-8")

    monkeypatch.setattr(module, "forget", forget)
    cost = StepCost(asked_seconds=0.0, train_seconds=3.0, audit_seconds=2.0)
    monkeypatch.setattr(module, "_of_run", lambda run: ("PASS", cost))
    return left, started


def digest(model: str) -> str:
    return load(model, SOURCE).digest


def test_each_request_starts_from_the_last_model_and_all_facts_are_asked_in_turn(
    queue, runs, world
):
    done = chain(queue(facts=1), out=Path("chain"))
    state, started = done.state, runs[1]
    assert [name for name, _, _ in started] == list(REQUESTS)
    assert [model for _, model, _ in started] == [
        world.original,
        *(str(Path("chain", "runs", step.run)) for step in state.steps[:2]),
    ]
    assert [first for _, _, first in started] == [None, world.original, world.original]
    again = [[f.key for f in step.facts if f.request != step.number] for step in state.steps]
    assert [len(each) for each in again] == [0, 1, 1]
    assert again[1] != again[2], "what was asked longest ago is asked first"
    assert [step.within for step in state.steps] == [0, 2, 4]
    assert all(f.states for step in state.steps for f in step.first)
    assert not any(f.states for step in state.steps for f in step.facts)
    assert (state.steps[0].cost.train_seconds, state.steps[0].verdict) == (3.0, "PASS")
    texts = world.texts()
    for path in Path("chain").rglob("*"):  # probes are sealed, the state has no text
        if path.is_file() and "runs" not in path.parts:
            assert not any(text.encode() in path.read_bytes() for text in texts if len(text) > 4)


def test_a_stopped_chain_goes_on_where_it_was_and_takes_up_new_requests(
    queue, runs, monkeypatch, world
):
    whole = chain(queue(), out=Path("whole")).state
    runs[1].clear()
    ask = module.Asker.facts

    def killed(self, number, records):
        if number == 2 and read_state(Path("cut")).steps:
            raise KeyboardInterrupt
        return ask(self, number, records)

    monkeypatch.setattr(module.Asker, "facts", killed)
    with pytest.raises(KeyboardInterrupt):
        chain(queue(), out=Path("cut"))
    assert len(read_state(Path("cut")).steps) <= 1
    monkeypatch.setattr(module.Asker, "facts", ask)
    chain(queue(ids=REQUESTS[:2]), out=Path("cut"))
    cut = chain(queue(), out=Path("cut")).state
    for mine, theirs in zip(cut.steps, whole.steps, strict=True):
        assert (mine.model, mine.facts, mine.kept) == (theirs.model, theirs.facts, theirs.kept)
    before = len(runs[1])
    chain(queue(), out=Path("cut"))
    assert len(runs[1]) == before, "nothing is left to do"


def test_what_brings_a_request_back_is_named_and_can_be_rolled_back(queue, runs, world, capsys):
    left, _ = runs
    queue()  # writes the records
    # As a retain set does that says in other words what the first request erased.
    taught = tiny_world.network_knowing(
        [world.data("retain"), world.data("neighbours"), "one.jsonl"]
    )
    left["three"] = str(tiny.save(Path("taught"), taught.model))
    with pytest.raises(GateError) as caught:
        chain(queue(facts=9), out=Path("chain"))
    said = str(caught.value)
    assert caught.value.code == "chain-red"
    assert "after request 3 (three): request 1 (one) is back" in said
    assert "f0" in said
    assert "(two) is back" not in said
    assert "expunge rollback chain --to 2" in said
    red = read_state(Path("chain"))
    with pytest.raises(GateError, match="request 1"):  # it stays red
        chain(queue(facts=9), out=Path("chain"))
    assert main(["rollback", "chain", "--to", "2"]) == 0
    state = read_state(Path("chain"))
    assert state.model == red.steps[1].model == digest(f"chain/runs/{red.steps[1].run}")
    assert state.rollbacks[0].undone == ("three",)
    left["three"] = world.gold
    shutil.rmtree(f"chain/runs/{red.steps[2].run}")
    assert len(chain(queue(facts=9), out=Path("chain")).state.steps) == 3
    capsys.readouterr()


def weights(reference) -> dict[str, torch.Tensor]:
    return load(str(reference), SOURCE).network.model.state_dict()


def in_four_bits(world) -> dict[str, torch.Tensor]:
    """What rounding to int4 makes of an update that is smaller than its steps: the original."""
    original = weights(world.original)
    return {
        name: quantise_dequantise(value, bits=4, group=16)
        if value.dim() == 2 and ".layers." in name
        else value
        for name, value in original.items()
    }


def without_step_two(world) -> dict[str, torch.Tensor]:
    """The model of request 3, started from that of request 1."""
    known = [world.data("retain"), world.data("neighbours"), "two.jsonl"]
    return tiny_world.network_knowing(known).model.state_dict()


def taught_again(world) -> dict[str, torch.Tensor]:
    """A later fine-tune on data that says what request 3 erased."""
    known = [world.data("retain"), world.data("neighbours"), "three.jsonl"]
    return tiny_world.network_knowing(known).model.state_dict()


@pytest.mark.parametrize(
    ("regression", "back"),
    [(in_four_bits, {1, 2, 3}), (without_step_two, {2}), (taught_again, {3})],
)
def test_a_planted_regression_is_found_and_names_its_requests(regression, back, queue, runs, world):
    chain(queue(facts=9), out=Path("chain"))
    model = load(world.gold, SOURCE).network.model
    model.load_state_dict(regression(world))
    tiny.save(Path("planted"), model)
    found = check_chain(queue(facts=9), out=Path("chain"), model="planted")
    assert {each.request for each in found.rebounds if each.alarms} == back
    for number in back:
        assert any(f"request {number} ({REQUESTS[number - 1]})" in each for each in found.alarms)


@pytest.mark.parametrize("ratio", [0.1, 0.2])
def test_a_merge_with_the_first_original_is_named_even_where_no_fact_is_back(
    ratio, queue, runs, world, capsys
):
    chain(queue(), out=Path("chain"))
    model, original = load(world.gold, SOURCE).network.model, weights(world.original)
    merged = {n: torch.lerp(v, original[n], ratio) for n, v in model.state_dict().items()}
    model.load_state_dict(merged)
    tiny.save(Path("merged"), model)
    assert main(["chain", "queue.toml", "--out", "chain", "--check", "merged"]) == 3
    said = capsys.readouterr().err
    assert f"merged with {world.original}, whose share is {ratio:.0%}" in said


def test_a_chain_that_loses_what_was_kept_is_stopped(queue, runs):
    runs[0]["two"] = str(tiny.save(Path("blank"), tiny.network().model))
    with pytest.raises(GateError, match=r"request 2 \(two\): kept text was lost"):
        chain(queue(), out=Path("chain"))
    assert len(read_state(Path("chain")).steps) == 2
    assert "perplexity of kept text" in read_state(Path("chain")).steps[1].drift.text()


def test_any_model_can_be_asked_about_all_that_the_chain_erased(queue, runs, world, capsys):
    chain(queue(facts=1), out=Path("chain"))
    found = check_chain(queue(facts=1), out=Path("chain"), model=world.original)
    assert [each.request for each in found.rebounds if each.alarms] == [1, 2, 3]
    assert check_chain(queue(facts=1), out=Path("chain"), model=world.gold).alarms == ()
    words = ["chain", "queue.toml", "--out", "chain", "--check"]
    assert main([*words, world.original]) == 3
    assert "request 1 (one) is back" in capsys.readouterr().err
    assert main([*words, world.gold]) == 0


def test_near_copies_are_asked_again_and_trained_only_if_they_are_not_forgotten(queue, runs, world):
    left, started = runs
    done = chain(queue(ids=("one", "two", "again"), facts=1), out=Path("chain")).state
    assert [name for name, _, _ in started] == ["one", "two"]
    last = done.steps[-1]
    assert (last.kind, last.copies, last.run) == ("re-verified", (1,), "")
    assert {f.record for f in last.facts if f.request == 1} == {"f0", "f1"}
    left["one"] = world.original  # forgets nothing
    chain(queue(ids=("one", "again")), out=Path("other"))
    assert [name for name, _, _ in started][2:] == ["one", "again"]


def test_a_request_that_the_model_does_not_know_changes_nothing(queue, runs):
    runs[0]["two"] = "nothing"
    steps = chain(queue(), out=Path("chain")).state.steps
    assert [step.kind for step in steps] == ["trained", "not-known", "trained"]
    assert steps[1].model == steps[0].model


def test_requests_of_a_batch_share_one_run_and_are_judged_apart(queue, runs, monkeypatch, world):
    trained = []
    forget = module.forget

    def noted(settings, *, console):
        trained.append((settings.request.id, [Path(p).stem for p in settings.request.forget]))
        forget(settings, console=console)

    monkeypatch.setattr(module, "forget", noted)
    two = chain(queue(ids=REQUESTS[:2], batches=("week", "week")), out=Path("chain")).state
    assert trained == [("week", ["one", "two"])]
    assert [step.kind for step in two.steps] == ["trained", "batched"]
    assert two.steps[1].model == two.steps[0].model
    assert {f.request for f in two.steps[1].facts} == {1, 2}
    # A request that joins a batch later was not trained with it.
    three = chain(queue(batches=("week",) * 3, facts=9), out=Path("chain")).state
    assert trained[1:] == [("three", ["three"])]
    assert three.steps[2].kind == "trained"
    assert check_chain(queue(facts=9), out=Path("chain"), model=world.original).alarms


def test_the_same_requests_in_three_orders_are_compared(queue, runs, world, capsys):
    queue()
    taught = tiny_world.network_knowing(
        [world.data("retain"), world.data("neighbours"), "two.jsonl"]
    )
    runs[0]["three"] = str(tiny.save(Path("taught"), taught.model))
    # Three brings two back, unless two is worked on after it.
    assert main(["chain", "queue.toml", "--orders", "--out", "orders"]) == 3
    said = capsys.readouterr()
    assert "error[order-red]" in said.err
    found = read_json(Path("orders") / ORDERS)
    names = [tuple(each["requests"]) for each in found["orders"]]
    assert names[:2] == [REQUESTS, REQUESTS[::-1]]
    assert len(set(names)) == 3
    for each in found["orders"]:
        back = each["requests"].index("three") > each["requests"].index("two")
        assert bool(each["alarms"]) is back
        assert (each["stated"] > 0) is back
    assert found["spread"]["stated"] == max(each["stated"] for each in found["orders"])
    assert main(["chain", "queue.toml", "--orders", "--check", world.gold]) == 2
    capsys.readouterr()


def test_probes_go_when_their_retention_ends(queue, runs, monkeypatch):
    chain(queue(ids=REQUESTS[:2]), out=Path("chain"))
    later = datetime.now(UTC).date() + timedelta(366)
    monkeypatch.setattr(module, "_today", lambda: later)
    done = chain(queue(), out=Path("chain")).state
    assert [f.request for f in done.steps[2].facts] == [3, 3]
    assert sorted(p.name for p in Path("chain/evidence").glob("request-*")) == [
        "request-3.jsonl.sealed"
    ]


def spoil(text):
    def change(place: Path) -> None:
        path = place / "chain" / "chain.json"
        path.write_text(path.read_text().replace(*text), encoding="utf-8")

    return change


def replaced_model(place: Path, number: int = 3) -> None:
    run = next((place / "chain" / "runs").glob(f"000{number}-*"))
    shutil.rmtree(run / "model")
    tiny.save(run / "model", tiny.network().model)


def other_records(place: Path) -> None:
    shutil.copy(place / "three.jsonl", place / "one.jsonl")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (spoil(('"verdict": "PASS"', '"verdict": "FAIL"')), "chain-changed"),
        (replaced_model, "chain-model-changed"),
        (other_records, "queue-changed"),
    ],
)
def test_a_chain_that_was_changed_is_refused(change, code, queue, runs, bench, world, monkeypatch):
    path = written(world, bench)
    chain(read_queue(path, environ={}), out=Path("chain"))
    change(bench)
    before = len(runs[1])
    with pytest.raises(ExpungeError) as caught:
        chain(read_queue(path, environ={}), out=Path("chain"))
    assert caught.value.code == code
    assert len(runs[1]) == before


def test_a_signed_state_cannot_be_written_anew_with_its_digest(queue, runs, bench, monkeypatch):
    monkeypatch.setenv("EXPUNGE_SIGNING_KEY", str(bench.parent / "signing-key"))
    make_signing_key(bench.parent / "signing-key")
    chain(queue(ids=REQUESTS[:1]), out=Path("chain"))
    assert read_state(Path("chain")).signer
    row = read_json(Path("chain/chain.json"))
    row["steps"][0]["verdict"] = "FAIL-DAMAGE"
    body = {key: value for key, value in row.items() if key not in ("sha256", "signed")}
    write_json(Path("chain/chain.json"), {**row, "sha256": module.sha256_json(body)})
    with pytest.raises(ExpungeError, match="signature"):
        read_state(Path("chain"))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (("one.jsonl", "gone.jsonl"), 4),
        (('model = "', 'model = "gone'), 4),
        (('name = "npo"', 'name = "nppo"'), 2),
        (('name = "npo"', 'name = "refusal"\n#'), 2),
        (("steps = 10", "steps = 10\nadapter = true"), 2),
        (('id = "two"', 'id = "one"'), 2),
    ],
)
def test_a_queue_with_bad_input_is_refused_before_anything_is_trained(
    change, code, world, bench, runs, capsys
):
    path = written(world, bench)
    path.write_text(path.read_text().replace(*change, 1), encoding="utf-8")
    assert main(["chain", "queue.toml", "--out", "chain"]) == code
    assert runs[1] == []
    assert not Path("chain/runs").exists()
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("change", [("", ""), ('id = "two"', 'id = "two"\ngoal = "suppression"')])
def test_a_batch_that_cannot_be_one_run_is_refused(change, world, bench, runs, capsys):
    apart = ("a", "", "a") if change == ("", "") else ("a", "a", "")
    path = written(world, bench, batches=apart)
    path.write_text(path.read_text().replace(*change, 1), encoding="utf-8")
    assert main(["chain", "queue.toml", "--out", "chain"]) == 2
    assert "error[batch-differs]" in capsys.readouterr().err
    assert runs[1] == []


def test_data_to_keep_that_an_earlier_request_forgets_is_refused_at_once(world, bench, runs):
    path = written(world, bench)
    kept = Path(world.data("retain")).read_text() + Path("one.jsonl").read_text()
    Path("kept.jsonl").write_text(kept, encoding="utf-8")
    text = path.read_text().replace(
        'forget = ["two.jsonl"]', 'forget = ["two.jsonl"]\nretain = ["kept.jsonl"]'
    )
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ExpungeError) as caught:
        chain(read_queue(path, environ={}), out=Path("chain"))
    assert caught.value.code == "forgotten-before"
    assert "request two keeps 2 records that request one forgets" in str(caught.value)
    assert runs[1] == []


def test_rollback_refuses_what_it_cannot_prove(queue, runs, capsys):
    assert main(["rollback", "nowhere", "--to", "0"]) == 2
    chain(queue(), out=Path("chain"))
    for number in (3, -1):
        assert main(["rollback", "chain", f"--to={number}"]) == 2
    replaced_model(Path.cwd(), 2)
    with pytest.raises(ExpungeError, match="chain-model-changed"):
        rollback(Path("chain"), to=2)
    assert len(read_state(Path("chain")).steps) == 3
    done = rollback(Path("chain"), to=0)
    assert done.model == done.state.original
    capsys.readouterr()


def test_a_real_chain_of_two_requests_ends_in_runs_that_verify(world, bench, capsys):
    written(world, bench, ids=REQUESTS[:2])
    assert main(["chain", "queue.toml", "--out", "chain"]) == 0
    said = capsys.readouterr().out
    assert "2 facts of 1 earlier requests again; every one at least once in 1 requests" in said
    state = read_state(Path("chain"))
    runs = [Path("chain", "runs", step.run) for step in state.steps]
    assert all(main(["verify", str(run)]) == 0 for run in runs)
    manifests = [read_json(run / "manifest.json")["models"] for run in runs]
    assert manifests[1]["original"] == manifests[0]["unlearned"] == state.steps[0].model
    assert manifests[1]["unlearned"] == state.model == digest(str(runs[1]))
    assert operator_key(bench.parent / "operator.key", run=Path("chain"))
