"""The model card: `README.md` of the run folder, read by people and by the Hub. Holds no record."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from expunge.evals.results import Results
from expunge.evidence.context import AuditContext
from expunge.evidence.store import PLAIN
from expunge.models.reference import MODEL, model_folder
from expunge.reporting import glossary, wording
from expunge.reporting.build import attack_rows, counts, environment, evidence_of, gaps, masks_of
from expunge.reporting.examples import facts
from expunge.reporting.plot_data import find
from expunge.reporting.redaction import OpenText, Redactor
from expunge.reporting.schema import read_facts, read_results
from expunge.utils.io import write_text

CARD = "README.md"
"""The file of the card."""
_ROWS = (
    ("key-fact", "forget"),
    ("extraction-strength", "forget"),
    ("key-fact", "retain"),
    ("extraction-strength", "retain"),
    ("key-fact", "neighbours"),
    ("extraction-strength", "neighbours"),
    ("perplexity", "generic"),
)
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def build_card(run: Path, *, redact: bool = True, key: bytes | None = None) -> Path:
    """Write the model card `README.md` beside the model of a run and return its path.

    The card shows counts and scores, never the text of a record; `redact` masks names of the
    subjects in what else is printed, and so does every card that is published with its model.

    Args:
        run: The run folder, with `results.json`, `facts.json` and the evidence.
        redact: Mask names; False when the card stays with those who know them.
        key: The operator's key, where the evidence is sealed.

    Raises:
        InputError: `results.json` or `facts.json` is malformed or of another version.
    """
    path = model_folder(run) / CARD
    write_text(path, card_text(run, redact=redact, key=key))
    return path


def card_text(run: Path, *, redact: bool, key: bytes | None) -> str:
    """Return the model card of a run as Markdown; the arguments are those of `build_card`.

    Raises:
        InputError: As `build_card`.
    """
    store = evidence_of(run, key=key)
    published = (run / MODEL).is_dir()
    redactor = Redactor(store.items_with_facts()) if redact or published else OpenText()
    results, run_facts, context = read_results(run), read_facts(run), store.context()
    ranked, masks = facts(store), masks_of(store, redactor)
    roles = ("original", "unlearned", *context.golds)
    page: dict[str, Any] = {
        "base_model": _base_model(run_facts.model, redactor),
        "facts": run_facts,
        "published": published,
        "context": context,
        "verdict": results.verdict,
        "sentence": " ".join(
            (
                *wording.notices(results.verdict),
                wording.headline(results.verdict, goal=context.goal),
            )
        ),
        "findings": [
            replace(one, detail=masks.sentence(one.detail)) for one in results.verdict.findings
        ],
        "words": wording,
        "action": wording.action(results.verdict),
        "claim": wording.claim(results.verdict, exact=run_facts.exact),
        "counts": counts(ranked),
        "roles": roles,
        "rows": _rows(results, context),
        "attacks": [row for row in attack_rows(results, ranked) if row["attack"] != PLAIN],
        "gaps": [masks.sentence(gap) for gap in gaps(results, context)],
    }
    return environment().get_template("card.md.j2").render(page)


def _base_model(model: str, redactor: Redactor) -> str:
    """Return the Hub id without its revision; of a folder, only its name: a path is private."""
    name = model.split(" @ ")[0].strip()
    shown = name if _HUB_ID.fullmatch(name) else Path(name).name
    return json.dumps(redactor.label(shown) or "unknown", ensure_ascii=False)


def _rows(results: Results, context: AuditContext) -> list[tuple[str, str, list[str]]]:
    rows: list[tuple[str, str, list[str]]] = []
    for metric, split in _ROWS:
        found = [
            find(results, metric, role=role, split=split)
            for role in ("original", "unlearned", *context.golds)
        ]
        if any(found):
            cells = [
                f"{wording.number(score.value)} {wording.interval(score)}".strip()
                if score and score.value is not None
                else "–"  # noqa: RUF001 - an en dash is meant
                for score in found
            ]
            rows.append((glossary.metric_title(metric), glossary.SETS[split], cells))
    return rows
