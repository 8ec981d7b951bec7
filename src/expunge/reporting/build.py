"""The report: one HTML file that opens anywhere, asks no network, and begins with a plain page.

The reports of a run folder by name: the run's own, and those written aside later.
"""

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from expunge.config.resolve import parsed
from expunge.errors import InputError
from expunge.evals import plain_words
from expunge.evals.assess import attack_rungs
from expunge.evals.results import Gate, Results, Score
from expunge.evidence.context import AuditContext, Policy
from expunge.evidence.store import ITEMS, PLAIN, EvidenceStore
from expunge.metrics.outcomes import Axis, Status
from expunge.reporting import glossary, plot_data, wording
from expunge.reporting.examples import (
    RULE,
    Count,
    ExampleAttempt,
    FactHistory,
    choose,
    count,
    facts,
)
from expunge.reporting.plot_data import relearning
from expunge.reporting.redaction import MASK, Masks, OpenText, Redactor
from expunge.reporting.schema import RunFacts, read_facts, read_results
from expunge.utils.file_names import EVIDENCE, MANIFEST, MODEL, REPORT, RESULTS, SETTINGS
from expunge.utils.io import AnyPath, read_json, sha256_file, write_text

IN_FULL, MASKED = "report-in-full.html", "report-masked.html"
"""Show more, or less, than that."""

PUBLISHED = f"{MODEL}/{REPORT}"
"""Goes with the model: masked, and without paths and commands of whoever made it."""


def page_for(run: Path, *, redact: bool) -> Path:
    """Return where a report is written that masks the texts of records, or shows them."""
    if own_redaction(run) == redact:
        return run / REPORT
    return run / (MASKED if redact else IN_FULL)


def own_redaction(run: Path) -> bool:
    """Return whether the run was to mask texts, as it does by default."""
    path = run / SETTINGS
    report = parsed(path).get("report") if path.is_file() else None
    return bool(report.get("redact", True)) if isinstance(report, dict) else True


LONGEST = 220
"""Most characters of a record, an answer or a reason that are shown."""

LISTED = 8
"""Lines of a list on page one."""

LIMIT_FACTS = 100
"""Most facts listed one by one, worst first; keeps the file small."""

_HERE = Path(__file__).parent
_SCRIPT = """
const reveal = () => {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  const annex = target && target.closest("details");
  if (annex) { annex.open = true; target.scrollIntoView(); }
};
addEventListener("hashchange", reveal);
reveal();
const all = document.getElementById("open-all");
if (all) all.addEventListener("click", () => {
  for (const annex of document.querySelectorAll("details")) annex.open = true;
});
const box = document.getElementById("only-returned");
if (box) box.addEventListener("change", () => {
  for (const row of document.querySelectorAll("tr[data-returns='0']")) row.hidden = box.checked;
});
"""
_ANSWERS = ("malformed", "seq-rep", "refusal")
"""Beginnings of the names of gates on the form of answers."""
_LIGHT = {
    Status.PASS: "good",
    Status.FAIL: "bad",
    Status.INCONCLUSIVE: "unsure",
    Status.SCAR: "unsure",
    Status.NOT_COMPUTABLE: "none",
}


def build_report(run: AnyPath, *, redact: bool | None = None, key: bytes | None = None) -> Path:
    """Write `report.html` into a run folder and return its path.

    A report that shows more or less than the run was to show is written aside, to
    `report-in-full.html` or `report-masked.html`: the manifest vouches for the run's own. A page
    that the manifest covers is not replaced by another one.

    Reads `results.json`, `facts.json`, `config.toml` and the evidence; computes no score. The same
    files give the same bytes.

    Args:
        run: The run folder.
        redact: Mask the texts of records (`reporting.redaction`); False shows them in full; None:
            as the run was to.
        key: The operator's key, where the evidence is sealed.

    Raises:
        InputError: `results.json` or `facts.json` is malformed or of another version, or
            `report-covered`: this version writes another page than the one that is covered.

    Example:
        >>> build_report(Path("no-such-run"))
        Traceback (most recent call last):
            ...
        expunge.errors.InputError: error[no-evidence]: no-such-run has no evidence...
    """
    run = Path(run)
    masked = own_redaction(run) if redact is None else redact
    path = page_for(run, redact=masked)
    text = report_texts(run, redact=masked, key=key)[0]
    _require_same(run, path, text)
    write_text(path, text, owner_only=not masked)
    return path


