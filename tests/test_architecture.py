"""The rules of the code base that a linter does not know: one test a rule, over all files."""

import ast
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable
from functools import cache
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "expunge"
SOURCES = sorted(PACKAGE.rglob("*.py"))
SCRIPTS = sorted(path for room in ("benchmarks", "scripts") for path in (ROOT / room).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
METHOD_FILES = [
    path
    for path in sorted((PACKAGE / "methods").rglob("*.py"))
    if "    family: ClassVar[str] = " in path.read_text(encoding="utf-8")
]

ROOMS = (
    {"errors"},
    {"utils"},
    {"config"},
    {"data"},
    {"methods"},
    {"models"},
    {"requests"},
    {"optim"},
    {"training"},
    {"attribution"},
    {"planning"},
    {"preparation"},
    {"evidence"},
    {"metrics"},
    {"attacks"},
    {"evals"},
    {"interop", "reporting", "trackers"},
    {"provenance"},
    {"ledger"},
    {"pipeline"},
    {"benchmarking", "demo"},
    {"recipes", "viewer"},
    {"cli"},
    {"__main__"},
)
"""The order of imports: a room uses its own files and those of the lines above, no others."""

LEAVES = {
    "methods": {"torch"},
    "optim": {"torch"},
    "metrics": {"numpy", "scipy", "rouge_score"},
}
UNSAFE = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
TORCH_STATE = ("manual_seed", "set_default_dtype", "set_grad_enabled", "set_num_threads")


def name(path):
    return str(path.relative_to(ROOT))


@cache
def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def length(path):
    return len(path.read_text(encoding="utf-8").splitlines())


def room(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def rank(word):
    lines = [i for i, rooms in enumerate(ROOMS) if word in rooms]
    assert len(lines) == 1, f"{word} has no line of its own in ROOMS"
    return lines[0]


def imported(path):
    """Full names of all modules that a file imports, anywhere in it."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}: relative import"
            yield node.module


def rooms_used(path):
    words = (module.split(".") for module in imported(path))
    return {parts[1] for parts in words if parts[0] == "expunge" and len(parts) > 1}


def functions(tree):
    return [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]


def public(tree):
    """Public functions and classes of a module, and the public methods of those classes."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from (
                    member
                    for member in node.body
                    if isinstance(member, ast.FunctionDef) and not member.name.startswith("_")
                )


def is_annotated(function):
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    starred = [a for a in (arguments.vararg, arguments.kwarg) if a is not None]
    typed = all(a.annotation or a.arg in {"self", "cls"} for a in [*named, *starred])
    return typed and function.returns is not None


def calls(path, *words):
    return [
        node.lineno
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in words
    ]


def members(path):
    return list(public(parsed(path)))


FILE_NAMES = {
    node.value.value
    for node in ast.parse((PACKAGE / "utils" / "file_names.py").read_text(encoding="utf-8")).body
    if isinstance(node, ast.Assign) and "." in node.value.value
}


# A rule names what breaks it, for one file.
RULES = {
    "a file has at most 600 lines": lambda path: [length(path)] if length(path) > 600 else [],
    "a function has at most 60 lines": lambda path: [
        f.name for f in functions(parsed(path)) if f.end_lineno - f.lineno + 1 > 60
    ],
    "a file says what it is for": lambda path: [] if ast.get_docstring(parsed(path)) else ["file"],
    "public code has a docstring": lambda path: [
        node.name for node in members(path) if not ast.get_docstring(node)
    ],
    "public functions are annotated": lambda path: [
        n.name for n in members(path) if isinstance(n, ast.FunctionDef) and not is_annotated(n)
    ],
    "imports follow the order of rooms": lambda path: [
        used
        for used in rooms_used(path)
        if room(path) != "__init__" and used != room(path) and rank(used) >= rank(room(path))
    ],
    "leaves load little": lambda path: [
        top
        for top in {module.split(".")[0] for module in imported(path)}
        if room(path) in LEAVES
        and top not in LEAVES[room(path)] | {"expunge"} | sys.stdlib_module_names
    ],
    "nothing reads a pickle": lambda path: [
        *({module.split(".")[0] for module in imported(path)} & UNSAFE),
        *calls(path, "torch.load", "eval", "exec"),
    ],
    "nothing prints or stops": lambda path: calls(path, "print", "breakpoint", "hasattr"),
    "nothing is unfinished": lambda path: re.findall(
        r"\b(?:TODO|FIXME|XXX|HACK)\b", path.read_text(encoding="utf-8")
    ),
    "the name of a file is spelt once": lambda path: [
        node.lineno
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Constant)
        and node.value in FILE_NAMES
        and path.name != "file_names.py"
    ],
    "the state of torch stays as it is": lambda path: calls(
        path, *(f"torch.{word}" for word in TORCH_STATE)
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_every_file_keeps_the_rule(rule):
    broken = {name(path): RULES[rule](path) for path in SOURCES}
    assert {path: found for path, found in broken.items() if found} == {}


@pytest.mark.parametrize(
    "rule",
    [
        "a file has at most 600 lines",
        "a function has at most 60 lines",
        "a file says what it is for",
        "public code has a docstring",
        "public functions are annotated",
        "nothing is unfinished",
    ],
)
def test_every_script_keeps_the_rule(rule):
    broken = {name(path): RULES[rule](path) for path in SCRIPTS}
    assert {path: found for path, found in broken.items() if found} == {}


def test_files_of_tests_and_of_methods_are_short():
    assert {name(path): length(path) for path in TESTS if length(path) > 600} == {}
    assert {name(path): length(path) for path in METHOD_FILES if length(path) > 80} == {}


def test_a_public_class_name_means_one_thing():
    found = Counter(
        node.name
        for path in SOURCES
        for node in parsed(path).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert [word for word, count in found.items() if count > 1] == []


def test_the_order_of_rooms_has_every_room_once():
    rooms = {room(path) for path in SOURCES} - {"__init__"}
    drawn = [word for line in ROOMS for word in line]
    assert sorted(rooms) == sorted(drawn)


def test_every_test_lies_in_the_folder_of_its_room():
    folders = {path.parent.name for path in TESTS if path.name.startswith("test_")}
    assert folders - {word for line in ROOMS for word in line} == {
        "tests",
        "docs",
        "scripts",
        "security",
    }


BAD = """import pickle
from expunge.cli.main import main
def open_door(x): print(torch.load(x or "run.json"))
class Loud:
    def shout(self) -> None: ...
# TODO
"""


@pytest.mark.parametrize(
    ("rule", "found"),
    [
        ("a file says what it is for", ["file"]),
        ("public code has a docstring", ["open_door", "Loud", "shout"]),
        ("public functions are annotated", ["open_door"]),
        ("imports follow the order of rooms", ["cli"]),
        ("nothing reads a pickle", ["pickle", 3]),
        ("nothing prints or stops", [3]),
        ("nothing is unfinished", ["TODO"]),
        ("the name of a file is spelt once", [3]),
    ],
)
def test_a_rule_finds_what_it_forbids(rule, found, tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    path = tmp_path / "data" / "bad.py"
    path.parent.mkdir()
    path.write_text(BAD)
    assert RULES[rule](path) == found


def distributions(requirements: Iterable[str]) -> set[str]:
    """The names in requirements, but those of extras, as the index spells them."""
    firm = (each for each in requirements if "extra ==" not in each)
    names = (re.match(r"[\w.-]+", each) for each in firm)
    return {name[0].lower().replace("_", "-") for name in names if name}


def test_everything_imported_is_installed_with_the_package_or_an_extra():
    """By a requirement of its own, or by a firm one of what it requires; not by luck."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].items()
    users = [each for name, every in extras if name not in ("dev", "docs") for each in every]
    named = distributions([*project["dependencies"], *users])
    providers = packages_distributions()
    here = {each.lower() for every in providers.values() for each in every}
    brought = set().union(*(distributions(requires(each) or ()) for each in named & here))
    imported = {
        name.split(".")[0]
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in (
            [each.name for each in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    } - {"expunge", "", *sys.stdlib_module_names}
    assert {"torch", "httpx", "ray"} <= imported
    missing = {
        name for name in imported
        if not distributions(providers.get(name, [name])) & (named | brought)
    }  # fmt: skip
    assert missing == set()
