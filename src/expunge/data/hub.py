"""Data sets of the Hub, as the `datasets` library reads them."""

import os
import re
import socket
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from expunge.errors import InputError, is_out_of_memory
from expunge.utils.io import NO_SPACE

_TRUE = ("1", "true", "yes", "on")
_LONGEST_REASON = 200
_PORTS = {"http": 80, "https": 443}
_SECONDS = 5.0
"""To wait for a connection. The libraries try each file for half a minute."""


def hub_is_closed() -> bool:
    """Return whether HF_HUB_OFFLINE forbids requests to the Hub."""
    return os.environ.get("HF_HUB_OFFLINE", "").lower() in _TRUE


def why_unreachable() -> str | None:
    """Return why the Hub cannot be asked: it, or the proxy to it, takes no connection; else None.

    No request is sent.
    """
    from huggingface_hub.constants import ENDPOINT  # which HF_ENDPOINT sets

    hub, proxies = urlsplit(ENDPOINT), getproxies()
    proxy = proxies.get(hub.scheme) or proxies.get("all")
    place = hub if proxy is None or proxy_bypass(hub.netloc) else urlsplit(proxy)
    host, port = place.hostname, place.port or _PORTS.get(place.scheme, 1080)
    if not host:
        return None  # the libraries know what is wrong with that address
    try:
        socket.create_connection((host, port), timeout=_SECONDS).close()
    except OSError:
        # Without what else stands in the address, such as the password of a proxy.
        return f"the Hub could not be reached: no connection to {place.scheme}://{host}:{port}"
    return None


def require_kept(source: str, name: str, *, offline: bool) -> None:
    """Refuse a data set that is not kept here where the Hub may or can not be asked.

    Nothing is loaded, and no request is sent.

    Args:
        source: What the user wrote, for the message.
        name: `owner/name`.
        offline: Send no request to the Hub; `HF_HUB_OFFLINE=1` means the same.

    Raises:
        InputError: The `datasets` library has kept no table of that data set.
    """
    from huggingface_hub.constants import HF_HOME

    kept = Path(os.environ.get("HF_DATASETS_CACHE") or Path(HF_HOME) / "datasets").expanduser()
    # The library writes `owner/BigSet` as `owner___big_set`.
    here = {path.name.replace("_", "").lower() for path in kept.glob("*___*")}
    if re.sub("[/_]", "", name).lower() in here:
        return
    if offline or hub_is_closed():
        raise _not_kept(source, "it is not in the cache")
    if (why := why_unreachable()) is not None:
        raise _not_sent(source, why)


def _not_kept(source: str, why: str) -> InputError:
    return InputError(
        "data-offline",
        what=f"no file or folder {source}, and requests to the Hub are forbidden",
        why=f"--offline or HF_HUB_OFFLINE=1 is set: no request was made; {why}",
        fix="load it once with the network, or download the data set and give its folder",
    )


def _not_sent(source: str, why: str) -> InputError:
    return InputError(
        "data-unavailable",
        what=f"cannot load {source}: there is no such file, and the Hub gave no data set",
        why=why,
        fix="check the name on the Hub, log in with `hf auth login` if it asks for that, or"
        " download the files",
    )


@contextmanager
def kept_off_the_hub(*, offline: bool) -> Generator[None]:
    """Stop the libraries that read data sets from sending requests to the Hub.

    They read HF_HUB_OFFLINE on import only, which may have been before `offline` was set.

    Args:
        offline: Whether to do so at all.
    """
    from datasets import config
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, config.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = offline or before[0]
    config.HF_HUB_OFFLINE = offline or before[1]
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, config.HF_HUB_OFFLINE = before


def hub_values(
    source: str, name: str, config: str | None, split: str, *, offline: bool
) -> Iterable[object]:
    """Return the rows of one split of a data set.

    Without requests to the Hub they come from the copy that the library kept.

    Args:
        source: What the user wrote, for messages.
        name: `owner/name`.
        config: One of several tables of the data set; None: its usual one.
        split: Its split, or a part of it such as `train[:400]`.
        offline: Send no request to the Hub; `HF_HUB_OFFLINE=1` means the same.

    Raises:
        InputError: The Hub does not have it, or requests are forbidden and no copy is kept.
    """
    from datasets import load_dataset

    closed = offline or hub_is_closed()
    unreachable = None if closed else why_unreachable()
    try:
        with kept_off_the_hub(offline=closed or unreachable is not None):
            return load_dataset(name, config, split=split)
    except Exception as error:  # anybody's files, and each reader has errors of its own
        if _is_no_room(error):
            raise
        if closed:
            raise _not_kept(source, _kept_reason(error)) from error
        raise _not_sent(source, unreachable or _reason(error)) from error


def _kept_reason(error: Exception) -> str:
    if isinstance(error, ConnectionError):
        return "it is not in the cache"
    return f"of what is in the cache: {_reason(error)}"


def _reason(error: Exception) -> str:
    from datasets.exceptions import DatasetGenerationError

    if isinstance(error, DatasetGenerationError):
        # What lies beneath may quote a record.
        return f"its files do not make a table ({type(error.__cause__ or error).__name__})"
    if isinstance(error, ConnectionError):
        return f"the Hub could not be reached ({type(error).__name__})"
    # The first line names the configs or splits that do exist; what the library looked for on this
    # disk before any request to the Hub is of no use.
    said = next(iter(str(error).splitlines()), "")
    said = said.rpartition(" on the Hugging Face Hub either: ")[2]
    plain = said and isinstance(error, (ValueError, OSError, RuntimeError))
    return (said if plain else f"{type(error).__name__}: {said}")[:_LONGEST_REASON]


def _is_no_room(error: Exception) -> bool:
    """Tell whether memory or disk was short, whatever was being read."""
    link: BaseException | None = error
    while link is not None:
        if is_out_of_memory(link) or (isinstance(link, OSError) and link.errno in NO_SPACE):
            return True
        link = link.__cause__
    return False
