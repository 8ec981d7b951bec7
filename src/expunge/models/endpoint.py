"""Endpoints: a model that a server on this machine answers for, as OpenAI's chat API does it.

    GET  URL/models              the name under which the model is served
    POST URL/chat/completions    one question, temperature 0

Questions are of the records, so they leave this machine only where the user says so. No proxy is
used for this machine, and no redirection is followed.
"""

import ipaddress
import json
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, ProxyHandler, Request, build_opener

from expunge.data.records import Message
from expunge.errors import InputError, UsageError, named_in_part

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


class _NoRedirection(HTTPRedirectHandler):
    """Another address may be another machine."""

    def redirect_request(self, *args: object, **named: object) -> None:
        """Follow nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """A server, and the model that it serves."""

    url: str
    """Without a slash at its end; usually ends with `/v1`."""
    served: str
    """Name of the model."""
    opener: OpenerDirector

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
        url = url.rstrip("/")
        handlers = [ProxyHandler({})] if _is_local(_host(url)) else []
        opener = build_opener(_NoRedirection, *handlers)
        rows = _json(opener, Request(f"{url}/models")).get("data")
        listed = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
        known = [row["id"] for row in listed if isinstance(row.get("id"), str)]
        if (served and served not in known) or (not served and len(known) != 1):
            raise InputError(
                "no-served-model",
                what=f"{url} serves {named_in_part(known, most=_MOST_NAMED) or 'no model'}",
                why=f"{served} is not among them" if served else "which one to ask is not clear",
                fix="name one with --served",
            )
        return cls(url=url, served=served or known[0], opener=opener)

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
        headers = {"Content-Type": "application/json"}
        url, data = f"{self.url}/chat/completions", json.dumps(body).encode()
        answer = _json(self.opener, Request(url, data=data, headers=headers))
        try:
            text = answer["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            raise _malformed(url, "it has no choices[0].message.content") from None
        if text is not None and not isinstance(text, str):
            raise _malformed(url, "its content is no text")
        return text or ""


def _json(opener: OpenerDirector, asked: Request) -> dict[str, Any]:
    """Return what a server answers; its text enters no message, for it may hold the facts."""
    url = asked.full_url
    try:
        with opener.open(asked, timeout=_SECONDS) as response:
            data = response.read(_MOST_BYTES)
    except HTTPError as error:
        error.close()
        raise _malformed(url, f"its status is {error.code}") from None
    except (URLError, HTTPException, OSError) as error:
        reason = getattr(error, "reason", error)
        raise InputError(
            "endpoint-unreachable",
            what=f"{url} does not answer",
            why=str(reason) or type(reason).__name__,
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
