"""The examples in docstrings are run, and every public name has one."""

import doctest
import warnings
from importlib import import_module
from pathlib import Path

import pytest

import expunge

PACKAGE = Path(expunge.__file__).parent
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
WITH_EXAMPLES = [
    path for path in sorted(PACKAGE.rglob("*.py")) if ">>> " in path.read_text(encoding="utf-8")
]
NAMES = sorted({*expunge.__all__} - {"__version__"})


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("name", sorted({room(path) for path in WITH_EXAMPLES}))
def test_examples_give_what_they_show(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # an example must not depend on the folder, nor write into it
    failed = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in WITH_EXAMPLES:
            if room(path) == name:
                found = doctest.testmod(import_module(module_of(path)), optionflags=FLAGS)
                if found.failed:
                    failed[module_of(path)] = found.failed
    assert not failed
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_has_an_example(name):
    parser = doctest.DocTestParser()
    assert parser.get_examples(getattr(expunge, name).__doc__)


def test_at_most_one_line_of_an_example_is_skipped():
    finder = doctest.DocTestFinder(recurse=False)
    skipped = {
        name: sum(doctest.SKIP in example.options for example in test.examples)
        for name in NAMES
        for test in finder.find(getattr(expunge, name), name)
    }
    assert {name: count for name, count in skipped.items() if count > 1} == {}