def _require_same(run: Path, page: Path, text: str) -> None:
    """Refuse to replace a page that fits the manifest: the run would no longer verify."""
    try:
        named = read_json(run / MANIFEST)["files"][page.name]["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # an unfinished run, or a page that no manifest covers
    if hashlib.sha256(text.encode()).hexdigest() != named and page.is_file():
        if sha256_file(page) != named:
            return  # it does not fit the manifest as it is
        raise InputError(
            "report-covered",
            what=f"{page} was not replaced: this version of expunge writes another page",
            why="the manifest covers the page that lies there; another one would not verify",
            fix="open that page; for a new one, use a copy of the run without its manifest.json",
        )


def build_reports(run: Path, *, redact: bool | None = None, key: bytes | None = None) -> None:
    """Write the report of a run, and the one that is published with its model.

    The published one is masked whatever the run shows; a run without a model to publish has none.

    Args:
        run: As for `build_report`.
        redact: As for `build_report`.
        key: As for `build_report`.

    Raises:
        InputError: As `build_report`.
    """
    masked = own_redaction(run) if redact is None else redact
    own, public = report_texts(run, redact=masked, key=key)
    write_text(page_for(run, redact=masked), own, owner_only=not masked)
    if (run / MODEL).is_dir():
        if not masked:
            _, public = report_texts(run, redact=True, key=key)
        write_text(run / PUBLISHED, public)


def report_texts(run: Path, *, redact: bool, key: bytes | None) -> tuple[str, str]:
    """Return the report of a run as HTML: its own, and the one that is published.

    The published one leaves out the command and the settings: they name files of whoever made it.

    Args:
        run: As for `build_report`.
        redact: As for `build_report`.
        key: As for `build_report`.

    Raises:
        InputError: As `build_report`.
    """
    store = evidence_of(run, key=key)
    redactor = Redactor(store.items_with_facts()) if redact else OpenText()
    page = _page(run, store, redactor, redacted=redact)
    template = environment().get_template("report.html.j2")
    return template.render(page, public=False), template.render(page, public=True)


def evidence_of(run: Path, *, key: bytes | None) -> EvidenceStore:
    """Return the evidence of a run that still has some.

    Raises:
        InputError: The evidence was destroyed, or never collected.
    """
    store = EvidenceStore(run / EVIDENCE, key=key)
    if not store.holds(ITEMS):
        raise InputError(
            "no-evidence",
            what=f"{run} has no evidence",
            why="a report is written from the evidence, which is not there or was destroyed",
            fix="read the report.html that was written before, or run the audit again",
        )
    return store


@cache
def environment() -> Environment:
    """Return the template environment: HTML is escaped, an unknown name is an error."""
    made = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=lambda name: bool(name and ".html" in name),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters.update(
        subject=plain_words.subject,
        measured=plain_words.measured,
        finding=wording.finding,
        number=wording.number,
        duration=wording.duration,
        interval=wording.interval,
        thousands=lambda value: f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}"),
        attack=glossary.attack_title,
        attempt=plain_words.attempt,
        metric=glossary.metric_title,
        light=_light,
        status=_status,
        tone=wording.tone,
        plain=plain_words.plain,
        short=_short,
        unbroken=_unbroken,
        masks=_masks,
    )
    return made


def _unbroken(text: str) -> str:
    """Keep numbers and their percent signs on one line."""
    return text.replace(" %", "\N{NARROW NO-BREAK SPACE}%")


def _short(text: str) -> str:
    """Cut a text so that page one keeps its length."""
    return text if len(text) <= LONGEST else text[: LONGEST - 1].rstrip() + "…"


def _masks(text: str) -> Markup:
    """Escape a text and set its masked runs apart, so that they do not shout."""
    return Markup(re.sub(f"({MASK}+)", r'<span class="mask">\1</span>', str(escape(text))))


def _light(status: Status) -> str:
    return _LIGHT[status]


def _status(status: Status) -> str:
    return wording.STATUS_WORDS[status]


