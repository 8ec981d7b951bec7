import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge.config.request import Goal, Request, Response, ThreatModel, Tier
from expunge.config.resolve import FILE_NAME, PREFIX, RESERVED, Resolved, resolve, to_toml
from expunge.config.settings import MethodSettings, Settings, TrainSettings
from expunge.errors import UsageError

NEEDED = {"model": "m", "request.forget": ["f.jsonl"], "request.goal": "removal"}


def run(
    folder: Path,
    flags: dict[str, object] | None = None,
    *,
    toml: str | None = None,
    **environ: str,
) -> Resolved:
    config = None
    if toml is not None:
        config = folder / "given.toml"
        config.write_text(toml)
    given = NEEDED if flags is None else flags
    return resolve(given, config=config, environ=environ, start=folder)


def failing(folder: Path, *args: object, **kwargs: object) -> UsageError:
    with pytest.raises(UsageError) as caught:
        run(folder, *args, **kwargs)
    assert len(str(caught.value).splitlines()) == 3
    return caught.value


def test_defaults_have_no_origin(tmp_path):
    resolved = run(tmp_path)
    assert resolved.settings.train == TrainSettings()
    assert dict(resolved.origins) == dict.fromkeys(NEEDED, "flag")


def test_later_layers_win_and_origins_say_which(tmp_path):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / FILE_NAME).write_text("[train]\nlr=1.0\nrank=1\nbatch=1\nepochs=1\nseed=1\n")
    toml = "[train]\nrank=2\nbatch=2\nepochs=2\n"
    flags = {**NEEDED, "train.epochs": 4, "train.steps": None}
    resolved = run(inner, flags, toml=toml, EXPUNGE_TRAIN_BATCH="3", EXPUNGE_TRAIN_EPOCHS="3")
    train = resolved.settings.train
    assert (train.lr, train.rank, train.batch, train.epochs, train.steps) == (1.0, 2, 3, 4, None)
    assert {key: resolved.origins[f"train.{key}"] for key in ("lr", "rank", "batch", "epochs")} == {
        "lr": str(tmp_path / FILE_NAME),
        "rank": str(inner / "given.toml"),
        "batch": "EXPUNGE_TRAIN_BATCH",
        "epochs": "flag",
    }
    assert "train.steps" not in resolved.origins


def test_the_nearest_file_upward_is_the_only_one_found(tmp_path):
    inner = tmp_path / "a"
    inner.mkdir()
    (tmp_path / FILE_NAME).write_text("[train]\nlr=1.0\n")
    (inner / FILE_NAME).write_text("[train]\nrank=5\n")
    train = run(inner).settings.train
    assert (train.lr, train.rank) == (None, 5)


@pytest.mark.parametrize("by_variable", [True, False])
def test_a_config_may_be_named_by_variable_and_the_flag_wins(tmp_path, by_variable):
    named = tmp_path / "named.toml"
    named.write_text("[train]\nrank=7\n")
    toml = None if by_variable else "[train]\nrank=8\n"
    resolved = run(tmp_path, toml=toml, EXPUNGE_CONFIG=str(named))
    assert resolved.settings.train.rank == (7 if by_variable else 8)


