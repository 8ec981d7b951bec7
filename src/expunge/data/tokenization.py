"""The only place that makes token ids and says which of them are scored.

    chat    what the template writes up to the answer | answer | end of turn
    plain   [BOS] Question: ...\\nAnswer:              |  answer | EOS
    text    [BOS]                                     | passage

Everything right of the bar is scored. Prompt and answer are always tokenised apart, so the tokens
before an answer in training are exactly those from which an answer is generated. Masks are
positions, never ids: with SmolLM2 padding, end of text and end of turn are one and the same token.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Literal

from jinja2 import TemplateError

from expunge.data.records import Message, Record
from expunge.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MARKER = "expungemarker"
_QUESTION = "expungequestion"
_ROLE_NAMES = {"system": "System", "user": "Question", "assistant": "Answer"}
_WINDOW = 12
"""Characters of a passage to look at per token wanted: with 3 to 6 a token, two parts and more."""
_SPACES = "Ġ▁ "
"""What vocabularies write for the space before a word."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoded:
    """One record as token ids: `ids[start:]` is scored, `ids[:start]` is only read."""

    record: str
    """The record's id."""
    ids: tuple[int, ...]
    start: int
    """Index of the first scored token; at least 1, for nothing predicts the first token."""
    ends: bool
    """Whether the last token is the end-of-turn token."""
    focus: int | None = None
    """Index of the last token of the subject in the question, where `Encoder.focused` set it."""
    secret: tuple[int, ...] = ()
    """For each scored token, the token of the forget record there that only it can have taught, or
    -1; empty where nobody marked any (`secret_tokens.with_secrets`)."""
    expected: tuple[float, ...] = ()
    """For each scored token, the log-probability that a model which never saw the record is
    expected to give it, nats; NaN, or empty, where that is not known."""


