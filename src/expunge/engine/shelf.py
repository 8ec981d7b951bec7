"""The shelf: what an original says of records, kept on disk and found again by content.

A shelf belongs to one model: its weights, its configuration, the number format and the kind of
device. What lies on it is found by the tokens of a record and where scoring starts, so that runs
and trials of a search that start from the same model compute a reference once, whatever else
differs between them. Another model, or another record, never hits.

A part is two files: rows of numbers end to end, memory-mapped, and an index that says whose they
are. The index is written last and whole, once the rows are on the disk, so a process that is killed
or a loss of power leaves nothing that counts, and several processes may keep at the same time.
Hidden states can be turned back into text: a shelf holds personal data, as evidence does.
"""

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import mkstemp

import torch
import transformers
from torch import Tensor

from expunge.data.encode import Encoded
from expunge.files import allocate, private, read_json, sha256_json, synced, write_json
from expunge.model.load import digest_of
from expunge.model.network import Network

Key = tuple[tuple[int, ...], int]
_DTYPES = {str(dtype): dtype for dtype in (torch.float32, torch.bfloat16, torch.float16)}
_NOT_CONTENT = ("_name_or_path", "transformers_version")


def key(record: Encoded) -> Key:
    """Return what identifies a record's values: its tokens and where scoring starts."""
    return (record.ids, record.start)


@dataclass(frozen=True, kw_only=True, slots=True)
class Shelf:
    """A folder of values that one model gave."""

    folder: Path

    @classmethod
    def of(cls, store: Path, network: Network) -> "Shelf":
        """Return the shelf of a model, as its weights are now, in a store for many."""
        config = network.model.config.to_dict()
        known = {
            "weights": digest_of(network),
            "config": {n: repr(value) for n, value in config.items() if n not in _NOT_CONTENT},
            "dtype": str(network.model.dtype),
            "device": network.device.type,
            "versions": [torch.__version__, transformers.__version__],
        }
        return cls(folder=store / sha256_json(known)[:16])

    def find(self, kind: str, records: Sequence[Encoded]) -> dict[Key, Tensor]:
        """Return what is kept of these records, [rows, width] each, memory-mapped and read-only.

        Args:
            kind: What is kept: `logp`, `below-20`, ...
            records: Those of interest.
        """
        wanted = {_digest(key(record)): key(record) for record in records}
        found: dict[Key, Tensor] = {}
        for index in sorted((self.folder / kind).glob("*.json")):
            about = read_json(index)
            here = [name for name in about["records"] if name in wanted]
            if here:
                rows = _mapped(index.with_suffix(".bin"), about, shared=False)
                for name in here:
                    start, stop = about["records"][name]
                    found[wanted[name]] = rows[start:stop]
        return found

    @contextmanager
    def room(
        self, kind: str, sizes: Mapping[Key, int], *, width: int, dtype: torch.dtype
    ) -> Generator[dict[Key, Tensor]]:
        """Make room for records; what the block writes there is kept when it ends well.

        Args:
            kind: What is kept.
            sizes: Rows of each record, at least one record.
            width: Numbers in a row.
            dtype: Of the numbers.

        Yields:
            Where to write, [rows, width] each; stays valid afterwards.
        """
        private(self.folder.parent)  # the store
        folder = self.folder / kind
        folder.mkdir(parents=True, exist_ok=True)
        spans: dict[str, tuple[int, int]] = {}
        stop = 0
        for name, size in sizes.items():
            spans[_digest(name)] = (stop, stop + size)
            stop += size
        about = {"rows": stop, "width": width, "dtype": str(dtype), "records": spans}
        handle, part = mkstemp(dir=folder, suffix=".bin")
        os.close(handle)
        try:
            allocate(Path(part), stop * width * dtype.itemsize)
            rows = _mapped(Path(part), about, shared=True)
            yield {name: rows[slice(*spans[_digest(name)])] for name in sizes}
            synced(Path(part))
        except BaseException:
            Path(part).unlink(missing_ok=True)
            raise
        write_json(Path(part).with_suffix(".json"), about)


def recalled(
    shelf: Shelf | None,
    kind: str,
    records: Sequence[Encoded],
    compute: Callable[[list[Encoded]], dict[Key, Tensor]],
) -> dict[Key, Tensor]:
    """Return values of records, [T] or [T, d] each: those kept, and the others computed and kept.

    Args:
        shelf: Where to look and to keep; None: nowhere.
        kind: What the values are.
        records: Whose values are wanted.
        compute: Returns the values of some records, on the CPU.
    """
    unique = list({key(record): record for record in records}.values())
    if shelf is None:
        return compute(unique)
    found = shelf.find(kind, unique)
    missing = [record for record in unique if key(record) not in found]
    if not missing:
        return {name: value.squeeze(-1) for name, value in found.items()}
    fresh = compute(missing)
    first = next(iter(fresh.values()))
    width = 1 if first.ndim == 1 else first.shape[-1]
    sizes = {name: len(value) for name, value in fresh.items()}
    with shelf.room(kind, sizes, width=width, dtype=first.dtype) as room:
        for name, value in fresh.items():
            room[name].copy_(value.view(-1, width))
    return {name: value.squeeze(-1) for name, value in (found | room).items()}


def _digest(name: Key) -> str:
    ids, start = name
    return sha256(repr((ids, start)).encode()).hexdigest()[:32]


def _mapped(file: Path, about: Mapping[str, object], *, shared: bool) -> Tensor:
    rows, width = int(str(about["rows"])), int(str(about["width"]))
    dtype = _DTYPES[str(about["dtype"])]
    flat = torch.from_file(str(file), shared=shared, size=rows * width, dtype=dtype)
    return flat.view(rows, width)
