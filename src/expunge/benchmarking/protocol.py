"""The protocol: what is the same for every run of a matrix, fixed by its first command.

Contents: digests of what the settings of a matrix name only by where it lies.

Files can change between two commands while their names stay. Rows before and after would then be of
different data or models, and runs share the evidence of original and golds.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError

from expunge import __version__
from expunge.attacks.prompting.custom_prompts import read_prompts
from expunge.benchmarking.lm_eval_tasks import NAME as HARNESS
from expunge.benchmarking.method_spec import parse_method_spec, require_named_code
from expunge.benchmarking.result import AT_MARGIN, Cell, cell_folder, rows_of
from expunge.benchmarking.search_space import Chosen, added, together
from expunge.benchmarking.suites import load_suite
from expunge.benchmarking.suites.base import Spec, Suite, plain
from expunge.config.request import Goal
from expunge.config.settings import NamedChoice, Settings
from expunge.data.readers import read
from expunge.data.records import Record
from expunge.errors import InputError, UsageError
from expunge.methods import build
from expunge.methods.edits.base import Edit
from expunge.methods.guards.base import Guard
from expunge.models.loading import files_digest
from expunge.pipeline.early_checks import no_matrix
from expunge.preparation.prepare import data_digest, source_of
from expunge.preparation.validate import unread
from expunge.utils.file_names import PROTOCOL
from expunge.utils.io import is_part, read_json, sha256_json, write_json, write_jsonl

_MOST_NAMED = 4
_LONGEST_VALUE = 40
_UNSET = "unset"
_CHOSEN = "chosen."
_CONTENTS = "contents."
SETS = ("forget", "retain", "neighbours", "holdout")


@dataclass(frozen=True, kw_only=True, slots=True)
class Protocol:
    """What all runs of a matrix share; later commands may add methods, seeds and trials, and may
    choose by another floor. Chosen settings of other methods are added, none are changed."""

    settings: Mapping[str, Any]
    """The settings tree of every run, before a cell's own values are laid over it."""
    suite: Spec | None = None
    """None: the user's own request, judged by its audit alone."""
    beside: tuple[Spec, ...] = ()
    """Suites that only ask, and tasks of lm-eval."""
    trials: int = 1
    """Settings tried for every method, its defaults first: the same tuning budget for all; 0 in a
    search, which spends its budget where it pays."""
    chosen: Chosen | None = None
    """Settings chosen before this matrix, for each method: the only ones it runs with."""
    prunes: bool = False
    """Whether a run ends before its audit when its training already looks hopeless."""
    floor: float = AT_MARGIN
    """Least axis score of utility and locality of the setting that is shown for a method."""
    version: str = __version__
    contents: Mapping[str, str] = field(default_factory=dict[str, str])
    """Digest of each thing that the settings name only by where it lies: `the data`, `the
    original`, each gold. Empty in matrices of before; the next command fills it in."""

    @property
    def shared(self) -> Settings:
        """The settings of every run, before those of a cell."""
        return Settings.model_validate(self.settings)

    @property
    def golds(self) -> tuple[str, ...]:
        """References of the gold models."""
        return tuple(self.settings["request"].get("gold", ()))

    def suites(self) -> tuple[Suite, ...]:
        """Read the suites again, the one that is forgotten first."""
        specs = [] if self.suite is None else [self.suite]
        specs += [spec for spec in self.beside if spec.name != HARNESS]
        return tuple(load_suite(spec) for spec in specs)

    @property
    def harness(self) -> Spec | None:
        """Which tasks of lm-eval are run, as `data` of a spec."""
        return next((spec for spec in self.beside if spec.name == HARNESS), None)

    def covers(self, cell: Cell) -> bool:
        """Return whether removal is requested and a method leaves the weights unchanged.

        A guard does, and an adapter that is not merged: no verdict calls that removal.

        Raises:
            UsageError: No such method or wrapper.
        """
        if cell.kind != "method" or self.settings["request"]["goal"] != Goal.REMOVAL:
            return False
        method = build(parse_method_spec(cell.name).method, {})
        adapter = self.settings.get("train", {}).get("adapter", False)
        trains = not isinstance(method, Edit | Guard)
        kept = trains and bool(cell.values.get("train.adapter", adapter))
        return kept or isinstance(method, Guard)

    def of(self, cell: Cell) -> Settings:
        """Return the settings of one cell.

        What the runs share of `[train]` and a method that does not train never reads is left out of
        its own settings, so that such methods stand in one table with those that train.

        Raises:
            UsageError: A value of the cell is not allowed, or no such method or wrapper.
        """
        tree: dict[str, Any] = {
            key: dict(value) if isinstance(value, dict) else value
            for key, value in self.settings.items()
        }
        unused: tuple[str, ...] = ()
        if cell.kind == "method":
            name, wrappers = parse_method_spec(cell.name)
            method = build(name, {})
            unused = unread(method) if isinstance(method, Edit | Guard) else ()
            for table, chosen in {"method": name, **wrappers}.items():
                same = tree.get(table, {}).get("name") == chosen
                tree[table] = {**(tree[table] if same else {}), "name": chosen}
        if cell.kind == "gold":
            others = [gold for place, gold in enumerate(self.golds) if place != cell.place]
            tree["request"]["gold"] = others
            if not others:
                tree["request"].pop("tier", None)  # it is that of a gold
        for path, value in cell.values.items():
            table, _, key = path.partition(".")
            tree.setdefault(table, {})[key] = value
        train = {key: value for key, value in tree.get("train", {}).items() if key not in unused}
        tree["train"] = {**train, "seed": cell.seed}
        try:
            return Settings.model_validate(tree)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise UsageError(
                "invalid-value",
                what=f"a value of cell {cell.id} is not allowed",
                why=f"{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}",
                fix="correct it in the request file or with --set",
            ) from None


