"""Checkpoints: whole or absent, enough to go on bit for bit, safetensors only.

A process alone writes one file. Where weights are spread, every process writes its part of them to
a file of its own, `last.TAG.1-of-2.safetensors`; then the first process writes `last.safetensors`
with its own part and the names of the others. That file is what makes the checkpoint: until it
stands, the one before it does, with the parts that it names.

Each part says which rows of which tensor it holds, so any number of processes can read what any
other number wrote.
"""

import json
import secrets
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.distributed.tensor import DTensor

from expunge.errors import ExpungeError, InputError, is_out_of_memory
from expunge.models.saving import write_tensors
from expunge.training.distributed import Team
from expunge.training.trainable_weights import TrainableWeights


class _Rows(NamedTuple):
    """Rows `start` to `stop` of a tensor with `length` rows."""

    start: int
    stop: int
    length: int


def save(
    path: Path,
    weights: TrainableWeights,
    optimiser: torch.optim.Optimizer,
    memory: Mapping[str, Tensor],
    state: object,
    team: Team,
) -> None:
    """Write masters, optimiser moments, memory and `state` (JSON values) to `path`, atomically.

    All processes of a team must call this together, with a `path` that all of them can read.
    """
    tensors = _masters(weights)
    for name, master in weights.masters.items():
        for key, value in optimiser.state[master].items():
            tensors[f"moment:{key}/{name}"] = value
    tensors |= {f"memory/{name}": value for name, value in memory.items()}
    _keep(path, tensors, state, team)


def save_weights(path: Path, weights: TrainableWeights, team: Team) -> None:
    """Write only the masters, for `load_weights`; else as `save`."""
    _keep(path, _masters(weights), None, team)


def _masters(weights: TrainableWeights) -> dict[str, Tensor]:
    return {f"weight/{name}": master.detach() for name, master in weights.masters.items()}


def _keep(path: Path, tensors: Mapping[str, Tensor], state: object, team: Team) -> None:
    own = {n: t for n, t in tensors.items() if team.leads or isinstance(t, DTensor)}
    rows = {name: _rows(tensor) for name, tensor in own.items() if isinstance(tensor, DTensor)}
    local = {n: t.to_local() if isinstance(t, DTensor) else t for n, t in own.items()}
    spread = team.root is not None
    tag = team.agreed(secrets.token_hex(4)) if spread else ""
    names = [_part_of(path, tag, rank, team.size) for rank in range(1, team.size if spread else 1)]
    if not team.leads and spread:
        write_tensors(path.with_name(names[team.rank - 1]), local, {"rows": json.dumps(rows)})
    team.wait()
    if team.leads:
        about = {"state": json.dumps(state)}
        if spread:
            about |= {"rows": json.dumps(rows), "parts": json.dumps(names)}
        write_tensors(path, local, about)
        for old in path.parent.glob(f"{path.stem}.*-of-*{path.suffix}"):
            if old.name not in names:
                old.unlink()
    team.wait()


def load(
    path: Path,
    weights: TrainableWeights,
    optimiser: torch.optim.Optimizer,
    memory: dict[str, Tensor],
) -> dict[str, Any]:
    """Set masters, model, moments and memory to those of `path`; return what `save` was told.

    Raises:
        InputError: `damaged-checkpoint`.
    """
    with readable(path):
        saved = _Saved(path)
        masters = weights.masters
        weights.restore({name: saved.like(f"weight/{name}", m) for name, m in masters.items()})
        for full in saved.names:
            kind, _, name = full.partition("/")
            if kind.startswith("moment:"):
                master, key = masters[name], kind.removeprefix("moment:")
                optimiser.state[master][key] = _moment(saved, full, master, key)
            elif kind == "memory":
                memory[name] = _remembered(saved, full, masters)
        return saved.state


def load_weights(path: Path, weights: TrainableWeights) -> dict[str, Tensor]:
    """Read only the masters of a checkpoint, each spread as it is in `weights`.

    Raises:
        InputError: `damaged-checkpoint`.
    """
    with readable(path):
        saved = _Saved(path)
        return {name: saved.like(f"weight/{name}", m) for name, m in weights.masters.items()}