def _page(run: Path, store: EvidenceStore, redactor: Redactor, *, redacted: bool) -> dict[str, Any]:
    results, run_facts, context = read_results(run), read_facts(run), store.context()
    ranked = facts(store)
    style = (_HERE / "style.css").read_text(encoding="utf-8")
    return {
        "style": Markup(style),
        "script": Markup(_SCRIPT),
        "script_digest": base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode(),
        "results": results,
        "facts": run_facts,
        "context": context,
        "request": redactor.label(context.request),
        "redacted": redacted,
        "redactor": redactor,
        "masks": masks_of(store, redactor),
        "words": wording,
        "action": wording.action(results.verdict),
        "command": wording.next_command(results.verdict, Path("RUN_FOLDER"), steps=run_facts.steps),
        "headline": wording.headline(results.verdict, goal=context.goal),
        "notices": wording.notices(results.verdict),
        "claim": wording.claim(results.verdict, exact=run_facts.exact),
        "tried": _tried(results),
        "most": LISTED,
        "counts": counts(ranked),
        "examples": choose(ranked, seed=context.seed),
        "rule": RULE.format(seed=context.seed),
        "listed": ranked[:LIMIT_FACTS],
        "ranked": len(ranked),
        "changes": _changes(results),
        "gaps": gaps(results, context),
        "plots": _plots(store, results, run_facts, redactor),
        "scorecard": _scorecard(results, context),
        "ladder_scores": _ladder_scores(results),
        "gates": [(axis, results.of(axis)) for axis in Axis],
        "attacks": attack_rows(results, ranked),
        "margins": _margins(context.policy),
        "subjects": by_subject(ranked)[:LIMIT_FACTS],
        "sealed": store.sealed,
        "config": redactor.label((run / SETTINGS).read_text(encoding="utf-8", errors="replace")),
        "digests": [(name, sha256_file(run / name)) for name in (SETTINGS, RESULTS)],
        "glossary": glossary,
        "used_metrics": _used_metrics(results),
    }


def masks_of(store: EvidenceStore, redactor: Redactor) -> Masks:
    """Return what masks the words of users in the sentences of a report."""
    return Masks(redactor, {item.relation for item in store.items() if item.relation})


def counts(ranked: Sequence[FactHistory]) -> dict[str, Any] | None:
    """Count the facts that came back before, after and under gold; None without named facts."""
    after = count([fact.after for fact in ranked])
    if after is None:
        return None
    before = count([fact.before for fact in ranked])
    return {
        "after": after,
        "before": before,
        "gold": count([fact.gold for fact in ranked]),
        "sentence": wording.count_sentence(after, before),
    }


def by_subject(ranked: Sequence[FactHistory]) -> list[tuple[str, Count | None, Count]]:
    """Count what came back of each subject before and after, the worst subject first.

    A mean over subjects would hide the one of whom most came back.
    """
    groups: dict[str, list[FactHistory]] = {}
    for fact in ranked:
        groups.setdefault(fact.item.subject or "no subject named", []).append(fact)
    found: list[tuple[str, Count | None, Count]] = []
    for name, members in groups.items():
        after = count([fact.after for fact in members])
        if after is not None:
            found.append((name, count([fact.before for fact in members]), after))
    return sorted(found, key=lambda row: -row[2].returned / row[2].facts)


def _margins(policy: Policy) -> list[tuple[str, float, float]]:
    usual = asdict(Policy())
    return [(name, value, usual[name]) for name, value in asdict(policy).items()]


def _changes(results: Results) -> list[tuple[str, Gate | None]]:
    """Return the weakest gate of everything that should have stayed, area by area.

    What judges a part counts only where it fails, as it does in the verdict. What training
    rehearsed stands beside what it did not, and never in its place.
    """
    every = [gate for gate in results.gates if gate.axis in (Axis.UTILITY, Axis.LOCALITY)]
    beside = [gate for gate in every if gate.name.endswith(f": {plain_words.REHEARSED}")]
    kept = [gate for gate in every if not gate.part or gate.status is Status.FAIL]
    answers = [gate for gate in kept if gate.name.startswith(_ANSWERS)]
    general = [gate for gate in kept if gate.name.startswith("general text")]
    rest = [gate for gate in kept if gate not in (*beside, *answers, *general)]

    def of(axis: Axis, gates: Sequence[Gate]) -> list[Gate]:
        return [gate for gate in gates if gate.axis is axis]

    found = [
        ("General text", general),
        ("Knowledge to keep", of(Axis.UTILITY, rest)),
        ("Neighbours", of(Axis.LOCALITY, rest)),
        ("Form of the answers", answers),
    ]
    rows = [(title, wording.worst(tuple(gates))) for title, gates in found]
    return [*rows, *((f"Beside: {_area(gate)}, rehearsed", gate) for gate in beside)]


def _area(gate: Gate) -> str:
    return "neighbours" if gate.axis is Axis.LOCALITY else "knowledge to keep"


def _tried(results: Results) -> dict[str, list[tuple[str, str]]]:
    """Return what became of each attempt: its status to its words and the reason why not."""
    found: dict[str, list[tuple[str, str]]] = {}
    for one in sorted(results.attacks, key=lambda one: one.attack != PLAIN):
        row = (plain_words.attempt(one.attack), plain_words.plain(one.reason))
        found.setdefault(one.status.value, []).append(row)
    return found


