"""Models and records that are objects in memory become files, and with them settings.

A run is repeated from files. So what is given as an object is written first, in a private folder
below `runs/inputs`, under a name that follows from its content: the same objects are the same run.
"""

import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from expunge.config.resolve import WORDS, settings_from
from expunge.config.settings import Settings
from expunge.data.convert import to_record
from expunge.errors import InputError, UsageError
from expunge.models.loading import weights_digest
from expunge.utils.io import AnyPath, private, sha256_file, sha256_json, write_jsonl

if TYPE_CHECKING:
    from datasets import Dataset
    from pandas import DataFrame

Records = AnyPath | Sequence[AnyPath] | Iterable[Mapping[str, Any]]
"""Data of one set: a path or Hub id, several of them, rows as mappings, or a `datasets.Dataset`."""
Model = AnyPath | PreTrainedModel
"""A Hub id, a path, or a transformers model in memory."""

INPUTS = "inputs"
_DIGITS = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class RunInputs:
    """What a verb was given in Python; None means: not given."""

    tokenizer: PreTrainedTokenizerBase | None = None
    forget: Records | None = None
    retain: Records | None = None
    neighbours: Records | None = None
    holdout: Records | None = None
    golds: Sequence[Model] = ()
    goal: str | None = None
    method: str | None = None
    out: AnyPath | None = None
    options: Mapping[str, object] | None = None
    """Any key of the settings tree, such as `train.lr`."""

    @property
    def sets(self) -> dict[str, Records | None]:
        """The record sets by name."""
        return {
            "forget": self.forget,
            "retain": self.retain,
            "neighbours": self.neighbours,
            "holdout": self.holdout,
        }

    def given(self) -> list[str]:
        """Return the names of what is given."""
        others = {
            "tokenizer": self.tokenizer,
            "golds": self.golds or None,
            "goal": self.goal,
            "method": self.method,
            "out": self.out,
            "options": self.options,
        }
        return [name for name, value in {**self.sets, **others}.items() if value is not None]


def settings_for(model: Settings | Model, inputs: RunInputs, *, root: Path) -> Settings:
    """Return the settings that stand for what a verb was given.

    Args:
        model: Settings, which stand for themselves; a reference; or a model in memory.
        inputs: The other arguments.
        root: Folder below which objects are written.

    Raises:
        UsageError: Arguments are missing, misspelt, of another type, or do not go together.
        InputError: A row is not a record.

    Example:
        >>> given = RunInputs(forget="erase.jsonl", goal="removal", options={"train.lr": 1e-4})
        >>> settings = settings_for("org/model", given, root=Path("runs"))
        >>> settings.request.forget, settings.train.lr
        (('erase.jsonl',), 0.0001)
    """
    if isinstance(model, Settings):
        if named := inputs.given():
            raise UsageError(
                "settings-and-arguments",
                what=f"settings were given, and beside them {', '.join(named)}",
                why="the settings hold the whole request; which of the two counts is not guessed",
                fix="put it into the settings, or give the model instead of the settings",
            )
        return model
    values = {name: _sources(name, value, root) for name, value in inputs.sets.items()}
    paths = {f"request.{name}": value for name, value in values.items() if value is not None}
    paths["model"] = reference_for(model, inputs.tokenizer, root=root)
    golds = [_gold(gold, inputs.tokenizer, root) for gold in inputs.golds]
    if golds:
        paths["request.gold"] = golds
    out = None if inputs.out is None else os.fspath(inputs.out)
    named = {"request.goal": inputs.goal, "method.name": inputs.method, "out": out}
    paths |= {path: value for path, value in named.items() if value is not None}
    return settings_from({**paths, **_options(inputs.options, paths)})


def _options(given: object, paths: Mapping[str, object]) -> dict[str, object]:
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
        raise UsageError(
            "options-not-a-mapping",
            what="options must be a mapping from the keys of settings to values",
            why="each names one place of the settings tree",
            fix='write options={"train.lr": 1e-4, "audit.level": "standard"}',
        )
    options = {str(key): value for key, value in given.items()}
    twice = sorted(options.keys() & paths.keys())
    if twice:
        raise UsageError(
            "given-twice",
            what=f"{twice[0]} is set by an argument and by options",
            why="which of the two counts is not guessed",
            fix="leave one of them away",
        )
    return options


def _gold(gold: Model, tokenizer: PreTrainedTokenizerBase | None, root: Path) -> str:
    if isinstance(gold, PreTrainedModel):
        return reference_for(gold, tokenizer, root=root)
    return reference_for(gold, None, root=root)


def reference_for(model: Model, tokenizer: PreTrainedTokenizerBase | None, *, root: Path) -> str:
    """Return the reference of a model; one in memory is written to a folder first.

    The folder is named by the weights, so that a model is written once. It takes as much space as
    the weights. The object itself stays as it is.

    Args:
        model: A Hub id, a path, or a transformers model.
        tokenizer: Of a model in memory.
        root: Folder below which a model is written.

    Raises:
        UsageError: The object is no model that can be written whole, or has no tokenizer.
    """
    if isinstance(model, str | os.PathLike):
        if tokenizer is not None:
            raise UsageError(
                "tokenizer-not-needed",
                what=f"a tokenizer was given beside the reference {os.fspath(model)}",
                why="the tokenizer of a reference lies beside its weights; another is not used",
                fix="leave the tokenizer away, or give the model as an object",
            )
        return os.fspath(model)
    _require_whole(model)
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise UsageError(
            "no-tokenizer",
            what="a model in memory needs its tokenizer"
            + ("" if tokenizer is None else f", and {type(tokenizer).__name__} is none"),
            why="records become tokens by it, and it is saved beside the weights",
            fix="call forget(model, tokenizer, ...) with a tokenizer of transformers",
        )
    return str(_written(model, tokenizer, private(root / INPUTS)))


