"""JSON Schemas of the files that other programs read: request, results, manifest, gates."""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import TypeAdapter

from expunge.config.settings import Settings
from expunge.evals.results import Gate, Results, Ruling
from expunge.metrics.outcomes import Axis, Status
from expunge.reporting.gate_file import SCHEMA as GATES
from expunge.reporting.schema import SCHEMA as RESULTS

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_MANIFEST = "expunge.manifest/2"
_DIGEST = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_TEXT = {"type": "string"}
_TEXTS = {"type": "object", "additionalProperties": _TEXT}
_NULLABLE = {"type": ["string", "null"]}


def json_schema(name: str) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a file.

    Args:
        name: One of `SCHEMAS`.

    Raises:
        KeyError: There is no such schema.

    Example:
        >>> json_schema("results")["properties"]["schema"]["const"]
        'expunge.results/1'
    """
    return {"$schema": _DRAFT, "title": f"expunge {name}", **SCHEMAS[name]()}


def _request() -> dict[str, Any]:
    """Return the schema of a request file; what has no default must be there."""
    return Settings.model_json_schema()


def _named(schema: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a schema of fields with the name of the layout under `schema`."""
    properties = {"schema": {"const": name}, **schema["properties"]}
    required = ["schema", *schema["properties"]]
    return {
        **schema,
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _results() -> dict[str, Any]:
    return _named(TypeAdapter(Results).json_schema(mode="serialization"), RESULTS)


def _gates() -> dict[str, Any]:
    gate = TypeAdapter(Gate).json_schema(mode="serialization", ref_template="#/$defs/{model}")
    definitions = gate.pop("$defs")
    fields = {
        "run": _TEXT,
        "passed": {"type": "boolean"},
        "verdict": _verdict({"sentence": _TEXT}),
        "axes": {
            "type": "object",
            "propertyNames": {"enum": [axis.value for axis in Axis]},
            "additionalProperties": {"enum": [status.value for status in Status]},
        },
        "gates": {"type": "array", "items": gate},
    }
    return {**_named(_object(fields), GATES), "$defs": definitions}


def _object(fields: Mapping[str, Any], *, optional: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(fields),
        "required": [name for name in fields if name not in optional],
        "additionalProperties": False,
    }


def _verdict(further: Mapping[str, Any]) -> dict[str, Any]:
    fields = {
        "ruling": {"enum": [ruling.value for ruling in Ruling]},
        "threat_model": {"enum": ["T0", "T1", "T2", "T3"]},
        "tier": {"enum": ["G1", "G2", "G3", "G4"]},
        "provisional": {"type": "boolean"},
    }
    return _object({**fields, **further})


def _manifest() -> dict[str, Any]:
    """Return the schema of the manifest of a run that was judged; see `provenance.manifest`."""
    entry = _object({"sha256": _DIGEST, "bytes": {"type": "integer", "minimum": 0}})
    registration = _object({"digest": _DIGEST, "registered": _TEXT, "late": {"type": "boolean"}})
    stage = _object(
        {"method": _TEXT, "parameters": {"type": "object"}, "weights": {"type": "string"}}
    )
    prints = {"type": "array", "items": {"type": "string", "pattern": "^[0-9a-f]+$"}}
    fields: dict[str, Any] = {
        "schema": {"const": _MANIFEST},
        "run": _TEXT,
        "created": {"type": "string", "format": "date-time"},
        "verdict": _verdict({}),
        "claim": {"type": "object"},
        "model": _TEXT,
        "models": {"type": "object", "additionalProperties": _TEXT},
        "device": _TEXT,
        "precision": _NULLABLE,
        "method": _NULLABLE,
        "stages": {"type": "array", "items": stage},
        "versions": _TEXTS,
        "seeds": {"type": "object", "additionalProperties": {"type": "integer"}},
        "preregistration": registration,
        "data": {"type": "object", "additionalProperties": prints},
        "evidence": _object(
            {"sealed": {"type": "boolean"}, "expires": _TEXT, "redacted": {"type": "boolean"}}
        ),
        "files": {"type": "object", "additionalProperties": entry},
        "digest": _DIGEST,
    }
    return _object(fields, optional=("claim", "stages", "preregistration"))


SCHEMAS: Mapping[str, Callable[[], dict[str, Any]]] = {
    "request": _request,
    "results": _results,
    "manifest": _manifest,
    "gates": _gates,
}
"""Name of a file to the function that describes it."""
