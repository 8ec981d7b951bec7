"""No code from files: what a request, a run or a matrix names is imported at the user's word only.

Every file names `payload:Method`. `payload.py` lies in the working folder and leaves a mark when it
is imported.
"""

import json
import sys
from pathlib import Path

import pytest

import tiny
from bench_results import method, row, tree
from expunge.benchmarking.protocol import Protocol, open_protocol
from expunge.benchmarking.result import lay_out, write_row
from expunge.cli.main import main
from expunge.config.resolve import names_code, resolve, to_toml
from expunge.config.settings import Settings
from expunge.errors import UsageError
from synthetic_run import build_run

NAME = "payload:Method"
PAYLOAD = """from pathlib import Path
from expunge.methods.npo import NPO
Path("ran").touch()
Method = NPO
def translate(text, language): return text
"""
TABLES = ("method", "robust", "combine", "mask", "optimiser")


@pytest.fixture
def place(bench, monkeypatch):
    """A working folder with the payload, a model and data; the payload is forgotten after it."""
    Path("payload.py").write_text(PAYLOAD)
    tiny.hollow(Path("model"))
    Path("forget.jsonl").write_text('{"prompt": "Who?", "completion": "Ko"}\n')
    yield bench
    sys.modules.pop("payload", None)


def request(more: str = f'[method]\nname = "{NAME}"\n') -> str:
    return f'model = "model"\n[request]\ngoal = "removal"\nforget = ["forget.jsonl"]\n{more}'


def their_run() -> str:
    Path("theirs").mkdir()
    Path("theirs/run.json").write_text("{}")
    Path("theirs/adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}')
    Path("theirs/config.toml").write_text(request())
    return "theirs"


def their_request() -> str:
    Path("request.toml").write_text(request())
    return "request.toml"


def found_upward() -> list[str]:
    Path("expunge.toml").write_text(f'[method]\nname = "{NAME}"\n')
    return ["model", "forget.jsonl", "--goal", "removal"]


def their_matrix() -> str:
    cell = method(NAME)
    open_protocol(Path("matrix"), Protocol(settings=tree()))
    write_row(lay_out(Path("matrix"), cell), row(cell))
    return "matrix"


def their_choice() -> str:
    Path("chosen.json").write_text(json.dumps({NAME: {}}))
    Path("mine.toml").write_text(request(""))
    return "chosen.json"


DOORS = {
    "forget a request": lambda: ["forget", their_request()],
    "forget with expunge.toml": lambda: ["forget", *found_upward()],
    "forget with --config": lambda: ["forget", "--config", their_request()],
    "plan": lambda: ["plan", their_request()],
    "tune": lambda: ["tune", their_request()],
    "bench a request": lambda: ["bench", their_request(), "--methods", "npo"],
    "bench what was chosen": lambda: ["bench", "mine.toml", "--chosen", their_choice()],
    "bench report": lambda: ["bench", "report", their_matrix()],
    "audit against a run": lambda: ["audit", "model", "--against", their_run()],
    "audit against a request": lambda: ["audit", "model", "--against", their_request()],
    "attack": lambda: ["attack", "model", "--against", their_run()],
    "merge": lambda: ["merge", their_run(), "--out", "merged"],
}


@pytest.mark.parametrize("door", DOORS)
def test_no_command_imports_what_a_file_names(door, place, capsys):
    assert main([*DOORS[door](), "--offline"]) == 2
    said = capsys.readouterr().err
    assert "error[code-from-file]" in said
    assert NAME in said
    assert "name it yourself" in said
    assert "payload" not in sys.modules
    assert not Path("ran").exists()


@pytest.mark.parametrize("verb", ["verify", "report"])
def test_reading_a_run_imports_nothing(verb, place, capsys):
    run = build_run(place / "run")
    (run / "config.toml").write_text(request())
    (run / "run.json").write_text("{}")
    main([verb, str(run)])
    assert "Traceback" not in capsys.readouterr().err
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    "more",
    [
        *(f'[{table}]\nname = "payload:Method"\n' for table in TABLES),
        *(
            f'[[stage]]\n[stage.method]\nname = "npo"\n[stage.{table}]\nname = "payload:X"\n'
            for table in TABLES[1:]
        ),
        '[[stage]]\n[stage.method]\nname = "payload:X"\n',
        '[audit]\ntranslator = "payload:translate"\n',
        '[audit]\ntranslator = "payload"\n',
    ],
)
def test_every_setting_that_names_code_is_refused(more, place):
    Path("r.toml").write_text(request(more))
    with pytest.raises(UsageError, match="code-from-file"):
        resolve({}, config=Path("r.toml"), environ={}, start=place)


@pytest.mark.parametrize(
    ("flags", "environ"),
    [({"method.name": NAME}, {}), ({}, {"EXPUNGE_METHOD_NAME": NAME})],
)
@pytest.mark.parametrize("chain", [False, True])
def test_the_user_may_name_it(flags, environ, chain, place):
    """The hyperparameters of the file stay; so a saved request can be run again."""
    table = f'name = "{NAME}"\nbeta = 0.5\n'
    more = f"[[stage]]\n[stage.method]\n{table}" if chain else f"[method]\n{table}"
    Path("r.toml").write_text(request(more))
    found = resolve(flags, config=Path("r.toml"), environ=environ, start=place).settings
    chosen = found.stage[0].method if found.stage else found.method
    assert (chosen.name, chosen.parameters) == (NAME, {"beta": 0.5})


def test_a_flag_may_name_another_method_instead(place):
    Path("r.toml").write_text(request())
    found = resolve({"method.name": "npo"}, config=Path("r.toml"), environ={}, start=place)
    assert found.settings.method.name == "npo"


def test_a_cell_runs_what_the_command_says_and_not_what_lies_there(tmp_path):
    cell = method("npo")
    lay_out(tmp_path, cell)
    path = tmp_path / "cells" / cell.id / "cell.json"
    path.write_text(json.dumps({"kind": "method", "name": NAME, "values": {}, "seed": 0}))
    lay_out(tmp_path, cell)
    assert json.loads(path.read_text())["name"] == "npo"


def test_every_setting_with_a_class_of_its_own_is_known():
    """A new table of a named choice cannot be forgotten."""
    tree = Settings.model_validate(
        {"model": "m", "request": {"goal": "removal", "forget": ["f"]}, "audit": {}}
    )
    assert to_toml(tree)
    named = {
        f"{table}.name"
        for table, field in Settings.model_fields.items()
        if "module:Class" in str(getattr(field.annotation, "model_fields", {}).get("name", ""))
    }
    assert named == {f"{table}.name" for table in TABLES}
    assert all(names_code(path, NAME) for path in (*named, "audit.translator"))