def _require_whole(model: object) -> None:
    """Refuse what is no model, or one whose weights `save_pretrained` does not write whole."""
    if not isinstance(model, PreTrainedModel):
        name = type(model).__name__
        adapter = name.startswith("Peft")
        raise UsageError(
            "not-a-model",
            what=f"the model is a {name}",
            why="an adapter in memory does not say what its base is"
            if adapter
            else "expunge takes settings, a Hub id, a path, or a model of transformers",
            fix="call merge_and_unload() first, or give the folder of the adapter"
            if adapter
            else "load it with AutoModelForCausalLM.from_pretrained, or give its folder",
        )
    state = model.state_dict()
    quantised = model.config.to_dict().get("quantization_config") is not None
    if quantised or any(tensor.is_meta for tensor in state.values()):
        raise UsageError(
            "model-not-whole",
            what="the model is quantised" if quantised else "some weights are not in memory",
            why="what is forgotten is trained and judged on the weights themselves",
            fix="load it without quantisation and without offloading, or give its folder",
        )
    if any(".lora_A." in name for name in state):
        raise UsageError(
            "adapter-in-model",
            what="the model holds an adapter that is not merged",
            why="its weights are saved without the adapter, so that another model would be judged",
            fix="merge the adapter with PEFT's merge_and_unload(), or give the adapter's folder",
        )


def _written(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, root: Path) -> Path:
    """Write a model with its tokenizer whole or not at all; return its folder."""
    part = root / f".model-{uuid4().hex[:_DIGITS]}"
    try:
        tokenizer.save_pretrained(part)
        model.config.save_pretrained(part)
        small = {path.name: sha256_file(path) for path in part.iterdir() if path.is_file()}
        digest = sha256_json([weights_digest(model.state_dict()), small])
        folder = root / f"model-{digest[:_DIGITS]}"
        if not folder.is_dir():
            model.save_pretrained(part)
            part.replace(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def _sources(name: str, value: object, root: Path) -> object:
    """Return the sources of one set; rows are written to a file, which is one."""
    if value is None:
        return None
    if isinstance(value, str | os.PathLike):
        text = os.fspath(value)
        return text if name == "retain" and text in WORDS else [str(text)]
    if _is_table(value):
        value = _table_rows(value)
    if not isinstance(value, Iterable) or isinstance(value, Mapping | bytes):
        raise _not_records(name, value)
    sources: list[str] = []
    rows: list[Mapping[str, Any]] = []
    for each in cast("Iterable[object]", value):
        if isinstance(each, str | os.PathLike):
            sources.append(os.fspath(cast("AnyPath", each)))
        elif isinstance(each, Mapping):
            rows.append(cast("Mapping[str, Any]", each))
        else:
            raise _not_records(name, each)
    if sources and rows:
        raise UsageError(
            "paths-and-rows",
            what=f"{name} holds both paths and rows",
            why="a text among rows may be a path or a record; which is not guessed",
            fix='write rows as dicts, a passage as {"text": "..."}, or give paths alone',
        )
    return [*sources, *_files(name, rows, root)]


def _files(name: str, rows: Sequence[Mapping[str, Any]], root: Path) -> list[str]:
    return [str(_written_rows(name, rows, private(root / INPUTS)))] if rows else []


def _written_rows(name: str, rows: Sequence[Mapping[str, Any]], root: Path) -> Path:
    kept: list[dict[str, Any]] = []
    for index, row in enumerate(rows):
        place = f"{name}[{index}]"
        to_record(dict(row), place)
        fields = {str(key): value for key, value in row.items() if value is not None}
        try:
            kept.append(json.loads(json.dumps(fields, default=_refused)))
        except (TypeError, ValueError) as error:
            raise InputError(
                "field-not-json",
                what=f"{place} has a field that is neither text, number nor a list of them",
                why="records are written as JSON, so that the run can be repeated from files",
                fix="remove the field, or turn it into text",
            ) from error
    path = root / f"{name}-{sha256_json(kept)[:_DIGITS]}.jsonl"
    if not path.is_file():
        write_jsonl(path, kept)
    return path


def _refused(value: object) -> object:
    raise TypeError(type(value).__name__)


def _is_table(value: object) -> bool:
    """Tell a data frame of pandas, without loading pandas."""
    return "pandas" in sys.modules and isinstance(value, sys.modules["pandas"].DataFrame)


def _table_rows(table: "DataFrame | Any") -> "Dataset | Any":  # noqa: ANN401 - pandas is not typed
    from datasets import Dataset

    return Dataset.from_pandas(table, preserve_index=False)


def _not_records(name: str, value: object) -> UsageError:
    kind = type(value).__name__
    splits = kind in ("DatasetDict", "IterableDatasetDict")
    return UsageError(
        "not-records",
        what=f"{name} holds a {kind}, which is no record",
        why="a data set with several splits does not say which of them is meant"
        if splits
        else "a set is a path, a list of paths, a list of dicts, or a datasets.Dataset",
        fix=f'give one split, such as {name}=data["train"]'
        if splits
        else f'write {name}=[{{"prompt": "...", "completion": "..."}}]',
    )
