"""Evidence: what a model did on each record, stored raw, from which every number is recomputed.

One *unit* is one file: what one model said on one set of records under one test. A test is an
attack, a precision of the weights, a decoding and a seed; a table in `context.json` says which
weights each role had. Units are written whole or not at all, so an interrupted audit goes on with
the units that are missing.

Tests of what lies beyond one pass and one answer a record:

    perturbed     choices  the true answer (reworded where given) and false ones
    lowercase     scores   the answer in lower case
    recall        scores   the record after others that no model saw
    gradient      layers   norm of the gradient of each weight tensor
    rarity        layers   -log frequency of each token in general text, 0 where it is repeated
    divergence    layers   KL from the original at each scored position
    lens          layers   log-probability of the fact, read after each block by the original
    patched       layers   the same when this model's states replace the original's there
    weights       layers   relative change of each weight tensor
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from expunge.errors import InputError
from expunge.evidence.context import SCHEMA, AuditContext
from expunge.evidence.encryption import NAME as SEAL
from expunge.evidence.encryption import SUFFIX, Seal, locked
from expunge.utils.file_names import CONTEXT
from expunge.utils.io import jsonl, parse_jsonl, read_table, write_bytes, write_json

Kind = Literal["scores", "answers", "choices", "layers"]

PLAIN = "plain"
"""The attack name of evidence taken without an attack."""

PERTURBED, LOWERCASE, RECALL = "perturbed", "lowercase", "recall"
GRADIENT, RARITY, DIVERGENCE = "gradient", "rarity", "divergence"
LENS, PATCHED, WEIGHTS = "lens", "patched", "weights"
EXPERTS, ROUTING = "experts", "routing"

READINGS = (LOWERCASE, RECALL)
"""Tests whose scores are of a changed text: no attack, and not comparable with plain scores."""

ORIGINAL, UNLEARNED = "original", "unlearned"
"""Roles of the two models that every audit has."""

NATIVE = "native"
"""The precision of weights as they were loaded (`AuditContext.precision` says which that is)."""

GREEDY = "greedy"
"""The decoding that takes the most likely token each time."""

_PRECISION = re.compile(r"int\d+|nf\d+|fp\d+|bf16|q\d\w*")
_DECODING = re.compile(r"(?:sample|beam)-\w+")
_SEED = re.compile(r"seed-(\d+)")
_WORD = re.compile(r"\w[\w-]*")
_FINITE = ConfigDict(extra="forbid", allow_inf_nan=False)
"""How rows are read: somebody else may have written them."""


LogProbability = Annotated[float, Field(le=1e-3)]
"""Nats; a rounding error above zero is read, more than that is damage."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """The record that evidence refers to, with all that metrics need of it.

    Personal data: this is the forget set itself. It stays in the evidence folder and is never
    copied into the manifest, the model card or the log.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _FINITE

    record: str
    split: str
    """`forget`, `unstated`, `retain`, `neighbours`, `holdout`, `control` or `generic`."""
    question: str
    answer: str
    key_answers: tuple[str, ...] = ()
    subject: str | None = None
    relation: str | None = None
    wanted: tuple[str, ...] = ()
    """What the model may say instead: the aim of an edit."""
    rehearsed: bool | None = None
    """Whether training saw the record to keep it; None where nobody knows."""
    form: str | None = None
    """What the answer to an instruction must look like."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """One teacher-forced pass of one model over one record: a row per scored token.

    The tokens of the answer come first; when `ends` is true the last token is the end-of-turn
    token. Metrics score the answer only: `content` drops the end token by this flag, not by guess.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _FINITE

    record: str
    logp: tuple[LogProbability, ...]
    """log p(token | what precedes it), nats, float32 softmax."""
    hit: tuple[bool, ...]
    """Whether the token is the model's most likely one."""
    z: tuple[float, ...]
    """(log p - mean) / sd of log-probabilities over the vocabulary under the model (Min-K++); empty
    for general text."""
    ends: bool
    zlib: int
    """Bytes of the answer's UTF-8 text after zlib."""
    named: tuple[int, ...] = ()
    """Places of tokens that repeat the subject's name from the question; they tell no fact."""

    @property
    def content(self) -> int:
        """Number of scored tokens without the end-of-turn token."""
        return len(self.logp) - int(self.ends)


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """One greedy answer of one model to one question.

    `given` is the part of the answer that the attack put into the model's mouth (a prefill); `text`
    is what the model added. `nll` is the mean negative log-probability per token of the model's own
    text under the original model, `own_nll` the same under the model itself, where measured.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _FINITE

    record: str
    text: str
    given: str = ""
    nll: float | None = None
    own_nll: float | None = None
    cut: bool = False
    """Whether the audit's limit ended it: then its last word may be a part of one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Choices:
    """Log-probabilities of several candidate answers to one question, in nats.

    What the candidates are is told by the attack name of the unit; `correct` is the index of the
    right one.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _FINITE

    record: str
    logp: tuple[LogProbability, ...]
    """Sum of log p over the content tokens of each candidate."""
    tokens: tuple[int, ...]
    """Number of content tokens of each candidate."""
    correct: int
    ending: tuple[float, ...] = ()
    """log p of the end-of-turn token after each candidate; empty where the format has none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layers:
    """One number per layer of one model on one record; the attack name of the unit says which."""

    __pydantic_config__: ClassVar[ConfigDict] = _FINITE

    record: str
    values: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundSpan:
    """Where the fact of a forget record stands in its answer.

    Where the record names no fact, one that the original can predict and no gold can. Personal
    data, like the item that it belongs to.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _FINITE

    record: str
    text: str
    start: int
    """Place of its first token among the scored tokens."""
    stop: int
    """One past the place of its last token."""
    gain: float
    """Nats by which the original exceeds every gold, summed over the span; 0 of a named fact."""


Row = Scores | Answer | Choices | Layers
"""One line of a unit."""

ROWS: Mapping[Kind, type[Row]] = {
    "scores": Scores,
    "answers": Answer,
    "choices": Choices,
    "layers": Layers,
}
"""Kind of evidence to the type of its rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """Names one evidence file: who was asked what, how, and what was written down.

    `ValueError` when a part could be mistaken for another one in the file's name.
    """

    role: str
    """`original`, `unlearned`, `gold-0`, `gold-1`, ..., or `ladder-0.25` and so on."""
    split: str
    attack: str = PLAIN
    kind: Kind
    precision: str = NATIVE
    """`native`, `int8`, `int4`, `nf4`, `q4_0`, ...: what the weights were rounded to."""
    decoding: str = GREEDY
    """`greedy`, `sample-T1`, `sample-T0_7`, `beam-20` and so on."""
    seed: int = 0
    """Seed of what is drawn: sampling, an attack's own training or search."""

    def __post_init__(self) -> None:
        forms = ((self.precision, NATIVE, _PRECISION), (self.decoding, GREEDY, _DECODING))
        taken = any(form.fullmatch(self.attack) for form in (_PRECISION, _DECODING, _SEED))
        if taken or self.attack in (NATIVE, GREEDY) or not _WORD.fullmatch(self.attack):
            raise ValueError(f"{self.attack!r} cannot be the name of an attack")
        if not all(part == usual or form.fullmatch(part) for part, usual, form in forms):
            raise ValueError(f"{self.precision!r} with {self.decoding!r} cannot be told apart")
        if self.seed < 0 or not _WORD.fullmatch(self.split) or "/" in self.role:
            raise ValueError(f"{self.role}.{self.split} with seed {self.seed} is no evidence file")

    @property
    def test(self) -> str:
        """What is not usual about the test: `plain`, `int4`, `prefill-25@int4@seed-1`."""
        parts = (
            (self.attack, PLAIN),
            (self.precision, NATIVE),
            (self.decoding, GREEDY),
            (f"seed-{self.seed}", "seed-0"),
        )
        return "@".join(part for part, usual in parts if part != usual) or PLAIN

    @classmethod
    def under(cls, test: str, *, role: str, split: str, kind: Kind) -> "Unit":
        """Return the unit of a test by its name, the inverse of `test`.

        Raises:
            ValueError: No test has this name.
        """
        unit = cls(role=role, split=split, kind=kind)
        for part in [] if test == PLAIN else test.split("@"):
            if _PRECISION.fullmatch(part):
                unit = replace(unit, precision=part)
            elif _DECODING.fullmatch(part):
                unit = replace(unit, decoding=part)
            elif seed := _SEED.fullmatch(part):
                unit = replace(unit, seed=int(seed[1]))
            else:
                unit = replace(unit, attack=part)
        if unit.test != test:
            raise ValueError(f"{test!r} is not the name of a test")
        return unit

    @property
    def filename(self) -> str:
        """`role.split.test.kind.jsonl`; only a role may hold a point."""
        return f"{self.role}.{self.split}.{self.test}.{self.kind}.jsonl"

    @classmethod
    def parse(cls, filename: str) -> "Unit | None":
        """Return the unit of a file name, the inverse of `filename`; None for another file."""
        head, dot, kind = filename.removesuffix(".jsonl").rpartition(".")
        kinds: dict[str, Kind] = {kind: kind for kind in get_args(Kind)}
        role, _, rest = head.rpartition(".")
        role, _, split = role.rpartition(".")
        if not dot or kind not in kinds or not role:
            return None
        return cls.under(rest, role=role, split=split, kind=kinds[kind])


