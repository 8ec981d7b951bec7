"""The model card: `README.md` of the run folder, read by people and by the Hub. Holds no record."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from expunge.evals.results import Results
from expunge.evidence.context import AuditContext
from expunge.evidence.store import PLAIN, UNLEARNED
from expunge.models.reference import model_folder
from expunge.reporting import glossary, wording
from expunge.reporting.build import attack_rows, counts, environment, evidence_of, gaps, masks_of
from expunge.reporting.examples import facts
from expunge.reporting.plot_data import find
from expunge.reporting.redaction import OpenText, Redactor
from expunge.reporting.schema import read_facts, read_results
from expunge.utils.file_names import CARD, MODEL
from expunge.utils.io import write_text

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
_NO_ID = re.compile(r"[^\w./-]", re.ASCII)
_LICENSES = {
    "setting": "Chosen by whoever made this model.",
    "card": "As the card of the base declares it.",
    "gguf": "As the file of the base declares it.",
    "": "The base declares none. Ask its owner before you share this model.",
}
"""By where the licence comes from."""


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
        "base_models": _base_models(run_facts.model, redactor),
        "license": run_facts.license,
        "license_words": _LICENSES[run_facts.license.source],
        "datasets": run_facts.datasets,
        "numbers": _numbers(results),
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


def _base_models(model: str, redactor: Redactor) -> list[str]:
    """Return base and adapter: Hub ids without revision; of a folder its name, a path is private.

    Characters that no id of the Hub has become hyphens.
    """
    names = [part.split("@")[0].strip() for part in model.split(" + ")]
    shown = [name if _HUB_ID.fullmatch(name) else Path(name).name for name in names]
    labels = [redactor.label(name) or "unknown" for name in shown]
    return [json.dumps(_NO_ID.sub("-", label).strip("-") or "unknown") for label in labels]


def _numbers(results: Results) -> list[dict[str, str]]:
    """Return what the model-index lists of the unlearned model, each value as JSON."""
    found = [(split, find(results, metric, role=UNLEARNED, split=split)) for metric, split in _ROWS]
    return [
        {
            "metric": score.metric,
            "title": json.dumps(f"{glossary.metric_title(score.metric)}, {glossary.SETS[split]}"),
            "set": json.dumps(glossary.SETS[split]),
            "value": json.dumps(round(score.value, 4)),
        }
        for split, score in found
        if score is not None and score.value is not None
    ]


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
