"""The reference of settings, from the settings tree."""

import inspect
from enum import Enum
from typing import Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from docs_pages.markdown import GENERATED, table
from docs_pages.registries import NamedChoice, Settings

_HEAD = """# Settings

All settings of a command form one tree. One key has four spellings:

| Spelling | Example |
|---|---|
| request file (TOML) | `lr` in `[train]` |
| dotted path | `train.lr` |
| variable | `EXPUNGE_TRAIN_LR` |
| flag | `--set train.lr=2e-4` |

Later sources win, key by key: the nearest `expunge.toml` in this folder or above, the request file,
variables, flags. A list is replaced as a whole. Relative paths in a file start at that file.
An unknown key is an error with a suggestion.

`expunge plan ... --save request.toml` writes what a command resolved to.

Some flags belong to one command and are no settings; see [Command line](cli.md).

| Variable | Meaning |
|---|---|
| `EXPUNGE_CONFIG` | the request file |
| `EXPUNGE_CACHE` | folder of converted models |
| `EXPUNGE_KEY_FILE` | the operator's key |
| `EXPUNGE_SIGNING_KEY` | the key that signs runs (`expunge keys`) |
"""


def page() -> str:
    """Return the text of the page."""
    return GENERATED + _HEAD + "".join(_section(Settings, ""))


def _section(model: type[BaseModel], path: str) -> list[str]:
    """Return the section of a table of the tree, then those of the tables in it."""
    inner = {
        name: kind for name, f in model.model_fields.items() if (kind := _inner(f)) is not None
    }
    title = f"[{path}]" if path else "The whole run"
    about = (inspect.getdoc(model) or "").split("\n\n")[0].replace("\n", " ")
    rows = [_row(name, f) for name, f in model.model_fields.items() if name not in inner]
    if issubclass(model, NamedChoice):
        rows.append(("any other", "", "a hyperparameter of what is chosen"))
    parts = [f"\n## {title}\n\n{about}\n\n{table(('key', 'default', 'what'), rows)}\n"]
    for name, kind in inner.items():
        parts += _section(kind, f"{path}.{name}" if path else name)
    return parts


def _inner(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _row(name: str, field: FieldInfo) -> tuple[str, str, str]:
    words = _words(field.annotation)
    said = field.description or ""
    choices = "" if not words or all(word in said for word in words) else f" ({', '.join(words)})"
    return f"`{name}`", _default(field), f"{said}{choices}".replace("\\.", "\\\\.")


def _words(kind: object) -> list[str]:
    """Return what a key may be, where it is one of a few words."""
    if isinstance(kind, type) and issubclass(kind, Enum):
        return [str(each.value) for each in kind]
    if get_origin(kind) is Literal:
        return [str(each) for each in get_args(kind)]
    return []


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if value is None or value == () or value == "":
        return "unset"
    assert value is not PydanticUndefined
    if isinstance(value, bool):
        return str(value).lower()
    return str(value.value if isinstance(value, Enum) else value)
