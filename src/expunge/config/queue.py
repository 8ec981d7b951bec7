"""The queue of a chain of requests: one TOML file, read into settings for each request.

model = "org/original"            every key of a request file, for all requests
[request]
goal = "removal"
retain = ["keep.jsonl"]
[chain]                           how earlier requests are asked again
facts = 40
[[queue]]                         one table a request, in order
id = "ticket-117"
forget = ["117.jsonl"]
batch = "week-12"                 neighbouring requests of one batch share one training run
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from expunge.config.request import Goal
from expunge.config.resolve import beside, parsed, resolve
from expunge.config.settings import Settings
from expunge.errors import UsageError
from expunge.utils.io import AnyPath

_CHAIN, _QUEUE = "chain", "queue"


class ChainSettings(BaseModel):
    """How earlier requests are asked again (`[chain]`).

    Example:
        >>> ChainSettings().facts
        40
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    facts: int = Field(
        default=40, ge=1, description="facts of earlier requests that are asked after each request"
    )
    loss_per_request: float = Field(
        default=0.01,
        gt=0,
        lt=1,
        description="tolerated rise of the perplexity on retained text by one request",
    )
    loss: float = Field(
        default=0.10,
        gt=0,
        lt=1,
        description="tolerated rise of that perplexity against the first original",
    )


class QueuedRequest(BaseModel):
    """One request of a queue (`[[queue]]`); what it leaves out is that of `[request]`.

    Example:
        >>> QueuedRequest(id="ticket-117", forget=("117.jsonl",)).retain is None
        True
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(min_length=1, description="name of the request; unique in the queue")
    forget: tuple[str, ...] = Field(min_length=1, description="data to forget")
    goal: Goal | None = Field(default=None, description="removal, suppression or edit")
    retain: tuple[str, ...] | Literal["auto", "none"] | None = Field(
        default=None, description="data to keep"
    )
    neighbours: tuple[str, ...] | None = Field(default=None, description="near, must survive")
    batch: str = Field(
        default="", description="neighbouring requests of one batch share one training run"
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Queue:
    """A queue as it was read.

    Example:
        >>> Queue(path=Path("queue.toml"), chain=ChainSettings(), requests=()).requests
        ()
    """

    path: Path
    chain: ChainSettings
    requests: tuple[Settings, ...]
    """The settings of each request on the first original, in order."""
    batches: tuple[str, ...] = ()
    """The batch of each request, empty: none; without any where no request has one."""

    def together(self, place: int) -> range:
        """Return the places of the requests, from this one on, that share its training run.

        Args:
            place: Of a request, from 0.

        Example:
            >>> queue = Queue(
            ...     path=Path("q"), chain=ChainSettings(), requests=(), batches=("a", "a", "")
            ... )
            >>> list(queue.together(0)), list(queue.together(1)), list(queue.together(2))
            ([0, 1], [1], [2])
        """
        end = place + 1
        if self.batches and self.batches[place]:
            while end < len(self.batches) and self.batches[end] == self.batches[place]:
                end += 1
        return range(place, end)


def read_queue(path: AnyPath, *, environ: Mapping[str, str], offline: bool = False) -> Queue:
    """Read a queue file; relative paths that exist beside it are taken from there.

    Args:
        path: The TOML file.
        environ: The environment variables: those of settings hold for all requests.
        offline: Never use the network.

    Raises:
        UsageError: `no-queue`, `request-twice`, `invalid-queue`, or as `resolve`.

    Example:
        >>> read_queue(Path("no-such-queue.toml"), environ={})
        Traceback (most recent call last):
            ...
        expunge.errors.UsageError: error[config-missing]: cannot read no-such-queue.toml...
    """
    path = Path(path)
    table = parsed(path)
    chain = _chain(table.get(_CHAIN, {}), path)
    rows = table.get(_QUEUE)
    if not isinstance(rows, list) or not rows:
        raise no_queue(path)
    queued = [_queued(row, number, path) for number, row in enumerate(rows, 1)]
    _require_unique(queued, path)
    _require_batches(queued, path)
    requests = tuple(_settings(each, path, environ, offline=offline) for each in queued)
    batches = tuple(each.batch for each in queued)
    return Queue(path=path, chain=chain, requests=requests, batches=batches if any(batches) else ())


def no_queue(path: Path) -> UsageError:
    """Return the error of a queue without requests."""
    return UsageError(
        "no-queue",
        what=f"{path} queues no request",
        why="a chain works on its [[queue]] tables in order",
        fix='add a table [[queue]] with id = "..." and forget = ["..."] for each request',
    )


def _chain(row: object, path: Path) -> ChainSettings:
    try:
        return ChainSettings.model_validate(row)
    except ValidationError as error:
        raise _invalid(error, f"[{_CHAIN}]", path, ChainSettings) from None


def _queued(row: object, number: int, path: Path) -> QueuedRequest:
    try:
        return QueuedRequest.model_validate(row)
    except ValidationError as error:
        raise _invalid(error, f"[[{_QUEUE}]] number {number}", path, QueuedRequest) from None


def _invalid(error: ValidationError, table: str, path: Path, kind: type[BaseModel]) -> UsageError:
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0]) if first["loc"] else table
    message = first["msg"]
    return UsageError(
        "invalid-queue",
        what=f"{path}, {table}: `{name}` is not allowed, or missing",
        why=message[0].lower() + message[1:],
        fix=f"its keys are {', '.join(kind.model_fields)}",
    )


def _require_unique(queued: list[QueuedRequest], path: Path) -> None:
    places: dict[str, int] = {}
    for number, each in enumerate(queued, 1):
        if each.id in places:
            raise UsageError(
                "request-twice",
                what=f"{path}: requests {places[each.id]} and {number} have the id {each.id!r}",
                why="a request that comes back is named by its id",
                fix="give each request an id of its own; a repeated request is recognised by its"
                " records",
            )
        places[each.id] = number


def _require_batches(queued: list[QueuedRequest], path: Path) -> None:
    """Refuse a batch that other requests interrupt, or whose requests differ in more than data."""
    for place, each in enumerate(queued):
        first = next(p for p, other in enumerate(queued) if other.batch == each.batch)
        if not each.batch or first == place:
            continue
        mine, theirs = (q.model_dump(exclude={"id", "forget"}) for q in (each, queued[first]))
        if mine != theirs or queued[place - 1].batch != each.batch:
            raise UsageError(
                "batch-differs",
                what=f"{path}: {each.id!r} cannot be of batch {each.batch!r} with"
                f" {queued[first].id!r}",
                why="one run has one goal, one retain and one neighbours"
                if mine != theirs
                else "another request stands between them",
                fix="give it a batch of its own, or place it beside the others",
            )


def _settings(
    queued: QueuedRequest, path: Path, environ: Mapping[str, str], *, offline: bool
) -> Settings:
    """Return the settings of one request, laid over those of the file."""
    given = queued.model_dump(mode="json", exclude_none=True)
    flags: dict[str, object] = {
        f"request.{key}": beside(path.parent, value)
        for key, value in given.items()
        if key not in ("id", "batch")
    }
    if offline:
        flags["offline"] = True
    found = resolve(
        {**flags, "request.id": queued.id},
        config=path,
        environ=environ,
        start=Path.cwd(),
        leave=frozenset({_CHAIN, _QUEUE}),
    )
    return found.settings
