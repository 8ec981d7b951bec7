"""The page of a request: every record, why it is in or out, and what to do next."""

from collections import Counter
from pathlib import Path
from typing import Any

from markupsafe import Markup

from expunge.data.splits import hold_out
from expunge.reporting.build import environment
from expunge.requests.draft import HOLD_OUT, RequestDraft
from expunge.requests.forms import FactForm
from expunge.requests.knowledge import Knowledge
from expunge.utils.io import write_text

PAGE = "request.html"
LISTED = 150
"""Rows of a table; the file has the rest."""
_KNOWLEDGE = {
    Knowledge.KNOWN: "half of the answers state it: trained",
    Knowledge.PARTLY: "some answers do, or it is likelier than false ones: trained",
    Knowledge.GUESSED: "the model says it of people who do not exist: trained, unless the corpus"
    " says it of others, too",
    Knowledge.UNKNOWN: "the model does not state it: asked, never trained on",
}
_HERE = Path(__file__).parent


def write_request_page(draft: RequestDraft, folder: Path, *, command: str) -> Path:
    """Write `request.html` beside the files of a request and return its path.

    It shows names and facts in full: it is for whoever decides, and only its owner may read it.

    Args:
        draft: The request.
        folder: That of its files.
        command: What to type next.
    """
    text = environment().get_template("request.html.j2").render(_page(draft, folder, command))
    path = folder / PAGE
    write_text(path, text, owner_only=True)
    return path


def _page(draft: RequestDraft, folder: Path, command: str) -> dict[str, Any]:
    kept = draft.kept
    held = {
        record
        for records in (kept.neighbours, kept.retain)
        for record in hold_out([each.record for each in records], HOLD_OUT)
    }
    kinds = Counter(each.kind.value for each in draft.result.taken)
    return {
        "style": Markup((_HERE / "style.css").read_text(encoding="utf-8")),
        "draft": draft,
        "person": draft.result.person,
        "folder": folder.name,
        "command": command,
        "kinds": kinds.most_common(),
        "scopes": _scope_map(draft),
        "knows": [(kind.value, count, _KNOWLEDGE[kind]) for kind, count in draft.knowledge.items()],
        "held": held,
        "most": LISTED,
        "sources": [draft.documents[each.document].source for each in draft.result.found],
        "texts": [draft.documents[each.document].text for each in draft.result.found],
        "asked": [each for each in draft.erase if each.form == FactForm.QUESTION],
    }


def _scope_map(draft: RequestDraft) -> list[tuple[str, int, str]]:
    """Count the records of each slice of the scope, and say what it is."""
    every = (*draft.erase, *draft.kept.neighbours, *draft.kept.retain)
    counts = Counter(each.scope.value for each in every)
    counts["hard in"] += draft.held_out
    counts["shared"] += sum(each.scope.value == "shared" for each in draft.left_out)
    words = {
        "in": "the facts, asked plainly: to be forgotten",
        "hard in": "the same facts in other forms: to be forgotten as well",
        "hard out": "near the target: must stay",
        "out": "far from the target: must stay",
        "shared": "known of many, or about what the target shares with others: stays",
    }
    return [(name, counts[name], text) for name, text in words.items()]
