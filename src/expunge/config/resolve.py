"""Resolve settings once: defaults, files, variables and flags become one tree with its origins.

Later layers win, key by key:

    defaults < expunge.toml found upward < --config < EXPUNGE_ variables < flags

A list is replaced as a whole. When a layer names another method or wrapper, the hyperparameters
that earlier layers set for the previous one are dropped: one method's beta is not another's. Each
`[[stage]]` of a file is one more layer, over all that is said of the whole run. Relative paths of a
file that exist beside it are taken from there.
"""

import difflib
import errno
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_origin

import tomli_w
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from expunge.config.checked import reason
from expunge.config.request import RECORD_SETS
from expunge.config.settings import NamedChoice, Settings, Stage
from expunge.errors import UsageError

PREFIX = "EXPUNGE_"
RESERVED = frozenset({"EXPUNGE_CACHE", "EXPUNGE_KEY_FILE", "EXPUNGE_SIGNING_KEY", "EXPUNGE_CONFIG"})
"""Variables that are not settings: where caches and keys lie, which file to read."""
FILE_NAME = "expunge.toml"
WORDS = ("auto", "none")
"""Words that stand where paths do, and are none."""

_PATHS = (
    "model",
    "base",
    "first_original",
    "recipe",
    "request.gold",
    "audit.prompts",
    "audit.sibling",
)
_DATA_PATHS = (*(f"request.{name}" for name in RECORD_SETS), "trained_on")
_FLAG, _ARGUMENT = "flag", "argument"
"""Origins that are the user: the command line, and a call in Python."""
_TRUST = "trust_remote_code"

