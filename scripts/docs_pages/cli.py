"""The reference of the command line, from the command table."""

import inspect
import json
import re
from typing import Any

from docs_pages.markdown import GENERATED, table
from docs_pages.registries import COMMANDS, app

_HEAD = """# Command line

`expunge COMMAND --help` prints the same. Flags of one command override variables and files.
Flags marked with a key path are [settings](settings.md).

| Flag of every command | What | Variable |
|---|---|---|
{common}

## Exit codes

| Code | Meaning |
|--:|---|
| 0 | done |
| 1 | a fault in expunge |
| 2 | wrong usage |
| 3 | gate failed, or verification failed |
| 4 | input not available |
| 5 | out of memory or disk |
| 130 | interrupted |

## Commands

{commands}
"""


def page() -> str:
    """Return the text of the page."""
    listed = table(
        ("command", "what it does"),
        [(f"[`{name}`](#{name})", _summary(name)) for name in COMMANDS],
    )
    common = "\n".join(
        "| " + " | ".join(_row(each)) + " |" for each in _shown(app.meta) if each.names[0] != "*"
    )
    parts = [GENERATED + _HEAD.format(common=common, commands=listed)]
    parts += [_command(name) for name in COMMANDS]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def text() -> str:
    """Return the text of `help.json`: what each command says of itself."""
    return json.dumps({name: _said(name) for name in COMMANDS}, indent=1, ensure_ascii=False) + "\n"


def _said(name: str) -> str:
    return inspect.getdoc(app[name].default_command) or ""


def _summary(name: str) -> str:
    return _said(name).split("\n\n")[0].replace("\n", " ")


def _command(name: str) -> str:
    parts = [f"## `expunge {name}` {{ #{name} }}"]
    text = re.split(r"\n(?:Args|Returns|Raises):", _said(name))[0].strip()
    parts.append(text)
    arguments = _shown(app[name])
    words = [each for each in arguments if not each.names[0].startswith("-")]
    flags = [each for each in arguments if each.names[0].startswith("-")]
    if words:
        parts.append(table(("argument", "what"), [_row(each)[:2] for each in words]))
    if flags:
        parts.append(table(("flag", "what", "variable"), [_row(each) for each in flags]))
    examples = "\n".join(line.strip() for line in COMMANDS[name].splitlines())
    parts.append(f"```bash\n{examples}\n```")
    return "\n\n".join(parts)


def _shown(owner: Any) -> list[Any]:  # noqa: ANN401 - cyclopts names no type for it
    return [each for each in owner.assemble_argument_collection() if each.show]


def _row(argument: Any) -> tuple[str, str, str]:  # noqa: ANN401
    said = argument.parameter.help or ""
    found = re.search(r" \[env: ([A-Z_]+)[^\]]*\]", said)
    variable = found[1] if found else next(iter(argument.parameter.env_var or ()), "")
    said = said.replace(found[0], "") if found else said
    choices = argument.get_choices(force=True)
    said += f" ({', '.join(choices)})" if choices else ""
    names = ", ".join(f"`{name}`" for name in argument.names)
    return names, said.replace("|", "\\|"), f"`{variable}`" if variable else ""
