"""The suite: the sets that a benchmark forgets and keeps, and the probes that follow."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from expunge.benchmarking.probe_outputs import Column, ProbeOutputs
from expunge.data.convert import to_record, with_short_answers_named
from expunge.data.readers import SourceRow, is_hub_id, read_rows
from expunge.data.records import Record
from expunge.errors import InputError, UsageError
from expunge.evals.results import Score
from expunge.metrics.outcomes import Axis
from expunge.pipeline.early_checks import no_benchmark_folder
from expunge.utils.io import expanded

PACKED = ("", ".gz", ".bz2")
NO_FILE = "no-benchmark-file"
"""Code of the error for a file that the folder of a suite does not hold."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Spec:
    """Which data of which benchmark; enough to read them again."""

    name: str
    """A key of `expunge.benchmarking.suites.SUITES`."""
    data: str
    """Folder of the published files, or the Hub id of the data set."""
    part: str = ""
    """The suite's own word for a part, such as `forget10` or `bio`; empty: its usual one."""
    records: int | None = None
    """Use only so many records of each set and probe; None: all of them."""
    corpus: tuple[str, ...] = ()
    """Text to forget, for suites that publish questions only."""
    retain: tuple[str, ...] = ()
    """Text to keep, where the suite's own is not in `data`."""
    offline: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """Records on which every model of a matrix is evaluated after it has forgotten."""

    name: str
    records: tuple[Record, ...]
    scored: bool = False
    """Take the log-probability of each token of the completion."""
    answer: int = 0
    """Take a greedy answer of at most so many tokens; 0: none."""
    continued: bool = False
    """The prompt is the beginning of a text that goes on, not a turn of a conversation."""
    options: bool = False
    """Take the likelihood of the completion and of each false answer."""
    opening: str = ""
    """Words that the answer is made to begin with; they are no part of what is recorded."""
    samples: int = 0
    """Draw so many answers at temperature 1, of at most `answer` tokens; 0: none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownSet:
    """A number of a suite that measures how much of the forget set a model knows."""

    metric: str
    probe: str
    axis: Axis
    floor: float = 0.0
    """The score of a model that knows nothing, such as chance."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fold:
    """One forget set of a series."""

    name: str
    records: tuple[Record, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """Several forget sets, for a run each."""

    folds: tuple[Fold, ...]
    sequential: bool
    """Whether each run starts from the model that the one before left, and not the original."""


Numbers = Callable[[ProbeOutputs], list[Score]]
"""Computes the numbers of a suite from the outputs of one model; needs no other model."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Suite:
    """One benchmark, read and checked."""

    name: str
    forget: tuple[Record, ...] = ()
    """Of a series, everything that one of its folds holds."""
    series: Series | None = None
    retain: tuple[Record, ...] = ()
    neighbours: tuple[Record, ...] = ()
    """Near the target; the audit evaluates them and nothing trains on them."""
    holdout: tuple[Record, ...] = ()
    probes: tuple[Probe, ...] = ()
    numbers: Numbers
    columns: Callable[[ProbeOutputs], dict[str, Column]] = lambda _: {}
    """Values by record that are compared between models, such as truth ratios."""
    notes: tuple[str, ...] = ()
    """Notes on every number: the release, and what replaces what."""

    def limited(self, records: int | None) -> "Suite":
        """Return the suite with at most so many records in each set and probe.

        Of sets that grow the second has room for twice as many, and so on: all would be the same
        few otherwise.
        """
        if records is None:
            return self
        series = self.series
        if series is not None:
            growing = not series.sequential
            folds = [
                replace(fold, records=fold.records[: records * (place if growing else 1)])
                for place, fold in enumerate(series.folds, 1)
            ]
            series = replace(series, folds=tuple(folds))
        return replace(
            self,
            forget=self.forget[:records] if series is None else union(series.folds),
            series=series,
            neighbours=self.neighbours[:records],
            holdout=self.holdout[:records],
            probes=tuple(replace(p, records=p.records[:records]) for p in self.probes),
            notes=(*self.notes, f"only the first {records} records of each set and probe"),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class SuiteEntry:
    """The row of a suite in the table of suites."""

    load: Callable[[Spec], Suite]
    """Reads and checks the published files."""
    hub: str | None = None
    """Hub id of its data, read when no folder is given; None: they are read from a folder."""
    own_text: tuple[str, ...] = ()
    """Which text of the user's own it reads: `corpus` is forgotten, `keep` is kept."""
    known: tuple[KnownSet, ...] = ()
    """Numbers that measure knowledge of the forget set, where no original recites it."""
    forgets: bool = True
    """False for a suite that only evaluates: it is run beside another one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SuiteLocation:
    """Where the files of a benchmark lie: a folder, or a data set on the Hub."""

    root: str
    offline: bool = False

    def rows(self, file: str, hub: str, *, count: int | None = None) -> list[SourceRow]:
        """Read one file of the folder, packed or not, or one split of the data set.

        Args:
            file: Path below the folder.
            hub: `config:split` of the data set; empty where it is not read from the Hub.
            count: How many rows were published.

        Raises:
            InputError: It is not there, or has another number of rows.
        """
        source = str(self.file(file)) if self.local else f"{self.root}/{hub}"
        if not self.local and not (hub and is_hub_id(self.root)):
            raise no_benchmark_folder(self.root, on_hub=bool(hub))
        rows = read_rows(source, offline=self.offline)
        if count is not None and len(rows) != count:
            raise wrong_release(source, f"{len(rows)} records, {count} were published")
        return rows

    @property
    def local(self) -> bool:
        """Whether it is a folder on this machine."""
        return expanded(self.root).is_dir()

    def file(self, name: str) -> Path:
        """Return the path of a file of the folder, packed or not.

        Raises:
            InputError: It is not there.
        """
        folder = expanded(self.root)
        for end in PACKED:
            if (path := folder / f"{name}{end}").is_file():
                return path
        raise InputError(
            NO_FILE,
            what=f"{folder} holds no {name}",
            why="the benchmark is read from the files that its authors published",
            fix="check the folder given by --data, or give the Hub id of the data set",
        )


def wrong_release(source: str, why: str) -> InputError:
    """Return the error for data that are not those which were published."""
    return InputError(
        "wrong-release",
        what=f"{source} is not the published data",
        why=why,
        fix="download it again; numbers on other data cannot be compared with published ones",
    )


def records(
    name: str,
    rows: Iterable[SourceRow],
    fields: Callable[[Mapping[str, object]], Mapping[str, object]] = dict,
    *,
    subjects: Sequence[str] | None = None,
) -> tuple[Record, ...]:
    """Turn rows into records named by their place, `NAME-0`, so that repeated ones stay apart.

    Args:
        name: Name of the set.
        rows: What was read.
        fields: Renames the fields of a row to those of `expunge.data.convert.to_record`.
        subjects: The subject of each row, where the rows do not name it.

    Raises:
        InputError: A row is not an object, or lacks a field.
    """
    found: list[Record] = []
    for place, row in enumerate(rows):
        value = {"text": row.value} if isinstance(row.value, str) else row.value
        if not isinstance(value, dict):
            raise wrong_release(row.source, "a record is neither an object nor text")
        try:
            renamed = dict(fields(value))
        except KeyError as error:
            raise wrong_release(row.source, f"field {error} is missing") from None
        record = to_record(renamed, row.source)
        about = record.subject if subjects is None else subjects[place]
        found.append(replace(record, id=f"{name}-{place}", subject=about))
    return with_short_answers_named(found)


def union(folds: Iterable[Fold]) -> tuple[Record, ...]:
    """Return every record of some folds once; records are the same when they say the same."""
    found = {(each.prompt, each.completion): each for fold in folds for each in fold.records}
    return tuple(found.values())


def plain(record: Record) -> dict[str, object]:
    """Return a record as one row of JSON Lines that reads back to the same record."""
    body: dict[str, object] = {"text": record.completion}
    if record.prompt:
        turns = [turn._asdict() for turn in record.prompt]
        body = {"prompt": turns, "completion": record.completion}
    optional: dict[str, object] = {
        "key_answers": list(record.key_answers),
        "paraphrases": list(record.paraphrases),
        "alternative": list(record.alternatives),
        "paraphrased_answer": list(record.restated),
        "perturbed_answer": list(record.wrong),
        "subject": record.subject,
        "relation": record.relation,
    }
    return {"id": record.id, **body, **{k: v for k, v in optional.items() if v}}


def chosen(part: str, allowed: Sequence[str], *, suite: str) -> str:
    """Return the part of a suite that is meant; the first allowed one when none is named.

    Raises:
        UsageError: The suite has no such part.
    """
    part = part or allowed[0]
    if part not in allowed:
        raise UsageError(
            "unknown-part",
            what=f"{suite} has no part {part!r}",
            why=f"its parts are {', '.join(allowed)}",
            fix="name one of these with --part",
        )
    return part
