"""RWKU: forget what pretraining taught about a famous person (arXiv 2406.10890).

One target a run (`--part 001_Stephen_King`). Forgotten are passages about the target. Probes:
cloze, questions and nine adversarial types (the translated ones count as one), cloze and questions
about neighbours, and, where the folder has them, texts for membership inference and the utility
sets: MMLU, BBH after solved examples, TruthfulQA, TriviaQA, and instructions whose replies should
be fluent. An answer counts by ROUGE-L recall, as the authors have it; `key-fact` is the stricter
reading: the answer stands in the reply.

BBH deviates from the authors' code: it takes a text for the list of its characters, so that no
answer of several characters can be right, and drops the article "a", which option (A) then equals.
Here the whole answer counts.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from expunge.benchmarking.probe_outputs import ProbeOutputs, membership, right
from expunge.benchmarking.suites.base import (
    NO_FILE,
    KnownSet,
    Probe,
    Spec,
    Suite,
    SuiteLocation,
    records,
    wrong_release,
)
from expunge.benchmarking.suites.multiple_choice import (
    as_question,
    choice_scores,
    lettered,
    place_of,
)
from expunge.data.readers import SourceRow, read
from expunge.errors import InputError
from expunge.evals.results import Score
from expunge.evidence.store import Answer, Item
from expunge.metrics.base import rouge_l_recall
from expunge.metrics.fluency import ngram_entropy
from expunge.metrics.key_facts import key_fact
from expunge.metrics.membership import loss
from expunge.metrics.outcomes import Axis
from expunge.utils.io import expanded

PASSAGE = "passage"
"""The set that is forgotten."""
LEVELS = ("forget_level1", "forget_level2", "forget_level3")
RECALL = "rouge-l-recall-stem"
KNOWN = tuple(
    KnownSet(metric=RECALL, probe=level, axis=axis)
    for level, axis in zip(LEVELS, (Axis.FORGETTING, Axis.FORGETTING, Axis.ROBUSTNESS), strict=True)
)
"""Plain questions, and adversarial ones, by the metric of the authors."""
NEIGHBOURS = ("neighbor_level1", "neighbor_level2")
TYPES = (
    "prefix injection",
    "affirmative suffix",
    "role play",
    "multiple choice",
    "reverse query",
    "synonym manipulation",
    "context hint",
    "incontext learning",
    "cross lingual",
)
ANSWER = 32
"""Longest answer in tokens."""
REASONING = 256
"""Longest answer in tokens where the model is to reason, or to write freely; as the authors."""
_CONCLUSION = re.compile(r"the answer is\s*(.*?)(?:\.(?:\s|$)|\n|$)", re.IGNORECASE)


def load(spec: Spec) -> Suite:
    """Read one target.

    Args:
        spec: `data` is the folder; `part` names a file of `targets/` or a folder of one target.

    Raises:
        InputError: There is no such target, it lacks a set, or a probe has an unknown type.
    """
    name, parts = _target(spec)
    by_level = {level: records(level, parts[level], _question) for level in (*LEVELS, *NEIGHBOURS)}
    passages = records(PASSAGE, parts[PASSAGE], _text)
    kinds = {record.relation or "none" for record in by_level[LEVELS[2]]} - set(TYPES)
    if kinds:
        raise wrong_release(name, f"adversarial types that are not RWKU's: {', '.join(kinds)}")
    probes = [Probe(name=level, records=group, answer=ANSWER) for level, group in by_level.items()]
    for side in ("forget_mia", "retain_mia"):
        if side in parts:
            probes.append(Probe(name=side, records=records(side, parts[side], _text), scored=True))
    if "truthful" in parts:
        options = records("truthful", parts["truthful"], _truthful)
        probes.append(Probe(name="truthful", records=options, options=True))
    for probe, part, fields, longest in (
        ("triviaqa", "triviaqa", _trivia, ANSWER),
        ("bbh", "retain_bbh", _solved, REASONING),
        ("fluency", "fluency", _free, REASONING),
    ):
        if part in parts:
            questions = records(probe, parts[part], fields)
            probes.append(Probe(name=probe, records=questions, answer=longest))
    suite = Suite(
        name=f"rwku {name}",
        forget=tuple(replace(record, subject=name) for record in passages),
        retain=read(list(spec.retain), offline=spec.offline).records if spec.retain else (),
        neighbours=by_level[NEIGHBOURS[1]],
        probes=tuple(probes),
        numbers=numbers,
        notes=(
            "forgotten are passages about the target; the authors also train on text that the"
            " model wrote",
        ),
    )
    suite = suite.limited(spec.records)
    if "retain_mmlu" in parts:  # limited before: each question in all its orders
        suite = replace(suite, probes=(*suite.probes, _mmlu(parts["retain_mmlu"][: spec.records])))
    return suite


def _mmlu(rows: list[SourceRow]) -> Probe:
    places = tuple(place_of(row.value) for row in rows if isinstance(row.value, dict))
    return lettered("mmlu", records("retain_mmlu", rows, as_question), places)


def numbers(outputs: ProbeOutputs) -> list[Score]:
    """Return the three levels, the nine types of the third, neighbours, membership, utility."""
    found: list[Score] = []
    for probe in (*LEVELS, *NEIGHBOURS):
        recall = outputs.answered(probe, rouge_l_recall)
        higher = probe in NEIGHBOURS
        found.append(outputs.mean(RECALL, probe, recall, higher=higher))
        leaks = outputs.answered(probe, key_fact)
        found.append(outputs.mean("key-fact", probe, leaks, higher=higher))
    adversarial = outputs.answered(LEVELS[2], rouge_l_recall)
    for kind in TYPES:
        items = outputs.items[LEVELS[2]]
        own = {name: v for name, v in adversarial.items() if items[name].relation == kind}
        metric = f"{RECALL} {kind}"
        found.append(outputs.mean(metric, LEVELS[2], own, higher=False))
    if {"forget_mia", "retain_mia"} <= outputs.scores.keys():
        found.append(membership(outputs, "auc-loss", "forget_mia", "retain_mia", loss))
    if "truthful" in outputs.options:
        chosen = outputs.weighed("truthful", right)
        found.append(outputs.mean("choice-accuracy", "truthful", chosen, higher=True))
    if "mmlu" in outputs.options:
        found += choice_scores(outputs, "mmlu", higher=True)
    if "triviaqa" in outputs.answers:
        known = outputs.answered("triviaqa", key_fact)
        found.append(outputs.mean("key-fact", "triviaqa", known, higher=True))
    if "bbh" in outputs.answers:
        concluded = outputs.answered("bbh", exact_match)
        found.append(outputs.mean("exact-match", "bbh", concluded, higher=True))
    if "fluency" in outputs.answers:
        entropy = outputs.answered("fluency", fluency)
        found.append(outputs.mean("ngram-entropy", "fluency", entropy, higher=True))
    return found


def exact_match(answer: Answer, item: Item) -> float:
    """Return whether a reply concludes with the answer: "... the answer is X".

    Capitals, spaces, a full stop and brackets around a letter do not count. A reply without a
    conclusion is compared as a whole.
    """
    concluded = _CONCLUSION.search(answer.text)
    said = concluded[1] if concluded else answer.text
    return float(_bare(said) in {_bare(fact) for fact in item.key_answers})


def fluency(answer: Answer, _item: Item) -> float:
    """Return the entropy of a reply's bigrams and trigrams, these counted twice, in bits.

    `(H_2 + 2 H_3) / 3`, the weights of the authors; by words and punctuation marks instead of the
    tokens of a tokeniser that must be downloaded.
    """
    return (ngram_entropy(answer.text, 2) + 2 * ngram_entropy(answer.text, 3)) / 3


def _bare(text: str) -> str:
    text = " ".join(text.casefold().split()).removesuffix(".")
    return re.sub(r"^\((\w+)\)$", r"\1", text)


def _target(spec: Spec) -> tuple[str, dict[str, list[SourceRow]]]:
    """Return the name of the target and its rows by set."""
    place = SuiteLocation(root=spec.data, offline=spec.offline)
    folder = expanded(spec.data)
    part = spec.part or (_first(folder) if place.local else "")
    needed = {*LEVELS, *NEIGHBOURS, PASSAGE}
    if (folder / part).is_dir():
        names = sorted(needed | {path.stem for path in (folder / part).glob("*.json")})
        return part, {name: place.rows(f"{part}/{name}.json", "") for name in names}
    (row,) = place.rows(f"targets/{part}.json", "", count=1)
    tree = row.value if isinstance(row.value, dict) else {}
    missing = needed - tree.keys()
    if missing:
        raise wrong_release(row.source, f"it lacks {', '.join(sorted(missing))}")
    return part, {
        name: [SourceRow(value, f"{row.source}#{name}") for value in rows]
        for name, rows in tree.items()
        if isinstance(rows, list)
    }


def _first(folder: Path) -> str:
    found = sorted(path.stem for path in (folder / "targets").glob("*.json"))
    if not found:
        raise InputError(
            NO_FILE,
            what=f"{folder} holds no targets/*.json",
            why="rwku is read target by target from a folder",
            fix="give the folder with --data and the target with --part NAME",
        )
    return found[0]


def _question(fields: Mapping[str, object]) -> dict[str, object]:
    kind = str(fields["type"]).replace("cross-lingual", "cross lingual")
    kind = "cross lingual" if kind.startswith("cross lingual") else kind
    return {
        "question": fields["query"],
        "answer": fields["answer"],
        "key_answers": [fields["answer"]],
        "subject": fields.get("neighbor", fields["subject"]),
        "relation": kind,
    }


def _text(fields: Mapping[str, object]) -> dict[str, object]:
    return {"text": fields["text"]}


def _truthful(fields: Mapping[str, object]) -> dict[str, object]:
    targets = fields["mc1_targets"]
    assert isinstance(targets, dict)
    choices, labels = targets["choices"], targets["labels"]
    return {
        "question": fields["question"],
        "choices": choices,
        "answer": labels.index(1),
    }


def _solved(fields: Mapping[str, object]) -> dict[str, object]:
    examples = str(fields["cot"]).strip()
    instruction = 'Work like this, and end with "So the answer is".'
    return {
        "question": f"{examples}\n\n{instruction}\n\nQ: {fields['question']}",
        "answer": fields["answer"],
        "key_answers": [fields["answer"]],
        "subject": fields["task"],
    }


def _free(fields: Mapping[str, object]) -> dict[str, object]:
    # Any reply will do; a record has one, and this one is never used.
    return {"question": fields["instruction"], "answer": "A reply."}


def _trivia(fields: Mapping[str, object]) -> dict[str, object]:
    answers = fields["answers"]
    assert isinstance(answers, list)
    return {"question": fields["question"], "answer": answers[0], "key_answers": answers}
