"""What a chain has done: one signed file in its folder, written whole after every request."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from expunge.errors import InputError, UsageError
from expunge.evals.rebound import Drift, FactKey, FactReading, Rebound
from expunge.models.loading import Loaded
from expunge.provenance.signature import SigningKey, is_signed, key_fingerprint
from expunge.utils.io import read_table, sha256_json, write_json

STATE, RUNS = "chain.json", "runs"
_SCHEMA = "expunge.chain/1"

StepKind = Literal["trained", "batched", "re-verified", "not-known"]
"""`batched`: trained by the run of an earlier request of its batch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepCost:
    """What a request cost.

    Example:
        >>> StepCost(train_seconds=60.0, audit_seconds=30.0, asked_seconds=5.0, tokens=9000).seconds
        95.0
    """

    train_seconds: float = 0.0
    audit_seconds: float = 0.0
    asked_seconds: float
    """Of asking earlier requests again."""
    tokens: int = 0
    """Seen by the training."""

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.train_seconds + self.audit_seconds + self.asked_seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class ChainStep:
    """One request that was worked on.

    Example:
        >>> ChainStep(
        ...     number=1, request="a", kind="trained", run="0001-ab", model="cd" * 32,
        ...     verdict="PASS", records=("ef" * 16,), expires="2027-01-31",
        ...     cost=StepCost(asked_seconds=1.0),
        ... ).copies
        ()
    """  # fmt: skip

    number: int
    request: str
    """Its id in the queue."""
    kind: StepKind
    run: str
    """Folder of its run, in `runs`; empty: nothing was trained."""
    model: str
    """Digest of the weights after it."""
    verdict: str
    """Ruling of its run; empty: nothing was trained."""
    records: tuple[str, ...]
    """Keyed fingerprints of its forget records."""
    expires: str
    """Day from which its probes are destroyed, ISO 8601."""
    cost: StepCost
    together: tuple[str, ...] = ()
    """Keyed fingerprints of the forget records of all requests that its run trained; of a batch."""
    copies: tuple[int, ...] = ()
    """Numbers of the earlier requests that its records nearly repeat."""
    first: tuple[FactReading, ...] = ()
    """What the first original says of its facts."""
    facts: tuple[FactReading, ...] = ()
    """What the model after it says: of its own facts, and of those asked again."""
    controls: tuple[float, ...] = ()
    """Mean log-probabilities of the control records, nats."""
    kept: tuple[float, ...] = ()
    """Mean negative log-probabilities of the retained probes, nats."""
    rebounds: tuple[Rebound, ...] = ()
    drift: Drift | None = None
    within: int = 0
    """Every earlier fact is asked at least once in so many requests."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rollback:
    """A return to an earlier model.

    Example:
        >>> Rollback(to=1, undone=("b", "c"), when="2026-01-31T00:00:00+00:00").to
        1
    """

    to: int
    undone: tuple[str, ...]
    """Ids of the requests that are open again."""
    when: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ChainState:
    """All that a chain has done.

    Example:
        >>> ChainState(original="org/model", digest="ab" * 32, precision="float32").steps
        ()
    """

    original: str
    """Reference of the first original."""
    digest: str
    """Of its weights."""
    precision: str
    """Number format in which models are loaded."""
    controls: tuple[float, ...] = ()
    kept: tuple[float, ...] = ()
    """What it says of control records and retained probes."""
    steps: tuple[ChainStep, ...] = ()
    rollbacks: tuple[Rollback, ...] = ()
    signer: str = field(default="", compare=False)
    """Fingerprint of the key that signed the file; empty: nobody did."""

    def erased(self) -> dict[FactKey, FactReading]:
        """Return what was said of each fact right after its own request."""
        return {
            each.key: each
            for step in self.steps
            for each in step.facts
            if each.request == step.number
        }

    def first(self) -> dict[FactKey, FactReading]:
        """Return what the first original says of each fact."""
        return {each.key: each for step in self.steps for each in step.first}

    @property
    def model(self) -> str:
        """Digest of the last model."""
        return self.steps[-1].model if self.steps else self.digest

    def last_asked(self) -> Mapping[FactKey, int]:
        """Return the number of the request after which each fact was asked last."""
        return {each.key: step.number for step in self.steps for each in step.facts}


_adapter = TypeAdapter(ChainState)


@dataclass(frozen=True, kw_only=True, slots=True)
class ChainOutcome:
    """A chain that holds.

    Example:
        >>> state = ChainState(original="org/model", digest="ab" * 32, precision="float32")
        >>> ChainOutcome(folder=Path("chain"), state=state, model="org/model").state.steps
        ()
    """

    folder: Path
    state: ChainState
    model: str
    """Reference of the last model."""


def write_state(folder: Path, state: ChainState, signing: SigningKey | None) -> None:
    """Write the state of a chain, atomically, with its digest and its signature.

    Args:
        folder: The folder of the chain.
        state: What was done.
        signing: The key that signs; None: nobody does.
    """
    whole = {"schema": _SCHEMA, **_adapter.dump_python(state, mode="json", exclude={"signer"})}
    digest = sha256_json(whole)
    signed = {}
    if signing is not None:
        signature = signing.sign(digest.encode()).hex()
        signed = {"public_key": signing.public.hex(), "signature": signature}
    write_json(folder / STATE, {**whole, "sha256": digest, "signed": signed})


def read_state(folder: Path) -> ChainState | None:
    """Read the state of a chain; None where none has begun in the folder.

    Raises:
        InputError: `chain-changed`: the file is not what a chain wrote.
    """
    path = folder / STATE
    if not path.is_file():
        return None
    row = read_table(path)
    digest, signed = row.pop("sha256", ""), row.pop("signed", {})
    if row.pop("schema", "") != _SCHEMA or digest != sha256_json({"schema": _SCHEMA, **row}):
        raise _changed(path, "its own digest or its schema does not match")
    try:
        state = _adapter.validate_python(row)
        public = bytes.fromhex(signed["public_key"]) if signed else b""
        signature = bytes.fromhex(signed["signature"]) if signed else b""
    except (ValidationError, KeyError, TypeError, ValueError):
        raise _changed(path, "a field is wrong or missing") from None
    if public and not is_signed(public, signature, str(digest).encode()):
        raise _changed(path, "its signature is that of another state")
    return replace(state, signer=key_fingerprint(public) if public else "")


def _changed(path: Path, what: str) -> InputError:
    return InputError(
        "chain-changed",
        what=f"{path}: {what}",
        why="what a chain did is taken from this file, and from nowhere else",
        fix="restore it from a copy; the run folders beside it are whole by themselves",
    )


def is_expired(step: ChainStep, today: date) -> bool:
    """Tell whether the probes of a request are to be destroyed.

    Example:
        >>> cost = StepCost(asked_seconds=1.0)
        >>> step = ChainStep(number=1, request="a", kind="trained", run="", model="", verdict="",
        ...                  records=(), expires="2027-01-31", cost=cost)
        >>> is_expired(step, date(2027, 1, 30)), is_expired(step, date(2027, 1, 31))
        (False, True)
    """  # fmt: skip
    return today >= date.fromisoformat(step.expires)


def require_state(folder: Path) -> ChainState:
    """Return the state of a chain that has begun.

    Raises:
        UsageError: `no-chain`: there is none in the folder.
        InputError: As `read_state`.
    """
    state = read_state(folder)
    if state is None:
        raise UsageError(
            "no-chain",
            what=f"{folder} is not the folder of a chain",
            why=f"it holds no {STATE}, which `expunge chain` writes",
            fix="name the folder that expunge chain printed",
        )
    return state


def model_of(folder: Path, state: ChainState) -> str:
    """Return the reference of the last model of a chain."""
    runs = [step.run for step in state.steps if step.run]
    return str(folder / RUNS / runs[-1]) if runs else state.original


def require_digest(model: str, loaded: Loaded, digest: str) -> None:
    """Refuse a model whose weights are not those that a chain left.

    Raises:
        InputError: `chain-model-changed`.
    """
    if loaded.digest != digest:
        raise InputError(
            "chain-model-changed",
            what=f"the weights in {model} are not those that the chain left there",
            why=f"their digest is {loaded.digest[:16]}, and was {digest[:16]}",
            fix="restore the folder from a copy, or roll back to an earlier request",
        )
