"""A Hub on this machine: as much of its HTTP interface as the libraries ask for.

    with Hub({"datasets/locuslab/TOFU": folder, "models/tiny/llama": folder}) as hub:
        ...  # a process that has HF_ENDPOINT = hub.endpoint

Folders are repositories with one commit, which their contents name. As on the Hub itself, weights
and tables lie elsewhere and are redirected to, a repository that is gated lists its files and gives
none of them, and one that is not there looks like one that asks for a login.

    with Hub({}, takes=folder) as hub:
        ...  # who has HF_TOKEN = WRITE may make repositories there; READ may only read
"""

import base64
import hashlib
import json
import mimetypes
import sys
from collections.abc import Collection, Iterator, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = (".safetensors", ".parquet", ".gz")
"""Endings of files that the Hub keeps in its store of large files."""
KINDS = ("datasets", "models")
WRITE, READ = "hf_write", "hf_read"
"""Tokens by what they allow."""
MADE_BY = frozenset({"repos", "validate-yaml", "preupload", "commit"})
"""What a push asks for."""


class Repository(NamedTuple):
    """A folder and its only commit."""

    id: str
    folder: Path
    gated: bool
    commit: str

    def files(self) -> Iterator[str]:
        """All paths, as the Hub lists them."""
        for path in sorted(self.folder.rglob("*")):
            if path.is_file():
                yield path.relative_to(self.folder).as_posix()

    def entry(self, name: str) -> dict[str, object]:
        """What the Hub tells of a file or folder."""
        path = self.folder / name
        if path.is_dir():
            return {"type": "directory", "path": name, "oid": _named(name.encode()), "size": 0}
        content = path.read_bytes()
        told = {"type": "file", "path": name, "oid": _named(content), "size": len(content)}
        if path.suffix in LARGE:
            told["lfs"] = {"oid": _digest(content), "size": len(content), "pointerSize": 134}
        return told


