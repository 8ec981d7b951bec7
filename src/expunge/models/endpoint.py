"""Endpoints: a model that a server on this machine answers for, as OpenAI's chat API does it.

    GET  URL/models              the name under which the model is served
    POST URL/chat/completions    one question, temperature 0

Questions are of the records, so they leave this machine only where the user says so. No proxy is
used for this machine, and no redirection is followed.
"""

import ipaddress
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from expunge.data.records import Message
from expunge.errors import InputError, UsageError, named_in_part

if TYPE_CHECKING:
    import httpx

_SECONDS = 120
"""Longest wait for one answer."""
_MOST_NAMED = 5
_MOST_BYTES = 4 * 1024**2


def is_endpoint(reference: str) -> bool:
    """Tell whether a reference names a server rather than a folder or Hub id.

    Example:
        >>> is_endpoint("http://localhost:8000/v1"), is_endpoint("org/model")
        (True, False)
    """
    return reference.startswith(("http://", "https://"))


def require_local(url: str) -> None:
    """Refuse an endpoint on another machine.

    Raises:
        UsageError: `not-local`, or `no-endpoint`: the address names no machine.

    Example:
        >>> require_local("http://127.0.0.1:8000/v1")
        >>> require_local("https://api.example.org/v1")
        Traceback (most recent call last):
            ...
        expunge.errors.UsageError: error[not-local]: api.example.org is not this machine...
    """
    host = _host(url)
    if not _is_local(host):
        raise UsageError(
            "not-local",
            what=f"{host} is not this machine, and nothing was sent there",
            why="the questions are those of the records that were forgotten",
            fix="add --remote, and not --offline, if they may leave this machine",
        )


def _host(url: str) -> str:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port  # raises where it is no number
    except ValueError:
        host = ""
    if not host:
        raise UsageError(
            "no-endpoint",
            what=f"{url} is not the address of a server",
            why="it names no machine, or a port that is no number",
            fix="write for example http://localhost:8000/v1",
        )
    return host


def _is_local(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """A server, and the model that it serves."""

    url: str
    """Without a slash at its end; usually ends with `/v1`."""
    served: str
    """Name of the model."""
    client: "httpx.Client"

    @classmethod
    def at(cls, url: str, served: str = "") -> "Endpoint":
        """Return the endpoint at an address.

        Args:
            url: Address of the API.
            served: Name of the model; default: the only one that the server lists.

        Raises:
            InputError: `endpoint-unreachable`, `endpoint-answer`, or `no-served-model`: it lists
                several models, or others than the one that is named.
        """
        import httpx

        url = url.rstrip("/")
        # Another address may be another machine: httpx follows none.
        client = httpx.Client(timeout=_SECONDS, trust_env=not _is_local(_host(url)))
        rows = _json(client, f"{url}/models").get("data")
        listed = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
        known = [row["id"] for row in listed if isinstance(row.get("id"), str)]
        if (served and served not in known) or (not served and len(known) != 1):
            raise InputError(
                "no-served-model",
                what=f"{url} serves {named_in_part(known, most=_MOST_NAMED) or 'no model'}",
                why=f"{served} is not among them" if served else "which one to ask is not clear",
                fix="name one with --served",
            )
        return cls(url=url, served=served or known[0], client=client)

    def answer(self, prompt: Sequence[Message], *, max_new_tokens: int) -> str:
        """Return the answer to one conversation.

        Args:
            prompt: Its turns; the last one is the user's.
            max_new_tokens: Longest answer.

        Raises:
            InputError: `endpoint-unreachable` or `endpoint-answer`.
        """
        body = {
            "model": self.served,
            "messages": [{"role": turn.role, "content": turn.content} for turn in prompt],
            "temperature": 0,
            "max_tokens": max_new_tokens,
            "stream": False,
        }
        url = f"{self.url}/chat/completions"
        answer = _json(self.client, url, body)
        try:
            text = answer["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            raise _malformed(url, "it has no choices[0].message.content") from None
        if text is not None and not isinstance(text, str):
            raise _malformed(url, "its content is no text")
        return text or ""


def _json(
    client: "httpx.Client", url: str, body: Mapping[str, object] | None = None
) -> dict[str, Any]:
    """Return what a server answers; its text enters no message, for it may hold the facts."""
    import httpx

    data = b""
    try:
        with client.stream("POST" if body else "GET", url, json=body) as response:
            if not response.is_success:
                raise _malformed(url, f"its status is {response.status_code}")
            for part in response.iter_bytes():
                data += part
                if len(data) > _MOST_BYTES:
                    raise _malformed(url, f"it is longer than {_MOST_BYTES} bytes")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise InputError(
            "endpoint-unreachable",
            what=f"{url} does not answer",
            why=str(error) or type(error).__name__,
            fix="start the server, or correct the address; earlier rounds are kept",
        ) from None
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise _malformed(url, "it is not JSON") from None
    if not isinstance(found, dict):
        raise _malformed(url, "it is no JSON object")
    return found


def _malformed(url: str, why: str) -> InputError:
    return InputError(
        "endpoint-answer",
        what=f"the answer of {url} cannot be used: {why}",
        why="asked is an API like OpenAI's chat completions",
        fix="name the address before /chat/completions, for example http://localhost:8000/v1",
    )
