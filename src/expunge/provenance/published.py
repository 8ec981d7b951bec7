"""The public manifest: what lies in a model folder that may be published, and what was found.

It names no record, not even by a keyed fingerprint, and no file outside its folder. What it says is
what the manifest of the run says, so `verify` of the run holds one against the other. Whoever has
the model folder alone can check its files, its weights and its signature against it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from expunge.errors import ExpungeError
from expunge.models.reference import run_of_model
from expunge.provenance.files import entries
from expunge.provenance.signature import SigningKey, write_signature
from expunge.utils.file_names import MANIFEST, MODEL, SIGNATURE
from expunge.utils.io import json_text, read_table, sha256_json, write_text

SCHEMA = "expunge.public/1"
"""Name and version of the layout of `model/manifest.json`."""

_TOLD = ("created", "verdict", "claim", "models", "precision", "method", "versions")
"""What is repeated from the manifest of the run."""
_UNCOVERED = frozenset({MANIFEST, SIGNATURE})


def is_published(folder: Path) -> bool:
    """Tell whether a folder is a published model without the run that made it."""
    return (folder / MANIFEST).is_file() and run_of_model(folder) == folder and _is_public(folder)


def _is_public(folder: Path) -> bool:
    try:
        return read_table(folder / MANIFEST).get("schema") == SCHEMA
    except ExpungeError:
        return False


def public_manifest(manifest: Mapping[str, Any]) -> str:
    """Return what `model/manifest.json` must hold, given the manifest of its run."""
    start = f"{MODEL}/"
    files = {
        name.removeprefix(start): entry
        for name, entry in manifest["files"].items()
        if name.startswith(start) and name.removeprefix(start) not in _UNCOVERED
    }
    told = {name: manifest[name] for name in _TOLD if name in manifest}
    body = {"schema": SCHEMA, **told, "files": files}
    return json_text({**body, "digest": sha256_json(body)})


def write_public_manifest(
    run: Path, manifest: Mapping[str, Any], *, signing: SigningKey | None
) -> None:
    """Write the public manifest over the model folder of a run, before the run's own.

    Args:
        run: The run folder; one without a model to publish gets none.
        manifest: What the manifest of the run will say.
        signing: The key that signs it; None: it is not signed.

    Raises:
        UsageError: The folder holds a link.
    """
    folder = run / MODEL
    if not folder.is_dir():
        return
    found = entries(folder, left_out=_UNCOVERED)
    files = {f"{MODEL}/{name}": entry for name, entry in found.items()}
    text = public_manifest({**manifest, "files": files})
    write_signature(folder, text.encode(), signing)
    write_text(folder / MANIFEST, text)
