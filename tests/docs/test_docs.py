"""The documents are run: commands exist, files resolve, data parse, Python works, none is stale."""

import json
import re
import runpy
import shlex
import string
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from expunge.attacks.presets import attack_names
from expunge.cli.main import COMMANDS, app, main
from expunge.config.resolve import resolve
from expunge.data.convert import to_record
from expunge.methods import EVERY, build
from expunge.preparation.prepare import stages

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAPERS = (ROOT / "docs" / "catalogue" / "papers.md").read_text(encoding="utf-8")
CHAIN = "docs/how-to/chain-methods.md"
HAND = sorted(
    path
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"))
    if not path.read_text(encoding="utf-8").startswith("<!-- Written by")
)
"""Pages that a person wrote; the others are generated."""
DOCS = runpy.run_path(str(ROOT / "scripts" / "make_docs.py"))
PAGES = DOCS["pages"]()


def blocks(language: str, page: str = "README.md") -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}(?: [^\n]*)?\n(.*?)```", text, flags=re.DOTALL)


def commands(page: Path) -> list[list[str]]:
    """The commands of expunge in the blocks of a page, without comments."""
    text = page.read_text(encoding="utf-8")
    found = "\n".join(re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL))
    lines = found.replace("\\\n", " ").splitlines()
    split = (shlex.split(line, comments=True) for line in lines)
    return [
        words[words.index("expunge") :]
        for words in split
        if words[:1] == ["expunge"] or ["-m", "expunge"] in map(list, pairwise(words))
    ]


@pytest.mark.parametrize("path", sorted(PAGES))
def test_generated_pages_are_what_the_code_says(path):
    text = (ROOT / path).read_text(encoding="utf-8")
    assert text == PAGES[path], "run python scripts/make_docs.py"


def test_every_planted_model_names_a_test_that_exists():
    page = PAGES["docs/results/auditor.md"]
    rows = re.findall(r"`(\w+/test_\w+\.py)::(test_\w+)` \|$", page, flags=re.MULTILINE)
    assert len(rows) >= 40
    for path, name in set(rows):
        assert f"def {name}(" in (ROOT / "tests" / path).read_text(encoding="utf-8"), (path, name)


def test_a_stale_or_missing_page_is_named(tmp_path):
    for path, text in PAGES.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    (tmp_path / "README.md").write_text(PAGES["README.md"] + "more\n", encoding="utf-8")
    (tmp_path / "docs/reference/cli.md").unlink()
    assert DOCS["stale"](tmp_path, PAGES) == ["README.md", "docs/reference/cli.md"]


@pytest.mark.parametrize("page", HAND, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_a_page_are_commands(page):
    for words in commands(page):
        if words[1] not in COMMANDS:
            pytest.fail(f"no command: {' '.join(words)}")
        if "--help" not in words:
            app.parse_args(words[1:], exit_on_error=False, print_error=False)
        only = {word for flag, word in pairwise(words) if flag == "--only"}
        assert {name for name in only if ":" not in name} <= set(attack_names())


def test_the_action_types_commands_that_exist():
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    text = "\n".join(step.get("run", "") for step in action["runs"]["steps"])
    typed = [shlex.split(line) for line in text.replace("\\\n", " ").splitlines()]
    found = [words[1:] for words in typed if words and words[0] == "expunge"]
    assert [words[0] for words in found] == ["audit", "verify"]
    for words in found:
        app.parse_args(words, exit_on_error=False, print_error=False)
    used = set(re.findall(r"inputs\.(\w+)", (ROOT / "action.yml").read_text(encoding="utf-8")))
    assert used == set(action["inputs"])


def test_flags_in_the_documents_exist(capsys):
    known = {"--nproc-per-node", "--part", "--again", "--precision", "--base", "--shared"}
    known |= {"--help", "--records", "--authors", "--steps", "--attacked", "--out", "--no-redact"}
    known |= {"--plain", "--world", "--worlds", "--seed", "--arm", "--work", "--recognise"}
    known |= {"--local-dir", "--file", "--tag", "--rm", "--volume"}  # of hf and docker
    known |= {"--include", "--tasks", "--apply", "--log"}  # of lm_eval, up to the underscore
    known |= {"--from"}  # of uvx
    for command in COMMANDS:
        main([command, "--help"])
        known |= set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out))
    for page in HAND:
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", page.read_text(encoding="utf-8")))
        assert named <= known, page.name


def test_the_readme_is_short_and_plain():
    """150 lines, 900 words, under 15 words a sentence (blocks, tables and pictures left out)."""
    assert len(README.splitlines()) <= 150
    assert len(README.split()) <= 900
    prose = re.sub(r"```.*?```|<!--.*?-->|<img[^>]*>", "", README, flags=re.DOTALL)
    prose = "\n".join(line for line in prose.splitlines() if not line.startswith(("|", "#")))
    found = re.split(r"(?<=[.!?:])\s+|\n\s*\n|\n- ", re.sub(r"\]\([^)]*\)", "]", prose))
    counts = [
        len([word for word in each.split() if word.strip(string.punctuation)]) for each in found
    ]
    counts = [count for count in counts if count]
    assert sum(counts) / len(counts) < 15
    assert max(counts) <= 25


def test_links_of_the_readme_exist():
    named = re.findall(r"\]\(([^)#]+)[^)]*\)|src=\"([^\"]+)\"", README)
    paths = [first or second for first, second in named]
    assert len(paths) > 15
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_links_of_llms_txt_exist():
    named = re.findall(r"\]\(([^)]+)\)", (ROOT / "llms.txt").read_text(encoding="utf-8"))
    assert len(named) > 15
    assert [path for path in named if not (ROOT / path).is_file()] == []


def test_the_page_of_what_users_expect_has_26_rows_and_names_what_is_missing():
    text = (ROOT / "docs/reference/expected.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \| ([^|]+) \| (full|part: [^|]{10,}) \|$", text, re.M)
    assert [int(number) for number, *_ in rows] == [*range(1, 27)]
    shown = [
        shlex.split(words) for _, _, by, _ in rows for words in re.findall(r"`expunge ([^`]+)`", by)
    ]
    assert len(shown) >= 18
    for words in shown:
        if words != ["--help"]:
            app.parse_args(words, exit_on_error=False, print_error=False)


def test_the_picture_of_the_report_is_small():
    assert 20_000 < (ROOT / "docs/images/report.png").stat().st_size < 200_000


@pytest.mark.parametrize("page", ["README.md", "docs/start/first-erasure.md"])
def test_records_in_the_documents_are_records(page):
    lines = [
        line
        for block in blocks("jsonl", page) + blocks("json", page)
        for line in block.splitlines()
    ]
    records = [to_record(json.loads(line), page) for line in lines]
    assert len(records) == 2
    assert all(record.key_answers[0] in record.completion for record in records)


def test_records_of_every_convention_are_records():
    (block,) = blocks("json", "docs/reference/data.md")
    assert len([to_record(json.loads(line), "data.md") for line in block.splitlines()]) == 3


def test_the_chain_in_the_documents_resolves(tmp_path):
    (tmp_path / "request.toml").write_text(blocks("toml", CHAIN)[0], encoding="utf-8")
    found = resolve({}, config=tmp_path / "request.toml", environ={}, start=tmp_path).settings
    each = stages(found)
    assert [stage.method.name for stage in each] == ["rmu", "npo", "undo"]
    for stage in each:
        build(stage.method.name, stage.method.parameters)
    assert each[1].train.epochs == 5


def test_the_request_of_an_audit_in_the_documents_resolves(tmp_path):
    text = blocks("toml", "docs/how-to/audit-a-model.md")[0]
    (tmp_path / "request.toml").write_text(text, encoding="utf-8")
    found = resolve({}, config=tmp_path / "request.toml", environ={}, start=tmp_path).settings
    assert [Path(each).name for each in found.request.holdout] == ["unseen.jsonl"]


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
    short = 'train={"steps": 2}, method={"name": "npo"}, offline=True,\n    request='
    exec(compile(text.replace("request=", short, 1), "README.md", "exec"), {})
    assert (bench / "runs" / "latest" / "report.html").is_file()


def test_python_in_the_how_to_runs(world, bench):
    text = "\n".join(blocks("python", "docs/how-to/python.md"))
    (row,) = [line for line in text.splitlines() if line.lstrip().startswith("forget=[")]
    changes = {
        row.strip(): f"forget={world.data('forget')!r},",
        '"path/to/model"': repr(world.original),
        '"erase.jsonl"': repr(world.data("forget")),
        '"keep.jsonl"': repr(world.data("retain")),
        "progress=print": 'method="npo", options={"train.steps": 2}',
    }
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    names = {}
    exec(compile(text, "python.md", "exec"), names)
    assert names["earlier"].verdict == names["judged"].verdict, "runs/latest is the last run"
    assert len(names["scores"]) > len(names["gates"]) > 5


def test_the_method_of_the_contributing_page_works_from_the_command_line(world, bench, capsys):
    code, _ = blocks("python", "CONTRIBUTING.md")
    (bench / "capped.py").write_text(code, encoding="utf-8")
    words = world.command(**{"method.name": "capped:Capped", "method.cap": "2.5"})
    assert main([*words, "--out", "run"]) == 0
    assert "capped:Capped (cap 2.5)" in " ".join(capsys.readouterr().out.split())
    run = json.loads((bench / "run" / "results.json").read_text(encoding="utf-8"))
    assert run["verdict"]


def test_paths_in_the_papers_and_the_architecture_exist():
    architecture = (ROOT / "docs/contribute/architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"`([a-z_0-9/]+\.py)`", PAPERS + architecture)
    assert len(named) > 70
    assert [path for path in named if not (ROOT / "src/expunge" / path).is_file()] == []


def test_what_was_published_of_a_method_names_its_fields_and_its_source():
    module = DOCS["methods"]
    for name, entry in module.published(ROOT).items():
        assert not entry.fails or entry.fails.endswith("."), name
        assert set(entry.published) <= {field.name for field in fields(EVERY[name])}, name
        for result in entry.results:
            assert re.search(r"\(.*(OU|arXiv:\d{4}\.\d{5}).*\)$", result), result