@pytest.mark.parametrize(
    ("name", "text", "path", "expected"),
    [
        ("TRAIN_LR", "1e-4", "train.lr", 1e-4),
        ("TRAIN_FULL", "true", "train.full", True),
        ("TRAIN_TOKENS_PER_PASS", "64", "train.tokens_per_pass", 64),
        ("OFFLINE", "1", "offline", True),
        (
            "REQUEST_FORGET",
            "a.jsonl, own/name:train",
            "request.forget",
            ("a.jsonl", "own/name:train"),
        ),
        ("REQUEST_REFUSALS", '["No, sorry.", "No"]', "request.refusals", ("No, sorry.", "No")),
        ("REQUEST_RETAIN", "none", "request.retain", "none"),
        ("REQUEST_RETAIN", "a,b", "request.retain", ("a", "b")),
        ("REQUEST_TIER", "G3", "request.tier", Tier.G3),
        ("REQUEST_MARGINS_UTILITY", "0.2", "request.margins.utility", 0.2),
        ("METHOD_NAME", "rmu", "method.name", "rmu"),
        ("TRAIN_SEED", " ", "train.seed", 0),
    ],
)
@pytest.mark.parametrize("by_flag", [True, False])
def test_texts_are_typed_by_their_key(tmp_path, name, text, path, expected, by_flag):
    if by_flag and text.strip():
        value: object = run(tmp_path, {**NEEDED, path: text}).settings
    else:
        flags = {key: value for key, value in NEEDED.items() if key != path}
        value = run(tmp_path, flags, **{PREFIX + name: text}).settings
    for part in path.split("."):
        value = getattr(value, part)
    assert value == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.2", 0.2),
        ("3", 3),
        ("true", True),
        ("[1, 2]", [1, 2]),
        ("[1, null]", "[1, null]"),
        ("model.layers", "model.layers"),
        ("Infinity", float("inf")),
    ],
)
def test_hyperparameters_are_json_where_they_can_be(tmp_path, text, expected):
    for resolved in (
        run(tmp_path, EXPUNGE_METHOD_SOME_KNOB=text),
        run(tmp_path, {**NEEDED, "method.some_knob": text}),
    ):
        assert resolved.settings.method.parameters == {"some_knob": expected}
        assert tomllib.loads(to_toml(resolved.settings))["method"]["some_knob"] == expected


@pytest.mark.parametrize(
    ("name", "knobs"), [(None, {"beta": 0.2}), ("auto", {"beta": 0.2}), ("simnpo", {"gamma": 1})]
)
def test_hyperparameters_belong_to_the_method_they_were_set_for(tmp_path, name, knobs):
    flags = {**NEEDED, "method.name": name}
    if name == "simnpo":
        flags["method.gamma"] = 1
    resolved = run(tmp_path, flags, toml="[method]\nbeta = 0.2\n")
    assert resolved.settings.method.parameters == knobs
    assert ("method.beta" in resolved.origins) is ("beta" in knobs)


def test_reserved_and_foreign_variables_are_no_settings(tmp_path):
    variables = dict.fromkeys(RESERVED, "") | {
        "EXPUNGE_CACHE": "x",
        "EXPUNG_TRAIN": "y",
        "HOME": "/",
    }
    assert dict(run(tmp_path, **variables).origins) == dict.fromkeys(NEEDED, "flag")


def test_a_single_text_in_toml_is_a_list_of_one(tmp_path):
    toml = 'model="m"\n[request]\ngoal="edit"\nforget="a,b.jsonl"\nretain="auto"\n'
    request = run(tmp_path, {}, toml=toml).settings.request
    assert (request.forget, request.retain) == (("a,b.jsonl",), "auto")


def test_paths_in_a_file_are_relative_to_it_where_they_exist(tmp_path, monkeypatch):
    (tmp_path / "sub" / "model").mkdir(parents=True)
    (tmp_path / "sub" / "a.jsonl").touch()
    config = tmp_path / "sub" / "c.toml"
    config.write_text(
        'model="model"\nout="model"\n[request]\ngoal="edit"\nforget=["a.jsonl", "own/name"]\n'
    )
    monkeypatch.chdir(tmp_path)
    settings = resolve({}, config=config, environ={}, start=tmp_path).settings
    assert settings.model == str(tmp_path / "sub" / "model")
    assert settings.request.forget == (str(tmp_path / "sub" / "a.jsonl"), "own/name")
    assert settings.out == "model"
    monkeypatch.chdir(tmp_path / "sub")
    assert resolve({}, config=config, environ={}, start=tmp_path).settings.model == "model"
    flags = {"model": "model", "request.forget": ["a.jsonl"]}
    monkeypatch.chdir(tmp_path)
    assert resolve(flags, config=config, environ={}, start=tmp_path).settings.model == "model"