_adapter = TypeAdapter(Protocol)


def open_protocol(folder: Path, wanted: Protocol) -> Protocol:
    """Fix the protocol of a matrix, or check that it is the one fixed before.

    More trials than before are the same draws and then others, and a floor only chooses among what
    has been run, so that stays valid.

    Raises:
        UsageError: The folder holds a matrix with another protocol, or something else.
    """
    path = folder / PROTOCOL
    foreign = folder.is_dir() and any(not is_part(each) for each in folder.iterdir())
    if foreign and not path.is_file():
        raise UsageError(
            "folder-in-use",
            what=f"{folder} holds files that are not a matrix of expunge",
            why="a matrix has a folder of its own",
            fix="choose another folder with --out",
        )
    if path.is_file():
        found = read_protocol(folder)
        wanted = replace(wanted, chosen=together(found.chosen, wanted.chosen))
        changed = _changed(found, wanted)
        if set(changed) - _free(changed, found, wanted):
            raise UsageError(
                "another-protocol",
                what=f"the matrix in {folder} was begun with {_list_changes(changed)}",
                why="runs of two protocols in one table would not be a comparison",
                fix="use the settings and files of the first command, or another folder with --out",
            )
        return _fixed(folder, wanted)
    folder.mkdir(parents=True, exist_ok=True)
    return _fixed(folder, wanted)


def _free(changed: Collection[str], found: Protocol, wanted: Protocol) -> set[str]:
    """Return which changes leave what has been run valid."""
    free = {"floor"}
    if wanted.trials > found.trials > 0:
        free.add("trials")
    if found.chosen is not None and wanted.chosen is not None:
        for name in added(found.chosen, wanted.chosen):
            start = f"{_CHOSEN}{name}"
            free |= {path for path in changed if path == start or path.startswith(f"{start}.")}
    return free


def _fixed(folder: Path, wanted: Protocol) -> Protocol:
    write_json(folder / PROTOCOL, _adapter.dump_python(wanted, mode="json"))
    return read_protocol(folder)


def read_protocol(folder: Path) -> Protocol:
    """Read the protocol of a matrix.

    Raises:
        InputError: There is none, or it is of another version.
    """
    path = folder / PROTOCOL
    if not path.is_file():
        raise no_matrix(folder)
    try:
        found = _adapter.validate_python(read_json(path))
        _ = found.shared  # its settings, too, are those of this version
        return found
    except ValidationError as error:
        raise InputError(
            "malformed-matrix",
            what=f"{path} is not a protocol of this version",
            why=error.errors(include_input=False, include_url=False)[0]["msg"].lower(),
            fix="run the matrix again in another folder",
        ) from None