class Hub:
    """Serves folders as repositories, from `with` to its end."""

    def __init__(
        self,
        folders: Mapping[str, Path],
        *,
        gated: Collection[str] = (),
        failing: Collection[str] = (),
        takes: Path | None = None,
    ):
        self.requests: list[str] = []
        """Method and path of everything that was asked for, addresses of other places in full."""
        self.repositories = {name: _repository(name, folders[name], gated) for name in folders}
        self.takes = takes
        """Folder of the repositories that are made here; None: none can be."""
        self.private: dict[str, bool] = {}
        """Of each repository that was made here, whether its owner alone can see it."""
        self.failing = failing
        """Repositories for which the Hub has only a server error."""
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.hub = self
        self._thread = Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def endpoint(self) -> str:
        """What HF_ENDPOINT is to be."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "Hub":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    hub: Hub

    def handle_error(self, *asked: object) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # a client that has gone away
            super().handle_error(*asked)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_GET  # noqa: N815 - the names that http.server calls

    def do_CONNECT(self) -> None:
        """Asked for by those who take this for a proxy: whatever goes to another place is seen."""
        self.server.hub.requests.append(f"{self.command} {self.path}")
        self._refuse(HTTPStatus.FORBIDDEN, "", "there is no other place")

    def log_message(self, *_: object) -> None:
        """Say nothing: the requests are kept."""

    def _answer(self) -> None:
        asked = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.hub.requests.append(f"{self.command} {self.path}")
        if asked.netloc:
            self._refuse(HTTPStatus.NOT_FOUND, "", "that is another server's")
            return
        api, parts = False, unquote(asked.path).strip("/").split("/")
        if parts[0] == "api":
            api, parts = True, parts[1:]
        if api and self.command == "POST" and {*parts} & MADE_BY:
            self._take(parts, body)
            return
        kind = parts.pop(0) if parts[0] in KINDS else "models"
        repository = "/".join((kind, *parts[:2]))
        if repository in self.server.hub.failing:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "", "the Hub has a bad day")
            return
        found = self.server.hub.repositories.get(repository)
        if found is None:
            self._refuse(HTTPStatus.UNAUTHORIZED, "RepoNotFound", "Repository not found")
            return
        what, *rest = parts[2:] or ["revision"]
        revision, path = (rest or ["main"])[0], "/".join(rest[1:])
        if revision not in ("main", found.commit):
            self._refuse(HTTPStatus.NOT_FOUND, "RevisionNotFound", f"Invalid rev id: {revision}")
        elif api:
            self._tell(found, what, path, {**parse_qs(asked.query), **parse_qs(body.decode())})
        else:
            self._give(found, path, stored=what == "stored")

    def _take(self, parts: list[str], body: bytes) -> None:
        """Make a repository, say how its files are to be sent, or write a commit."""
        hub = self.server.hub
        if hub.takes is None or self.headers.get("Authorization") != f"Bearer {WRITE}":
            self._refuse(HTTPStatus.FORBIDDEN, "", "this token may not write")
            return
        if parts == ["repos", "create"]:
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            (hub.takes / name).mkdir(parents=True, exist_ok=True)
            (hub.takes / name / ".gitattributes").write_text("*.safetensors filter=lfs\n")
            hub.private[name] = asked.get("visibility") == "private" or bool(asked.get("private"))
            hub.repositories[f"models/{name}"] = _repository(f"models/{name}", hub.takes / name, ())
            self._json({"url": f"{hub.endpoint}/{name}"})
            return
        if parts == ["validate-yaml"]:
            self._json({"errors": [], "warnings": []})
            return
        _, owner, name, what, *_ = parts
        folder = hub.takes / owner / name
        if what == "preupload":
            files = [each["path"] for each in json.loads(body)["files"]]
            told = [{"path": e, "uploadMode": "regular", "shouldIgnore": False} for e in files]
            self._json({"files": told})
            return
        for row in map(json.loads, body.splitlines()):
            if row["key"] == "file":
                path = folder / row["value"]["path"]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(base64.b64decode(row["value"]["content"]))
        made = _repository(f"models/{owner}/{name}", folder, ())
        hub.repositories[f"models/{owner}/{name}"] = made
        address = f"{hub.endpoint}/{owner}/{name}/commit/{made.commit}"
        self._json({"commitUrl": address, "commitOid": made.commit, "success": True})

    def _tell(
        self, found: Repository, what: str, path: str, query: Mapping[str, list[str]]
    ) -> None:
        names = list(found.files())
        folders = {str(parent) for name in names for parent in Path(name).parents} - {"."}
        known = {*names, *folders}
        if what == "tree" and path and path not in folders:
            self._refuse(HTTPStatus.NOT_FOUND, "EntryNotFound", f"{path} does not exist")
        elif what == "tree":
            deep = query.get("recursive", ["false"])[0].lower() in ("true", "1")
            below = [n for n in sorted(known) if n.startswith(f"{path}/" if path else "")]
            here = [n for n in below if deep or str(Path(n).parent) == (path or ".")]
            self._json([found.entry(name) for name in here])
        elif what == "paths-info":
            self._json([found.entry(name) for name in query.get("paths", []) if name in known])
        elif what == "revision":
            siblings = [{"rfilename": name} for name in names]
            told = {"id": found.id, "sha": found.commit, "siblings": siblings}
            self._json({**told, "private": False, "gated": "manual" if found.gated else False})
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "", f"nothing answers to {what}")

    def _give(self, found: Repository, path: str, *, stored: bool) -> None:
        file = found.folder / path
        if found.gated:
            self._refuse(HTTPStatus.UNAUTHORIZED, "GatedRepo", f"Access to {found.id} is gated")
            return
        if not file.is_file():
            told = {"X-Repo-Commit": found.commit}
            self._refuse(HTTPStatus.NOT_FOUND, "EntryNotFound", "Entry not found", told)
            return
        content = file.read_bytes()
        if file.suffix in LARGE and not stored:
            address = self.path.replace("/resolve/", "/stored/")
            self._send(
                HTTPStatus.FOUND,
                b"",
                {
                    "Location": f"{self.server.hub.endpoint}{address}",
                    "X-Repo-Commit": found.commit,
                    "X-Linked-Etag": f'"{_digest(content)}"',
                    "X-Linked-Size": str(len(content)),
                },
            )
            return
        name = _digest(content) if file.suffix in LARGE else _named(content)
        told = {"X-Repo-Commit": found.commit, "ETag": f'"{name}"', "Accept-Ranges": "bytes"}
        told["Content-Type"] = mimetypes.guess_type(path)[0] or "application/octet-stream"
        unit, _, wanted = self.headers.get("Range", "").partition("=")
        if unit != "bytes":
            self._send(HTTPStatus.OK, content, told)
            return
        first, _, last = wanted.partition("-")
        begin, end = int(first), min(int(last or len(content) - 1), len(content) - 1)
        told["Content-Range"] = f"bytes {begin}-{end}/{len(content)}"
        self._send(HTTPStatus.PARTIAL_CONTENT, content[begin : end + 1], told)

    def _json(self, told: object) -> None:
        self._send(HTTPStatus.OK, json.dumps(told).encode(), {"Content-Type": "application/json"})

    def _refuse(
        self, status: HTTPStatus, code: str, message: str, told: Mapping[str, str] | None = None
    ) -> None:
        body = json.dumps({"error": message}).encode()
        self._send(
            status,
            body,
            {
                "Content-Type": "application/json",
                "X-Error-Code": code,
                "X-Error-Message": message,
                **(told or {}),
            },
        )

    def _send(self, status: HTTPStatus, body: bytes, told: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in told.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _repository(name: str, folder: Path, gated: Collection[str]) -> Repository:
    digest = hashlib.sha1(name.encode())
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(f"{path.relative_to(folder)} {_digest(path.read_bytes())}\n".encode())
    repository = name.partition("/")[2]
    return Repository(repository, folder, name in gated, digest.hexdigest())


def _named(content: bytes) -> str:
    """The name that git gives a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