@pytest.mark.parametrize(
    ("toml", "flags", "environ", "where", "suggestion"),
    [
        ("[train]\nrnk=1", {}, {}, "`train.rnk` in ", "`train.rank`"),
        ("lr=1", {}, {}, "`lr` in ", "`train.lr`"),
        ("[trian]\nlr=1", {}, {}, "`trian` in ", "`train`"),
        ("[request.margin]\nutility=1", {}, {}, "`request.margin` in ", "`request.margins`"),
        (None, {"audit.levle": "quick"}, {}, "in the command line", "`audit.level`"),
        (None, {"method": "npo"}, {}, "in the command line", "`method.name`"),
        (None, {}, {"EXPUNGE_TRAIN_LRR": "1"}, "in the environment", "`EXPUNGE_TRAIN_LR`"),
        (None, {}, {"EXPUNGE_CASHE": "1"}, "in the environment", "`EXPUNGE_CACHE`"),
    ],
)
def test_an_unknown_key_is_an_error_with_a_suggestion(
    tmp_path, toml, flags, environ, where, suggestion
):
    error = failing(tmp_path, {**NEEDED, **flags}, toml=toml, **environ)
    assert error.code == "unknown-key"
    assert where in error.what
    assert suggestion in error.fix
    assert toml is None or "given.toml" in error.what


def test_an_unknown_key_like_no_other_gets_no_suggestion(tmp_path):
    assert failing(tmp_path, {**NEEDED, "qqqqqqqq": 1}).fix.startswith("remove it")


@pytest.mark.parametrize(
    ("toml", "flags", "environ", "key", "origin", "allowed"),
    [
        (None, {"train.lr": -1}, {}, "train.lr", "set by flag", "greater than 0"),
        ("[train]\nrank=0", {}, {}, "train.rank", "given.toml", "greater than or equal to 1"),
        (
            None,
            {},
            {"EXPUNGE_TRAIN_SEED": "x"},
            "train.seed",
            "EXPUNGE_TRAIN_SEED",
            "valid integer",
        ),
        (
            None,
            {"request.goal": "x"},
            {},
            "request.goal",
            "set by flag",
            "'removal', 'suppression' or",
        ),
        (None, {"device": "tpu"}, {}, "device", "set by flag", "'auto', 'cpu', 'cuda' or 'mps'"),
        (None, {"request.forget": ""}, {}, "request.forget", "set by flag", "it is empty"),
        ("train=3", {}, {}, "train", "given.toml", "write [train]"),
        (None, {"request.gold": "[1"}, {}, "request.gold", "set by flag", '["a", "b"]'),
        (
            "[request.margins]\nutility=2",
            {},
            {},
            "request.margins.utility",
            "given.toml",
            "less than 1",
        ),
        (None, {"request.tier": "G1"}, {}, "request.tier", "set by flag", "gold names none"),
        ("[train]\nlr=0\nrank=0", {}, {}, "(and 1 more)", "given.toml", "peak learning rate"),
    ],
)
def test_an_invalid_value_names_key_origin_and_what_is_allowed(
    tmp_path, toml, flags, environ, key, origin, allowed
):
    error = failing(tmp_path, {**NEEDED, **flags}, toml=toml, **environ)
    assert error.code == "invalid-value"
    assert key in error.what
    assert origin in error.why
    assert allowed in error.why + error.fix


@pytest.mark.parametrize(
    ("missing", "code", "words"),
    [
        ("model", "no-model", ["Hub id", "folder"]),
        ("request.forget", "no-forget", ["give a file"]),
        (
            "request.goal",
            "no-goal",
            ["removal (as if", "suppression (not said", "edit (says something"],
        ),
    ],
)
def test_what_has_no_default_is_asked_for(tmp_path, missing, code, words):
    error = failing(tmp_path, {key: value for key, value in NEEDED.items() if key != missing})
    assert error.code == code
    assert all(word in error.fix for word in words)


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        (b"a=1\nmodel=x\n", "invalid-toml", "given.toml:2: not valid TOML"),
        (b"model='\xff'", "invalid-toml", "given.toml: not UTF-8 (byte 7)"),
        (None, "config-missing", "No such file"),
    ],
)
def test_an_unreadable_file_is_named(tmp_path, content, code, message):
    path = tmp_path / "given.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        resolve(NEEDED, config=path, environ={}, start=tmp_path)
    assert caught.value.code == code
    assert message in str(caught.value)


