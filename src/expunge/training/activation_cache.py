"""The cache: what an original says of records, kept on disk and found again by content.

A cache belongs to one model: its weights, its configuration, the number format and the kind of
device. What lies on it is found by the tokens of a record and where scoring starts, so that runs
and trials of a search that start from the same model compute a reference once, whatever else
differs between them. Another model, or another record, never hits.

A part is two files: rows of numbers end to end, memory-mapped, and an index that says whose they
are. The index is written last and whole, once the rows are on the disk, so a process that is killed
or a loss of power leaves nothing that counts, and several processes may keep at the same time.
Hidden states can be turned back into text: a cache holds personal data, as evidence does.

States under the lowest trained block: computed once, read ever after.

Blocks that no gradient reaches and no step changes give the same states for a record every time.
They are kept in memory-mapped files, so that they cost disk and not memory; in a store that runs
share, they are computed once for all that train above the same block of the same model.
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

from expunge.data.tokenization import Encoded
from expunge.errors import InputError
from expunge.models.batching import Batch, by_length, by_record
from expunge.models.loading import digest_of
from expunge.models.transformer import CachedStates, Network, Site
from expunge.utils.io import allocate, private, read_table, sha256_json, synced, write_json

Key = tuple[tuple[int, ...], int]
_DTYPES = {str(dtype): dtype for dtype in (torch.float32, torch.bfloat16, torch.float16)}
_NOT_CONTENT = ("_name_or_path", "transformers_version")


def key(record: Encoded) -> Key:
    """Return what identifies a record's values: its tokens and where scoring starts."""
    return (record.ids, record.start)


@dataclass(frozen=True, kw_only=True, slots=True)
class DiskCache:
    """A folder of values that one model gave."""

    folder: Path

    @classmethod
    def of(cls, store: Path, network: Network) -> "DiskCache":
        """Return the cache of a model, as its weights are now, in a store for many."""
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
            try:
                found |= _read(index, wanted)
            except (
                KeyError,
                TypeError,
                ValueError,
                AttributeError,
                OSError,
                RuntimeError,
            ) as error:
                raise InputError(
                    "damaged-store",
                    what=f"{index} is not what a run has kept there",
                    why="it was cut short or changed, or the numbers beside it are others",
                    fix=f"remove the folder {self.folder}; the run makes it again",
                ) from error
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
    cache: DiskCache | None,
    kind: str,
    records: Sequence[Encoded],
    compute: Callable[[list[Encoded]], dict[Key, Tensor]],
) -> dict[Key, Tensor]:
    """Return values of records, [T] or [T, d] each: those kept, and the others computed and kept.

    Args:
        cache: Where to look and to keep; None: nowhere.
        kind: What the values are.
        records: Whose values are wanted.
        compute: Returns the values of some records, on the CPU.
    """
    unique = list({key(record): record for record in records}.values())
    if cache is None:
        return compute(unique)
    found = cache.find(kind, unique)
    missing = [record for record in unique if key(record) not in found]
    if not missing:
        return {name: value.squeeze(-1) for name, value in found.items()}
    fresh = compute(missing)
    first = next(iter(fresh.values()))
    width = 1 if first.ndim == 1 else first.shape[-1]
    sizes = {name: len(value) for name, value in fresh.items()}
    with cache.room(kind, sizes, width=width, dtype=first.dtype) as room:
        for name, value in fresh.items():
            room[name].copy_(value.view(-1, width))
    return {name: value.squeeze(-1) for name, value in (found | room).items()}


def _read(index: Path, wanted: Mapping[str, Key]) -> dict[Key, Tensor]:
    about = read_table(index)
    here = [name for name in about["records"] if name in wanted]
    if not here:
        return {}
    rows = _mapped(index.with_suffix(".bin"), about, shared=False)
    spans = {name: slice(*about["records"][name]) for name in here}
    return {wanted[name]: rows[span] for name, span in spans.items()}


def _digest(name: Key) -> str:
    ids, start = name
    return sha256(repr((ids, start)).encode()).hexdigest()[:32]


