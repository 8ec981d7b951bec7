"""The web app of the viewer: GET only, for this machine only, nothing loaded from elsewhere."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from expunge.errors import ExpungeError, InputError
from expunge.metrics.fact_matchers import english
from expunge.reporting.build import environment
from expunge.reporting.wording import chance
from expunge.utils.file_names import REPORT
from expunge.viewer.chat import stored_chat
from expunge.viewer.evidence import EvidenceReader
from expunge.viewer.library import RunLibrary, RunSummary
from expunge.viewer.pages import (
    ShownBoard,
    ShownRun,
    compared,
    gate_text,
    shown_attacks,
    shown_board,
    shown_ledger,
    shown_run,
)
from expunge.viewer.weights import Changes, compared_weights

PAGE = 50
"""Runs on one page of the list."""

_HERE = Path(__file__).parent
_REPORTS = _HERE.parent / "reporting" / "style.css"
_POLICY = (
    "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'"
)
_REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; style-src 'unsafe-inline';"
    " script-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
)
"""A report is a file of a run, and a run may be somebody else's: it gets an origin of its own."""
_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


class LocalOnly:
    """Refuses whatever did not come from a page of this app, and everything but reading.

    A page on the web can make a browser ask this machine, even under a name of its own that leads
    here. So the host, the origin and what browsers say of the asking site are checked.

    Args:
        app: What is asked when a request is let through.
        hosts: Values of the header `Host` that are let through.
    """

    def __init__(self, app: ASGIApp, *, hosts: frozenset[str]) -> None:
        self._app = app
        self._hosts = hosts
        self._origins = frozenset(f"http://{host}" for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        refused = self._refused(request)
        app = PlainTextResponse(refused[1], refused[0]) if refused else self._app

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                names = {name.lower() for name, _ in message["headers"]}
                further = {"content-security-policy": _POLICY, **_HEADERS}
                message["headers"] = [
                    *message["headers"],
                    *(
                        (name.encode(), value.encode())
                        for name, value in further.items()
                        if name.encode() not in names
                    ),
                ]
            await send(message)

        await app(scope, receive, with_headers)

    def _refused(self, request: Request) -> tuple[int, str] | None:
        headers = request.headers
        if request.method not in ("GET", "HEAD"):
            return 405, "this app only shows; it changes nothing"
        if headers.get("host", "") not in self._hosts:
            return 421, "this app answers to 127.0.0.1 and localhost only"
        origin = headers.get("origin")
        site = headers.get("sec-fetch-site", "none")
        if (origin is not None and origin not in self._origins) or site not in (
            "none",
            "same-origin",
        ):
            return 403, "this app answers to its own pages only"
        return None


def make_app(library: RunLibrary, *, port: int) -> Starlette:
    """Return the app over the runs, leaderboards and ledgers below a folder.

    Args:
        library: What lies there.
        port: Where it will listen: the header `Host` must name it.
    """
    hosts = frozenset(f"{name}:{port}" for name in ("127.0.0.1", "localhost"))
    pages = _Pages(library, _templates())
    app = Starlette(
        routes=[
            Route("/", pages.runs),
            Route("/style.css", pages.style),
            Route("/run/{id:path}", pages.or_why_not(pages.run)),
            Route("/report/{id:path}", pages.or_why_not(pages.report)),
            Route("/chat/{id:path}", pages.or_why_not(pages.chat)),
            Route("/compare", pages.or_why_not(pages.compare)),
            Route("/board/{id:path}", pages.or_why_not(pages.board)),
            Route("/ledger/{id:path}", pages.or_why_not(pages.ledger)),
        ],
        exception_handlers={404: pages.unknown},
    )
    app.add_middleware(LocalOnly, hosts=hosts)
    return app


def warm() -> None:
    """Load what the first page of a run needs, which takes seconds; the list needs none of it."""
    english()


def _templates() -> Environment:
    made = environment().overlay(loader=FileSystemLoader(_HERE))
    made.filters = made.filters.copy()  # the overlay shares those of the reports
    made.filters.update(path=_quoted, gate_text=gate_text, chance=chance)
    for name in made.list_templates(extensions=["j2"]):
        made.get_template(name)  # compiled now, not while the first reader waits
    return made


def _quoted(text: str) -> str:
    """Return a path as it stands in an address."""
    return quote(text)


class _Pages:
    """One function a page; each is called in a thread of its own."""

    def __init__(self, library: RunLibrary, templates: Environment) -> None:
        self._library = library
        self._templates = templates
        self._evidence = EvidenceReader()
        self._style = f"{_REPORTS.read_text()}\n{(_HERE / 'viewer.css').read_text()}"

    def or_why_not(self, page: Callable[[Request], Response]) -> Callable[[Request], Response]:
        """Return a page that says the error of another, where that has one."""

        def answer(request: Request) -> Response:
            try:
                return page(request)
            except ExpungeError as error:
                return self._page("error.html.j2", {"error": error}, status=404)

        return answer

    def unknown(self, request: Request, error: Exception) -> Response:
        return self._page("error.html.j2", {"error": _missing("page")}, status=404)

    def style(self, request: Request) -> Response:
        return Response(self._style, media_type="text/css")

    def runs(self, request: Request) -> Response:
        asked = request.query_params
        every, boards, ledgers = self._library.look()
        ruling, words = asked.get("ruling", ""), asked.get("q", "")
        found = [run for run in every if _fits(run, ruling, words)]
        last = max(0, (len(found) - 1) // PAGE)
        page = min(max(_whole(asked.get("page", "0")), 0), last)
        links = {
            name: "?" + urlencode({"ruling": ruling, "q": words, "page": number})
            for name, number in (("newer", page - 1), ("older", page + 1))
            if 0 <= number <= last
        }
        told = {
            "runs": found[page * PAGE : (page + 1) * PAGE],
            "found": len(found),
            "total": len(every),
            "rulings": sorted({run.ruling for run in every}),
            "ruling": ruling,
            "q": words,
            "links": links,
            "boards": list(boards),
            "ledgers": list(ledgers),
            "root": self._library.root.name,
        }
        return self._page("list.html.j2", told)

    def run(self, request: Request) -> Response:
        summary = self._library.run(request.path_params["id"])
        if summary.attack:
            return self._table(request, partial(shown_attacks, summary.folder, summary.id))
        if not summary.finished:
            return self._page("unfinished.html.j2", {"run": summary})
        masked = request.query_params.get("show") != "text"
        shown = self._shown(summary, masked=masked)
        has_report = (summary.folder / REPORT).is_file()
        told = {"run": summary, "shown": shown, "masked": masked, "has_report": has_report}
        return self._page("run.html.j2", told)

    def chat(self, request: Request) -> Response:
        summary = self._library.run(request.path_params["id"])
        if not summary.finished:
            return self._page("unfinished.html.j2", {"run": summary})
        masked = request.query_params.get("show") != "text"
        words = request.query_params.get("q", "")
        evidence = self._evidence.read(summary.folder)
        chat = stored_chat(summary.folder, evidence, words=words, masked=masked)
        told = {"run": summary, "chat": chat, "masked": masked, "q": words}
        return self._page("chat.html.j2", told)

    def report(self, request: Request) -> Response:
        summary = self._library.run(request.path_params["id"])
        path = summary.folder / REPORT
        if not path.is_file() or path.is_symlink():
            raise _missing("report")
        headers = {"content-security-policy": _REPORT_POLICY}
        return FileResponse(path, media_type="text/html", headers=headers)

    def compare(self, request: Request) -> Response:
        asked = request.query_params
        masked = asked.get("show") != "text"
        both = [self._library.run(asked.get(side, "")) for side in ("a", "b")]
        if not all(run.finished for run in both):
            raise InputError(
                "not-finished",
                what="only finished runs with a verdict can be compared",
                why="one of the two has none",
                fix="choose others in the list",
            )
        first, second = (self._shown(run, masked=masked) for run in both)
        other = {fact.record: fact for fact in second.facts}
        told = {
            "both": both,
            "shown": (first, second),
            "gates": compared(first.results, second.results),
            "facts": [(f, other[f.record]) for f in first.facts if f.record in other],
            "weights": compared_weights(*(self._weights(run) for run in both)),
            "masked": masked,
            "query": urlencode({"a": both[0].id, "b": both[1].id}),
        }
        return self._page("compare.html.j2", told)

    def board(self, request: Request) -> Response:
        path = self._library.look().boards.get(request.path_params["id"])
        if path is None:
            raise _missing("leaderboard")
        return self._table(request, partial(shown_board, path))

    def ledger(self, request: Request) -> Response:
        name = request.path_params["id"]
        path = self._library.look().ledgers.get(name)
        if path is None:
            raise _missing("ledger")
        return self._table(request, partial(shown_ledger, path, name))

    def _table(self, request: Request, shown: Callable[..., ShownBoard]) -> Response:
        """Show a table, with the rows that have the words asked for."""
        words = request.query_params.get("q", "")
        return self._page("board.html.j2", {"board": shown(words=words), "q": words})

    def _shown(self, run: RunSummary, *, masked: bool) -> ShownRun:
        return shown_run(run.folder, self._evidence.read(run.folder), masked=masked)

    def _weights(self, run: RunSummary) -> Changes | None:
        evidence = self._evidence.read(run.folder)
        return None if isinstance(evidence, str) else evidence.weights

    def _page(self, name: str, told: Mapping[str, Any], *, status: int = 200) -> HTMLResponse:
        return HTMLResponse(self._templates.get_template(name).render(told), status)


def _missing(what: str) -> InputError:
    return InputError(
        f"no-{what}",
        what=f"there is no such {what}",
        why="it was renamed or removed, or lies elsewhere",
        fix="go back to the list",
    )


def _fits(run: RunSummary, ruling: str, words: str) -> bool:
    text = f"{run.id} {run.method} {run.model}".casefold()
    return ruling in ("", run.ruling) and all(word in text for word in words.casefold().split())


def _whole(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 10 else 0
