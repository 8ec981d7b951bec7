"""Ask the original, the unlearned model and gold the same question, and compare what they say.

Beside the answers stands what each model thinks of the answer that was erased, token by token.
Nothing is written: what is said in a chat is no evidence.
"""

import difflib
import gc
from dataclasses import dataclass
from math import exp
from pathlib import Path

from expunge.config.resolve import resolve
from expunge.config.settings import Settings
from expunge.data.records import Message, Record
from expunge.data.tokenization import Encoder
from expunge.errors import ExpungeError, InputError, UsageError
from expunge.evidence.store import ITEMS, EvidenceStore, Item
from expunge.models.generation import greedy
from expunge.models.loading import Loaded, load
from expunge.models.reference import model_folder
from expunge.models.scoring import score
from expunge.pipeline.run_folder import AUDITED, begun_as
from expunge.preparation.prepare import encoder_of, source_of
from expunge.provenance.keys import existing_key
from expunge.utils.file_names import ADAPTER, CONFIG, EVIDENCE, GUARD, MANIFEST, MODEL, SETTINGS
from expunge.utils.io import AnyPath

_ALIKE = 0.9
"""Similarity from which on a question counts as one of the forget set."""
_LONGEST_QUESTION = 20_000
"""Characters."""
_GO_ON = "run the command that began it again; it goes on where it stopped"


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenChance:
    """One token of the erased answer, and how likely a model finds it after those before it."""

    token: str
    probability: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatAnswer:
    """What one model says to a question."""

    role: str
    """`original`, `unlearned`, `gold`, or `gold-1` and so on."""
    text: str
    erased: tuple[TokenChance, ...]
    """The erased answer under this model; empty where none is known for the question."""

    @property
    def whole(self) -> float | None:
        """Probability of the whole erased answer: the product over its tokens."""
        if not self.erased:
            return None
        product = 1.0
        for each in self.erased:
            product *= each.probability
        return product


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatReply:
    """What all models say to a question.

    Example:
        >>> ChatReply(question="Where does Lin live?", erased="In Oslo.", answers=()).erased
        'In Oslo.'
    """

    question: str
    erased: str
    """The answer that was erased; empty where the question is none of the forget set."""
    answers: tuple[ChatAnswer, ...]


def chat(
    run: AnyPath,
    question: str,
    *,
    erased: str = "",
    model: str | None = None,
    offline: bool = False,
) -> ChatReply:
    """Ask the models of a run one question; one model at a time is in memory.

    `ChatSession` keeps the models for further questions.

    Args:
        run: A run folder.
        question: The question.
        erased: The answer whose tokens are scored; default that of the forget record which asks
            nearly the same.
        model: Reference of the model in the place of the unlearned one; default that of the run.
        offline: Never use the network.

    Raises:
        ExpungeError: The run has no settings, the question is empty, or no model can be loaded.

    Example:
        >>> chat("no-such-run", "Where does Lin live?")
        Traceback (most recent call last):
            ...
        expunge.errors.InputError: error[no-settings]: no-such-run has no config.toml...
    """
    session = ChatSession(run, model=model, offline=offline)
    return session.ask(question, erased=erased, keep=False)


class ChatSession:
    """The models of a run that can be loaded, and the answers that were to be erased.

    Args:
        run: A run folder.
        model: Reference of the model in the place of the unlearned one; default that of the run.
        offline: Never use the network.

    Raises:
        InputError: The run has no settings, as one that was stopped at its beginning.

    Example:
        >>> ChatSession("runs/latest").ask("Where does Lin live?")  # doctest: +SKIP
    """

    def __init__(self, run: AnyPath, *, model: str | None = None, offline: bool = False) -> None:
        run = Path(run)
        self._settings = _settings(run, offline)
        self._source = source_of(self._settings)
        self._items, self.without_erased = _forget_items(run)
        self.references = _references(run, self._settings, model)
        self.without_unlearned = "" if "unlearned" in self.references else _why_no_model(run)
        """Why no unlearned model can be asked; empty where one can."""
        self.unfinished = "" if _finished(run) else f"the run is not finished: {_GO_ON}"
        """What a half-written run needs; empty where it has ended."""
        self.missing: dict[str, str] = {}
        """Role to why its model is left out; grows as models are loaded."""
        self._loaded: dict[str, tuple[Loaded, Encoder]] = {}

    def ask(self, question: str, *, erased: str = "", keep: bool = True) -> ChatReply:
        """Ask every model one question, each greedily and without what was said before.

        Args:
            question: The question.
            erased: The answer whose tokens are scored; default that of the forget record which
                asks nearly the same.
            keep: Whether the models stay in memory for the next question.

        Raises:
            UsageError: The question is empty or beyond reason.
            InputError: No model can be loaded.
        """
        question = question.strip()
        if not question or len(question) > _LONGEST_QUESTION:
            raise UsageError(
                "no-question",
                what="the question is empty" if not question else "the question is too long",
                why=f"a model is asked with 1 to {_LONGEST_QUESTION:,} characters",
                fix='write a question: expunge chat RUN --ask "..."',
            )
        wanted = erased.strip() or self._erased(question)
        answers: list[ChatAnswer] = []
        last: InputError | None = None
        for role in self.references:
            try:
                loaded, encoder = self._model(role)
            except InputError as error:
                self.missing[role], last = error.what, error
                continue
            answers.append(_answer(role, loaded, encoder, question, wanted, self._settings))
            if not keep:
                self._loaded.clear()
                del loaded, encoder
                gc.collect()
        if not answers:
            raise last or _no_models()
        return ChatReply(question=question, erased=wanted, answers=tuple(answers))

    def _model(self, role: str) -> tuple[Loaded, Encoder]:
        if role in self.missing:
            raise InputError("model-missing", what=self.missing[role], why="said before", fix="")
        if role not in self._loaded:
            loaded = load(self.references[role], self._source)
            self._loaded[role] = loaded, encoder_of(self._settings, loaded.tokenizer)
        return self._loaded[role]

    def _erased(self, question: str) -> str:
        """Return the answer of the forget record that asks this, or nearly this; else nothing."""
        asked = {item.question.strip().casefold(): item for item in self._items if item.question}
        near = difflib.get_close_matches(question.casefold(), asked, n=1, cutoff=_ALIKE)
        return asked[near[0]].answer if near else ""


