"""The JSON Schemas of the files that other programs read."""

from expunge.reporting.json_schemas import SCHEMAS, json_schema
from expunge.utils.io import json_text

NAMES = tuple(SCHEMAS)
"""Names of the schemas."""


def text(name: str) -> str:
    """Return the text of one schema."""
    return json_text(json_schema(name))