ITEMS = "items.jsonl"
"""The file of the records that the evidence refers to."""

SPANS = "key-spans.jsonl"
"""The file of where the facts of forget records stand, named or found."""


Made = TypeVar("Made")


class EvidenceStore:
    """The evidence folder of a run: `items.jsonl`, `context.json` and one file per unit.

    After `seal` everything but the context is encrypted (`evidence.encryption`), and reading
    it takes the operator's key.
    """

    def __init__(self, folder: Path, *, key: bytes | None = None) -> None:
        self.folder = folder
        self.operator = key
        self._opened: Seal | None = None

    def seal(self, key: bytes) -> None:
        """Encrypt what will be written from now on; idempotent.

        Args:
            key: The operator's key, 32 bytes.
        """
        self.operator = key
        self._opened = Seal.new(self.folder, key)

    @property
    def sealed(self) -> bool:
        """Tell whether the evidence is encrypted."""
        return (self.folder / SEAL).is_file()

    def has(self, unit: Unit) -> bool:
        """Tell whether the unit has been collected."""
        return self.holds(unit.filename)

    def begun(self) -> bool:
        """Tell whether an audit has written here before."""
        return (self.folder / CONTEXT).is_file()

    def units(self) -> list[Unit]:
        """List all collected units, sorted by name.

        Raises:
            InputError: A file has a name that no audit gives.
        """
        suffix = ".jsonl" + (SUFFIX if self.sealed else "")
        paths = self.folder.glob(f"*.*.*.*{suffix}")
        names = sorted(path.name.removesuffix(SUFFIX) for path in paths)
        try:
            return [unit for name in names if (unit := Unit.parse(name)) is not None]
        except ValueError as error:
            raise _damaged(self.folder, "it holds a file that no audit names so") from error

    def holds(self, name: str) -> bool:
        """Tell whether there is a file of rows of this name, sealed or open."""
        return self._path(name).is_file()

    def write_rows(self, name: str, rows: Iterable[object]) -> None:
        """Write a file of rows, one JSON value a line, sealed where the folder is."""
        data = jsonl(rows)
        sealed = self._seal().close(data, name=name) if self.sealed else data
        write_bytes(self._path(name), sealed)

    def read_rows(self, name: str) -> list[Any]:
        """Read a file of rows.

        Raises:
            InputError: The folder is sealed, and the operator's key is not there or another one.
        """
        path = self._path(name)
        if not path.is_file():
            raise _damaged(path, "it is not there")
        data = path.read_bytes()
        opened = self._seal().open(data, name=name) if self.sealed else data
        try:
            return parse_jsonl(opened)
        except (ValueError, RecursionError) as error:
            raise _damaged(path, "a line is not JSON") from error

    def remove(self, name: str) -> None:
        """Delete a file of rows; one that is not there is no error."""
        self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self.folder / (f"{name}{SUFFIX}" if self.sealed else name)

    def _seal(self) -> Seal:
        if self._opened is None:
            if self.operator is None:
                raise locked(self.folder)
            self._opened = Seal.of(self.folder, self.operator)
        return self._opened

    def write_items(self, items: list[Item]) -> None:
        """Write the records that the evidence refers to."""
        self.write_rows(ITEMS, (_row(item) for item in items))

    def items(self, split: str | None = None) -> list[Item]:
        """Read the items, all or those of one set, in the order written."""
        items = self._made(Item, self.read_rows(ITEMS), ITEMS)
        return [item for item in items if split is None or item.split == split]

    def write_key_spans(self, spans: Iterable[FoundSpan]) -> None:
        """Write where the facts of forget records stand, once."""
        self.write_rows(SPANS, (_rounded(_row(span)) for span in spans))

    def key_spans(self) -> list[FoundSpan]:
        """Read where the facts of forget records stand; nothing where nobody looked."""
        rows = self.read_rows(SPANS) if self.holds(SPANS) else []
        return self._made(FoundSpan, rows, SPANS)

    def items_with_facts(self, split: str | None = None) -> list[Item]:
        """Read the items; forget records without key answers have those that were found."""
        found: dict[str, tuple[str, ...]] = {}
        for span in self.key_spans():
            found[span.record] = (*found.get(span.record, ()), span.text)
        return [
            replace(item, key_answers=found[item.record])
            if item.split == "forget" and not item.key_answers and item.record in found
            else item
            for item in self.items(split)
        ]

    def write(self, unit: Unit, rows: Sequence[Row]) -> None:
        """Write the rows of one unit, numbers rounded to six decimals, whole or not at all.

        Raises:
            ValueError: A row is not of the unit's kind, or holds NaN or an infinity.
        """
        kind = ROWS[unit.kind]
        if not all(type(row) is kind for row in rows):
            raise ValueError(f"{unit.filename} takes rows of type {kind.__name__}")
        self.write_rows(unit.filename, (_rounded(_row(row)) for row in rows))

    def rows(self, unit: Unit) -> list[Row]:
        """Read the rows of one unit in the order of its records."""
        kind = ROWS[unit.kind]
        name = unit.filename
        return [*self._made(kind, self.read_rows(name), name)]

    def _made(self, kind: type[Made], rows: Sequence[Any], name: str) -> list[Made]:
        reader = _reader(kind)
        try:
            return [reader.validate_python(row) for row in rows]
        except ValidationError:  # it quotes the row, which is personal data
            raise _damaged(self._path(name), f"a line is no {kind.__name__}") from None

    def write_scores(self, unit: Unit, scores: list[Scores]) -> None:
        """Write the scores of one unit, see `write`."""
        self.write(unit, scores)

    def scores(self, unit: Unit) -> list[Scores]:
        """Read the scores of one unit in the order of its records."""
        return [row for row in self.rows(unit) if isinstance(row, Scores)]

    def write_answers(self, unit: Unit, answers: list[Answer]) -> None:
        """Write the answers of one unit, see `write`."""
        self.write(unit, answers)

    def answers(self, unit: Unit) -> list[Answer]:
        """Read the answers of one unit in the order of its records."""
        return [row for row in self.rows(unit) if isinstance(row, Answer)]

    def write_context(self, context: AuditContext) -> None:
        """Write what was audited against what, by which rules."""
        write_json(self.folder / CONTEXT, {"schema": SCHEMA, **asdict(context)})

    def context(self) -> AuditContext:
        """Read what was audited against what, by which rules.

        Raises:
            InputError: The folder has another layout than this version reads.
        """
        path = self.folder / CONTEXT
        if not path.is_file():
            raise _damaged(path, "it is not there")
        row = read_table(path)
        found = row.pop("schema", None)
        if found != SCHEMA:
            raise InputError(
                "evidence-schema",
                what=f"the evidence has schema {found!r}; this version reads {SCHEMA!r}",
                why="rows of another layout could be taken for something else",
                fix="run the audit again with this version, or use the version that wrote it",
            )
        try:
            return AuditContext.from_json(row)
        except ValueError as error:
            raise _damaged(path, "a field is missing or of another kind") from error

    def note(self, text: str) -> None:
        """Say in the context what could not be measured; saying it twice says it once."""
        context = self.context()
        if text not in context.notes:
            self.write_context(replace(context, notes=(*context.notes, text)))

    def identify(self, role: str, digest: str) -> None:
        """Note which weights a role has, before anything is asked of it.

        Raises:
            InputError: The folder already holds evidence of other weights under this role.
        """
        context = self.context()
        known = context.models.get(role, digest)
        if known != digest:
            raise InputError(
                "evidence-of-another-model",
                what=f"the evidence of {role} comes from other weights than those loaded now",
                why=f"it was collected from {known[:12]}, and {digest[:12]} is what is there",
                fix="name a new run folder with --out, or bring back the weights of before",
            )
        if role not in context.models:
            models = {**context.models, role: digest}
            self.write_context(replace(context, models=dict(sorted(models.items()))))


@cache
def _reader(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _damaged(path: Path, why: str) -> InputError:
    return InputError(
        "damaged-evidence",
        what=f"{path} is not what an audit wrote",
        why=why,
        fix="restore the folder from a copy, or run the audit again in another folder",
    )


def _row(made: Item | FoundSpan | Row) -> dict[str, Any]:
    """Return the fields of a row, which are flat: `asdict` would copy every number."""
    return {field.name: getattr(made, field.name) for field in fields(made)}


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: [round(x, 6) if type(x) is float else x for x in value]
        if isinstance(value, tuple)
        else value
        for name, value in row.items()
    }
