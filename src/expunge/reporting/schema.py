"""What a run did, as the orchestrator writes it to `facts.json`: the report's only other source.

Results on disk: `results.json` with a versioned schema, read back to the same values.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from expunge.errors import InputError
from expunge.evals.results import Results
from expunge.models.license import License
from expunge.utils.file_names import FACTS, RESULTS
from expunge.utils.io import read_json, write_json

Parameter = bool | int | float | str | None
"""A value that a method's parameter can take in TOML."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodFacts:
    """Which method ran, with which parameters, and what to know about it."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: str
    parameters: dict[str, Parameter] = field(default_factory=dict[str, Parameter])
    advice: str = ""
    """One line: what the method is good for, and what it is not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanFacts:
    """What the planner promised before any weight moved."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    tokens: int
    flops: float
    peak_gib: float
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class CurvePoint:
    """One optimiser step: losses in nats, norm of the gradient before clipping, learning rate."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    step: int
    forget: float | None
    retain: float | None
    grad_norm: float | None
    lr: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainFacts:
    """What the training did; `stopped` says in words why it ended."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    steps: int
    seconds: float
    tokens: int
    stopped: str
    curve: tuple[CurvePoint, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class StageFacts:
    """What one stage of a chain did, and the digest of the weights that it left."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    method: MethodFacts
    steps: int
    seconds: float
    stopped: str
    weights: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFacts:
    """What a run did, on what, at what cost; holds no text of any record.

    `method` and `train` of a chain sum up its stages; they and `plan` are None for a run that only
    audited a model.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    model: str
    """Hub id with revision, or the folder, of the original."""
    device: str
    precision: str
    method: MethodFacts | None = None
    plan: PlanFacts | None = None
    train: TrainFacts | None = None
    stages: tuple[StageFacts, ...] = ()
    """Of a chain, in order; empty for a run of one method."""
    audit_seconds: float
    peak_gib: float
    versions: dict[str, str]
    """Package name to version; holds at least `expunge`."""
    command: str
    exact: str = ""
    """Claim class of a training that was repeated without the records: `E4` (byte for byte) or
    `E3` (by isolation); empty where tests alone speak."""
    created: str
    """When the run began, ISO 8601 with offset."""
    signer: str = ""
    """Fingerprint of the key that signs the run; empty: nobody signs it."""
    license: License = field(default_factory=License)
    """Of the base, or that of the settings."""
    datasets: tuple[str, ...] = ()
    """Data sets of the Hub among the records of the request; files of this machine have no name."""

    @property
    def steps(self) -> int:
        """Steps that were trained; 0 of an edit, a guard or an audit."""
        return 0 if self.train is None else self.train.steps


_facts_adapter = TypeAdapter(RunFacts)


def facts_to_json(facts: RunFacts) -> dict[str, Any]:
    """Turn the facts of a run into plain JSON values."""
    return _facts_adapter.dump_python(facts, mode="json")


def facts_from_json(value: object) -> RunFacts:
    """Read the facts of a run from JSON values.

    Raises:
        InputError: A field is missing, unknown or of the wrong type; the message names it.
    """
    try:
        return _facts_adapter.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InputError(
            "malformed-facts",
            what=f"facts.json: {where}: {first['msg'].lower()}",
            why="the report says what the run did from this file alone",
            fix="run the same command again: it resumes and writes the file anew",
        ) from None


def write_facts(run: Path, facts: RunFacts) -> Path:
    """Write `facts.json` into the run folder and return its path."""
    path = run / FACTS
    write_json(path, facts_to_json(facts))
    return path


def read_facts(run: Path) -> RunFacts:
    """Read `facts.json` of a run folder.

    Raises:
        InputError: A field is missing, unknown or of the wrong type.
    """
    return facts_from_json(read_json(run / FACTS))


SCHEMA = "expunge.results/1"
"""Name and version of the layout of `results.json`."""

_results_adapter = TypeAdapter(Results)


def results_to_json(results: Results) -> dict[str, Any]:
    """Turn results into plain JSON values, with the version of the layout under `schema`.

    Floats keep every digit: `results_from_json(results_to_json(r)) == r`.
    """
    return {"schema": SCHEMA, **_results_adapter.dump_python(results, mode="json")}


def results_from_json(value: object) -> Results:
    """Read results from JSON values.

    Raises:
        InputError: The layout is of another version, or a field is missing or malformed.
    """
    fields: dict[str, Any] = dict(value) if isinstance(value, dict) else {}
    schema = fields.pop("schema", None)
    if schema != SCHEMA:
        raise InputError(
            "results-schema",
            what=f"results.json has schema {schema!r}; this version reads {SCHEMA!r}",
            why="numbers of another layout could be taken for something else",
            fix="run `expunge audit` again with this version, or use the version that wrote it",
        )
    try:
        return _results_adapter.validate_python(fields)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(
            "malformed-results",
            what=f"results.json: {where}: {first['msg'].lower()}",
            why="the file was changed or cut short after it was written",
            fix="run `expunge audit` again: it recomputes the file from the evidence",
        ) from None


def write_results(run: Path, results: Results) -> Path:
    """Write `results.json` into the run folder and return its path."""
    path = run / RESULTS
    write_json(path, results_to_json(results))
    return path


def read_results(run: Path) -> Results:
    """Read `results.json` of a run folder.

    Raises:
        InputError: There is none, its layout is of another version, or a field is malformed.
    """
    path = run / RESULTS
    if not path.is_file():
        raise InputError(
            "no-results",
            what=f"{run} has no {RESULTS}",
            why="it is no run folder, or its run has not ended",
            fix="name a finished run; the command that began a run goes on where it stopped",
        )
    return results_from_json(read_json(path))
