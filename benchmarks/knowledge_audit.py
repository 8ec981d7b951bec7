"""Does the knowledge audit of `expunge request` tell what a model was taught?

    python benchmarks/knowledge_audit.py --base FOLDER

The demo's register: the original was taught 20 facts of Elin Marrow, the gold everything else, and
nobody the facts of two control people. Each question is asked as `expunge request` does.

    taught      Elin Marrow, asked of the original      should be known or partly
    gold        the same, asked of the gold             should be guessed or unknown
    untaught    control people, asked of the original   should be guessed or unknown
"""

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from expunge.data.records import Record
from expunge.data.tokenization import Encoder
from expunge.demo.people import register
from expunge.demo.run import ADAPTERS
from expunge.metrics.key_facts import fact_form, states
from expunge.models.loading import float32_source, load
from expunge.requests.elicitation import ElicitedFact, elicited
from expunge.requests.forms import false_values

UNTAUGHT = 20
"""Questions about control people."""


def with_false_answers(records: Sequence[Record], others: Sequence[Record]) -> list[Record]:
    """Return records with false answers of the same kind, as a request has them."""
    found: list[Record] = []
    for record in records:
        key, field = record.key_answers[0], record.id.rsplit("-", 1)[-1]
        same = [each.key_answers[0] for each in others if each.id.endswith(field)]
        wrong = tuple(record.completion.replace(key, value) for value in false_values(key, same))
        found.append(replace(record, wrong=wrong))
    return found


def audit(base: Path, model: str, records: Sequence[Record]) -> dict[str, ElicitedFact]:
    """Return what a model says of records."""
    loaded = load(f"{base}+{ADAPTERS / model}", float32_source("auto", offline=True))

    def said(text: str, record: Record) -> bool:
        return any(states(fact_form(text), fact_form(key)) for key in record.key_answers)

    return elicited(loaded.network, Encoder(loaded.tokenizer), records, states=said)


def main() -> None:
    """Print one JSON object a set, with the records that are judged wrongly."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--base", type=Path, required=True, help="SmolLM2-135M-Instruct")
    base = parser.parse_args().base
    people = register()
    others = [each for role in ("neighbour", "other") for each in people[role]]
    taught = with_false_answers(people["erased"], others)
    untaught = with_false_answers(people["control"][:UNTAUGHT], others)
    for name, model, records, wanted in (
        ("taught", "original", taught, ("known", "partly")),
        ("untaught", "original", untaught, ("guessed", "unknown")),
        ("gold", "gold-0", taught, ("guessed", "unknown")),
    ):
        found = audit(base, model, records)
        counts = Counter(each.knowledge.value for each in found.values())
        wrong = [
            f"{each.record}: {each.sentence()}"
            for each in found.values()
            if each.knowledge.value not in wanted
        ]
        right = 1 - len(wrong) / len(records)
        print(json.dumps({"set": name, **counts, "right": round(right, 3), "wrong": wrong}))


if __name__ == "__main__":
    main()
