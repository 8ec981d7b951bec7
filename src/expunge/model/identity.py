"""Identity: whether a reference still names the same weights, told from files without loading them.

A model is big and loads slowly; its files are read once from end to end, and no tensor is made.
"""

from pathlib import Path

from huggingface_hub import snapshot_download

from expunge.files import sha256_file, sha256_json
from expunge.model.guard import base_of, rules_digest
from expunge.model.load import Source, is_guard, load_config, split_reference, split_revision

WEIGHTS = "*.safetensors"
_NOT_LOADED = ["*/*", "consolidated*"]
"""Files of weights that some models on the Hub hold beside those that are loaded."""


def reference_digest(reference: str, source: Source) -> str:
    """Return a digest that is another one when the weights of a reference are.

    It is not `Loaded.digest`: the same weights in other files have another one here.

    Args:
        reference: As for `expunge.model.load.load`. The weights of a Hub id are downloaded.
        source: What is allowed; device and format play no part.

    Raises:
        InputError: Nothing loadable is there.
    """
    folder = Path(reference)
    if is_guard(reference):
        return sha256_json([reference_digest(base_of(folder), source), rules_digest(folder)])
    base, adapter = split_reference(reference)
    if adapter is not None:
        shape = sha256_file(adapter / "adapter_config.json")
        return sha256_json([reference_digest(base, source), shape, _weights(adapter)])
    load_config(base, source)  # says in its own words what is wrong with a reference
    if base.endswith(".gguf"):
        return sha256_file(Path(base))
    return sha256_json(_weights(Path(base) if Path(base).exists() else _fetched(base, source)))


def _weights(folder: Path) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in folder.glob(WEIGHTS)}


def _fetched(reference: str, source: Source) -> Path:
    """Return the folder of a model of the Hub with the weights that loading it will ask for."""
    name, revision = split_revision(reference)
    return Path(
        snapshot_download(
            name,
            revision=revision,
            allow_patterns=[WEIGHTS],
            ignore_patterns=_NOT_LOADED,
            local_files_only=source.offline,
        )
    )