def gaps(results: Results, context: AuditContext) -> list[str]:
    """List what the verdict does not cover: stronger adversaries, missing evidence, copies."""
    order = list(wording.THREATS)
    beyond = order[order.index(results.verdict.threat_model) + 1 :]
    gaps = [f"{wording.THREATS[threat].capitalize()}." for threat in beyond]
    gaps += [f"{note[:1].upper()}{plain_words.plain(note[1:])}." for note in context.notes]
    if not context.golds:
        gaps.append("A comparison with a model that was never trained on the data: there was none.")
    for axis, status in results.axes.items():
        if status is Status.NOT_COMPUTABLE:
            reasons = dict.fromkeys(gate.reason for gate in results.of(axis) if gate.reason)
            why = plain_words.plain("; ".join(reasons)) or "nothing to measure it on"
            gaps.append(f"{axis.capitalize()}: {why}.")
    if context.level == "quick":
        gaps.append("Anything beyond the quick level of the audit: the result is provisional.")
    return [*gaps, *wording.ALWAYS_OUTSIDE]


def _plots(
    store: EvidenceStore, results: Results, run_facts: RunFacts, redactor: Redactor
) -> dict[str, Markup | None]:
    drawn = {
        "ladder": plot_data.ladder(results),
        "frontier": plot_data.frontier(results),
        "collateral": plot_data.collateral(store, redactor=redactor),
        "training": plot_data.training(run_facts),
        "relearning": relearning(attack_rungs(store, store.context())),
    }
    # The drawings escape their own labels.
    return {name: None if svg is None else Markup(svg) for name, svg in drawn.items()}


def _scorecard(results: Results, context: AuditContext) -> dict[str, Any]:
    roles = ("original", "unlearned", *context.golds)
    scores = [score for score in results.scores if not score.role.startswith("ladder")]
    others = tuple(dict.fromkeys(s.role for s in scores if s.role not in roles))
    axes: list[Axis | None] = [*Axis, None]

    def place(score: Score) -> tuple[int, str]:
        axis = glossary.axis_of(score.metric, split=score.split, attack=score.attack)
        return axes.index(axis), glossary.metric_title(score.metric)

    groups: list[dict[str, Any]] = []
    for (order, title), members in groupby(sorted(scores, key=place), key=place):
        rows: dict[tuple[str, str], dict[str, Score]] = {}
        for score in members:
            rows.setdefault((score.split, score.attack), {})[score.role] = score
        groups.append(
            {
                "axis": (axes[order] or "other").capitalize(),
                "title": title,
                "units": sorted({s.unit for row in rows.values() for s in row.values() if s.unit}),
                "rows": sorted(rows.items(), key=lambda row: _plain_first(*row[0])),
            }
        )
    by_axis = [(axis, list(g)) for axis, g in groupby(groups, key=lambda group: group["axis"])]
    return {"roles": roles + others, "axes": by_axis}


def _plain_first(split: str, attack: str) -> tuple[int, bool, str]:
    order = [*glossary.SETS]
    return (order.index(split) if split in order else len(order)), attack != PLAIN, attack


def _ladder_scores(results: Results) -> list[Score]:
    return [score for score in results.scores if score.role.startswith("ladder")]


def attack_rows(results: Results, ranked: Sequence[FactHistory]) -> list[dict[str, Any]]:
    """Describe every attack, plain questions first, then the strongest: counts, score, control."""
    metric = plot_data.headline(results)
    seen = [attempt.attack for fact in ranked for attempt in fact.after]
    scored = [score.attack for score in plot_data.attacks(results, metric)]
    names = list(dict.fromkeys([PLAIN, *scored, *seen]))
    return [
        {
            "attack": name,
            "words": glossary.ATTACKS.get(name),
            "before": _under(name, [fact.before for fact in ranked]),
            "after": _under(name, [fact.after for fact in ranked]),
            "gold": _under(name, [fact.gold for fact in ranked]),
            "score": plot_data.find(results, metric, role="unlearned", split="forget", attack=name),
            "anchor": plot_data.anchor(results, metric, attack=name),
        }
        for name in names
    ]


def _under(attack: str, attempts: Sequence[Sequence[ExampleAttempt]]) -> str:
    counted = count([[one for one in tries if one.attack == attack] for tries in attempts])
    return f"{counted.returned} of {counted.facts}" if counted else ""


def _used_metrics(results: Results) -> list[str]:
    return sorted({score.metric for score in results.scores}, key=glossary.metric_title)
