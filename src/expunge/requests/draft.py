"""The draft of a request: every record, in or out, with the reason; and the files it becomes.

request.toml       what `expunge forget` takes
erase.jsonl        records to forget
neighbours.jsonl   near the target, must stay
retain.jsonl       far from it, must stay
forms.jsonl        other forms of the same facts, for the audit alone
left_out.jsonl     what the model does not state, what is common, what makes no question
documents.jsonl    which documents were found, and why
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import tomli_w

from expunge.data.records import Record, record_id
from expunge.data.splits import hold_out
from expunge.requests.corpus import Corpus, Document
from expunge.requests.elicitation import ElicitedFact, Knowledge
from expunge.requests.facts import StatedFact, joined, stated_facts
from expunge.requests.forms import (
    FactForm,
    RequestRecord,
    ScopeSlice,
    other_forms,
    question_record,
)
from expunge.requests.index import CorpusIndex
from expunge.requests.names import MentionKind, NameShape
from expunge.requests.neighbours import (
    KeptSets,
    is_about,
    kept_sets,
    other_facts,
)
from expunge.requests.screening import Concern, said_of_many, screened
from expunge.requests.search import SearchResult
from expunge.utils.file_names import REQUEST
from expunge.utils.io import private, write_jsonl, write_text

FEWEST_KEPT = 20
"""Records of the corpus to keep below which general ones of expunge are kept as well."""
HOLD_OUT = 0.25
"""Share of what stays that training never sees: the audit judges by it."""
ERASE = "erase.jsonl"
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
    forms: tuple[RequestRecord, ...]
    """Other forms, for the audit."""
    kept: KeptSets
    left_out: tuple[RequestRecord, ...]
    concerns: tuple[Concern, ...]
    problems: tuple[str, ...] = ()
    asked: int = 0
    """Records about which the model was asked; 0 where none was."""

    @property
    def few_kept(self) -> bool:
        """Whether the corpus says too little of others."""
        own = [each for each in self.kept.retain if each.rule != "general"]
        return len(own) + len(self.kept.neighbours) < FEWEST_KEPT


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
    corpus: Corpus,
    index: CorpusIndex,
    result: SearchResult,
    facts: PersonFacts,
    *,
    concerns: Sequence[Concern] = (),
    known: Mapping[str, ElicitedFact] | None = None,
) -> RequestDraft:
    """Put a request together.

    Args:
        corpus: The documents.
        index: Of them.
        result: What the search found.
        facts: Of `questions_of`.
        concerns: What was noticed before.
        known: What the model states of each question and cloze, by record; None: nobody asked it.
    """
    name = result.person.name
    erase: list[RequestRecord] = []
    forms: list[RequestRecord] = []
    left: list[RequestRecord] = []
    common: list[RequestRecord] = []
    guessed: list[RequestRecord] = []
    for asked, fact in facts.questions:
        if said := said_of_many(asked, facts.of_others):
            reason = f"common knowledge: the corpus says the same of {said} others"
            common.append(replace(asked, scope=ScopeSlice.SHARED, reason=reason))
            continue
        others = other_forms(asked, fact, name=name)
        judged = _judged(asked, known)
        if judged.knowledge in (Knowledge.UNKNOWN, Knowledge.GUESSED):
            (guessed if judged.knowledge == Knowledge.GUESSED else left).append(judged)
            continue
        cloze = [
            trained
            for each in others
            if each.form == FactForm.CLOZE
            and (trained := _judged(each, known)).knowledge in (Knowledge.KNOWN, Knowledge.PARTLY)
        ]
        held = [each for each in others if not (cloze and each.form == FactForm.CLOZE)]
        erase += [_without(judged, cloze), *cloze]
        forms += held
    kept = kept_sets(erase, facts.of_others, index, result)
    found = screened(index, result, common=common, guessed=guessed, strangers=facts.within)
    return RequestDraft(
        result=result,
        documents=corpus.documents,
        erase=tuple(erase),
        forms=tuple(forms),
        kept=kept,
        left_out=(*left, *guessed, *common, *facts.silent, *kept.dropped),
        concerns=(*concerns, *found),
        problems=corpus.problems,
        asked=len(known or {}),
    )


def _judged(record: RequestRecord, known: Mapping[str, ElicitedFact] | None) -> RequestRecord:
    said = None if known is None else known.get(record.record.id)
    if said is None:
        return record
    reason = f"{record.reason}; {said.sentence()}"
    return replace(record, knowledge=said.knowledge.value, reason=reason)


def _without(record: RequestRecord, trained: Sequence[RequestRecord]) -> RequestRecord:
    """Take a wording that is trained from those that the audit alone uses."""
    used = {each.record.question for each in trained}
    kept = tuple(text for text in record.record.paraphrases if text not in used)
    return replace(record, record=replace(record.record, paraphrases=kept))


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
        "neighbours.jsonl": draft.kept.neighbours,
        "retain.jsonl": draft.kept.retain,
        "forms.jsonl": draft.forms,
        "left_out.jsonl": draft.left_out,
    }
    for name, records in sets.items():
        write_jsonl(folder / name, [_row(each, name, held) for each in records])
    write_jsonl(folder / "documents.jsonl", _documents(draft))
    request: dict[str, object] = {"id": folder.resolve().name, "forget": [ERASE]}
    request |= {"goal": goal} if goal else {}
    request["retain"] = ["retain.jsonl"] if draft.kept.retain else "auto"
    request |= {"neighbours": ["neighbours.jsonl"]} if draft.kept.neighbours else {}
    request["hold_out"] = HOLD_OUT
    settings: dict[str, object] = {"model": model} if model else {}
    path = folder / REQUEST
    if draft.erase:
        write_text(path, _NOTE + tomli_w.dumps({**settings, "request": request}))
    return path


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
    if name == "forms.jsonl":
        return "audit"
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
