"""The licence of a base model, as its own card or file declares it. Nothing is guessed."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from expunge.data.hub import hub_is_closed
from expunge.models.reference import model_folder, split_reference, split_revision
from expunge.utils.file_names import CARD

UNKNOWN = "unknown"
"""The Hub's own word where nothing is declared."""
_ID = re.compile(r"[\w.+-]{1,60}")
_NAME = re.compile(r"[\w .,+()-]{1,100}")
_LINK = re.compile(r"https?://[^\s\"'<>]{1,300}")


@dataclass(frozen=True, kw_only=True, slots=True)
class License:
    """What a model is licensed under, as somebody declares it."""

    id: str = UNKNOWN
    """Identifier of the Hub, such as `apache-2.0` or `other`."""
    name: str = ""
    """Of a licence that has no identifier of its own."""
    link: str = ""
    """Where its text is; empty where the card names a file of its own folder."""
    source: str = ""
    """`setting`, `card` or `gguf`; empty where nothing was declared."""


def declared_license(reference: str, *, offline: bool) -> License:
    """Return the licence that a model's card, or its GGUF file, declares.

    Of an adapter or a guard it is that of the base, whose weights are in what is published.

    Args:
        reference: As for `expunge.models.loading.load`.
        offline: Never ask the Hub; its local copy is read.

    Raises:
        InputError: The part after + is no adapter.

    Example:
        >>> declared_license("no-such-folder/model.gguf", offline=True).id
        'unknown'
    """
    base = split_reference(reference)[0]
    if base.endswith(".gguf"):
        return _of_gguf(Path(base))
    folder = model_folder(base)
    card = folder / CARD if folder.is_dir() else _card_on_hub(base, offline=offline)
    return _of_card(card) if card is not None and card.is_file() else License()


def license_of(values: Mapping[str, object], source: str) -> License:
    """Return the licence that the metadata of a card declare; what is malformed counts as absent.

    Args:
        values: `license`, `license_name`, `license_link`.
        source: Where they come from.

    Example:
        >>> license_of({"license": "other", "license_name": "own-1.0"}, "card").name
        'own-1.0'
    """
    found, name = values.get("license"), values.get("license_name")
    if isinstance(found, list):  # some cards list several
        every = [str(each) for each in found]
        found, name = (every[0], name) if len(every) == 1 else ("other", ", ".join(every))
    if not isinstance(found, str) or _ID.fullmatch(found) is None or found == UNKNOWN:
        return License()
    link = values.get("license_link")
    return License(
        id=found.lower(),
        name=name if isinstance(name, str) and _NAME.fullmatch(name) else "",
        link=link if isinstance(link, str) and _LINK.fullmatch(link) else "",
        source=source,
    )


def _of_card(path: Path) -> License:
    from huggingface_hub.repocard import metadata_load
    from yaml import YAMLError

    try:
        values = metadata_load(path)
    except (OSError, ValueError, YAMLError):
        return License()
    return license_of(values, "card") if isinstance(values, dict) else License()


def _of_gguf(path: Path) -> License:
    from gguf import GGUFReader

    try:
        fields = GGUFReader(path).fields
    except (OSError, ValueError):
        return License()
    keys = {"license": "", "license_name": ".name", "license_link": ".link"}
    found = {key: fields.get(f"general.license{ending}") for key, ending in keys.items()}
    return license_of({k: v.contents() for k, v in found.items() if v is not None}, "gguf")


def _card_on_hub(reference: str, *, offline: bool) -> Path | None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    name, revision = split_revision(reference)
    closed = offline or hub_is_closed()
    try:
        return Path(hf_hub_download(name, CARD, revision=revision, local_files_only=closed))
    except (HfHubHTTPError, HFValidationError, OSError, ValueError):
        return None
