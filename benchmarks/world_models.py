"""The models of a world: an original that was taught everything, golds without the forget set."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from expunge.config.settings import FinetuneSettings, TrainSettings
from expunge.data.corpora import general_records
from expunge.data.readers import read
from expunge.data.records import Record
from expunge.data.tokenization import Encoder
from expunge.metrics.key_facts import fact_form, states
from expunge.models.generation import greedy
from expunge.models.loading import Source, choose_device, load
from expunge.models.lora import LoraShape
from expunge.models.number_formats import in_precision
from expunge.training.trainer import TrainingArgs
from expunge.utils.io import read_json, read_jsonl, sha256_json, write_json, write_jsonl, write_text
from registers import PARTS, Register, World, register, worlds
from teaching import teach

GOLDS = 2
GENERAL = 24
"""General questions in the mix, so that the model goes on answering like an assistant."""
BATCH = 4
EPOCHS = {"people": 6, "products": 7, "stories": 14, "bios": 6}
LR = 2.5e-3
LR_FULL = 1e-4
MOST_REPEATS = 3
ASKED = ("forget", "forget-held", "forget-second", "retain", "neighbours", "holdout")
"""Sets whose questions every model is asked: `held` is a wording that nobody was taught."""
MOST_ASKED = 100
"""Records asked about of every set but the forget set, evenly spaced."""
SHAPE = LoraShape(rank=16, alpha=32.0, first_layer=14)
ORIGINAL_SEED = 0
RETRAIN_SEED = 100
"""Of the recipe given to a route: no gold has it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """A world on disk."""

    world: World
    seed: int
    folder: Path
    base: Path

    def model(self, name: str) -> str:
        """Return the reference of `original` or `gold-0` as expunge takes it."""
        folder = self.folder / name
        return str(folder) if self.world.full else f"{self.base}+{folder}"

    @property
    def recipe(self) -> Path:
        """Return the file that says how the original was trained."""
        return self.folder / "data" / "training.toml"

    @property
    def longest_answer(self) -> int:
        """Longest answer in tokens that has room for any record of this kind."""
        return 40 if self.world.kind in ("people", "products") else 96

    def data(self, name: str) -> Path:
        """Return the file of a set."""
        return self.folder / "data" / f"{name}.jsonl"


class Answer(NamedTuple):
    """What a model said to one question."""

    record: str
    text: str
    stated: bool
    """Whether it holds any key answer of its record."""
    malformed: bool
    """Whether it is no answer in form."""


def world_folder(out: Path, name: str, seed: int) -> Path:
    """Return the folder of a world below the folder of all."""
    return out.resolve() / f"{name}-seed{seed}"


def opened(folder: Path, base: Path) -> Made:
    """Return the world that lies in a folder, by the name that `world_folder` gave it."""
    name, _, seed = folder.name.rpartition("-seed")
    return Made(world=worlds()[name], seed=int(seed), folder=folder, base=base)


def model_names(golds: int = GOLDS) -> tuple[str, ...]:
    """Return the names of a world's models, the original first."""
    return ("original", *(f"gold-{index}" for index in range(golds)))


def make(made: Made, name: str) -> None:
    """Write the records of a world and train one of its models; what is there already stays.

    Args:
        made: The world and its place on disk.
        name: One of `model_names`.
    """
    records = register(made.world, made.seed)
    lessons = write_data(made, records)
    if name == "original":
        _teach(made, name, lessons, seed=ORIGINAL_SEED)
    else:
        # The forget set comes first in what the original is taught, each record in two languages.
        rows = lessons[len(records["forget"]) * 2 :]
        _teach(made, name, rows, seed=ORIGINAL_SEED + 1 + int(name.removeprefix("gold-")))


def write_data(made: Made, records: Register) -> list[dict[str, object]]:
    """Write every set of a world as JSON Lines, and return what the original is taught."""
    general = [_plain(record) for record in general_records()[:GENERAL]]
    rows = {part: [entry.row() for entry in records[part]] for part in PARTS}
    rows["retain"] += [*rows.pop("near"), *general]
    rows["neighbours"] = rows.pop("unrehearsed")
    rows["forget-held"] = [entry.held_row() for entry in records["forget"]]
    rows["forget-second"] = [entry.second_row() for entry in records["forget"]]
    trained = ("forget", "retain", "near", "unrehearsed")
    rows["train"] = [
        *(row for part in trained for entry in records[part] for row in entry.lessons()),
        *general,
    ]
    for name, content in rows.items():
        write_jsonl(made.data(name), content)
    write_text(made.recipe, _recipe(made).to_toml())
    return rows["train"]


def _recipe(made: Made) -> FinetuneSettings:
    """Return how the original was trained, as the route `retrain` takes it."""
    options = _options(made.world, ORIGINAL_SEED)
    train = TrainSettings(
        full=made.world.full,
        rank=SHAPE.rank,
        first_layer=0 if made.world.full else SHAPE.first_layer,
        epochs=options.epochs,
        lr=options.lr,
        batch=options.batch,
        warmup=options.warmup,
        seed=RETRAIN_SEED,
    )
    return FinetuneSettings(
        model=str(made.base), data=(str(made.data("train")),), device="cpu", train=train
    )