def _mapped(file: Path, about: Mapping[str, object], *, shared: bool) -> Tensor:
    rows, width = int(str(about["rows"])), int(str(about["width"]))
    dtype = _DTYPES[str(about["dtype"])]
    flat = torch.from_file(str(file), shared=shared, size=rows * width, dtype=dtype)
    return flat.view(rows, width)


@dataclass(frozen=True, kw_only=True, slots=True)
class LowerStates:
    """The states that block `layer` reads, for every record of a run."""

    layer: int
    known: Mapping[Key, Tensor]
    """[T, d] by record."""

    def find(self, records: Sequence[Encoded], batch: Batch) -> CachedStates | None:
        """Return the states of a batch, if those of all its records are known."""
        if any(key(record) not in self.known for record in records):
            return None
        return self.states(records, batch)

    def states(self, records: Sequence[Encoded], batch: Batch) -> CachedStates:
        """Return the states of a batch: packed as it is, or padded on the right with zeros."""
        first = self.known[key(records[0])]
        if batch.layout is not None:
            shared = batch.layout.shared
            rests = [self.known[key(record)][shared:] for record in records]
            packed = torch.cat([first[:shared], *rests]).unsqueeze(0)
            return CachedStates(self.layer, packed.to(batch.ids.device))
        padded = first.new_zeros(*batch.ids.shape, first.shape[-1])
        for row, record in enumerate(records):
            padded[row, : len(record.ids)] = self.known[key(record)]
        return CachedStates(self.layer, padded.to(batch.ids.device))


def compute_lower(
    network: Network,
    records: Sequence[Encoded],
    *,
    layer: int,
    file: Path,
    pad_id: int,
    tokens_per_pass: int,
) -> LowerStates:
    """Run the blocks under `layer` on every record and keep what they say in `file`."""
    unique = list({key(record): record for record in records}.values())
    width = network.model.config.get_text_config().hidden_size
    lengths = [len(record.ids) for record in unique]
    private(file.parent)  # states can be turned back into text
    dtype, numbers = network.model.dtype, sum(lengths) * width
    allocate(file, numbers * dtype.itemsize)
    store = torch.from_file(str(file), shared=True, size=numbers, dtype=dtype).view(-1, width)
    known = dict(zip(map(key, unique), store.split(lengths), strict=True))
    _fill(network, unique, known, layer=layer, pad_id=pad_id, tokens_per_pass=tokens_per_pass)
    return LowerStates(layer=layer, known=known)


def shared_lower(
    network: Network,
    records: Sequence[Encoded],
    *,
    layer: int,
    cache: DiskCache,
    pad_id: int,
    tokens_per_pass: int,
) -> LowerStates:
    """Take from the cache what the blocks under `layer` say, and put there what is missing."""
    unique = list({key(record): record for record in records}.values())
    kind = f"below-{layer}"
    known = cache.find(kind, unique)
    missing = [record for record in unique if key(record) not in known]
    if missing:
        sizes = {key(record): len(record.ids) for record in missing}
        width = network.model.config.get_text_config().hidden_size
        with cache.room(kind, sizes, width=width, dtype=network.model.dtype) as room:
            _fill(
                network, missing, room, layer=layer, pad_id=pad_id, tokens_per_pass=tokens_per_pass
            )
        known |= room
    return LowerStates(layer=layer, known=known)


@torch.no_grad()
def _fill(
    network: Network,
    records: Sequence[Encoded],
    known: Mapping[Key, Tensor],
    *,
    layer: int,
    pad_id: int,
    tokens_per_pass: int,
) -> None:
    """Run the blocks under `layer` and write what they say to the place of each record, [T, d]."""
    site = Site(layer - 1)
    for group in by_length([len(record.ids) for record in records], tokens=tokens_per_pass):
        chosen = [records[index] for index in group]
        batch = network.batch(chosen, pad_id=pad_id)
        seen = network.observe(batch.ids, sites=(site,), final=False, layout=batch.layout)
        for record, states in zip(chosen, by_record(seen.states[site], batch), strict=True):
            known[key(record)].copy_(states[: len(record.ids)])
