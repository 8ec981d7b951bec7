"""The documents are run: commands exist, TOML resolves, data parse, Python works."""

import json
import re
import runpy
import shlex
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import pytest

from expunge.attacks.presets import attack_names
from expunge.cli.main import main
from expunge.config.resolve import resolve
from expunge.data.convert import to_record
from expunge.methods import EVERY, build
from expunge.preparation.chain import stages

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAPERS = (ROOT / "docs" / "papers.md").read_text(encoding="utf-8")
COMMANDS = (
    "plan",
    "forget",
    "audit",
    "attack",
    "report",
    "verify",
    "merge",
    "methods",
    "metrics",
    "compat",
    "bench",
    "tune",
    "doctor",
    "demo",
    "version",
)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("text", blocks("bash"))
def test_commands_in_the_readme_are_commands(text):
    from expunge.cli.main import app

    for line in text.strip().splitlines():
        words = shlex.split(line, comments=True)
        if words:
            assert words[0] == "expunge"
            app.parse_args(words[1:], exit_on_error=False, print_error=False)
            only = {word for flag, word in pairwise(words) if flag == "--only"}
            assert only <= set(attack_names())


def test_flags_in_the_documents_exist(capsys):
    from expunge.cli import main

    known = set()
    for command in COMMANDS:
        main([command, "--help"])
        known |= set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out))
    # `negative` spellings are accepted by the parser and not listed by the help.
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README + PAPERS)) - {"--no-redact"}
    assert named <= known | {"--base", "--shared", "--out", "--device"}


def test_request_file_in_the_readme_resolves(tmp_path):
    (tmp_path / "request.toml").write_text(blocks("toml")[0], encoding="utf-8")
    found = resolve({}, config=tmp_path / "request.toml", environ={}, start=tmp_path).settings
    assert found.method.knobs == {"beta": 0.1}
    assert found.request.threat_model == "T1"


def test_chain_in_the_readme_resolves(tmp_path):
    (tmp_path / "request.toml").write_text(blocks("toml")[1], encoding="utf-8")
    found = resolve({}, config=tmp_path / "request.toml", environ={}, start=tmp_path).settings
    each = stages(found)
    assert [stage.method.name for stage in each] == ["rmu", "npo", "undo"]
    for stage in each:
        build(stage.method.name, stage.method.knobs)
    assert each[1].train.epochs == 5


def test_record_in_the_readme_is_a_record():
    record = to_record(json.loads(blocks("jsonl")[0]), "README.md:1")
    assert record.key_answers[0] in record.completion


def test_python_in_the_readme_runs(world, bench):
    text = blocks("python")[0]
    changes = {
        '"path/to/model"': repr(world.original),
        '"erase.jsonl"': repr(world.data("forget")),
        '"keep.jsonl"': repr(world.data("retain")),
    }
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    short = 'train={"steps": 2}, offline=True,\n    request='
    exec(compile(text.replace("request=", short, 1), "README.md", "exec"), {})
    assert (bench / "runs" / "latest" / "report.html").is_file()


def test_the_method_of_the_contributing_page_works_from_the_command_line(world, bench, capsys):
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    (bench / "capped.py").write_text(code, encoding="utf-8")
    words = world.command(**{"method.name": "capped:Capped", "method.cap": "2.5"})
    assert main([*words, "--out", "run"]) == 0
    assert "capped:Capped (cap 2.5)" in " ".join(capsys.readouterr().out.split())
    run = json.loads((bench / "run" / "results.json").read_text(encoding="utf-8"))
    assert run["verdict"]


@pytest.mark.parametrize("name", EVERY)
def test_every_method_is_in_the_documents(name):
    kind = EVERY[name]
    assert f"`{name}`" in README
    assert f"--method {name}" in PAPERS
    assert f"{kind.__module__.removeprefix('expunge.').replace('.', '/')}.py" in PAPERS


def test_pages_of_methods_are_what_the_code_says():
    wanted = runpy.run_path(str(ROOT / "scripts" / "make_method_pages.py"))["pages"]()
    folder = ROOT / "docs" / "methods"
    assert {path.name for path in folder.iterdir()} == set(wanted)
    for name, text in wanted.items():
        assert (folder / name).read_text(encoding="utf-8") == text, (
            "run python scripts/make_method_pages.py"
        )


@pytest.fixture(scope="module")
def published():
    return runpy.run_path(str(ROOT / "scripts" / "make_method_pages.py"))["published"]()


def test_every_method_says_how_it_fails_and_what_was_reported(published):
    assert set(published) == set(EVERY)
    for name, entry in published.items():
        assert entry.fails.endswith("."), name
        assert entry.commands, name
        assert set(entry.published) <= {field.name for field in fields(EVERY[name])}, name
        for result in entry.results:
            assert re.search(r"\(.*(OU|arXiv:\d{4}\.\d{5}).*\)$", result), result


def test_the_page_of_metrics_is_what_the_code_says():
    wanted = runpy.run_path(str(ROOT / "scripts" / "make_metric_page.py"))["page"]()
    assert (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8") == wanted, (
        "run python scripts/make_metric_page.py"
    )


def test_the_page_of_attacks_is_what_the_code_says():
    wanted = runpy.run_path(str(ROOT / "scripts" / "make_attack_page.py"))["page"]()
    assert (ROOT / "docs" / "attacks.md").read_text(encoding="utf-8") == wanted, (
        "run python scripts/make_attack_page.py"
    )
    for name in attack_names():
        assert f"| `{name}` |" in wanted


def test_the_page_of_settings_is_what_the_code_says():
    wanted = runpy.run_path(str(ROOT / "scripts" / "make_settings_page.py"))["page"]()
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == wanted, (
        "run python scripts/make_settings_page.py"
    )


def test_the_page_of_the_auditor_is_what_was_measured():
    wanted = runpy.run_path(str(ROOT / "scripts" / "make_auditor_page.py"))["page"]()
    assert (ROOT / "docs" / "auditor.md").read_text(encoding="utf-8") == wanted, (
        "run python scripts/make_auditor_page.py"
    )


def test_the_page_of_results_is_what_the_committed_leaderboards_say():
    wanted = runpy.run_path(str(ROOT / "scripts" / "make_results_page.py"))["page"]()
    assert (ROOT / "docs" / "results.md").read_text(encoding="utf-8") == wanted, (
        "run python scripts/make_results_page.py"
    )
