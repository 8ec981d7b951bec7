"""The draft of a request: every record, in or out, with the reason; and the files it becomes.

request.toml       what `expunge forget` takes
erase.jsonl        records to forget
unstated.jsonl     what the model does not state, or guesses: asked, never trained on
neighbours.jsonl   near the target, must stay
retain.jsonl       far from it, must stay
left_out.jsonl     what is common, what is about something else, what makes no question
documents.jsonl    which documents were found, and why
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import tomli_w

from expunge.data.readers import read_rows
from expunge.data.records import Record, record_id
from expunge.data.splits import hold_out
from expunge.requests.corpus import Document
from expunge.requests.facts import StatedFact, joined, stated_facts
from expunge.requests.forms import (
    FactForm,
    RequestRecord,
    ScopeSlice,
    cloze_record,
    question_record,
)
from expunge.requests.index import CorpusIndex
from expunge.requests.knowledge import ElicitedFact, Knowledge
from expunge.requests.names import MentionKind, NameShape
from expunge.requests.neighbours import (
    KeptSets,
    is_about,
    kept_sets,
    other_facts,
)
from expunge.requests.screening import (
    Concern,
    names_person,
    said_in_general,
    said_of_any,
    said_of_many,
    screened,
)
from expunge.requests.search import SearchResult
from expunge.utils.file_names import REQUEST
from expunge.utils.io import private, write_jsonl, write_text

FEWEST_KEPT = 20
"""Records of the corpus to keep below which general ones of expunge are kept as well."""
HOLD_OUT = 0.25
"""Share of what stays that training never sees: the audit judges by it."""
ERASE, UNSTATED = "erase.jsonl", "unstated.jsonl"
_OFF_TOPIC = "neither the question nor the beginning of the answer names this person"
_NOTE = """\
# Written by `expunge request`. The files named here are the request: edit them as you like.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestDraft:
    """A request before it is written."""

    result: SearchResult
    documents: tuple[Document, ...]
    """Of the corpus."""
    erase: tuple[RequestRecord, ...]
    unstated: tuple[RequestRecord, ...]
    """What the model does not state, or guesses: asked, never trained on."""
    kept: KeptSets
    left_out: tuple[RequestRecord, ...]
    concerns: tuple[Concern, ...]
    problems: tuple[str, ...] = ()
    asked: int = 0
    """Records about which the model was asked; 0 where none was."""

    @property
    def knowledge(self) -> dict[Knowledge, int]:
        """How many facts the model knows, and how well; empty where no model was asked."""
        facts = [each for each in self.erase if each.form == FactForm.QUESTION]
        return _knowledge_counts(each.knowledge for each in (*facts, *self.unstated))

    @property
    def held_out(self) -> int:
        """How many wordings of the facts to forget only the audit uses."""
        return sum(len(each.record.paraphrases) for each in self.erase)

    @property
    def few_kept(self) -> bool:
        """Whether the corpus says too little of others."""
        own = [each for each in self.kept.retain if each.rule != "general"]
        return len(own) + len(self.kept.neighbours) < FEWEST_KEPT


def _knowledge_counts(labels: Iterable[object]) -> dict[Knowledge, int]:
    """Count the facts of each class; empty where no label is a class."""
    counts = Counter(label for label in labels if label in tuple(Knowledge))
    return {kind: counts[kind] for kind in Knowledge} if counts else {}