LETTERS = st.characters(codec="utf-8", exclude_characters="\0")
"""A zero byte is refused: no path and no name can hold one. So are blanks alone."""
NAMES = st.just(".") | st.text(LETTERS, min_size=1, max_size=12).filter(lambda t: not t.isspace())
SOURCES = st.lists(NAMES, max_size=3).map(tuple)
SHARES = st.floats(0.001, 0.499)
KNOBS = st.dictionaries(
    st.from_regex(r"[a-z_]{1,8}", fullmatch=True).filter(
        lambda name: name not in ("name", "parameters")
    ),
    st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | NAMES,
    max_size=3,
)
TIERS = st.tuples(st.just(()), st.sampled_from([None, Tier.G3, Tier.G4])) | st.tuples(
    SOURCES.filter(bool), st.none() | st.sampled_from(Tier)
)
REQUESTS = st.builds(
    lambda tier, **fields: Request(gold=tier[0], tier=tier[1], **fields),
    tier=TIERS,
    goal=st.sampled_from(Goal),
    id=NAMES,
    forget=st.lists(NAMES, min_size=1, max_size=3).map(tuple),
    retain=st.sampled_from(["auto", "none"]) | SOURCES,
    response=st.sampled_from(Response),
    refusals=SOURCES,
    threat_model=st.sampled_from(ThreatModel),
    utility_budget=SHARES,
    margins=st.fixed_dictionaries({"privacy": SHARES, "utility": SHARES}),
)
SETTINGS = st.builds(
    Settings,
    model=NAMES,
    precision=st.sampled_from(["auto", "fp32", "bf16"]),
    offline=st.booleans(),
    out=st.none() | NAMES,
    request=REQUESTS,
    method=st.builds(
        lambda name, knobs: MethodSettings(name=name, **knobs),
        NAMES.filter(lambda name: ":" not in name),  # code to import is refused from files
        KNOBS,
    ),
    train=st.builds(
        TrainSettings,
        lr=st.none() | st.floats(1e-12, 1e3),
        clip=st.just(float("inf")) | st.floats(0.1, 9),
        steps=st.none() | st.integers(1, 10**7),
    ),
)


@settings(deadline=None)
@given(SETTINGS)
def test_saved_settings_resolve_to_equal_settings(tmp_path_factory, settings):
    folder = tmp_path_factory.mktemp("saved")
    config = folder / "saved" / "config.toml"
    config.parent.mkdir()
    config.write_bytes(to_toml(settings).encode())
    assert resolve({}, config=config, environ={}, start=folder).settings == settings


def test_saved_settings_hold_every_key_that_has_a_value(tmp_path):
    saved = tomllib.loads(to_toml(run(tmp_path).settings))
    assert saved["train"]["rank"] == 16
    assert "lr" not in saved["train"]
    assert saved["request"]["margins"]["utility"] == 0.03


@pytest.mark.parametrize(
    ("toml", "flags", "environ", "trusted"),
    [
        ("trust_remote_code = true", {}, {}, None),
        ("trust_remote_code = false", {}, {}, False),
        ("trust_remote_code = true", {"trust_remote_code": "true"}, {}, True),
        ("trust_remote_code = true", {"trust_remote_code": "false"}, {}, False),
        ("", {}, {"EXPUNGE_TRUST_REMOTE_CODE": "1"}, True),
    ],
)
def test_a_file_cannot_have_the_code_of_a_model_run(tmp_path, toml, flags, environ, trusted):
    """It may have come with the model: an expunge.toml found there, or the folder of a run."""
    given = {**NEEDED, **flags}
    if trusted is None:
        assert failing(tmp_path, given, toml=toml, **environ).code == "trust-from-file"
        (tmp_path / FILE_NAME).write_text(toml)
        assert "expunge.toml" in failing(tmp_path, given).what
    else:
        found = run(tmp_path, given, toml=toml, **environ).settings
        assert found.trust_remote_code is trusted
