"""Training by several processes, started by torchrun: who takes what, and what is added up.

Every process runs the same steps on its share of each step's records. Sums over records are divided
by the counts of the whole step before they are added up, so loss and gradient are those of one
process, up to the order in which floats are added.

What is trained on a copy of the whole model (adapters, chosen matrices) has its gradients added up
here. All weights are spread over the processes by PyTorch's FSDP2 (`parallel_weights`).
"""

import json
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous
from torch.distributed.tensor import DTensor

from expunge.errors import ResourceError, UsageError
from expunge.models.batching import evenly

T = TypeVar("T")

JOIN = timedelta(minutes=5)
"""How long the processes wait for each other at the start."""
STALL = timedelta(hours=1)
"""How long a process that trains waits for another; one that takes longer hangs."""
_AUDIT = timedelta(days=7)
"""How long the others wait while the first one audits alone."""
_BUCKET = 1 << 25
"""Scalars that are added up in one message."""
_LOST = (
    "timed out",
    "connection closed",
    "connection reset",
    "broken pipe",
    "remote process exited",
)


class Cut(NamedTuple):
    """One micro-batch of one process."""

    indices: list[int]
    real: bool
    """False: run it to keep step with the others, and count it as nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """The part of each step's records that one process takes."""

    rank: int = 0
    size: int = 1
    even: bool = False
    """Whether all processes must run the same number of forward passes."""

    def cut(self, lengths: Sequence[int], *, tokens: int) -> Iterator[Cut]:
        """Yield the micro-batches of this process; those of all processes hold each record once.

        Records are dealt out in the order of their lengths, so that shares are alike, and each
        share is cut into batches as `batch.evenly` does.

        Args:
            lengths: Padded length of every record of the step.
            tokens: Largest number of padded tokens in one micro-batch.
        """
        own = self._batches(self.rank, lengths, tokens)
        yield from (Cut(indices, True) for indices in own)
        if self.even and lengths:
            most = max(len(self._batches(rank, lengths, tokens)) for rank in range(self.size))
            shortest = min(range(len(lengths)), key=lambda index: (lengths[index], index))
            yield from (Cut([shortest], False) for _ in range(most - len(own)))

    def _batches(self, rank: int, lengths: Sequence[int], tokens: int) -> list[list[int]]:
        order = sorted(range(len(lengths)), key=lambda index: (lengths[index], index))
        dealt = sorted(order[rank :: self.size])
        groups = evenly([lengths[index] for index in dealt], tokens=tokens)
        return [[dealt[place] for place in group] for group in groups]


WHOLE = Share()


