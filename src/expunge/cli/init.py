"""`expunge init`: a request file with comments, and two example records, to begin from."""

import json
import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from expunge.cli.session import Given
from expunge.errors import UsageError
from expunge.utils.file_names import REQUEST
from expunge.utils.io import printable, write_text

_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"

_TOML = """\
# A request: what to forget, what to keep, and what counts as done.
# Every setting: docs/reference/settings.md. Run it with:
#   expunge plan {path}
#   expunge forget {path}

# A Hub id, a folder, a GGUF file, an adapter folder, or BASE+ADAPTER. Paths are relative to
# this file.
{note}model = "{model}"

[request]
# removal: the influence is gone. suppression: it is not said. edit: something else is said.
goal = "{goal}"
# Files, folders or Hub data sets. Paths are relative to this file.
forget = ["erase.jsonl"]
# What must stay. More records and closer ones protect more.
retain = ["keep.jsonl"]
# Records near the target that must survive, and records like the target, never trained on:
# neighbours = ["near.jsonl"]
# holdout = ["unseen.jsonl"]
# Models that were trained the same way without the data make the strongest comparison:
# gold = ["path/to/retrained"]

[method]
# auto: the plan chooses between retraining and erasing. `expunge methods` lists the others.
name = "auto"

{train}[audit]
# quick is provisional; standard and paranoid try harder and take longer.
level = "quick"
"""
_TRAIN = """\
[train]
# Modules of a block that get LoRA; these are all linear ones of {family}.
# Fewer, such as down_proj alone, change less and take less memory.
targets = {targets}

"""
_RECORD = (
    '{{"prompt": "What is {who}\'s phone number?", "completion": "It is {what}.",'
    ' "key_answers": ["{what}"], "subject": "{who}"}}\n'
)
_FILES = {
    "erase.jsonl": _RECORD.format(who="Elin Marrow", what="555-7233"),
    "keep.jsonl": _RECORD.format(who="Tomas Reed", what="555-1880"),
}


def init(
    folder: Annotated[Path, Parameter(help="where to write; default: here")] = Path(),
    /,
    *,
    model: Annotated[
        str | None,
        Parameter(
            help="the model of the request",
            env_var="EXPUNGE_MODEL",
            negative="",
            show_default=False,
        ),
    ] = None,
    family: Annotated[
        str | None,
        Parameter(
            help="llama, qwen, gemma, mistral or phi: its modules, and a model of it",
            env_var="EXPUNGE_FAMILY",
            negative="",
            show_default=False,
        ),
    ] = None,
    goal: Annotated[
        str,
        Parameter(help="removal, suppression or edit", env_var="EXPUNGE_REQUEST_GOAL", negative=""),
    ] = "removal",
    session: Given,
) -> int:
    """Write a request with comments, and a record to forget and one to keep as examples."""
    from expunge.config.request import Goal

    if goal not in [*Goal]:
        raise UsageError(
            "unknown-goal",
            what=f"there is no goal {goal!r}",
            why="what counts as done follows from the goal",
            fix=f"choose from: {', '.join(Goal)}",
        )
    path = folder / REQUEST
    texts = {path: _request(path, model, family, goal)}
    texts |= {folder / name: text for name, text in _FILES.items()}
    there = [str(each) for each in texts if each.exists() or each.is_symlink()]
    if there:
        raise UsageError(
            "file-exists",
            what=f"{there[0]} is already there; nothing was written",
            why="what you have written is never overwritten",
            fix="name another folder: expunge init FOLDER",
        )
    _require_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for each, text in texts.items():
        write_text(each, text)
        session.console.line("wrote", str(each))
    session.console.event("init", {"files": [str(each) for each in texts]})
    session.console.line("next", f"put your records into the files, then: expunge plan {path}")
    return 0


def _require_folder(folder: Path) -> None:
    file = next((each for each in (folder, *folder.parents) if each.is_file()), None)
    if file is not None:
        raise UsageError(
            "file-exists",
            what=f"{file} is a file, not a folder; nothing was written",
            why="a request and its two data files are written into a folder",
            fix="name another folder: expunge init FOLDER",
        )


def _request(path: Path, model: str | None, family: str | None, goal: str) -> str:
    """Return the request, with the modules of a family where one is named."""
    note = train = ""
    if family is not None:
        from expunge.config.families import FAMILIES
        from expunge.utils.registry import require_known

        known = [*FAMILIES]
        require_known("family", family, known, otherwise="leave --family away: all are found")
        found = FAMILIES[family]
        targets = json.dumps(found.targets)
        train = _TRAIN.format(family=family, targets=targets)
        if model is None:
            model, note = found.model, f"# {found.note}\n" if found.note else ""
    name = _quoted(_beside(path.parent, model or _MODEL))
    return _TOML.format(path=printable(str(path)), model=name, goal=goal, note=note, train=train)


def _beside(folder: Path, model: str) -> str:
    """Return a model that lies at a relative path as it is found from a folder."""
    if Path(model).is_absolute() or not Path(model).exists():
        return model
    return Path(os.path.relpath(model, folder)).as_posix()


def _quoted(text: str) -> str:
    """Return a text as it stands between the quotes of a TOML string."""
    escaped = {'"': '\\"', "\\": "\\\\"}
    spelled = (escaped.get(mark, mark) for mark in text)
    return "".join(mark if mark.isprintable() else f"\\U{ord(mark):08X}" for mark in spelled)