def shared_tree(settings: Settings) -> dict[str, Any]:
    """Return the settings tree that the runs of a matrix share.

    Without where they are written; and without among how many runs the settings were chosen, which
    is said of one method and not of all that a matrix runs.
    """
    return settings.model_dump(mode="json", exclude_none=True, exclude={"out", "chosen_among"})


def require_own_code(folder: Path, *, named: Collection[str]) -> None:
    """Refuse code to import that the files of a matrix name, unless the command names it as well.

    Args:
        folder: The matrix; it need not exist yet.
        named: Methods that the command names.

    Raises:
        UsageError: `code-from-file`.
        InputError: A file of the matrix is malformed.
    """
    path = folder / PROTOCOL
    chosen = read_protocol(folder).chosen if path.is_file() else None
    for name, values in (chosen or {}).items():
        require_named_code(name, values, origin=str(path), named=named)
    for row in rows_of(folder):
        origin = str(cell_folder(folder, row.cell))
        require_named_code(row.cell.name, row.cell.values, origin=origin, named=named)


def require_one_method(settings: Settings) -> None:
    """Refuse a chain: every cell of a matrix puts one method in the place of another.

    Raises:
        UsageError: The settings hold `[[stage]]` tables.
    """
    if settings.stage is not None:
        raise UsageError(
            "chain-in-a-matrix",
            what=f"the request is a chain of {len(settings.stage)} [[stage]] tables",
            why="a matrix compares single methods with each other and searches their settings; it"
            " cannot put one in the place of a chain",
            fix="leave [[stage]] out and name --methods; run the chain by `expunge forget`",
        )


def require_read_parameters(settings: Settings, methods: Iterable[str]) -> None:
    """Refuse hyperparameters that no run would read: those of a method or wrapper that none has.

    Args:
        settings: Those that all runs share.
        methods: Names of the table that a command runs.

    Raises:
        UsageError: There are such hyperparameters; or no such method or wrapper.
    """
    named = [parse_method_spec(name) for name in methods]
    used = {"method": {each.method for each in named}}
    tables: dict[str, NamedChoice] = {"method": settings.method}
    for table, choice in (
        ("robust", settings.robust),
        ("combine", settings.combine),
        ("mask", settings.mask),
        ("optimiser", settings.optimiser),
    ):
        tables[table] = choice
        used[table] = {each.wrappers.get(table, choice.name) for each in named}
    for table, choice in tables.items():
        if choice.parameters and choice.name not in used[table]:
            first = next(iter(choice.parameters))
            raise UsageError(
                "unread-parameter",
                what=f"{table}.{first} is set for {table} {choice.name}, which no run of this"
                " command has",
                why=f"each of {', '.join(sorted(used[table]))} has its own hyperparameters",
                fix=f"set {table}.name to the one that it is for, or leave it out; where a matrix"
                f" was begun with it, name {choice.name} among the methods: nothing runs twice",
            )


def set_file(folder: Path, name: str) -> Path:
    """Return where a matrix keeps a set, or a fold of a series."""
    return folder / "data" / f"{name}.jsonl"


def write_sets(folder: Path, suite: Suite) -> None:
    """Write what is forgotten and kept as files of the matrix."""
    sets = dict(
        zip(SETS, (suite.forget, suite.retain, suite.neighbours, suite.holdout), strict=True)
    )
    folds = () if suite.series is None else suite.series.folds
    for name, records in {**sets, **{fold.name: fold.records for fold in folds}}.items():
        path = set_file(folder, name)
        if records and not path.is_file():
            write_jsonl(path, (plain(record) for record in records))