class Root(nn.Module):
    """Runs any computation as the forward pass of a model whose weights are spread.

    FSDP2 gathers the weights that lie outside the blocks, embeddings, last norm and head, for as
    long as the forward of the outermost module runs. Trunk and head are called one by one and in
    parts here, so the outermost module is this one, and its forward is a whole micro-batch.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, compute: Callable[[], T]) -> T:
        """Return what `compute` returns."""
        return compute()


@dataclass(frozen=True, kw_only=True, slots=True)
class Team:
    """The processes of one run, as one of them sees them. The default is a process alone."""

    rank: int = 0
    size: int = 1
    root: Root | None = None
    """Set where the weights are spread."""
    patient: dist.ProcessGroup | None = None
    """The same processes, where they wait for the first one's word."""

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes, prints and audits."""
        return self.rank == 0

    @property
    def share(self) -> Share:
        """What this process takes of each step."""
        return Share(rank=self.rank, size=self.size, even=self.root is not None)

    def within(self, compute: Callable[[], T]) -> T:
        """Compute something with the model, all of whose weights it finds in place."""
        return compute() if self.root is None else self.root(compute)

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a loss to that of the weights.

        FSDP2 returns the mean over processes; the step wants the sum.
        """
        (loss if self.root is None else self.size * loss).backward()

    def gathered(self, value: T, *, patiently: bool = False) -> list[T]:
        """Return the JSON values of all processes, in the order of their ranks.

        Args:
            value: Of this process.
            patiently: Wait for the others for days instead of `STALL`.
        """
        if self.size == 1:
            return [value]
        group = self.patient if patiently else None
        own = torch.tensor(list(json.dumps(value).encode()), dtype=torch.uint8)
        sizes = [torch.zeros(1, dtype=torch.long) for _ in range(self.size)]
        dist.all_gather(sizes, torch.tensor([len(own)]), group=group)
        longest = max(int(size) for size in sizes)
        texts = [torch.zeros(longest, dtype=torch.uint8) for _ in range(self.size)]
        padded = torch.cat([own, own.new_zeros(longest - len(own))])
        dist.all_gather(texts, padded, group=group)
        pairs = zip(texts, sizes, strict=True)
        return [json.loads(bytes(text[: int(size)].tolist())) for text, size in pairs]

    def agreed(self, value: T) -> T:
        """Return the JSON value of the first process: what it saw, all see."""
        return self.gathered(value)[0]

    def told(self, value: T) -> T:
        """Return the JSON value of the first process, however long it takes until it speaks."""
        return self.gathered(value, patiently=True)[0]

    def added_up(
        self,
        gradient: dict[str, Tensor],
        values: Mapping[str, float],
        masters: Mapping[str, Tensor],
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Return gradient and values of the terms, summed over all processes.

        Args:
            gradient: Of this process's records, by name; may be changed.
            values: Share of this process in the value of each term.
            masters: All trained weights, in the same order everywhere.
        """
        if self.size == 1:
            return gradient, dict(values)
        has = "".join("01"[name in gradient] for name in masters)
        told = self.gathered((dict(values), has))
        total: dict[str, float] = {}
        for shares, _ in told:
            for name, value in shares.items():
                total[name] = total.get(name, 0.0) + value
        if self.root is not None:
            return gradient, total
        flags = zip(*(own for _, own in told), strict=True)
        anywhere = ["1" in flag for flag in flags]
        wanted = [name for name, found in zip(masters, anywhere, strict=True) if found]
        summed = {
            name: gradient[name] if name in gradient else torch.zeros_like(masters[name].detach())
            for name in wanted
        }
        for bucket in _buckets(list(summed.values())):
            _sum_over_processes(bucket)
        return summed, total

    @torch.no_grad()
    def align(self, tensors: Iterable[Tensor]) -> None:
        """Give all processes the first one's values, in place."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor.detach(), src=0)

    def wait(self) -> None:
        """Return once all processes have come here."""
        self.gathered(None)


SOLO = Team()


@contextmanager
def joined(device: torch.device) -> Generator[Team]:
    """Meet the other processes that torchrun has started, if any; part from them at the end.

    Args:
        device: Where to compute; of several graphics cards each process of a machine takes its own.

    Raises:
        UsageError: The variables of torchrun are incomplete or do not suit the device.
        ResourceError: One of the others ended before its time, or did not come to where all meet
            within `STALL`.
    """
    size = _number("WORLD_SIZE", 1)
    if size == 1:
        yield SOLO
        return
    if device.type == "cuda":
        _take_card(_number("LOCAL_RANK", 0))
    elif device.type != "cpu":
        raise _cannot_join(f"several processes cannot share a device of type {device.type}")
    try:
        store, rank, _ = next(rendezvous("env://", timeout=JOIN))
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=STALL)
        patient = dist.new_group(backend="gloo", timeout=_AUDIT)
        assert isinstance(patient, dist.ProcessGroup), "this process is of the group"
    except (ValueError, RuntimeError) as error:  # torch's own errors are RuntimeErrors
        raise _cannot_join(str(error).splitlines()[0][:200]) from error
    try:
        yield Team(rank=rank, size=size, patient=patient)
    except RuntimeError as error:
        if any(sign in str(error).lower() for sign in _LOST):
            raise _lost() from error
        raise
    dist.destroy_process_group()


def whole(tensor: Tensor) -> Tensor:
    """Return all of a tensor, of which this process may hold a part; all must ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _take_card(place: int) -> None:
    count = torch.cuda.device_count()
    if place >= count:
        raise _cannot_join(f"this machine has {count} graphics cards, and this is process {place}")
    torch.cuda.set_device(place)


def _number(variable: str, default: int) -> int:
    text = os.environ.get(variable, str(default))
    if not text.isdecimal() or int(text) >= 2**31:
        raise _cannot_join(f"{variable} is {text!r}, not a number")
    return int(text)


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    for tensor in tensors:
        if bucket and sum(held.numel() for held in bucket) + tensor.numel() > _BUCKET:
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket


def _sum_over_processes(tensors: list[Tensor]) -> None:
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


def _cannot_join(why: str) -> UsageError:
    return UsageError(
        "cannot-join",
        what="the processes of this run could not find each other",
        why=why,
        fix="start it with torchrun --nproc-per-node N -m expunge ..., or unset WORLD_SIZE",
    )


def _lost() -> ResourceError:
    return ResourceError(
        "process-ended",
        what="another process of this run has ended, or answers no more",
        why="what it said stands above; the processes of a run can only go on together",
        fix="run the same command again, with any number of processes: it resumes",
    )
