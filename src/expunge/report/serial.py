"""Results on disk: `results.json` with a versioned schema, read back to the same values."""

from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from expunge.audit.results import Results
from expunge.errors import InputError
from expunge.files import read_json, write_json

SCHEMA = "expunge.results/1"
"""Name and version of the layout of `results.json`."""

_adapter = TypeAdapter(Results)


def results_to_json(results: Results) -> dict[str, Any]:
    """Turn results into plain JSON values, with the version of the layout under `schema`.

    Floats keep every digit: `results_from_json(results_to_json(r)) == r`.
    """
    return {"schema": SCHEMA, **_adapter.dump_python(results, mode="json")}


def results_from_json(value: object) -> Results:
    """Read results from JSON values.

    Raises:
        InputError: The layout is of another version, or a field is missing or malformed.
    """
    fields: dict[str, Any] = dict(value) if isinstance(value, dict) else {}
    schema = fields.pop("schema", None)
    if schema != SCHEMA:
        raise InputError(
            "results-schema",
            what=f"results.json has schema {schema!r}; this version reads {SCHEMA!r}",
            why="numbers of another layout could be taken for something else",
            fix="run `expunge audit` again with this version, or use the version that wrote it",
        )
    try:
        return _adapter.validate_python(fields)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(
            "malformed-results",
            what=f"results.json: {where}: {first['msg'].lower()}",
            why="the file was changed or cut short after it was written",
            fix="run `expunge audit` again: it recomputes the file from the evidence",
        ) from None


def write_results(run: Path, results: Results) -> Path:
    """Write `results.json` into the run folder and return its path."""
    path = run / "results.json"
    write_json(path, results_to_json(results))
    return path


def read_results(run: Path) -> Results:
    """Read `results.json` of a run folder.

    Raises:
        InputError: The layout is of another version, or a field is missing or malformed.
    """
    return results_from_json(read_json(run / "results.json"))