def _changed(found: Protocol, wanted: Protocol) -> dict[str, tuple[str, str]]:
    """Return the key paths that differ, with both values; settings by the paths that users know.

    Contents come first. Those that only one of the two has are left out: older matrices have none,
    and where a gold was added or left out, the settings say so.
    """
    both = found.contents.keys() & wanted.contents.keys()
    pairs = {name: (found.contents[name], wanted.contents[name]) for name in sorted(both)}
    other = {f"{_CONTENTS}{name}": pair for name, pair in pairs.items() if pair[0] != pair[1]}
    before, now = (
        _flat(_adapter.dump_python(each, mode="json", exclude={"contents"}))
        for each in (_without_offline(found), _without_offline(wanted))
    )
    return other | {
        path.removeprefix("settings."): (before.get(path, _UNSET), now.get(path, _UNSET))
        for path in dict.fromkeys((*before, *now))
        if before.get(path) != now.get(path)
    }


def _without_offline(protocol: Protocol) -> Protocol:
    """Leave out whether the Hub may be used and who tracks the runs: no number depends on it."""
    suite = protocol.suite and replace(protocol.suite, offline=False)
    beside = tuple(replace(each, offline=False) for each in protocol.beside)
    aside = ("offline", "tracker")
    settings = {key: value for key, value in protocol.settings.items() if key not in aside}
    return replace(protocol, settings=settings, suite=suite, beside=beside)


def _flat(value: object, path: str = "") -> dict[str, str]:
    # A method that was chosen with its defaults has no settings to tell it by.
    if not isinstance(value, dict) or (not value and path.startswith(_CHOSEN)):
        return {path: _UNSET if value is None else json.dumps(value)}
    found: dict[str, str] = {}
    for key, inner in cast("dict[str, object]", value).items():
        found |= _flat(inner, f"{path}.{key}" if path else key)
    return found


def _list_changes(changed: Mapping[str, tuple[str, str]]) -> str:
    named = [
        f"other contents of {path.removeprefix(_CONTENTS)}"
        if path.startswith(_CONTENTS)
        else f"{path} {_short(before)} (now {_short(now)})"
        for path, (before, now) in changed.items()
    ]
    more = len(named) - _MOST_NAMED
    return ", ".join(named[:_MOST_NAMED]) + (f", and {more} more" if more > 0 else "")


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"


def contents_of(
    settings: Settings, suite: Suite | None = None, beside: Sequence[Suite] = ()
) -> dict[str, str]:
    """Return a digest for each thing that is read, under what it is called to the user.

    Args:
        settings: Those that all runs share; golds are among them.
        suite: What is forgotten, and the sets that it has; the others, and without it all, are
            those of the request.
        beside: Suites that are evaluated beside it.

    Raises:
        InputError: Data or a model are not there or not well formed.
    """
    data = data_digest(settings) if suite is None else _digest(suite)
    found = {"the data": sha256_json([data, *(_digest(each) for each in beside)])}
    if suite is not None:
        found |= _own(settings, suite)
    if settings.audit.prompts:
        found["the prompts"] = read_prompts(Path(settings.audit.prompts)).digest
    models = {"the original": settings.model}
    models |= {f"gold {gold}": gold for gold in settings.request.gold}
    if settings.audit.sibling:
        models["the sibling"] = settings.audit.sibling
    source = source_of(settings)
    return found | {name: files_digest(each, source) for name, each in models.items()}


def _own(settings: Settings, suite: Suite) -> dict[str, str]:
    """Return a digest for each set of the request that stands beside those of a suite."""
    request = settings.request
    sets = {
        "request.retain": () if suite.retain else request.retain,
        "request.neighbours": () if suite.neighbours else request.neighbours,
        "request.holdout": () if suite.holdout else request.holdout,
        "request.control": request.control,
    }
    return {
        name: sha256_json(_plain(read(sources, offline=settings.offline).records))
        for name, sources in sets.items()
        if sources and not isinstance(sources, str)
    }


def _digest(suite: Suite) -> str:
    sets = (suite.forget, suite.retain, suite.neighbours, suite.holdout)
    probes = (probe.records for probe in suite.probes)
    return sha256_json([_plain(each) for each in (*sets, *probes)])


def _plain(records: Iterable[Record]) -> list[str]:
    return [sha256_json(plain(record)) for record in records]
