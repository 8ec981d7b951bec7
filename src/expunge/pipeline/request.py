"""`expunge request`: from a name and a corpus to a request that somebody has reviewed."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from expunge.data.readers import read_rows
from expunge.data.records import Message, Record, record_id
from expunge.data.tokenization import Encoder
from expunge.errors import GateError, InputError
from expunge.metrics.key_facts import fact_form, states
from expunge.requests.corpus import read_corpus, sentences
from expunge.requests.draft import (
    ERASE,
    PersonFacts,
    RequestDraft,
    drafted,
    knowledge_sentence,
    questions_of,
    write_request,
)
from expunge.requests.forms import FactForm, cloze_record
from expunge.requests.index import CorpusIndex
from expunge.requests.knowledge import ElicitedFact
from expunge.requests.names import SearchedPerson
from expunge.requests.screening import Concern, usable_aliases
from expunge.requests.search import SearchResult, search
from expunge.requests.sentence import as_told, require_fact, rows_told
from expunge.utils.console import Console, SilentConsole
from expunge.utils.file_names import REQUEST
from expunge.utils.io import AnyPath, private, sha256_json, write_jsonl
from expunge.utils.spelling import counted

_LONGEST_ANSWER = 48
_ONE_PASS = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenRequest:
    """A request on the disk.

    Example:
        >>> person = SearchedPerson(name="Lin Aro")
        >>> print(request(person, ["letters"], out=Path("request")).page)  # doctest: +SKIP
        request/request.html
    """

    folder: Path
    draft: RequestDraft
    page: Path

    @property
    def file(self) -> Path:
        """The request file, which `expunge forget` takes."""
        return self.folder / REQUEST


def request(
    person: SearchedPerson,
    corpus: Sequence[str],
    *,
    out: AnyPath,
    model: str | None = None,
    goal: str | None = None,
    choose: int | None = None,
    gate: bool = False,
    device: str = "auto",
    offline: bool = False,
    console: Console | None = None,
) -> WrittenRequest:
    """Find what a corpus says of a person, and write it as a request with a page for review.

    Args:
        person: Whom the request is about.
        corpus: Files, folders, Hub ids.
        out: Folder of the request.
        model: The model, which is asked what it states; None: nobody is asked.
        goal: Goal class that is written into the request.
        choose: Of several people of the name, which one, from 1.
        gate: Refuse a request with grave concerns.
        device: Where the model computes.
        offline: Never use the network.
        console: Where to say what happens; silent by default.

    Raises:
        InputError: The corpus cannot be read, the name stands nowhere, the documents state no
            fact, or the model states none of them.
        UsageError: The name is too broad, a word, or that of several people.
        GateError: `request-refused`: `gate` is set and there is a grave concern.

    Example:
        >>> request(SearchedPerson(name="Lin Aro"), ["no-such-folder"], out=Path("request"))
        Traceback (most recent call last):
            ...
        expunge.errors.InputError: error[data-missing]: no file or folder no-such-folder...
    """
    out = Path(out)
    console = console or SilentConsole()
    index, result, facts, concerns = _looked_up(person, corpus, choose, offline, console)
    known = _known(facts, model, device, offline, console) if model and facts.questions else None
    draft = drafted(index, result, facts, concerns=concerns, known=known)
    from expunge.reporting.request_page import write_request_page  # torch: behind the search

    file = write_request(draft, out, goal=goal, model=model)
    command = _command(file, goal=goal, model=model)
    written = WrittenRequest(
        folder=out, draft=draft, page=write_request_page(draft, out, command=command)
    )
    _say(written, console)
    _require_usable(written, gate=gate)
    console.line("next", command)
    return written


def _looked_up(
    person: SearchedPerson,
    corpus: Sequence[str],
    choose: int | None,
    offline: bool,
    console: Console,
) -> tuple[CorpusIndex, SearchResult, PersonFacts, tuple[Concern, ...]]:
    """Read the corpus, search it, and say what it holds."""
    documents = read_corpus(corpus, offline=offline)
    console.line("corpus", counted(len(documents.documents), "document"))
    for problem in documents.problems:
        console.warn(f"not read: {problem}")
    index = CorpusIndex(documents)
    searched, concerns = usable_aliases(index, person)
    result = search(index, searched, choose=choose)
    kinds = len({each.kind for each in result.taken})
    console.line(
        "found",
        f"{counted(len(result.taken), 'document')}, mentioned in {counted(kinds, 'way')};"
        f" {len(result.left)} that look similar were left out",
    )
    facts = questions_of(index, result)
    console.line(
        "facts", f"{counted(len(facts.questions), 'fact')} with a question and a key answer"
    )
    return index, result, facts, concerns


def _command(file: Path, *, goal: str | None, model: str | None) -> str:
    """Return the command that carries the request out."""
    first = f"expunge forget {file}" if model else f"expunge forget MODEL --config {file}"
    return first if goal else f"{first} --goal removal"


def _known(
    facts: PersonFacts, model: str, device: str, offline: bool, console: Console
) -> dict[str, ElicitedFact]:
    """Ask the model for every fact, plainly and as a cloze."""
    from expunge.models.loading import float32_source, load  # torch: what needs no model is first
    from expunge.requests.elicitation import elicited

    loaded = load(model, float32_source(device, offline=offline))
    asked = [each.record for each, _ in facts.questions]
    clozes = (
        cloze_record(each, fact, name=each.record.subject or "") for each, fact in facts.questions
    )
    asked += [each.record for each in clozes if each is not None]
    unique = list({record.id: record for record in asked}.values())
    return elicited(loaded.network, Encoder(loaded.tokenizer), unique, states=_states)


def _states(text: str, record: Record) -> bool:
    return any(states(fact_form(text), fact_form(key)) for key in record.key_answers)


def _say(written: WrittenRequest, console: Console) -> None:
    draft = written.draft
    for concern in draft.concerns:
        console.line("look twice", concern.sentence)
    if draft.knowledge:
        console.line("knows", knowledge_sentence(draft.knowledge))
    console.line(
        "forget",
        f"{len(draft.erase)} records; {draft.held_out} other wordings, for the audit alone",
    )
    kept = draft.kept
    console.line(
        "keep", f"{len(kept.neighbours)} records near the target, {len(kept.retain)} far from it"
    )
    if draft.few_kept:
        console.line(
            "keep",
            "the corpus says little of others: general questions stay as well; name more of your"
            " data with --corpus to protect it",
        )
    if draft.unstated:
        console.line(
            "ask only", f"{len(draft.unstated)} facts that the model does not state, or guesses"
        )
    if draft.left_out:
        console.line("left out", f"{len(draft.left_out)} records, each with the reason")
    console.line("wrote", f"{written.page}, to be read before anything is forgotten")


def _require_usable(written: WrittenRequest, *, gate: bool) -> None:
    draft, folder = written.draft, written.folder
    grave = [concern for concern in draft.concerns if concern.grave]
    if gate and grave:
        raise GateError(
            "request-refused",
            what=f"{len(grave)} grave concerns: {grave[0].kind.value}",
            why=grave[0].sentence,
            fix=f"read {written.page}; narrow the request, or leave --gate out",
        )
    if draft.erase:
        return
    if draft.unstated:
        raise InputError(
            "model-states-nothing",
            what=f"the model states none of {len(draft.unstated)} facts about this person",
            why="what a model does not state cannot be seen to be forgotten",
            fix=f"read {written.page}; without --model the request has all facts",
        )
    if aside := [each for each in draft.left_out if each.form == FactForm.QUESTION]:
        raise InputError(
            "no-facts",
            what=f"{len(aside)} facts, and none is this person's alone",
            why="they are common knowledge, or their questions do not name this person",
            fix=f"read {written.page}; move lines from {folder}/left_out.jsonl to {ERASE} beside"
            " it, and forget that",
        )
    raise InputError(
        "no-facts",
        what=f"{counted(len(draft.result.taken), 'document')}, and no fact that makes a question",
        why="the rules know tables, questions, and sentences such as X's phone number is ...",
        fix=f"move lines from {folder}/left_out.jsonl to {ERASE} beside it, and forget that",
    )


def sentence_request(text: str, *, model: str, root: Path, offline: bool, console: Console) -> Path:
    """Write one sentence or question as records to forget, and return their file.

    A question is answered by the model itself: its answer is what is forgotten. A file that
    somebody has edited since stays as it is.

    Args:
        text: A sentence that states a fact, a question, or a question with its answer.
        model: The model.
        root: Folder below which the file is written.
        offline: Never use the network.
        console: Where to say what happens.

    Raises:
        InputError: `model-states-nothing`: the model answers nothing. `only-a-name`: there is no
            fact in it.
        UsageError: There is no word in it, nobody is named, or several questions are asked.
    """
    require_fact(text)
    told = as_told(text)
    if not told.statement:
        told = replace(told, statement=_answer(told.question, model, offline))
        console.line("request", "the answer is the model's own")
    rows = rows_told(told)
    whole = f"{told.question} {told.statement}".strip()
    path = private(root / f"request-{sha256_json(whole)[:8]}") / ERASE
    if path.exists() and [row.value for row in read_rows(str(path))] != rows:
        console.warn(f"{path} was edited: it is used as it is")
        return path
    write_jsonl(path, rows)
    if texts := sum("text" in row for row in rows):
        console.line(
            "request", f"no rule makes a question of {counted(texts, 'sentence')}: the text itself"
        )
    console.line("request", f"{counted(len(rows), 'record')} of one text, in {path}")
    return path


def _answer(question: str, model: str, offline: bool) -> str:
    from expunge.models.generation import greedy
    from expunge.models.loading import float32_source, load

    loaded = load(model, float32_source("auto", offline=offline))
    encoder = Encoder(loaded.tokenizer)
    prompt = (Message("user", question),)
    record = Record(id=record_id(prompt, question), prompt=prompt, completion=question)
    (ids,) = greedy(
        loaded.network,
        [encoder.prompt_ids(record)],
        end_ids=encoder.end_ids,
        max_new_tokens=_LONGEST_ANSWER,
        tokens_per_pass=_ONE_PASS,
    )
    said = next(iter(sentences(encoder.decode(ids).strip())), "")
    if not re.search(r"\w", said):
        raise InputError(
            "model-states-nothing",
            what="the model gives no answer to this question",
            why="its own answer is what would be forgotten",
            fix="state the fact as a sentence, or give a file of records",
        )
    return said