@contextmanager
def readable(path: Path) -> Generator[None]:
    """Say which checkpoint is damaged where the block cannot read it.

    Raises:
        InputError: `damaged-checkpoint`.
    """
    try:
        yield
    except (SafetensorError, LookupError, TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, ExpungeError) or is_out_of_memory(error):
            raise
        raise InputError(
            "damaged-checkpoint",
            what=f"{path} is not what a training of this run wrote",
            why=f"it was cut short or changed ({type(error).__name__})",
            fix=f"remove the folder {path.parent}: the same command begins the training again",
        ) from error


class _Saved:
    """Reads a checkpoint, however many files it has."""

    def __init__(self, path: Path) -> None:
        with safe_open(str(path), framework="pt") as file:
            about: dict[str, str] = file.metadata()
        self.state: dict[str, Any] = json.loads(about["state"])
        others = json.loads(about.get("parts", "[]"))
        self._holders: dict[str, list[tuple[Path, _Rows | None]]] = {}
        for part in (path, *(path.with_name(name) for name in others)):
            with safe_open(str(part), framework="pt") as file:
                rows = json.loads(file.metadata().get("rows", "{}"))
                for name in file.keys():  # noqa: SIM118 - no iterator
                    held = _Rows(*rows[name]) if name in rows else None
                    self._holders.setdefault(name, []).append((part, held))

    @property
    def names(self) -> Iterator[str]:
        """Names of all tensors."""
        yield from self._holders

    def like(self, name: str, model: Tensor) -> Tensor:
        """Read a tensor onto the device of `model`, and of its rows those that `model` holds."""
        holders = self._holders[name]
        if not isinstance(model, DTensor):
            return self._read(name, holders, None).to(model.device)
        local = self._read(name, holders, _rows(model)).to(model.device)
        shape = torch.Size((model.shape[0], *local.shape[1:]))
        return DTensor.from_local(
            local,
            model.device_mesh,
            model.placements,
            run_check=False,
            shape=shape,
            stride=torch.empty(shape, device="meta").stride(),
        )

    def plain(self, name: str) -> Tensor:
        """Read all of a tensor."""
        return self._read(name, self._holders[name], None)

    def _read(
        self, name: str, holders: Sequence[tuple[Path, _Rows | None]], wanted: _Rows | None
    ) -> Tensor:
        pieces: list[Tensor] = []
        for path, held in holders:
            with safe_open(str(path), framework="pt") as file:
                if held is None and wanted is None:
                    return file.get_tensor(name)
                tensor = file.get_slice(name)
                first, count = 0 if held is None else held.start, tensor.get_shape()[0]
                start = 0 if wanted is None else min(max(wanted.start - first, 0), count)
                stop = count if wanted is None else min(max(wanted.stop - first, 0), count)
                pieces.append(tensor[start:stop])
        return torch.cat(pieces)


def _moment(saved: _Saved, full: str, master: Tensor, key: str) -> Tensor:
    if key == "step":
        return saved.plain(full).to(master.device if master.is_cuda else "cpu")
    return saved.like(full, master)


def _remembered(saved: _Saved, full: str, masters: Mapping[str, Tensor]) -> Tensor:
    """Read what a wrapper keeps: `memory/.../weight` is spread as the weight is."""
    weight = masters.get(full.rpartition("/")[2])
    if weight is None:
        return saved.plain(full).to(next(iter(masters.values())).device)
    return saved.like(full, weight)


def _part_of(path: Path, tag: str, rank: int, size: int) -> str:
    return f"{path.stem}.{tag}.{rank}-of-{size}{path.suffix}"


def _rows(tensor: DTensor) -> _Rows:
    """Return the rows that this process holds: as many each as the first, the last ones fewer."""
    size, rank = tensor.device_mesh.size(), tensor.device_mesh.get_local_rank()
    length = tensor.shape[0]
    each = -(-length // size)
    start = min(rank * each, length)
    stop = min(start + each, length)
    if tensor.to_local().shape[0] != stop - start:
        raise AssertionError("the rows of a weight are not dealt out in equal parts")
    return _Rows(start, stop, length)
