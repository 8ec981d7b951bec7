"""A task group for lm-eval that asks what an audit asks: `lm_eval --include_path FOLDER`.

One task for each set and kind of question, and the group `expunge` of all of them. A set of a
request gives up to five tasks:

    expunge_SET              its questions, answers written     fact_stated, rouge_l_recall
    expunge_SET_paraphrases  its other wordings                 the same
    expunge_SET_likelihood   likelihood of the answers          verbatim, bits_per_byte
    expunge_SET_choice       the answer among wrong ones        acc
    expunge_SET_text         likelihood of its passages         bits_per_byte

Questions are written as the audit writes them: as a turn of the model's chat template, or in the
plain format. lm-eval counts the white space at the end of a template as part of the answer, so that
likelihoods would be others than ours: they are asked in the plain format alone. The group has no
mean: a set that is forgotten and one that is kept do not add up.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from expunge.data.records import Message, Record
from expunge.data.splits import Scope
from expunge.data.tokenization import plain_prompt
from expunge.errors import InputError
from expunge.interop.lm_eval_scores import ANSWERS, LIKELIHOODS
from expunge.utils.io import jsonl, private, write_bytes, write_text

GROUP = "expunge"
"""Name of the group of all tasks."""
SETS = ("forget", "retain", "neighbours", "holdout", "control")
_BETTER = {"forget": False, "retain": True, "neighbours": True}
"""Whether it is better to know a set; nobody can say so of what no model should know."""
_SMALLER = ("bits_per_byte",)
_UTILS = '''"""What the tasks in this folder name. Written by expunge."""

from pathlib import Path

from expunge.interop.lm_eval_scores import read_docs, score_answer, score_likelihood

__all__ = ["docs", "score_answer", "score_likelihood"]


def docs(file, **_):
    """Return the questions in a file beside this one."""
    return read_docs(Path(__file__).parent / file)
'''
_HEAD = """# Written by expunge. The questions in {file} may be personal data.
task: {name}
custom_dataset: !function utils.docs
dataset_kwargs: {{file: {file}}}
test_split: test
"""
_ASK = """description: "{{{{system}}}}"
doc_to_text: "{{{{prompt}}}}"
"""
_BODIES = {
    "": _ASK
    + """output_type: generate_until
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: [], max_gen_toks: {length}, do_sample: false}}
process_results: !function utils.score_answer
""",
    "likelihood": _ASK
    + """output_type: loglikelihood
doc_to_target: "{{{{' ' ~ answer}}}}"
process_results: !function utils.score_likelihood
""",
    "choice": _ASK
    + """output_type: multiple_choice
doc_to_choice: options
doc_to_target: right
""",
    "text": """output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{answer}}}}"
""",
}
_BODIES["paraphrases"] = _BODIES[""]
_METRICS = {
    "": ANSWERS,
    "paraphrases": ANSWERS,
    "likelihood": LIKELIHOODS,
    "choice": ("acc",),
    "text": ("bits_per_byte",),
}


class TaskGroup(NamedTuple):
    """The files of a group.

    Example:
        >>> TaskGroup(tasks={"expunge_forget": 12}, left_out=0).tasks["expunge_forget"]
        12
    """

    tasks: Mapping[str, int]
    """Name of each task to its number of questions."""
    left_out: int
    """Records of several turns, which lm-eval cannot write with a chat template."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Writer:
    """How a record becomes a row."""

    chat: bool

    def rows(self, records: Sequence[Record]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the kind of task and the row of every question about some records."""
        for place, record in enumerate(records):
            if not record.prompt:
                yield "text", {"record": record.id, "answer": record.completion}
                continue
            row = self._row(record)
            yield "", row
            if not self.chat:
                yield "likelihood", row
            for wording in record.paraphrases:
                turn = Message("user", wording)
                yield "paraphrases", self._row(replace(record, prompt=(*record.prompt[:-1], turn)))
            if record.wrong:
                right = place % (1 + len(record.wrong))
                options = [*record.wrong[:right], record.completion, *record.wrong[right:]]
                yield "choice", {**row, "options": options, "right": right}

    def writes(self, record: Record) -> bool:
        """Tell whether lm-eval can write a record's prompt: system and user turn, or plain text."""
        roles = [turn.role for turn in record.prompt]
        return not self.chat or roles in ([], ["user"], ["system", "user"])

    def _row(self, record: Record) -> dict[str, Any]:
        system = "".join(turn.content for turn in record.prompt if turn.role == "system")
        return {
            "record": record.id,
            "question": record.question,
            "answer": record.completion,
            "facts": list(record.key_answers),
            "system": system if self.chat else "",
            "prompt": record.question if self.chat else plain_prompt(record.prompt),
        }


def write_task_group(scope: Scope, folder: Path, *, chat: bool, length: int) -> TaskGroup:
    """Write the tasks of a request into a folder of their own.

    Args:
        scope: The records of every set.
        folder: Where to write; new or empty.
        chat: Whether questions are turns of a chat template (`--apply_chat_template`).
        length: Longest answer, tokens.

    Raises:
        InputError: `nothing-to-ask`: no record can be asked.

    Example:
        >>> write_task_group(scope, Path("probes"), chat=True, length=64)  # doctest: +SKIP
    """
    writer, left_out = _Writer(chat=chat), 0
    tasks: dict[str, list[dict[str, Any]]] = {}
    bodies: dict[str, str] = {}
    for split in SETS:
        records: tuple[Record, ...] = getattr(scope, split)
        asked = [record for record in records if writer.writes(record)]
        left_out += len(records) - len(asked)
        for kind, row in writer.rows(asked):
            name = "_".join(filter(None, (GROUP, split, kind)))
            tasks.setdefault(name, []).append(row)
            bodies[name] = _task(name, split, kind, length)
    if not tasks:
        raise InputError(
            "nothing-to-ask",
            what="no record of the request can be asked by lm-eval",
            why="with a chat template, lm-eval asks one user turn, with a system turn or without",
            fix="set template to plain, which writes all turns as text",
        )
    private(folder)
    for name, rows in tasks.items():
        write_bytes(folder / _file(name), jsonl(rows), owner_only=True)
        write_text(folder / f"{name}.yaml", bodies[name])
    write_text(folder / "utils.py", _UTILS)
    names = "".join(f"  - {name}\n" for name in tasks)
    write_text(folder / f"{GROUP}.yaml", f"group: {GROUP}\ntask:\n{names}")
    return TaskGroup({name: len(rows) for name, rows in tasks.items()}, left_out)


def _file(task: str) -> str:
    """Return the file of a task's questions; answers and their likelihood are of the same ones."""
    return f"{task.removesuffix('_likelihood')}.jsonl"


def _task(name: str, split: str, kind: str, length: int) -> str:
    """Return the YAML of a task."""
    head = _HEAD.format(name=name, file=_file(name))
    lines = [head, _BODIES[kind].format(length=length), "metric_list:\n"]
    for metric in _METRICS[kind]:
        known = _BETTER.get(split)
        better = None if known is None else known is not (metric in _SMALLER)
        added = metric if metric in _SMALLER else "mean"
        told = {None: "null", True: "true", False: "false"}[better]
        lines.append(f"  - {{metric: {metric}, aggregation: {added}, higher_is_better: {told}}}\n")
    return "".join([*lines, "num_fewshot: 0\nmetadata: {version: 1}\n"])