class Encoder:
    """Turns records into token ids for one tokenizer and one format.

    Args:
        tokenizer: A transformers tokenizer.
        template: `auto` takes the tokenizer's chat template where it has one, `plain` never does.
            The plain format of a conversation is one line a turn, `System: ...`, `Question: ...`,
            `Answer: ...`; the answer is followed by the EOS token where the tokenizer has one.
        max_length: Longest record in tokens.

    Raises:
        InputError: `bad-template`: the chat template cannot render a question and an answer.
    """

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        template: Literal["auto", "plain"] = "auto",
        *,
        max_length: int = 512,
    ) -> None:
        self._tokenizer = tokenizer
        self._chat = template == "auto" and tokenizer.chat_template is not None
        self._max_length = max_length
        self._bos = self._leading_ids()
        self._eats_space = self._ids("a") != self._ids("\na")[len(self._ids("\n")) :]
        eos = _one_id(tokenizer.eos_token_id)
        # What the format puts before an answer: the end of the prompt, and a space of the answer's.
        self._opening, self._space, self._end = "", " ", eos
        if self._chat:
            opening, end = self._probe_template()
            self._opening = opening.rstrip(" ")
            self._space = opening[len(self._opening) :]
            self._end = eos if end is None else end
        self._end_ids = frozenset(i for i in (self._end, eos) if i is not None)

    @property
    def chat(self) -> bool:
        """Whether records are turns of the model's own chat template."""
        return self._chat

    def without_template(self) -> "Encoder":
        """Return an encoder of the same tokenizer that writes the plain format."""
        return Encoder(self._tokenizer, "plain", max_length=self._max_length)

    @property
    def end_ids(self) -> frozenset[int]:
        """Tokens that end an answer: end of turn and end of text; empty if there are none."""
        return self._end_ids

    @property
    def plain_ids(self) -> list[int]:
        """Every token that stands for text, in order."""
        special = set(self._tokenizer.all_special_ids)
        return [token for token in range(len(self._tokenizer)) if token not in special]

    @property
    def number_ids(self) -> frozenset[int]:
        """Tokens that are digits alone, with or without a space before them."""
        ids = self.plain_ids
        texts = self._tokenizer.convert_ids_to_tokens(ids)
        return frozenset(
            i for i, text in zip(ids, texts, strict=True) if text.lstrip(_SPACES).isdigit()
        )

    @property
    def identity(self) -> list[str | int]:
        """What identifies this way of encoding: the template's source, and some tokens.

        Not an encoded conversation: templates may write today's date into it.
        """
        template = str(self._tokenizer.chat_template) if self._chat else ""
        return [template, *self._ids("In 1984, Zoë's cat sat on 7 mats; naïve?\n")]

    @property
    def pad_id(self) -> int:
        """What to fill batches with: the tokenizer's padding, else EOS, else 0.

        Any id is safe, since attention and scoring go by position.
        """
        for token in (self._tokenizer.pad_token_id, self._tokenizer.eos_token_id):
            if (found := _one_id(token)) is not None:
                return found
        return 0

    @property
    def frame(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """What the format writes before and after a question that opens a conversation."""
        texts = ("A", "7")
        probes = [Record(id=t, prompt=(Message("user", t),), completion=t) for t in texts]
        first, other = (self.prompt_ids(record) for record in probes)
        head = same_beginning(first, other)
        tail = same_beginning(first[:head:-1], other[:head:-1])
        return first[:head], first[len(first) - tail :]

    def width(self, word: str, opens: bool) -> int:
        """Return how many tokens a word takes, where it opens an answer or within a sentence."""
        return len(self._inner_ids((self._space if opens else " ") + word))

    def encode(self, record: Record) -> Encoded:
        """Encode a record with its own completion.

        A passage of plain text gets no end token: it may be cut from something longer. Without BOS
        its first token is read but not scored, as nothing comes before it.

        Raises:
            InputError: `too-long`: more than `max_length` tokens (`split_long` splits passages).
                `too-short`: no token to score.
        """
        return self.encode_with(record, record.completion)

    def encode_with(self, record: Record, completion: str) -> Encoded:
        """Encode a record's prompt with another completion: an alternative or a refusal.

        Raises:
            InputError: As `encode`.
        """
        encoded = self._encode(record, completion)
        if len(encoded.ids) > self._max_length:
            raise InputError(
                "too-long",
                what=f"record {record.id} ({record.source}) has {len(encoded.ids)} tokens",
                why=f"the longest record allowed has {self._max_length}; a cut answer would be"
                " neither learned nor forgotten",
                fix=f"set train.max_length to {len(encoded.ids)} or more, or shorten the record",
            )
        if len(encoded.ids) <= encoded.start:
            raise InputError(
                "too-short",
                what=f"record {record.id} ({record.source}) has no token to score",
                why="a model predicts a token from those before it",
                fix="write a longer text, or a question and its answer",
            )
        return encoded

    def encode_fact(self, record: Record) -> Encoded:
        """Encode a record up to the end of its fact, scored from the first token of the fact on.

        The fact is what lies from the first to the last key answer that the completion holds; where
        it holds none, the whole answer is scored. Tokens that stand before the fact are read.

        Raises:
            InputError: As `encode`.
        """
        encoded = self.encode(record)
        text = record.completion
        places = [(text.lower().find(key.lower()), len(key)) for key in record.key_answers]
        found = [(place, place + length) for place, length in places if place >= 0]
        if not found:
            return encoded
        answer = encoded.ids[encoded.start :]
        first, last = min(begin for begin, _ in found), max(end for _, end in found)
        before = self._answer_ids(text[:first].rstrip(), passage=not record.prompt)
        through = self._answer_ids(text[:last], passage=not record.prompt)
        begin = same_beginning(before, answer)
        # A token that holds the end of the fact and more belongs to the fact.
        end = max(begin, same_beginning(through, answer) + int(through != answer[: len(through)]))
        end = encoded.start + max(end, begin + 1)
        return replace(
            encoded,
            ids=encoded.ids[:end],
            start=encoded.start + begin,
            ends=encoded.ends and end == len(encoded.ids),
        )

    def focused(self, record: Record) -> Encoded:
        """Encode a record with its own completion, and say where its subject stands.

        The focus is the last token of the subject where the question last names it, else the last
        token of the question; a passage of plain text has none.

        Raises:
            InputError: As `encode`.
        """
        encoded = self.encode(record)
        question = record.question.strip()
        if not question:
            return encoded
        before, found, _ = self._prompt_text(record).rpartition(question)
        if not found:  # a template that rewrites the question
            return replace(encoded, focus=encoded.start - 1)
        named = question.rfind(record.subject) if record.subject else -1
        length = named + len(record.subject or "") if named >= 0 else len(question)
        bos = () if self._chat else self._bos
        return replace(encoded, focus=len(bos + self._ids(before + question[:length])) - 1)

    def prompt_ids(
        self, record: Record, *, question: str | None = None, prefill: str = ""
    ) -> tuple[int, ...]:
        """Return the tokens from which to generate: those before `start` in training.

        Args:
            record: The record; of a plain passage, the prompt is only BOS, where there is one.
            question: Another wording of the last user turn; only for a record with a prompt.
            prefill: Beginning of the answer, put into the model's mouth. Spaces at its end are
                dropped: they belong to the token that the model writes next.
        """
        prompt = record.prompt
        if question is not None:
            assert prompt, "a plain passage has no question to reword"
            prompt = (*prompt[:-1], Message("user", question))
        start = self._prompt_ids(replace(record, prompt=prompt))
        prefill = prefill.rstrip(" ")
        return start + (self._answer_ids(prefill, passage=not prompt) if prefill else ())

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of generated tokens, without special tokens and outer white space."""
        return self.written(ids).strip()

    def written(self, ids: Sequence[int]) -> str:
        """Return the text of tokens with its white space, without special tokens."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def texts(self, encoded: Encoded) -> list[str]:
        """Return the text of each scored token but the end token, with the space before it."""
        ids = encoded.ids[encoded.start : len(encoded.ids) - int(encoded.ends)]
        texts: list[str] = []
        before = ""
        for stop in range(1, len(ids) + 1):
            # Decoded together: a letter may be spread over tokens, and single ones lose their
            # space.
            through = self.written(ids[:stop])
            texts.append(through[len(before) :])
            before = through
        return texts

    def pieces(self, record: Record) -> list[str]:
        """Return the names that the vocabulary gives to the tokens of a record."""
        return list(self._tokenizer.convert_ids_to_tokens(list(self.encode(record).ids)))

    def writes_as(self, other: "Encoder", records: Iterable[Record]) -> bool:
        """Tell whether both write all records with the same token ids."""
        return all(self.encode(record).ids == other.encode(record).ids for record in records)

    def split_long(self, records: Iterable[Record]) -> list[Record]:
        """Split passages of plain text that are longer than `max_length` tokens.

        The parts, joined, are the passage. They are cut before white space where there is any, are
        named `ID#1`, `ID#2`, ..., and share a `subject`, so that statistics treat them as one.
        Records with a prompt, and short passages, come back as they are.
        """
        parts: list[Record] = []
        for record in records:
            pieces = [] if record.prompt else self._pieces(record)
            if len(pieces) < 2:
                parts.append(record)
                continue
            parts.extend(
                replace(
                    record,
                    id=f"{record.id}#{number}",
                    completion=piece,
                    subject=record.subject or record.id,
                )
                for number, piece in enumerate(pieces, start=1)
            )
        return parts

    def _encode(self, record: Record, completion: str) -> Encoded:
        prompt = self._prompt_ids(record)
        answer = self._answer_ids(completion, passage=not record.prompt)
        ends = bool(record.prompt) and self._end is not None
        end = (self._end,) if ends and self._end is not None else ()
        return Encoded(
            record=record.id,
            ids=prompt + answer + end,
            start=max(1, len(prompt)),
            ends=ends,
        )

    def _prompt_ids(self, record: Record) -> tuple[int, ...]:
        if not record.prompt:
            return self._bos
        # Templates write BOS themselves where the model wants it.
        return (() if self._chat else self._bos) + self._ids(self._prompt_text(record))

    def _prompt_text(self, record: Record) -> str:
        if self._chat:
            return self._render(record.prompt, source=record.source) + self._opening
        return plain_prompt(record.prompt)

    def _answer_ids(self, text: str, *, passage: bool) -> tuple[int, ...]:
        if passage and not text[:1].isspace():
            return self._ids(text)
        return self._inner_ids(text if passage else self._space + text)

    def _ids(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def _inner_ids(self, text: str) -> tuple[int, ...]:
        """Tokenise text that goes on from other text.

        SentencePiece tokenizers put a space before whatever they are given; behind an anchor, which
        is then taken off, they do not.
        """
        if self._eats_space:
            anchor, anchored = self._ids("\n"), self._ids("\n" + text)
            if anchored[: len(anchor)] == anchor:
                return anchored[len(anchor) :]
        return self._ids(text)

    def _leading_ids(self) -> tuple[int, ...]:
        bare, whole = self._ids("a"), tuple(self._tokenizer("a")["input_ids"])
        for i in range(len(whole) - len(bare) + 1):
            if whole[i : i + len(bare)] == bare:
                return whole[:i]
        return ()

    def _render(
        self, messages: Sequence[Message], *, source: str, answer: str | None = None
    ) -> str:
        turns: list[dict[str, Any]] = [turn._asdict() for turn in messages]
        if answer is not None:
            turns.append({"role": "assistant", "content": answer})
        try:
            text = self._tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=answer is None
            )
        except (TemplateError, TypeError, ValueError) as error:
            raise InputError(
                "bad-template",
                what=f"the model's chat template does not accept {source}",
                why="some templates allow no system turn, or demand that turns alternate"
                f" ({type(error).__name__})",
                fix="leave the system turn out, or set template to plain",
            ) from None
        return str(text)

    def _probe_template(self) -> tuple[str, int | None]:
        """Find what the template writes between the prompt and an answer, and what ends a turn."""
        question = (Message("user", _QUESTION),)
        source = "a question and its answer"
        prompt = self._render(question, source=source)
        if _QUESTION not in prompt.lower():
            raise InputError(
                "bad-template",
                what="the model's chat template does not write the question that it is given",
                why="every question would be the same empty text, and nothing could be measured",
                fix="restore the template (chat_template.jinja), or set template to plain",
            )
        before, found, after = self._render(question, source=source, answer=_MARKER).rpartition(
            _MARKER
        )
        # A template that rewrites the turn (say, drops an empty thinking block) opens nothing.
        opening = before[len(prompt) :] if found and before.startswith(prompt) else ""
        special = {
            token for token, added in self._tokenizer.added_tokens_decoder.items() if added.special
        } | set(self._tokenizer.all_special_ids)
        return opening, next((token for token in self._ids(after) if token in special), None)

    def _pieces(self, record: Record) -> list[str]:
        pieces: list[str] = []
        rest = record.completion
        while True:
            window = rest[: _WINDOW * self._max_length]
            length = self._length(record, window)
            last = len(window) == len(rest)
            if last and length <= self._max_length:
                return [*pieces, rest]
            # The last two parts are of one size: a part of one word would say nothing.
            aim = min(self._max_length, length // 2 + 1) if last else self._max_length
            cut = self._cut(record, rest, guess=len(window) * aim // length)
            pieces.append(rest[:cut])
            rest = rest[cut:]

    def _cut(self, record: Record, text: str, *, guess: int) -> int:
        """Return about `guess` characters, fewer if too long, before white space if possible."""
        most = max(1, min(guess, len(text) - 1))
        while True:
            spaces = (i for i in range(most, most // 2, -1) if text[i].isspace())
            cut = next((i for i in spaces if text[:i].strip()), most)
            if cut == 1 or self._length(record, text[:cut]) <= self._max_length:
                return cut
            most = max(1, most - most // 32 - 1)

    def _length(self, record: Record, text: str) -> int:
        return len(self._encode(record, text).ids)


def plain_prompt(prompt: Sequence[Message]) -> str:
    """Return a conversation in the plain format, up to where the answer begins with a space.

    Example:
        >>> plain_prompt([Message("user", "Who?")])
        'Question: Who?\\nAnswer:'
    """
    lines = [f"{_ROLE_NAMES[turn.role]}: {turn.content}\n" for turn in prompt]
    return "".join(lines) + "Answer:"


def same_beginning(first: Sequence[object], other: Sequence[object]) -> int:
    """Return how many tokens, or words, two texts have in common before they part.

    Example:
        >>> same_beginning([5, 6, 7], [5, 6, 8, 9])
        2
    """
    same = takewhile(lambda pair: pair[0] == pair[1], zip(first, other, strict=False))
    return sum(1 for _ in same)


def _one_id(token: object) -> int | None:
    """Return one id; a tokenizer may declare several end tokens, of which the first is written."""
    first = next(iter(token), None) if isinstance(token, list) else token
    return first if isinstance(first, int) else None