_REQUIRED = {
    "model": (
        "no-model",
        "no model is named",
        "there is nothing that could forget",
        'give a Hub id or a folder: expunge forget MODEL DATA, or model = "..." in TOML',
    ),
    "request.forget": (
        "no-forget",
        "no data to forget is named",
        "what to forget is never guessed",
        'give a file: expunge forget MODEL DATA, or forget = ["..."] in [request]',
    ),
    "request.goal": (
        "no-goal",
        "the request has no goal class",
        "removal, suppression and edit are judged by different rules; there is no default",
        "set request.goal to removal (as if never trained on it), suppression (not said any more)"
        " or edit (says something else instead)",
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolved:
    """The settings of one command, and where each key that is not a default comes from."""

    settings: Settings
    origins: Mapping[str, str]
    """Key path to file name, variable name, or `flag`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Layer:
    values: Mapping[str, object]
    origins: Mapping[str, str]


def resolve(
    flags: Mapping[str, object],
    *,
    config: Path | None,
    environ: Mapping[str, str],
    start: Path,
    defaults: Mapping[str, object] | None = None,
    leave: frozenset[str] = frozenset(),
) -> Resolved:
    """Resolve the settings of one command.

    In a TOML file, relative paths of models and data that exist beside the file are taken from
    there; all other relative paths, `.`, `out`, and those in variables and flags are relative to
    the working folder. Texts from variables and flags are typed by their key: lists are separated
    by commas or JSON, hyperparameters are JSON where they parse as JSON, otherwise text. An empty
    variable and a flag of None count as not given.

    Args:
        flags: Key paths, such as `train.lr`, with the values that the command line gives.
        config: The file of `--config`; without it the one that `EXPUNGE_CONFIG` names, if any.
        environ: The environment variables.
        start: Folder from which `expunge.toml` is looked for, upward.
        defaults: Values of the command's own that any file, variable or flag replaces.
        leave: Keys of the file of `--config` that are no settings, and read elsewhere.

    Raises:
        UsageError: `config-missing`, `invalid-toml`, `unknown-key`, `invalid-value`, `no-model`,
            `no-forget`, `no-goal`, `trust-from-file`, `code-from-file`.
    """
    named = environ.get("EXPUNGE_CONFIG", "")
    chosen = config if config is not None else Path(named) if named else None
    found = find_upward(start)
    files = [path for path in (found, chosen) if path is not None]
    if found is not None and chosen is not None and found.resolve() == chosen.resolve():
        files = [chosen]
    layers = [_file_layer(path, leave if path is chosen else frozenset()) for path in files]
    return _laid_over([*layers, _environment_layer(environ), _flag_layer(flags)], defaults or {})


def settings_from(paths: Mapping[str, object]) -> Settings:
    """Return the settings that key paths alone make: no file and no variable is read.

    Args:
        paths: Key paths, such as `train.lr`, with their values.

    Raises:
        UsageError: As `resolve`, but for what files cause.

    Example:
        >>> paths = {"model": "org/model", "request.goal": "removal", "request.forget": ["a.jsonl"]}
        >>> settings_from({**paths, "train.lr": 1e-4}).train.lr
        0.0001
    """
    return _laid_over([_flag_layer(paths, origin=_ARGUMENT)], {}).settings


def _laid_over(layers: Sequence[_Layer], defaults: Mapping[str, object]) -> Resolved:
    """Lay each layer over the ones before it, and check what comes out."""
    values = dict(defaults)
    origins: dict[str, str] = {}
    for layer in layers:
        _drop_foreign_parameters(values, origins, layer)
        values.update(layer.values)
        origins.update(layer.origins)
    _require(values)
    _require_real_texts(values, origins)
    _require_own_trust(values, origins)
    _require_own_code(values, origins)
    chain = values.get("stage")
    if isinstance(chain, tuple):
        values["stage"] = [_staged(values, layer) for layer in cast("tuple[_Layer, ...]", chain)]
    try:
        settings = Settings.model_validate(_nested(values))
    except ValidationError as error:
        raise _invalid(error.errors(), origins) from None
    return Resolved(settings=settings, origins=origins)


def to_toml(settings: Settings) -> str:
    """Write settings as TOML from which `resolve` makes equal settings; None is left out."""
    # Not JSON mode: JSON has no infinity, TOML has.
    unused = {"method"} if settings.stage else set[str]()
    return tomli_w.dumps(settings.model_dump(exclude_none=True, exclude=unused))


def _fields(model: type[BaseModel], prefix: str = "") -> dict[str, FieldInfo]:
    found: dict[str, FieldInfo] = {}
    for name, field in model.model_fields.items():
        table = _table_type(field)
        if table is None:
            found[prefix + name] = field
        else:
            found.update(_fields(table, f"{prefix}{name}."))
    return found


def _table_type(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


_FIELDS = _fields(Settings)
_CHOICES = tuple(
    name
    for name, field in Settings.model_fields.items()
    if (table := _table_type(field)) is not None and issubclass(table, NamedChoice)
)
"""Tables that choose something by name and take any hyperparameter: method and wrappers."""
_TABLES = sorted({path.rpartition(".")[0] for path in _FIELDS} - {""})
_TRANSLATOR = "audit.translator"
_CODE = (*(f"{table}.name" for table in _CHOICES), _TRANSLATOR)
"""Settings that may name code to import, as `package.module:Class`."""
_STAGED = tuple(Stage.model_fields)
"""Tables of a stage."""
_VARIABLES = {PREFIX + path.upper().replace(".", "_"): path for path in _FIELDS}
CODE_VARIABLES = tuple(name for name, path in _VARIABLES.items() if path in _CODE)
"""Variables by which the user names code to import."""
_LISTS = frozenset(
    path
    for path, field in _FIELDS.items()
    if get_origin(field.annotation) is tuple or path in ("request.retain", "request.control")
)


def _is_parameter(path: str) -> bool:
    table, _, name = path.partition(".")
    return table in _CHOICES and bool(name) and name not in NamedChoice.model_fields


def _file_layer(path: Path, leave: frozenset[str]) -> _Layer:
    values: dict[str, object] = {}
    table = {key: value for key, value in parsed(path).items() if key not in leave}
    for key, value in _listed_flat(table, str(path)).items():
        if key == "stage":
            value = _stage_layers(value, str(path))
        if key in _PATHS or key in _DATA_PATHS:
            value = beside(path.parent, value)
        values[key] = value
    return _Layer(values=values, origins=dict.fromkeys(values, str(path)))


def _flat(table: Mapping[str, object], origin: str, prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in table.items():
        path = prefix + name
        if path in _TABLES:
            if not isinstance(value, dict):
                raise UsageError(
                    "invalid-value",
                    what=f"`{path}` is a table of settings, not a value",
                    why=f"set in {origin}",
                    fix=f"write [{path}] on a line of its own, and the settings below it",
                )
            flat.update(_flat(value, origin, f"{path}."))
        elif path in _FIELDS or _is_parameter(path):
            flat[path] = value
        else:
            raise _unknown(path, origin)
    return flat


def _listed_flat(table: Mapping[str, object], origin: str) -> dict[str, object]:
    return {
        key: [value] if key in _LISTS and isinstance(value, str) and value not in WORDS else value
        for key, value in _flat(table, origin).items()
    }


def _stage_layers(given: object, origin: str) -> object:
    """Read the tables of a chain; what are none is left for the validation to refuse."""
    if not isinstance(given, list) or not all(isinstance(table, dict) for table in given):
        return given
    layers: list[_Layer] = []
    for number, table in enumerate(given, 1):
        where = f"{origin}, stage {number}"
        values = _listed_flat(table, where)
        foreign = [path for path in values if path.partition(".")[0] not in Stage.model_fields]
        if foreign:
            raise UsageError(
                "not-of-a-stage",
                what=f"`{foreign[0]}` is set in {where}",
                why="it belongs to the whole run, which has one request and one audit",
                fix=f"write it above the first [[stage]]; a stage has {', '.join(_STAGED)}",
            )
        layers.append(_Layer(values=values, origins=dict.fromkeys(values, where)))
    return tuple(layers) or given


def _staged(whole: Mapping[str, object], layer: _Layer) -> dict[str, Any]:
    """Lay the settings of one stage over those of the whole run; the method is its own."""
    tables = tuple(f"{table}." for table in _STAGED if table != "method")
    values = {path: value for path, value in whole.items() if path.startswith(tables)}
    _drop_foreign_parameters(values, dict.fromkeys(values, ""), layer)
    return _nested({**values, **layer.values})


def _environment_layer(environ: Mapping[str, str]) -> _Layer:
    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in RESERVED or not environ[name].strip():
            continue
        path = _VARIABLES.get(name)
        if path is None:
            table, _, key = name.removeprefix(PREFIX).lower().partition("_")
            path = f"{table}.{key}"
        if path not in _FIELDS and not _is_parameter(path):
            raise _unknown(name, "the environment", candidates=[*_VARIABLES, *RESERVED])
        values[path] = _typed(path, environ[name], origin=name)
        origins[path] = name
    return _given(values, origins)


def _flag_layer(flags: Mapping[str, object], *, origin: str = _FLAG) -> _Layer:
    values: dict[str, object] = {}
    for path, value in flags.items():
        if path not in _FIELDS and not _is_parameter(path):
            raise _unknown(path, "the command line" if origin == _FLAG else "options")
        values[path] = _typed(path, value, origin=origin)
    return _given(values, dict.fromkeys(values, origin))


def _by_user(origin: str) -> bool:
    """Tell whether a value comes from a flag, an argument or a variable, and not from a file."""
    return origin in (_FLAG, _ARGUMENT) or origin.startswith(PREFIX)


def _given(values: Mapping[str, object], origins: Mapping[str, str]) -> _Layer:
    given = {path: value for path, value in values.items() if value is not None}
    return _Layer(values=given, origins={path: origins[path] for path in given})


def _typed(path: str, value: object, *, origin: str) -> object:
    """Read a text from a variable or a flag; pydantic turns texts into numbers and truth values."""
    if not isinstance(value, str):
        return value
    if path in _LISTS and value not in WORDS:
        return _listed(path, value, origin)
    return _json_or_text(value) if _is_parameter(path) else value


def _listed(path: str, text: str, origin: str) -> object:
    if text.isspace():
        return [text]  # refused below, as it is where a single name stands
    if not text.lstrip().startswith("["):
        return [item.strip() for item in text.split(",") if item.strip()]
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(
            "invalid-value",
            what=f"`{path}` starts like a JSON list but is none",
            why=f"set by {origin}; {str(error)[0].lower()}{str(error)[1:]}",
            fix='write a,b or ["a", "b"]',
        ) from None


def _json_or_text(text: str) -> object:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    # TOML has no null, so that a list with one in it could not be saved.
    return text if isinstance(value, list | dict) and "null" in text else value


def _drop_foreign_parameters(
    values: dict[str, object], origins: dict[str, str], layer: _Layer
) -> None:
    for table in _CHOICES:
        key = f"{table}.name"
        name = layer.values.get(key)
        if name is None or name == values.get(key, _FIELDS[key].default):
            continue
        for path in [p for p in values if _is_parameter(p) and p.startswith(f"{table}.")]:
            del values[path], origins[path]


def _nested(values: Mapping[str, object]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, value in values.items():
        *tables, name = path.split(".") if not _is_parameter(path) else path.split(".", 1)
        table = tree
        for part in tables:
            table = table.setdefault(part, {})
        table[name] = value
    return tree


def _require(values: Mapping[str, object]) -> None:
    for path, (code, what, why, fix) in _REQUIRED.items():
        if path not in values:
            raise UsageError(code, what=what, why=why, fix=fix)


def _require_real_texts(values: Mapping[str, object], origins: Mapping[str, str]) -> None:
    """Refuse texts that no path and no name can be: of blanks alone, or with a zero byte.

    An empty one in a list would stand for the folder in which the command runs.
    """
    for path, value in values.items():
        texts = tuple(_texts(value))
        zero = any("\0" in text for text in texts)
        empty = isinstance(value, list | tuple) and "" in texts
        if zero or empty or any(text.isspace() for text in texts):
            raise UsageError(
                "invalid-value",
                what=f"`{path}` holds a zero byte" if zero else f"`{path}` is nothing but blanks",
                why=f"set by {origins.get(path, 'default')}: no path and no name is written so",
                fix=f"take it out of `{path}`",
            )


def _texts(value: object) -> Iterator[str]:
    """Yield every text in a value of TOML."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


def _require_own_trust(values: Mapping[str, object], origins: Mapping[str, str]) -> None:
    """Refuse a file that has a model's code run: both may come from somebody else."""
    origin = origins.get(_TRUST, _FLAG)
    if values.get(_TRUST) and not _by_user(origin):
        raise UsageError(
            "trust-from-file",
            what=f"`{_TRUST}` is set in {origin}",
            why="a file that came with a model could so have the model's code run on this machine",
            fix=f"leave it out there; if you trust the code, say --set {_TRUST}=true",
        )


def names_code(path: str, value: object) -> bool:
    """Tell whether a value of a setting names code to import: `package.module:Class`.

    Example:
        >>> names_code("method.name", "payload:Method"), names_code("method.name", "npo")
        (True, False)
    """
    if path not in _CODE or not isinstance(value, str):
        return False
    return bool(value) if path == _TRANSLATOR else ":" in value


def code_from_file(path: str, name: str, origin: str, *, fix: str = "") -> UsageError:
    """Return the error for a file that names code to import.

    Args:
        path: Key path of the setting.
        name: What is named.
        origin: The file.
        fix: What to do instead; default: name it by a flag or a variable.
    """
    variable = PREFIX + path.upper().replace(".", "_")
    return UsageError(
        "code-from-file",
        what=f"`{path}` in {origin} names code to import: {name}",
        why="a file that came from somebody else could so run code on this machine",
        fix=fix
        or f"if you trust that code, name it yourself: --set {path}={name}, or {variable}={name}",
    )


def _require_own_code(values: Mapping[str, object], origins: Mapping[str, str]) -> None:
    """Refuse code that a file names, unless a flag or a variable names the same."""
    own = {path: values.get(path) for path in _CODE if _by_user(origins.get(path, _FLAG))}
    chain = values.get("stage")
    stages = cast("tuple[_Layer, ...]", chain) if isinstance(chain, tuple) else ()
    for layer in (_Layer(values=values, origins=origins), *stages):
        for path in _CODE:
            name = layer.values.get(path)
            if names_code(path, name) and name != own.get(path):
                raise code_from_file(path, str(name), layer.origins[path])


def _invalid(errors: list[ErrorDetails], origins: Mapping[str, str]) -> UsageError:
    first = errors[0]
    parts = [str(part) for part in first["loc"]]
    where = ""
    if parts[0] == "stage" and len(parts) > 2:
        where, parts = f" of stage {int(parts[1]) + 1}", parts[2:]
    paths = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
    path = next((path for path in paths if path in _FIELDS), paths[0])
    more = len({tuple(error["loc"][:2]) for error in errors}) - 1
    origin = origins.get("stage" if where else path, "default")
    why = f"set by {origin}: {reason(first)}"
    description = _FIELDS[path].description if path in _FIELDS else "see the documentation"
    return UsageError(
        "invalid-value",
        what=f"`{path}`{where} has a value that is not allowed"
        + (f" (and {more} more)" if more else ""),
        why=why,
        fix=f"{path}: {description}",
    )


def _unknown(key: str, origin: str, *, candidates: list[str] | None = None) -> UsageError:
    paths = [*_FIELDS, *_TABLES] if candidates is None else candidates
    leaf = key.rpartition(".")[2]
    close = (
        [path for path in paths if path.startswith(f"{key}.")]
        or difflib.get_close_matches(key, paths, n=1, cutoff=0.75)
        or [path for path in paths if path.rpartition(".")[2] == leaf]
        or difflib.get_close_matches(key, paths, n=1)
    )
    return UsageError(
        "unknown-key",
        what=f"unknown setting `{key}` in {origin}",
        why="a misspelt setting that is ignored would change what the run does",
        fix=f"did you mean `{close[0]}`?"
        if close
        else "remove it; hyperparameters of a method go to [method]",
    )


def find_upward(start: Path) -> Path | None:
    """Return the nearest `expunge.toml` in a folder or above it."""
    folder = start.resolve()
    candidates = (parent / FILE_NAME for parent in (folder, *folder.parents))
    return next((path for path in candidates if path.is_file()), None)


def parsed(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        UsageError: `config-missing` or `invalid-toml`.
    """
    try:
        if path.is_fifo():  # to open one waits for whoever writes, perhaps forever
            raise OSError(errno.EINVAL, "it is a pipe, and settings are read more than once")
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise UsageError(
            "config-missing",
            what=f"cannot read {path}: {error.strerror or type(error).__name__}",
            why="the settings of this command were to come from this file",
            fix="check the path given by --config or EXPUNGE_CONFIG",
        ) from error
    except UnicodeDecodeError as error:
        what, why = f"{path}: not UTF-8 (byte {error.start})", "TOML files are UTF-8 text"
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        what = f"{path}:{line[1]}: not valid TOML" if line else f"{path}: not valid TOML"
        why = str(error)[0].lower() + str(error)[1:]
    except (ValueError, RecursionError):
        what, why = f"{path}: not valid TOML", "it is nested, or a number is long, beyond reason"
    raise UsageError(
        "invalid-toml",
        what=what,
        why=why,
        fix='text stands in quotes, lists in brackets: forget = ["secrets.jsonl"]',
    )


def beside(folder: Path, value: object) -> object:
    """Take relative paths that exist beside a file from there; leave words and others alone."""
    if isinstance(value, list):
        return [beside(folder, item) for item in value]
    if not isinstance(value, str) or not value or value in WORDS:
        return value
    path, here = folder / value, folder.resolve()
    try:
        inside = path.exists() and path.resolve() not in (here, *here.parents)
    except OSError:
        return value
    # Where both mean the same file, the shorter spelling reads better in messages.
    return str(path) if inside and path.resolve() != Path(value).resolve() else value
