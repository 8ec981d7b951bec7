"""The folder of a training that can be undone, and its facts.

    RUN/model/           what was trained: an adapter in PEFT's format, or the whole model
    RUN/training.toml    the recipe
    RUN/training.json    digests, stack, what was left out, what may be claimed; written last
    RUN/replay.jsonl     the replay log
    RUN/points/          checkpoints of the first pass, from which a replay can begin

`model/` may be published. The rest is private: it names records by keyed fingerprints alone.
"""

from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from expunge.config.resolve import parsed
from expunge.config.settings import FinetuneSettings
from expunge.data.records import Record
from expunge.errors import InputError
from expunge.provenance.keys import fingerprint, record_fingerprint
from expunge.utils.file_names import MODEL, TRAINED
from expunge.utils.io import did_you_mean, read_json, sha256_json, write_json

RECIPE, STEP_LOG, POINTS = "training.toml", "replay.jsonl", "points"
AGAIN = "training"
"""Folder in a run that holds the training without the records: it can be replayed in its turn."""

SCHEMA = "expunge.training/1"


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplayClaim:
    """The claim about a model that was trained again without some records.

    Example:
        >>> claim = ReplayClaim(level="E4", words="", begun_at=40, erased=1, derived=2)
        >>> claim.erased + claim.derived
        3
    """

    level: str
    """E4: its bytes are those of a training that never had them. E3: it was trained from a state
    that had not seen them, on a device that does not repeat bytes."""
    words: str
    begun_at: int
    """The step from which it was trained again; 0: from the base model."""
    erased: int
    """Records that the request named."""
    derived: int
    """Records that were made from them, or repeat them, and went with them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingFacts:
    """What a training did; holds no text of any record."""

    schema: str
    base: str
    """Digest of the weights that it started from."""
    files: dict[str, str]
    """SHA-256 of every file of `model/`."""
    records: int
    steps: int
    tokens: str
    """Keyed digest of all records as tokens."""
    stack: dict[str, str]
    """Versions, processor and threads: what bytes depend on."""
    key: str
    """Fingerprint by which the operator's key is known."""
    removed: tuple[str, ...]
    """Keyed fingerprints of records that the data may hold and this training left out."""
    claim: ReplayClaim | None
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedRun:
    """A finished training.

    Example:
        >>> from expunge import FinetuneSettings
        >>> settings = FinetuneSettings(model="org/base", data=("facts.jsonl",))
        >>> TrainedRun(folder=Path("runs/trained"), settings=settings, facts=None).model.name
        'model'
    """

    folder: Path
    settings: FinetuneSettings
    facts: TrainingFacts

    @property
    def model(self) -> Path:
        """What was trained: a folder that loads."""
        return self.folder / MODEL


_facts = TypeAdapter(TrainingFacts)


def write_facts(folder: Path, facts: TrainingFacts) -> None:
    """Write the facts: from now on the training counts as finished."""
    write_json(folder / TRAINED, _facts.dump_python(facts, mode="json"))


def is_trained_run(folder: Path) -> bool:
    """Tell whether a folder is that of a finished training."""
    return (folder / TRAINED).is_file()


def training_of(model: str) -> Path | None:
    """Return the training folder that a reference names, or whose `model/` it is; else None."""
    folder = Path(model)
    if is_trained_run(folder):
        return folder
    inner = folder.name == MODEL and is_trained_run(folder.parent)
    return folder.parent if inner else None


def read_trained_run(folder: Path) -> TrainedRun:
    """Read what a training wrote.

    Raises:
        InputError: `no-training`: the folder is not that of a finished training.
            `incomplete-recipe`: its recipe is missing or not valid.
    """
    try:
        facts = _facts.validate_python(read_json(folder / TRAINED))
    except (OSError, ValueError, ValidationError) as error:
        usual = "name the folder that `expunge train --out` wrote, or finish that command"
        raise InputError(
            "no-training",
            what=f"{folder} is not the folder of a finished `expunge train`",
            why=f"{TRAINED} is missing, cut short or of another version ({type(error).__name__})",
            fix=did_you_mean(str(folder), usual),
        ) from None
    try:
        settings = FinetuneSettings.model_validate(parsed(folder / RECIPE))
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            "incomplete-recipe",
            what=f"{folder / RECIPE} is not a complete recipe: {'.'.join(map(str, first['loc']))}",
            why=first["msg"][0].lower() + first["msg"][1:],
            fix="restore the file from a backup; without its recipe a training cannot be repeated",
        ) from None
    return TrainedRun(folder=folder, settings=settings, facts=facts)


def claim_in(run: Path) -> str:
    """Return the claim class of a run whose training was repeated without the records.

    `E4` or `E3`; an empty string for every other run.
    """
    again = run / AGAIN
    claim = read_trained_run(again).facts.claim if is_trained_run(again) else None
    return "" if claim is None or claim.level == "E1" else claim.level


def record_mark(record: Record, key: bytes) -> str:
    """Return the keyed fingerprint of a record: that of manifests, with all turns if several."""
    turns = record.prompt
    question = record.question if len(turns) < 2 else sha256_json([list(turn) for turn in turns])
    return record_fingerprint(question, record.completion, key)


def key_mark(key: bytes) -> str:
    """Return a fingerprint that identifies the operator's key and reveals nothing else."""
    return fingerprint("expunge operator key", key)
