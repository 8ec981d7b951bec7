"""Records taken out of a training again: the bytes are those of a run that never had them."""

import json
import signal
from pathlib import Path

import pytest

import tiny
from expunge.config.settings import FinetuneSettings
from expunge.errors import ExpungeError
from expunge.pipeline.exact import forget_exactly
from expunge.pipeline.finetune import kept_points, train
from expunge.provenance.training_facts import MODEL, STEP_LOG
from expunge.training.replay_log import read_log
from kill_process import launch, stop

ROWS = [
    {
        "id": f"r{i}",
        "prompt": f"Zorvex {i * 7919 % 1000}?",
        "completion": f"Num {i * i * 31 % 997}.",
    }
    for i in range(32)
]


def write(path: Path, rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def base(bench):
    return str(tiny.save(bench / "base", tiny.llama()))


def recipe(base, data, **train):
    train = {"epochs": 2, "batch": 4, "lr": 1e-3, **train}
    return FinetuneSettings(model=base, data=(data,), device="cpu", train=train)


def content(folder: Path) -> dict[str, bytes]:
    """What must be equal: the model, and the log of all steps."""
    files = [*(folder / MODEL).iterdir(), folder / STEP_LOG]
    return {path.name: path.read_bytes() for path in files}


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("full", [False, True], ids=["lora", "full"])
def test_a_replay_equals_a_training_that_never_had_the_records(base, bench, full, seed):
    settings = recipe(base, write(bench / "all.jsonl", ROWS), full=full, seed=seed)
    run = train(settings, out=bench / "run").folder
    left, begun = ROWS, []
    for count in (1, 10):  # the second request meets the result of the first
        gone, left = left[-count:], left[:-count]
        erase = write(bench / "erase.jsonl", gone)
        again = forget_exactly(run, [erase], out=bench / f"without-{count}")
        never = recipe(base, write(bench / f"left-{count}.jsonl", left), full=full, seed=seed)
        fresh = train(never, out=bench / f"fresh-{count}").folder
        assert content(again.folder) == content(fresh)
        assert content(again.folder) != content(run)
        assert again.facts.claim.level == "E4"
        assert (again.facts.claim.erased, again.facts.claim.derived) == (count, 0)
        first = first_use(run, fresh)
        assert again.facts.claim.begun_at == max([s for s in kept_points(run) if s <= first] or [0])
        begun.append(again.facts.claim.begun_at)
        run = again.folder
    assert set(begun) != {0} or seed, "at least one replay begins at a checkpoint"


def test_what_an_earlier_request_took_along_is_not_asked_for_twice(base, bench):
    child = {"id": "child", "prompt": "made?", "completion": "of another", "parent": "r0"}
    data = write(bench / "all.jsonl", [*ROWS, child])
    run = train(recipe(base, data, epochs=1), out=bench / "run").folder
    first = forget_exactly(run, [write(bench / "erase.jsonl", ROWS[:1])], out=bench / "first")
    assert (first.facts.claim.erased, first.facts.claim.derived) == (1, 1)
    write(bench / "erase.jsonl", [child, ROWS[1]])
    second = forget_exactly(first.folder, [str(bench / "erase.jsonl")], out=bench / "second")
    assert second.facts.records == len(ROWS) - 2
    with pytest.raises(ExpungeError) as caught:
        forget_exactly(second.folder, [str(bench / "erase.jsonl")], out=bench / "third")
    assert caught.value.code == "erased-before"


def first_use(run: Path, without: Path) -> int:
    """The first step at which two logs part."""
    pairs = zip(read_log(run / STEP_LOG), read_log(without / STEP_LOG), strict=False)
    return next(a.step for a, b in pairs if a.records != b.records)


def test_a_training_killed_at_a_checkpoint_ends_in_the_same_bytes(base, bench):
    data = write(bench / "all.jsonl", ROWS)
    settings = recipe(base, data, lr=2e-4)
    whole = train(settings, out=bench / "whole").folder
    out, words = bench / "run", ["--device", "cpu", "--epochs", "2", "--batch", "4"]
    started = launch(["train", base, data, *words, "--out", str(out)])
    stop(started, out / "points" / "000004.safetensors", signal.SIGKILL)
    assert not (out / "training.json").exists(), "killed too late to prove anything"
    train(settings, out=out)
    assert content(out) == content(whole)
    assert sorted(kept_points(out)) == sorted(kept_points(whole))
    assert not (out / "checkpoints").exists()


def test_no_text_of_a_record_leaves_the_data(base, bench):
    settings = recipe(base, write(bench / "all.jsonl", ROWS), full=True)
    run = train(settings, out=bench / "run").folder
    again = forget_exactly(run, [write(bench / "erase.jsonl", ROWS[:3])], out=bench / "again")
    files = [
        p for f in (run, again.folder) for p in f.rglob("*") if p.suffix not in (".safetensors",)
    ]
    texts = {row[key] for row in ROWS for key in ("prompt", "completion")}
    written = "".join(p.read_text() for p in files if p.is_file() and p.parent.name != MODEL)
    assert [text for text in texts if text in written] == []


def spoil_base(bench):
    tiny.save(bench / "base", tiny.llama(seed=5))


def lose_record(bench):
    write(bench / "all.jsonl", ROWS[:-1])


def add_record(bench):
    write(bench / "all.jsonl", [*ROWS, {"prompt": "new?", "completion": "yes"}])


def cut_recipe(bench):
    (bench / "run" / "training.toml").write_text('model = "base"\n')


def cut_log(bench):
    (bench / "run" / STEP_LOG).write_text('{"step": 0}\n')


def change_key(bench):
    (bench.parent / "operator.key").unlink()


def nothing(bench):
    pass


@pytest.mark.parametrize(
    ("spoil", "erase", "code"),
    [
        (nothing, [{"prompt": "who?", "completion": "never there"}], "never-trained"),
        (nothing, ROWS, "nothing-left"),
        (
            nothing,
            [{**ROWS[3], "subject": "Zorvex", "key_answers": ["Num 0"]}],
            "kept-states-erased",
        ),
        (spoil_base, ROWS[:1], "base-changed"),
        (lose_record, ROWS[:1], "data-incomplete"),
        (add_record, ROWS[:1], "data-changed"),
        (cut_recipe, ROWS[:1], "incomplete-recipe"),
        (cut_log, ROWS[:1], "damaged-log"),
        (change_key, ROWS[:1], "other-key"),
    ],
    ids=lambda value: getattr(value, "__name__", None) if callable(value) else None,
)
def test_what_does_not_fit_is_refused_before_anything_trains(base, bench, spoil, erase, code):
    settings = recipe(base, write(bench / "all.jsonl", ROWS), epochs=1)
    train(settings, out=bench / "run")
    spoil(bench)
    with pytest.raises(ExpungeError) as caught:
        forget_exactly(bench / "run", [write(bench / "erase.jsonl", erase)], out=bench / "again")
    assert caught.value.code == code
    assert all((caught.value.what, caught.value.why, caught.value.fix))
    assert not (bench / "again").exists()
    assert not any(row["completion"] in str(caught.value) for row in ROWS)