def _finished(run: Path) -> bool:
    return (run / MANIFEST).is_file()


def _why_no_model(run: Path) -> str:
    """Return why a run has no unlearned model of its own."""
    if begun_as(run) == AUDITED:
        return "an audit makes no model; name one by --model"
    if _finished(run):
        return f"{run / MODEL} has gone; name another model by --model"
    return "the run has not written it yet; until then name a model by --model"


def _settings(run: Path, offline: bool) -> Settings:
    path = run / SETTINGS
    if not path.is_file() and begun_as(run):
        raise InputError(
            "run-not-begun",
            what=f"{run} has no {SETTINGS} yet, which names the original and gold",
            why="the run is just beginning, or was stopped before it wrote its settings",
            fix=_GO_ON,
        )
    if not path.is_file():
        raise InputError(
            "no-settings",
            what=f"{run} has no {SETTINGS}",
            why="it names the original and gold",
            fix="give a run folder of `expunge forget` or `expunge audit`",
        )
    flags: dict[str, object] = {"offline": True} if offline else {}
    return resolve(flags, config=path, environ={}, start=path.parent).settings


def _forget_items(run: Path) -> tuple[list[Item], str]:
    """Return the forget set of a run, and why it cannot be read where it cannot."""
    try:
        store = EvidenceStore(run / EVIDENCE, key=existing_key(run))
        if not store.holds(ITEMS):
            if _finished(run):
                return [], "the run has no evidence: the erased answers are not known"
            return [], "the run has not stored the erased answers yet; --answer names one to score"
        return store.items("forget"), ""
    except ExpungeError as error:
        return [], f"the erased answers cannot be read: {error.what}"


def _references(run: Path, settings: Settings, model: str | None) -> dict[str, str]:
    """Return the reference of each model by role; an audit has no unlearned model of its own."""
    found = {"original": settings.model}
    if model is not None:
        found["unlearned"] = model
    elif any((model_folder(run) / name).is_file() for name in (CONFIG, ADAPTER, GUARD)):
        found["unlearned"] = str(run)
    golds = settings.request.gold
    names = ["gold"] if len(golds) == 1 else [f"gold-{i + 1}" for i in range(len(golds))]
    return found | dict(zip(names, golds, strict=True))


def _no_models() -> InputError:
    return InputError(
        "no-models",
        what="no model of the run can be loaded",
        why="the folders that the settings name have gone",
        fix="give the unlearned model by --model",
    )


def _answer(
    role: str, loaded: Loaded, encoder: Encoder, question: str, erased: str, settings: Settings
) -> ChatAnswer:
    record = _record(question, erased or "-")
    (written,) = greedy(
        loaded.network,
        [encoder.prompt_ids(record)],
        end_ids=encoder.end_ids,
        max_new_tokens=settings.audit.max_new_tokens,
        tokens_per_pass=settings.train.tokens_per_pass,
    )
    chances = _chances(loaded, encoder, record, settings) if erased else ()
    return ChatAnswer(role=role, text=encoder.decode(written), erased=chances)


def _record(question: str, answer: str) -> Record:
    return Record(
        id="chat", prompt=(Message("user", question),), completion=answer, source="the chat"
    )


def _chances(
    loaded: Loaded, encoder: Encoder, record: Record, settings: Settings
) -> tuple[TokenChance, ...]:
    """Return the probability of each token of an answer; that of the end of turn is left out."""
    encoded = encoder.encode(record)
    (scores,) = score(
        loaded.network,
        [encoded],
        pad_id=encoder.pad_id,
        tokens_per_pass=settings.train.tokens_per_pass,
        with_z=False,
    )
    answer = encoded.ids[encoded.start : len(encoded.ids) - int(encoded.ends)]
    return tuple(
        TokenChance(token=encoder.written([token]), probability=exp(logp))
        for token, logp in zip(answer, scores.logp.tolist(), strict=False)
    )
