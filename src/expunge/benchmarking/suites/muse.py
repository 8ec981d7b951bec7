"""MUSE News: forget 889 articles of a news site (arXiv 2407.06460).

Parts: `forget` (the whole set); `scal` (scalability: four growing forget sets, each forgotten from
the original) and `sust` (sustainability: four folds that are forgotten one after the other, each
run starting from the last one's model); `scal-1` to `sust-4`, one of these sets alone. The folds
are published as disjoint and share 42 to 62 documents.

VerbMem continues the plain text. KnowMem's ten solved examples come as turns of a conversation
where the model has a chat template (the authors use base models and plain text). A base model goes
on with questions of its own: as published, its answer ends before the first of them, or before a
blank line.

The published `forget.txt` is the articles joined by an empty line: checked by its digest. Where
the retain corpus is not in the folder, another fold without the documents of the forget set stands
in and a note says so. One article is empty and left out.

With so many records of each probe (`--records`), `forget` is the articles that the probes quote:
the first of the file are not those that VerbMem continues. KnowMem does not say which article a
question is about, so its few questions may be about others; a note says so.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import accumulate

from expunge.benchmarking.probe_outputs import ProbeOutputs, membership
from expunge.benchmarking.suites.base import (
    NO_FILE,
    Fold,
    Probe,
    Series,
    Spec,
    Suite,
    SuiteLocation,
    chosen,
    records,
    union,
    wrong_release,
)
from expunge.data.readers import SourceRow, read
from expunge.data.records import Message, Record
from expunge.errors import InputError
from expunge.evals.results import Score
from expunge.evidence.store import Answer, Item
from expunge.metrics.base import rouge_l_f1
from expunge.metrics.membership import min_k

FOLDS = ("1", "2", "3", "4")
KINDS = ("scal", "sust")
PARTS = ("forget", *KINDS, *(f"{kind}-{n}" for kind in KINDS for n in FOLDS))
DOCUMENTS = 889
DIGEST = "320724e01d4085ba5e14bfe297f6843e0ba5d312c6bc95f70b298e2fbbb378d4"
"""SHA-256 of `forget.txt`."""
JOINT = "\n\n"
"""What stands between two articles of `forget.txt`."""
STAND_IN = "sust/forget_2.json"
CONTINUED = 128
"""Tokens of a continuation (VerbMem)."""
ANSWER = 32
"""Tokens of an answer (KnowMem)."""
QUOTING = ("verbmem", "privleak-forget")
"""Probes whose texts are passages of what is forgotten."""
NEAR = "knowmem-retain"
"""Questions about articles of the same site that stay; without examples, the neighbours."""
ENDS = ("\n\n", "\nQuestion", "Question:")
"""What ends an answer (KnowMem)."""


def load(spec: Spec) -> Suite:
    """Read MUSE News.

    Raises:
        UsageError: There is no such part.
        InputError: A file is missing or not the published one.
    """
    part = chosen(spec.part, PARTS, suite="muse")
    place = SuiteLocation(root=spec.data, offline=spec.offline)
    raw = place.rows("raw/forget.json", "raw:forget", count=DOCUMENTS)
    _check(raw, spec.data)
    series = _series(place, part) if part in KINDS else None
    if series is not None:
        forget = union(series.folds)
    else:
        forget = _documents("document", raw if part == "forget" else _fold(place, part))
    retain, note = _retain(spec, place, forget)
    probes = _probes(place)
    near = next(probe.records for probe in probes if probe.name == NEAR)
    suite = Suite(
        name=f"muse news {part}",
        forget=forget,
        series=series,
        retain=retain,
        neighbours=tuple(replace(each, prompt=each.prompt[-1:]) for each in near),
        probes=probes,
        numbers=numbers,
        notes=note,
    )
    few = suite.limited(spec.records)
    if part != "forget" or spec.records is None:
        return few
    return replace(
        few,
        forget=_quoted(suite.forget, few.probes),
        notes=(
            *few.notes,
            "forgotten are the articles that verbmem and privleak quote there; knowmem may ask"
            " about others",
        ),
    )


def _quoted(articles: tuple[Record, ...], probes: Iterable[Probe]) -> tuple[Record, ...]:
    """Return the articles that some passages of the probes are from; one may span several."""
    texts = [article.completion for article in articles]
    joined = JOINT.join(texts)
    starts = [0, *accumulate(len(text) + len(JOINT) for text in texts[:-1])]
    passages = [r.completion for p in probes if p.name in QUOTING for r in p.records]
    found: set[int] = set()
    for passage in passages:
        begin = joined.find(passage)
        if begin >= 0:
            end = begin + len(passage) - 1
            found.update(range(bisect_right(starts, begin) - 1, bisect_right(starts, end)))
    return tuple(article for place, article in enumerate(articles) if place in found)


def _probes(place: SuiteLocation) -> tuple[Probe, ...]:
    questions = {
        side: records(
            f"knowmem-{side}",
            place.rows(f"knowmem/{side}_qa.json", f"knowmem:{side}_qa", count=100),
        )
        for side in ("forget", "retain")
    }
    shown = {
        side: records(
            "shown",
            place.rows(f"knowmem/{side}_qa_icl.json", f"knowmem:{side}_qa_icl", count=10),
        )
        for side in questions
    }
    chunks = {
        side: records(
            f"privleak-{side}",
            place.rows(f"privleak/{side}.json", f"privleak:{side}", count=100),
        )
        for side in ("forget", "retain", "holdout")
    }
    continued = place.rows("verbmem/forget.json", "verbmem:forget", count=100)
    return (
        Probe(
            name="verbmem",
            records=records("verbmem", continued, _verbatim),
            answer=CONTINUED,
            continued=True,
        ),
        *(
            Probe(
                name=f"knowmem-{side}",
                records=tuple(_after(shown[side], record) for record in questions[side]),
                answer=ANSWER,
            )
            for side in questions
        ),
        *(Probe(name=f"privleak-{side}", records=chunks[side], scored=True) for side in chunks),
    )


def numbers(outputs: ProbeOutputs) -> list[Score]:
    """Return MUSE's numbers of one model; PrivLeak itself needs gold's AUC beside this one."""
    found = [
        outputs.mean("rouge-l-f1", probe, outputs.answered(probe, of), higher=higher)
        for probe, of, higher in (
            ("verbmem", rouge_l_f1, False),
            ("knowmem-forget", _first_answer, False),
            (NEAR, _first_answer, True),
        )
    ]
    for members in ("privleak-forget", "privleak-retain"):
        found.append(membership(outputs, "auc-min-k-40", members, "privleak-holdout", min_k))
    return found


def _first_answer(answer: Answer, item: Item) -> float | None:
    text = answer.text
    for end in ENDS:
        text = text.split(end)[0]
    return rouge_l_f1(replace(answer, text=text), item)


def _check(rows: list[SourceRow], source: str) -> None:
    text = JOINT.join(_text(row) for row in rows)
    if hashlib.sha256(text.encode()).hexdigest() != DIGEST:
        raise wrong_release(source, "the articles, joined, are not the published forget.txt")


def _text(row: SourceRow) -> str:
    value = row.value.get("text") if isinstance(row.value, dict) else row.value
    if not isinstance(value, str):
        raise wrong_release(row.source, "an article is not text")
    return value


def _fold(place: SuiteLocation, part: str) -> list[SourceRow]:
    kind, fold = part.split("-")
    return place.rows(f"{kind}/forget_{fold}.json", f"{kind}:forget_{fold}")


def _series(place: SuiteLocation, kind: str) -> Series:
    names = [f"{kind}-{number}" for number in FOLDS]
    folds = [Fold(name=name, records=_documents(name, _fold(place, name))) for name in names]
    return Series(folds=tuple(folds), sequential=kind == "sust")


def _documents(name: str, rows: list[SourceRow]) -> tuple[Record, ...]:
    return records(name, [row for row in rows if _text(row).strip()])


def _retain(
    spec: Spec, place: SuiteLocation, forget: tuple[Record, ...]
) -> tuple[tuple[Record, ...], tuple[str, ...]]:
    if spec.retain:
        return read(list(spec.retain), offline=spec.offline).records, ("retain set of the user",)
    taken = {record.completion for record in forget}
    try:
        rows = place.rows("raw/retain1.json", "raw:retain1")
        note: tuple[str, ...] = ()
    except InputError as error:
        if error.code != NO_FILE:  # on the Hub it is there, and only out of reach
            raise
        rows = place.rows(STAND_IN, "sust:forget_2")
        note = (f"{STAND_IN}, without documents of the forget set, stands in for raw/retain1",)
    kept = [row for row in rows if _text(row).strip() and _text(row) not in taken]
    if not kept:
        raise InputError(
            "no-retain-corpus",
            what="the only text that could stand in for the retain corpus is what is forgotten",
            why="raw/retain1 is not in the folder",
            fix="name text to keep with --keep FILE, or give the Hub id of the data set",
        )
    return records("kept", kept), note


def _verbatim(fields: Mapping[str, object]) -> dict[str, object]:
    return {"prompt": fields["prompt"], "completion": fields["gt"]}


def _after(shown: tuple[Record, ...], question: Record) -> Record:
    """Put solved examples before a question, as KnowMem does."""
    turns = [
        turn
        for example in shown
        for turn in (*example.prompt, Message("assistant", example.completion))
    ]
    return replace(question, prompt=(*turns, *question.prompt))