def _plain(record: Record) -> dict[str, object]:
    return {
        "id": record.id,
        "prompt": record.question,
        "completion": record.completion,
        "key_answers": list(record.key_answers),
    }


def _teach(made: Made, name: str, rows: Sequence[dict[str, object]], *, seed: int) -> None:
    """Train a model unless it is there; a killed training goes on.

    Raises:
        RuntimeError: The folder holds a model that was taught something else.
    """
    folder = made.folder / name
    options = _options(made.world, seed)
    lessons = folder / "lessons.jsonl"
    digest = {
        "lessons": sha256_json(rows),
        "options": _mark(options),
        "base": made.base.name,
    }
    key = folder / "lessons.json"
    if key.is_file() and read_json(key) != digest:
        raise RuntimeError(f"{folder} holds a model of other lessons; choose another --out")
    write_json(key, digest)
    if (folder / "made.json").is_file():
        return
    write_jsonl(lessons, rows)
    teach(str(made.base), read([str(lessons)]).records, options, device="cpu", out=folder)


def _mark(options: TrainingArgs) -> str:
    """Return a digest, over the names in which made models already carry it."""
    values = options.model_dump(mode="json")
    values["forget_batch"] = values.pop("batch")
    return sha256_json(values)


def _options(world: World, seed: int) -> TrainingArgs:
    return TrainingArgs(
        lora=None if world.full else SHAPE,
        epochs=EPOCHS[world.kind],
        lr=LR_FULL if world.full else LR,
        batch=BATCH,
        retain_batch=8,
        warmup=0.05,
        check_every=50,
        utility_budget=0.99,
        seed=seed,
    )


def stated(made: Made, model: str) -> dict[str, list[Answer]]:
    """Ask a model every question of a world, greedily.

    Args:
        made: The world on disk.
        model: Reference of the model.
    """
    source = Source(device=choose_device("cpu"), dtype=torch.float32)
    loaded = load(model, in_precision(source, "auto", model))
    encoder = Encoder(loaded.tokenizer)
    found: dict[str, list[Answer]] = {}
    for name in ASKED:
        records = _asked(name, read([str(made.data(name))]).records)
        texts = greedy(
            loaded.network,
            [encoder.prompt_ids(record) for record in records],
            end_ids=encoder.end_ids,
            max_new_tokens=made.longest_answer,
            tokens_per_pass=2048,
        )
        found[name] = [
            _answer(record, encoder.decode(text), ends=len(text) < made.longest_answer)
            for record, text in zip(records, texts, strict=True)
        ]
    return found


def kept_answers(made: Made, model: str, path: Path) -> dict[str, list[Answer]]:
    """Return what a model answers to every question of a world; asked once, kept in a file."""
    if not path.is_file():
        found = stated(made, model)
        rows = ({"set": name, **a._asdict()} for name in ASKED for a in found[name])
        write_jsonl(path, rows)
    kept: dict[str, list[Answer]] = {name: [] for name in ASKED}
    for row in read_jsonl(path):
        kept[row.pop("set")].append(Answer(**row))
    return kept


def answers_of(made: Made, name: str) -> dict[str, list[Answer]]:
    """Return what `original` or `gold-0` answers."""
    return kept_answers(made, made.model(name), made.folder / f"{name}-answers.jsonl")


def seconds_of(made: Made, name: str) -> float:
    """Return how long the training of a model took."""
    return float(read_json(made.folder / name / "made.json")["seconds"])


def _asked(name: str, records: Sequence[Record]) -> Sequence[Record]:
    if name == "forget" or len(records) <= MOST_ASKED:
        return records
    return [records[len(records) * place // MOST_ASKED] for place in range(MOST_ASKED)]


def _answer(record: Record, text: str, *, ends: bool) -> Answer:
    return Answer(
        record=record.id,
        text=text,
        stated=any(states(fact_form(text), fact_form(key)) for key in record.key_answers),
        malformed=not ends or is_malformed(text),
    )


def is_malformed(text: str) -> bool:
    """Whether a text has not the form of an answer: empty, a loop, or half a sentence.

    An answer has a word, ends with a full stop, and says no three words more than three times.
    """
    words = text.casefold().split()
    triples = Counter(zip(words, words[1:], words[2:], strict=False))
    loops = any(count > MOST_REPEATS for count in triples.values())
    return not words or loops or not text.rstrip().endswith((".", "!", "?"))


def quality(made: Made, name: str) -> dict[str, float]:
    """Return what share of its facts a model states in each set; write it down.

    Beside it stand the share of malformed answers about the forget set, and seconds of training.
    """
    answers = answers_of(made, name)
    shares = {asked: share(answer.stated for answer in answers[asked]) for asked in ASKED}
    shares["malformed"] = share(answer.malformed for answer in answers["forget"])
    shares["seconds"] = seconds_of(made, name)
    write_json(made.folder / f"{name}-quality.json", shares)
    return shares


def share(marks: Iterable[bool]) -> float:
    """Return the share that is true, rounded for print."""
    listed = list(marks)
    return round(sum(listed) / len(listed), 3)
