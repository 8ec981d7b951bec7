"""`expunge schema`: JSON Schemas of the files that other programs read."""

import sys
from typing import Annotated, Literal

from cyclopts import Parameter

from expunge.cli.session import Given


def schema(
    name: Annotated[
        Literal["request", "results", "manifest", "gates"], Parameter(help="which file")
    ],
    /,
    *,
    session: Given,
) -> int:
    """Print the JSON Schema of a file: the request, results.json, manifest.json, or --gates."""
    from expunge.reporting.json_schemas import json_schema
    from expunge.utils.io import json_text

    sys.stdout.write(json_text(json_schema(name)))
    return 0
