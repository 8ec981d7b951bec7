"""What a recipe writes for people: the request file, the table, and the answers side by side."""

from collections.abc import Mapping
from dataclasses import asdict

import tomli_w

from expunge.benchmarking.probe_outputs import ProbeOutputs
from expunge.config.request import Response
from expunge.evals.results import Score
from expunge.recipes.base import (
    COLLAPSED,
    GOLD,
    ORIGINAL,
    REFUSING,
    UNLEARNED,
    Application,
    ApplicationData,
    AppliedRule,
    RecipeOutcome,
    in_words,
)

ROLES = (ORIGINAL, UNLEARNED, GOLD, COLLAPSED, REFUSING)
"""Order of the columns."""
_WIDTH = 10
_SHOWN = 20
"""Most answers of each probe on the page."""

_REQUEST = """\
# The request of the recipe {name}. For a model of your own, copy this file and change:
#   model       your model: a Hub id, a folder, or BASE+ADAPTER
#   forget      your records to forget; retain and neighbours: yours to keep
#   gold        models trained the same way without the records; delete the line if there is none
# Then: expunge plan FILE, expunge forget FILE
{original}
[request]
id = "recipe-{name}"
goal = "{goal}"
forget = ["data/forget.jsonl"]
retain = ["data/retain.jsonl"]
{sets}{gold}
[method]
name = "{method}"

[audit]
max_new_tokens = {longest}
"""


def request_text(
    application: Application, data: ApplicationData, references: Mapping[str, str]
) -> str:
    """Return the request file.

    Args:
        application: The recipe.
        data: Its record sets; empty ones are left out.
        references: Reference of each model by role.
    """
    sets = {"neighbours": data.neighbours, "holdout": data.holdout}
    lines = [f'{name} = ["data/{name}.jsonl"]\n' for name, records in sets.items() if records]
    if application.response is not Response.ANY:
        lines.append(f'response = "{application.response}"\n')
    if application.refusals:
        lines.append(tomli_w.dumps({"refusals": application.refusals}))
    if application.shared == "keep":
        lines.append('shared = "keep"\n')
    return _REQUEST.format(
        name=application.name,
        goal=application.goal,
        method=application.method,
        original=tomli_w.dumps({"model": references[ORIGINAL]}),
        gold=tomli_w.dumps({"gold": [references[GOLD]]}),
        sets="".join(lines),
        longest=application.longest_answer,
    )


def table_lines(outcome: RecipeOutcome) -> list[tuple[str, str]]:
    """Return measures and acceptance as labels and lines of a table."""
    roles = [role for role in ROLES if role in outcome.table]
    head = "".join(role.rjust(_WIDTH + 1) for role in roles)
    width = max(len(metric) for metric in outcome.table[ORIGINAL])
    lines = [("measure", "".ljust(width) + head)]
    for metric in outcome.table[ORIGINAL]:
        cells = "".join(_cell(outcome.table[role][metric]).rjust(_WIDTH + 1) for role in roles)
        lines.append(("", metric.ljust(width) + cells))
    for place, each in enumerate(outcome.judgements[UNLEARNED]):
        cells = "".join(_mark(outcome.judgements[role][place]).rjust(_WIDTH + 1) for role in roles)
        lines.append(("acceptance" if place == 0 else "", each.rule.metric.ljust(width) + cells))
        lines.append(("", f"  {_limit(each)}"))
    whole = "".join(("yes" if outcome.accepted(role) else "no").rjust(_WIDTH + 1) for role in roles)
    lines.append(("accepted", "".ljust(width) + whole))
    honest = "the rules refuse original, collapsed and refusing model, and accept the gold"
    failed = [role for role in (ORIGINAL, COLLAPSED, REFUSING) if outcome.accepted(role)]
    failed += [] if outcome.accepted(GOLD) else [GOLD]
    lines.append(("check", honest if not failed else f"wrong about: {', '.join(failed)}"))
    lines.append(("verdict", f"of the audit: {outcome.verdict.ruling}"))
    return lines


def _cell(score: Score) -> str:
    return "-" if score.value is None else f"{score.value:.2f}"


def _mark(each: AppliedRule) -> str:
    return "pass" if each.passed else "FAIL"


def _limit(each: AppliedRule) -> str:
    value = "not computable" if each.value is None else f"{each.value:.3f}"
    limit = "" if each.limit is None else f" = {each.limit:.3f}"
    return f"{value}, {in_words(each.rule)}{limit}"


def results_json(outcome: RecipeOutcome) -> dict[str, object]:
    """Return measures, acceptance and verdict as data."""
    return {
        "recipe": outcome.application.name,
        "measures": {
            role: {metric: asdict(score) for metric, score in scores.items()}
            for role, scores in outcome.table.items()
        },
        "acceptance": {
            role: [
                {
                    "metric": each.rule.metric,
                    "rule": in_words(each.rule),
                    "value": each.value,
                    "limit": each.limit,
                    "passed": each.passed,
                }
                for each in judgements
            ]
            for role, judgements in outcome.judgements.items()
        },
        "accepted": {role: outcome.accepted(role) for role in outcome.table},
        "honest": outcome.honest,
        "ruling": outcome.verdict.ruling,
        "sentence": outcome.verdict.sentence,
    }


def answers_page(application: Application, outputs: Mapping[str, ProbeOutputs]) -> str:
    """Return questions with the answers of original, unlearned model and gold, as Markdown."""
    parts = [f"# Answers of the recipe {application.name}\n"]
    for probe in application.shown:
        parts.append(f"## {probe}\n")
        items = outputs[ORIGINAL].items[probe]
        for name in list(items)[:_SHOWN]:
            said = [
                f"- {role}: {_line(outputs[role].answers[probe][name].text) or '(empty)'}"
                for role in (ORIGINAL, UNLEARNED, GOLD)
            ]
            question = _line(items[name].question)
            parts.append("\n".join((f"**{question}**\n", *said, "")))
    return "\n".join(parts)


def _line(text: str) -> str:
    return " ".join(text.split())
