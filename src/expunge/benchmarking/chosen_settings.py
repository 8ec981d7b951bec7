"""Chosen settings: what one matrix found for each method, for another matrix to run with.

Settings that an audit has chosen look better under that audit than under a new one. Choose on a
part, or on another request, and run the whole with what was chosen.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from expunge.benchmarking.method_spec import parse_method_spec, require_named_code
from expunge.benchmarking.search_space import method_values
from expunge.errors import InputError, UsageError
from expunge.methods import build
from expunge.utils.io import read_json

FILE = "chosen.json"
"""Name below a matrix."""

Chosen = Mapping[str, Mapping[str, Any]]
"""Name of the table, such as `npo+sam`, to key paths of the settings tree, such as `train.lr`."""

_adapter: TypeAdapter[dict[str, dict[str, Any]]] = TypeAdapter(dict[str, dict[str, Any]])


def read_chosen(path: Path, *, named: Collection[str] = ()) -> dict[str, dict[str, Any]]:
    """Read the settings that an earlier matrix chose.

    Args:
        path: The file.
        named: Methods that the command names: no others of the file may be code to import.

    Raises:
        InputError: There is no such file, or it holds something else.
        UsageError: It names a method that does not exist, a hyperparameter that it has not, or code
            that the command does not name.
    """
    if not path.is_file():
        raise InputError(
            "no-chosen-settings",
            what=f"there is no file {path}",
            why=f"{FILE} is written beside the leaderboard of a matrix",
            fix=f"expunge bench report FOLDER writes it again; then give FOLDER/{FILE}",
        )
    try:
        found = _adapter.validate_python(read_json(path))
    except (ValidationError, ValueError) as error:
        raise InputError(
            "malformed-chosen-settings",
            what=f"{path} does not hold chosen settings",
            why=str(error).splitlines()[0],
            fix='write it as {"npo": {"train.lr": 0.0001, "method.beta": 0.1}}',
        ) from None
    for name, values in found.items():
        require_named_code(name, values, origin=str(path), named=named)
        build(parse_method_spec(name).method, method_values(values))
    return found


def chosen_for(name: str, chosen: Chosen) -> dict[str, Any]:
    """Return what was chosen for a method; with wrappers, for itself or else for the bare method.

    Raises:
        UsageError: Nothing was chosen for it.
    """
    found = chosen.get(name, chosen.get(parse_method_spec(name).method))
    if found is None:
        raise UsageError(
            "nothing-chosen",
            what=f"no settings were chosen for {name}",
            why=f"they were chosen for {', '.join(chosen) or 'no method'}",
            fix="leave it out of --methods, or add it to the file, {} for its defaults",
        )
    return dict(found)


def together(before: Chosen | None, now: Chosen | None) -> Chosen | None:
    """Return the settings of now with those of before beside them, unless the two contradict."""
    if before is None or now is None:
        return now
    if any(now.get(name, values) != values for name, values in before.items()):
        return now
    return {**before, **now}


def added(before: Chosen, now: Chosen) -> list[str]:
    """Return the methods with settings that before had none for, not even of the bare method."""
    return [
        name for name in now if name not in before and parse_method_spec(name).method not in before
    ]
