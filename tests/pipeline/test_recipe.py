"""The recipe of an original: from the folder that TRL or PEFT wrote, or from a file."""

import json

import pytest

from expunge.config.settings import Settings
from expunge.errors import ExpungeError
from expunge.pipeline.recipe import read_trainer_run, recipe_of

ADAPTER = {
    "peft_type": "LORA",
    "base_model_name_or_path": "org/base",
    "r": 8,
    "lora_alpha": 32,
    "target_modules": ["v_proj", "q_proj"],
    "layers_to_transform": [2, 3, 4],
}
STATE = {
    "num_train_epochs": 3,
    "max_steps": 30,
    "train_batch_size": 1,
    "log_history": [
        {"step": 1, "learning_rate": 0.0},
        {"step": 4, "learning_rate": 2e-4},
        {"step": 30, "learning_rate": 1e-5},
        {"step": 30, "train_loss": 0.4},
    ],
}


def write(folder, adapter=ADAPTER, state=STATE, *, at="checkpoint-30"):
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(adapter))
    (folder / at).mkdir(exist_ok=True)
    (folder / at / "trainer_state.json").write_text(json.dumps(state))
    data = folder / "train.jsonl"
    data.write_text("".join(json.dumps({"text": f"Line {n}."}) + "\n" for n in range(80)))
    return str(data)


def test_a_run_of_trl_tells_its_recipe(tmp_path):
    data = write(tmp_path / "run")
    write(tmp_path / "run", state=STATE | {"num_train_epochs": 9}, at="checkpoint-4")
    found = read_trainer_run(tmp_path / "run", [data])
    train = found.train
    assert (found.model, found.data) == ("org/base", (data,))
    assert (train.rank, train.alpha, train.targets) == (8, 32.0, ("q_proj", "v_proj"))
    assert (train.first_layer, train.last_layer) == (2, 4)
    # 80 records, 3 passes, 30 steps: 8 records a step, whatever the accumulation was.
    assert (train.epochs, train.batch, train.lr) == (3, 8, 2e-4)
    assert train.warmup == pytest.approx(3 / 30)


@pytest.mark.parametrize(
    ("adapter", "expected"),
    [
        ({"use_rslora": True}, {"alpha": pytest.approx(32 * 8**0.5)}),
        ({"target_modules": "all-linear"}, {"targets": ()}),
        ({"layers_to_transform": None}, {"first_layer": 0, "last_layer": None}),
        ({"layers_to_transform": 5}, {"first_layer": 5, "last_layer": 5}),
    ],
)
def test_the_shape_of_the_adapter(tmp_path, adapter, expected):
    data = write(tmp_path / "run", ADAPTER | adapter)
    train = read_trainer_run(tmp_path / "run", [data]).train
    assert {name: getattr(train, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("adapter", "state", "code", "names"),
    [
        ({"peft_type": "IA3"}, {}, "adapter-of-another-kind", "IA3"),
        ({"use_dora": True}, {}, "adapter-of-another-kind", "use_dora"),
        ({"modules_to_save": ["lm_head"]}, {}, "adapter-of-another-kind", "modules_to_save"),
        ({"base_model_name_or_path": None}, {}, "incomplete-recipe", "base_model_name_or_path"),
        ({}, {"log_history": []}, "incomplete-recipe", "learning_rate"),
        ({}, {"max_steps": 0}, "incomplete-recipe", "max_steps"),
    ],
)
def test_what_cannot_be_repeated_is_said(tmp_path, adapter, state, code, names):
    data = write(tmp_path / "run", ADAPTER | adapter, STATE | state)
    with pytest.raises(ExpungeError) as caught:
        read_trainer_run(tmp_path / "run", [data])
    assert caught.value.code == code
    assert names in caught.value.what + caught.value.why


def settings(model, **given):
    request = {"goal": "removal", "forget": ("erase.jsonl",)}
    return Settings.model_validate({"model": model, "request": request, **given})


def test_where_the_recipe_comes_from(tmp_path):
    run = tmp_path / "run"
    data = write(run)
    assert recipe_of(settings(f"org/base+{run}")) is None
    of_adapter = recipe_of(settings(f"here/base+{run}", trained_on=(data,)))
    of_merged = recipe_of(settings("merged", recipe=str(run), trained_on=(data,)))
    assert of_adapter is not None
    assert of_merged is not None
    assert (of_adapter.model, of_merged.model) == ("here/base", "org/base")
    assert of_adapter.train == of_merged.train
    for given, code in (
        ({"recipe": str(run)}, "no-training-data"),
        ({"trained_on": (data,)}, "no-training-run"),
    ):
        with pytest.raises(ExpungeError) as caught:
            recipe_of(settings("merged", **given))
        assert caught.value.code == code
