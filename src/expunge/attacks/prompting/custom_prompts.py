"""A user's own prompts: whatever someone else has found to work.

Protocol: a JSON Lines file, one prompt a line: `{"prompt": "...", "prefill": "..."}`, with the
placeholders `{question}`, `{subject}` and `{paraphrase}`; `prefill` is optional. Each prompt is
asked about every fact that can fill its placeholders, greedily. Budget: one answer a prompt.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import ClassVar

from expunge.attacks.base import Attempt, Unmet
from expunge.attacks.target import Question, Target
from expunge.data.readers import require_prompts
from expunge.data.records import Message, Record
from expunge.errors import InputError
from expunge.evidence.context import AttackMeta
from expunge.utils.io import sha256_file

NAME = "own-prompts"
PLACEHOLDERS = ("question", "subject", "paraphrase")
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnPrompt:
    """One line of the file."""

    prompt: str
    prefill: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnPrompts:
    """Prompts of a file."""

    meta: ClassVar[AttackMeta] = AttackMeta(family="asking", access="T1", needs="`--prompts FILE`")

    prompts: tuple[OwnPrompt, ...]
    digest: str = ""
    """SHA-256 of the file, so that evidence of other prompts is not taken for these."""

    @property
    def name(self) -> str:
        """Return `own-prompts`."""
        return NAME

    def run(
        self, target: Target, used: Sequence[Record], tested: Sequence[Record]
    ) -> list[Attempt]:
        """Ask each prompt about each fact."""
        questions = [
            question
            for record in tested
            for index, prompt in enumerate(self.prompts, start=1)
            if (question := _question(target, record, prompt, f"{index}")) is not None
        ]
        if not questions:
            raise Unmet("no fact can fill the placeholders of any prompt")
        return target.ask(questions)


def _question(target: Target, record: Record, own: OwnPrompt, variant: str) -> Question | None:
    values = {
        "question": record.question,
        "subject": record.subject or "",
        "paraphrase": next(iter(record.paraphrases), ""),
    }
    wanted = set(_PLACEHOLDER.findall(own.prompt + own.prefill))
    if not all(values[name] for name in wanted):
        return None
    text, prefill = (_filled(part, values) for part in (own.prompt, own.prefill))
    return target.worded(record, (Message("user", text),), variant=variant, prefill=prefill)


def _filled(text: str, values: dict[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda match: values[match[1]], text)


def read_prompts(path: Path) -> OwnPrompts:
    """Read a file of prompts.

    Raises:
        InputError: There is no such file, or a line is not such a prompt.
    """
    require_prompts(path)
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise _malformed(str(path), f"not UTF-8 text (byte {error.start})") from None
    found = [_line(line, f"{path}:{i}") for i, line in enumerate(lines, start=1) if line.strip()]
    if not found:
        raise _malformed(str(path), "the file is empty")
    return OwnPrompts(prompts=tuple(found), digest=sha256_file(path))


def _line(line: str, where: str) -> OwnPrompt:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise _malformed(where, f"not JSON ({error.msg})") from None
    except (ValueError, RecursionError):
        raise _malformed(where, "nested or long beyond reason") from None
    fields = row if isinstance(row, dict) else {}
    texts = {key: value for key, value in fields.items() if isinstance(value, str)}
    if not texts.get("prompt", "").strip() or set(fields) - {"prompt", "prefill"}:
        raise _malformed(where, "a line holds a text `prompt`, may hold `prefill`, nothing else")
    for name in _PLACEHOLDER.findall("".join(texts.values())):
        if name not in PLACEHOLDERS:
            near = get_close_matches(name, PLACEHOLDERS, n=1)
            hint = f"; did you mean {{{near[0]}}}?" if near else ""
            raise _malformed(where, f"there is no placeholder {{{name}}}{hint}")
    return OwnPrompt(prompt=texts["prompt"], prefill=texts.get("prefill", ""))


def _malformed(where: str, why: str) -> InputError:
    return InputError(
        "malformed-prompts",
        what=f"{where} is not a prompt",
        why=why,
        fix=f"known placeholders: {', '.join(f'{{{name}}}' for name in PLACEHOLDERS)}",
    )