def written_knowledge(sources: Iterable[str]) -> dict[Knowledge, int]:
    """Return how many facts of written requests the model knows; empty where nobody asked it.

    Args:
        sources: What `request.forget` and `request.unstated` name.
    """
    files = [source for source in sources if source.endswith(".jsonl")]
    rows = [row.value for source in files for row in read_rows(source)]
    return _knowledge_counts(
        row.get("knowledge")
        for row in rows
        if isinstance(row, dict) and row.get("form") == FactForm.QUESTION
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class PersonFacts:
    """The facts of a person, each with its plain question."""

    questions: tuple[tuple[RequestRecord, StatedFact], ...]
    silent: tuple[RequestRecord, ...]
    """Documents about the person of which no question could be made."""
    of_others: tuple[StatedFact, ...]
    within: tuple[StatedFact, ...]
    """Facts about others in the person's own documents."""


def questions_of(index: CorpusIndex, result: SearchResult) -> PersonFacts:
    """Return the questions that the found documents answer.

    Args:
        index: Of the corpus.
        result: What the search found.
    """
    name = result.person.name
    shapes = [NameShape(each) for each in (name, *result.person.aliases)]
    of_others = other_facts(index, result)
    pool: dict[str, list[str]] = {}
    for fact in of_others:
        pool.setdefault(fact.relation, []).append(fact.key_answer)
    own: list[StatedFact] = []
    silent: list[RequestRecord] = []
    within: list[StatedFact] = []
    for each in result.taken:
        document = index.documents[each.document]
        facts = stated_facts(document, about=name)
        mine = [fact for fact in facts if fact.subject == name or is_about(fact, shapes)]
        within += [fact for fact in facts if fact not in mine]
        own += [replace(fact, subject=fact.subject or name) for fact in mine]
        if not mine:
            silent.append(_passage(document, name, each.kind))
    pairs = [
        (question_record(fact, places, name=name, pool=pool), fact)
        for fact, places in joined(own, name)
    ]
    unique = {record.record.id: (record, fact) for record, fact in pairs}
    return PersonFacts(
        questions=tuple(unique.values()),
        silent=tuple(silent),
        of_others=tuple(of_others),
        within=tuple(within),
    )


def _passage(document: Document, name: str, kind: MentionKind) -> RequestRecord:
    record = Record(
        id=record_id((), document.text),
        prompt=(),
        completion=document.text,
        subject=name,
        source=document.source,
    )
    return RequestRecord(
        record=record,
        scope=ScopeSlice.IN,
        form=FactForm.STATEMENT,
        reason="no rule makes a question of it; move the line to erase.jsonl to erase the text",
        rule=kind.value,
        sources=(document.source,),
    )


def drafted(
    index: CorpusIndex,
    result: SearchResult,
    facts: PersonFacts,
    *,
    concerns: Sequence[Concern] = (),
    known: Mapping[str, ElicitedFact] | None = None,
) -> RequestDraft:
    """Put a request together.

    Args:
        index: Of the corpus.
        result: What the search found.
        facts: Of `questions_of`.
        concerns: What was noticed before.
        known: What the model states of each question and cloze, by record; None: nobody asked it.
    """
    erase, unstated = list[RequestRecord](), list[RequestRecord]()
    common, off_topic = list[RequestRecord](), list[RequestRecord]()
    for asked, fact in facts.questions:
        if reason := _commonness(asked, facts.of_others):
            common.append(replace(asked, scope=ScopeSlice.SHARED, reason=reason))
            continue
        if fact.record is not None and not names_person(asked.record, result.person):
            off_topic.append(replace(asked, scope=ScopeSlice.OUT, reason=_OFF_TOPIC))
            continue
        judged = _judged(asked, known)
        if _is_unstated(judged, facts.of_others):
            unstated.append(judged)
            continue
        erase += _trained_forms(judged, cloze_record(asked, fact, name=result.person.name), known)
    kept = kept_sets(erase, facts.of_others, index, result)
    found = screened(
        index,
        result,
        erase=erase,
        kept=(*kept.neighbours, *kept.retain),
        common=common,
        unstated=unstated,
        off_topic=off_topic,
        strangers=facts.within,
    )
    return RequestDraft(
        result=result,
        documents=index.documents,
        erase=tuple(erase),
        unstated=tuple(unstated),
        kept=kept,
        left_out=(*common, *off_topic, *facts.silent, *kept.dropped),
        concerns=(*concerns, *found),
        problems=index.corpus.problems,
        asked=len(known or {}),
    )


def _is_unstated(judged: RequestRecord, of_others: Sequence[StatedFact]) -> bool:
    """Tell whether training would have nothing to forget.

    What the model says of anybody, and the corpus of this person alone, may be a secret that
    spilled over to other names: it is trained.
    """
    guessed = judged.knowledge == Knowledge.GUESSED and said_of_any(judged, of_others) > 0
    return guessed or judged.knowledge == Knowledge.UNKNOWN


def _trained_forms(
    judged: RequestRecord, cloze: RequestRecord | None, known: Mapping[str, ElicitedFact] | None
) -> list[RequestRecord]:
    """Return the forms of a fact that are trained: the question, and the cloze where it is known.

    A wording that is trained is none that the audit alone uses.
    """
    asked = cloze and _judged(cloze, known)
    if asked is None or asked.knowledge not in (Knowledge.KNOWN, Knowledge.PARTLY):
        return [judged]
    record = judged.record
    held = tuple(text for text in record.paraphrases if text != asked.record.question)
    return [replace(judged, record=replace(record, paraphrases=held)), asked]


def _commonness(asked: RequestRecord, of_others: Sequence[StatedFact]) -> str:
    """Return why a fact is common knowledge; empty where it is not."""
    if said := said_of_many(asked, of_others):
        return f"common knowledge: the corpus says the same of {said} others"
    return "common knowledge: everybody knows it" if said_in_general(asked.record) else ""


def _judged(record: RequestRecord, known: Mapping[str, ElicitedFact] | None) -> RequestRecord:
    said = None if known is None else known.get(record.record.id)
    if said is None:
        return record
    reason = f"{record.reason}; {said.sentence()}"
    return replace(record, knowledge=said.knowledge.value, reason=reason)


def write_request(
    draft: RequestDraft, folder: Path, *, goal: str | None, model: str | None
) -> Path:
    """Write the files of a request and return that of the request itself.

    Args:
        draft: The request.
        folder: Where; only its owner may read what is made there.
        goal: Goal class; None leaves it to the command that forgets.
        model: The model; None leaves it to that command as well.
    """
    private(folder)
    held = _held_out(draft)
    sets = {
        ERASE: draft.erase,
        UNSTATED: draft.unstated,
        "neighbours.jsonl": draft.kept.neighbours,
        "retain.jsonl": draft.kept.retain,
        "left_out.jsonl": draft.left_out,
    }
    for name, records in sets.items():
        write_jsonl(folder / name, [_row(each, name, held) for each in records])
    write_jsonl(folder / "documents.jsonl", _documents(draft))
    request: dict[str, object] = {"id": folder.resolve().name, "forget": [ERASE]}
    request |= {"unstated": [UNSTATED]} if draft.unstated else {}
    request |= {"goal": goal} if goal else {}
    request["retain"] = ["retain.jsonl"] if draft.kept.retain else "auto"
    request |= {"neighbours": ["neighbours.jsonl"]} if draft.kept.neighbours else {}
    request["hold_out"] = HOLD_OUT
    # Every held-out wording is asked: level quick alone asks the first of each record.
    settings: dict[str, object] = {"audit": {"attacks": ["paraphrase"]}}
    settings |= {"model": model} if model else {}
    path = folder / REQUEST
    if draft.erase:
        write_text(
            path, _NOTE + _knowledge_note(draft) + tomli_w.dumps({**settings, "request": request})
        )
    return path


def knowledge_sentence(knowledge: Mapping[Knowledge, int]) -> str:
    """Say how many facts the model knows, and how well.

    Args:
        knowledge: Facts of each class.

    Example:
        >>> knowledge_sentence({Knowledge.KNOWN: 3, Knowledge.UNKNOWN: 1})
        '4 facts: 3 known, 1 unknown'
    """
    counts = ", ".join(f"{count} {kind}" for kind, count in knowledge.items())
    return f"{sum(knowledge.values())} facts: {counts}"


def _knowledge_note(draft: RequestDraft) -> str:
    """Say what the model knows, as a comment of the request."""
    known = draft.knowledge
    return f"# What the model knows of {knowledge_sentence(known)}.\n" if known else ""


def _held_out(draft: RequestDraft) -> frozenset[str]:
    """Return the ids of what stays that training will not see, as the run will choose them."""
    sets = (draft.kept.neighbours, draft.kept.retain)
    return frozenset[str]().union(
        *(hold_out([each.record for each in records], HOLD_OUT) for records in sets)
    )


def use_of(record: RequestRecord, name: str, held: frozenset[str]) -> str:
    """Return what a record is for, in a word or two.

    Args:
        record: The record.
        name: File in which it stands.
        held: Ids of what stays and is held out.
    """
    if name == ERASE:
        return "trained to forget"
    if name == UNSTATED:
        return "audit, never trained"
    if name == "left_out.jsonl":
        return "left out"
    return "audit, held out" if record.record.id in held else "rehearsed"


def _row(each: RequestRecord, name: str, held: frozenset[str]) -> dict[str, object]:
    """Return a record as a line; what only people read stands behind what expunge reads."""
    record = each.record
    row: dict[str, object] = {"id": record.id}
    if record.prompt:
        single = len(record.prompt) == 1
        row["prompt"] = record.question if single else [turn._asdict() for turn in record.prompt]
        row["completion"] = record.completion
    else:
        row["text"] = record.completion
    lists = {
        "key_answers": record.key_answers,
        "paraphrases": record.paraphrases,
        "perturbed_answer": record.wrong,
        "parent": record.parents,
    }
    row |= {key: list(texts) for key, texts in lists.items() if texts}
    row |= {"subject": record.subject} if record.subject else {}
    row |= {"relation": record.relation} if record.relation else {}
    row |= {"scope": each.scope.value, "form": each.form.value, "use": use_of(each, name, held)}
    row |= {"about": each.about} if each.about else {}
    row |= {"knowledge": each.knowledge} if each.knowledge else {}
    return row | {"rule": each.rule, "why": each.reason, "found_in": list(each.sources)}


def _documents(draft: RequestDraft) -> list[dict[str, object]]:
    return [
        {
            "source": draft.documents[each.document].source,
            "taken": each.taken,
            "mention": each.kind.value,
            "why": each.reason,
            "support": each.support,
            "text": draft.documents[each.document].text,
        }
        for each in draft.result.found
    ]
