"""The rules of the code base that a linter does not know."""

import ast
import re
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "expunge"
SOURCES = sorted(PACKAGE.rglob("*.py"))
METHOD_FILES = [
    path
    for path in sorted((PACKAGE / "methods").rglob("*.py"))
    if path.name not in ("__init__.py", "describe.py", "terms.py", "protocol.py")
]
TESTS = sorted((ROOT / "tests").rglob("*.py"))

# Imports follow the arrow: a room may use its own files and those of the lines above, no others.
LAYERS = (
    {"container"},
    {"errors", "console", "machine", "allocator", "effort"},
    {"files", "claim", "request", "screens", "named", "config_file"},
    {"methods"},
    {"settings", "wrappers"},
    {"resolve", "run", "data"},
    {"model"},
    {"engine"},
    {"variants", "wrapping"},
    {"stages"},
    {"prepare"},
    {"audit"},
    {"own_alternatives"},
    {"report"},
    {"ledger"},
    {"planning"},
    {"together"},
    {"training"},
    {"publish"},
    {"merge", "forget", "attack"},
    {"bench"},
    {"demo", "doctor"},
    {"cli"},
    {"__main__"},
)
LEAVES = {
    "methods": {"torch"},
    "wrappers": {"torch"},
    "audit/metrics": {"numpy", "scipy", "rouge_score"},
}
UNSAFE = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}


def name(path):
    return str(path.relative_to(ROOT))


@cache
def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def room(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path):
    """Full names of all modules that a file imports, anywhere in it."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}: relative import"
            yield node.module


def layer(word):
    lines = [i for i, rooms in enumerate(LAYERS) if word in rooms]
    assert len(lines) == 1, f"{word} has no line of its own in LAYERS"
    return lines[0]


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


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=name)
def test_files_are_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("path", METHOD_FILES, ids=name)
def test_a_method_is_read_on_one_page(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 80


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_functions_are_short(path):
    lengths = {f.name: f.end_lineno - f.lineno + 1 for f in functions(parsed(path))}
    assert {word: length for word, length in lengths.items() if length > 60} == {}


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_public_code_is_documented_and_annotated(path):
    tree = parsed(path)
    assert ast.get_docstring(tree), "a file says what it is for"
    members = list(public(tree))
    assert [node.name for node in members if not ast.get_docstring(node)] == []
    loose = [n.name for n in members if isinstance(n, ast.FunctionDef) and not is_annotated(n)]
    assert loose == []


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_imports_follow_the_arrow(path):
    here = room(path)
    if here == "__init__":
        return
    words = (module.split(".") for module in imported(path))
    rooms = {parts[1] for parts in words if parts[0] == "expunge" and len(parts) > 1}
    assert sorted(r for r in rooms if r != here and layer(r) >= layer(here)) == []


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        (path, allowed)
        for leaf, allowed in LEAVES.items()
        for path in sorted((PACKAGE / leaf).rglob("*.py"))
    ],
    ids=lambda value: name(value) if isinstance(value, Path) else "",
)
def test_leaves_load_little(path, allowed):
    tops = {module.split(".")[0] for module in imported(path)}
    assert sorted(tops - allowed - {"expunge"} - sys.stdlib_module_names) == []


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_nothing_unsafe_and_nothing_unfinished(path):
    assert {module.split(".")[0] for module in imported(path)} & UNSAFE == set()
    assert calls(path, "torch.load", "eval", "exec", "hasattr") == []
    assert calls(path, "print", "breakpoint") == []
    assert re.findall(r"\b(?:TODO|FIXME|XXX|HACK)\b", path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_no_global_state_of_torch_is_touched(path):
    forbidden = ("manual_seed", "set_default_dtype", "set_grad_enabled", "set_num_threads")
    assert calls(path, *(f"torch.{word}" for word in forbidden)) == []


def test_the_map_of_layers_has_every_room_once():
    rooms = {room(path) for path in SOURCES} - {"__init__"}
    drawn = [word for rooms_of_line in LAYERS for word in rooms_of_line]
    assert sorted(rooms - set(drawn)) == []
    assert len(drawn) == len(set(drawn))


def test_the_rules_find_what_they_forbid(tmp_path):
    path = tmp_path / "bad.py"
    path.write_text(
        "import pickle\nfrom expunge.cli.main import main\n"
        "def open_door(x): print(torch.load(x))\n"
        "class Loud:\n    def shout(self) -> None: ...\n"
    )
    tree = parsed(path)
    assert list(imported(path)) == ["pickle", "expunge.cli.main"]
    assert calls(path, "torch.load", "print") == [3, 3]
    assert [node.name for node in public(tree)] == ["open_door", "Loud", "shout"]
    assert [is_annotated(f) for f in functions(tree)] == [False, True]
    assert layer("cli") > layer("audit") > layer("data")
