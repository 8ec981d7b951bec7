"""Write docs/settings.md, the page of all keys of a request file, from the code itself.

    python scripts/make_settings_page.py

The page cannot drift: a test writes it again and compares.
"""

import inspect
from enum import Enum
from pathlib import Path
from typing import Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from expunge.config.settings import NamedChoice, Settings

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"

_HEAD = """# Settings

Every key of a request file. `[train]` `lr` is `train.lr`: `--set train.lr=2e-4`, or the variable
`EXPUNGE_TRAIN_LR`. Layers are laid over each other, key by key: the nearest `expunge.toml` in this
folder or above it, the request file, variables, flags. A list is replaced as a whole. Relative
paths in a file are looked for beside it first. `expunge plan ... --save request.toml` writes what
a command resolved to, without the keys that are unset.

Not settings, but flags of single commands: `--level`, `--only`, `--access`, `--prompts` of
`attack`, `--trials`, `--minutes`, `--seeds`, `--methods`, `--shard`, `--floor` of `bench` and
`tune`, `--gate`, `--format` and others that `--help` lists, each with its variable. With
`--method auto` the keys of `[method]` are `trials`, `minutes` and `floor`.

A model is a Hub id (`owner/name`, `owner/name@REVISION`), a folder, a GGUF file, the folder of a
LoRA adapter, or `BASE+ADAPTER`. Data are files, folders, or a Hub dataset,
`owner/name/config:split[:400]`.

Three more variables: `EXPUNGE_CONFIG` names the request file, `EXPUNGE_CACHE` the folder of
converted models, `EXPUNGE_KEY_FILE` the operator's key.
"""


def page() -> str:
    """Return the text of the page."""
    return _HEAD + "".join(_table(Settings, ""))


def _table(model: type[BaseModel], path: str) -> list[str]:
    """Return the section of a table of the tree, then those of the tables in it."""
    inner = {
        name: kind for name, f in model.model_fields.items() if (kind := _inner(f)) is not None
    }
    title = f"[{path}]" if path else "The whole run"
    about = (inspect.getdoc(model) or "").split("\n\n")[0].replace("\n", " ")
    rows = [_row(name, f) for name, f in model.model_fields.items() if name not in inner]
    if issubclass(model, NamedChoice):
        rows.append("| any other | | a knob of what is chosen |")
    head = f"\n## {title}\n\n{about}\n\n| key | default | what |\n|---|---|---|\n"
    parts = [head + "\n".join(rows) + "\n"]
    for name, kind in inner.items():
        parts += _table(kind, f"{path}.{name}" if path else name)
    return parts


def _inner(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _row(name: str, field: FieldInfo) -> str:
    words = _words(field.annotation)
    said = field.description or ""
    choices = "" if not words or all(word in said for word in words) else f" ({', '.join(words)})"
    return f"| `{name}` | {_default(field)} | {said}{choices} |".replace("\\.", "\\\\.")


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


def main() -> None:
    """Write the page."""
    text = page()
    PAGE.write_text(text, encoding="utf-8")
    print(f"{PAGE.name}: {text.count(chr(10))} lines")


if __name__ == "__main__":
    main()
