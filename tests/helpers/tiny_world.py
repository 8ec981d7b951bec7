"""A small world: a tiny model taught invented facts, golds that never saw some of them, and data.

Teaching all models takes a few seconds; `conftest.world` does it once a session.
"""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from transformers import PreTrainedModel

import tiny
from expunge.config.settings import Settings
from expunge.data.readers import read
from expunge.data.tokenization import Encoder
from expunge.methods.graddiff import GradDiff
from expunge.models.transformer import Network
from expunge.training.early_stopping import Unseen
from expunge.training.sampler import Streams
from expunge.training.trainer import Trainer, TrainingArgs

SUBJECT = "Zorvex"
SETS = ("forget", "retain", "neighbours", "control")
SIZES = {"forget": 12, "retain": 12, "neighbours": 6, "control": 12}
SUBJECTS = {"forget": SUBJECT, "retain": "Plimko", "neighbours": "Quandel", "control": "Yaltro"}
NEVER = Unseen(mean=float("inf"), low=float("inf"))


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """Where models and data lie."""

    folder: Path

    @property
    def original(self) -> str:
        return str(self.folder / "original")

    @property
    def gold(self) -> str:
        return str(self.folder / "gold")

    def data(self, name: str) -> str:
        return str(self.folder / f"{name}.jsonl")

    def rows(self, name: str) -> list[dict]:
        text = (self.folder / f"{name}.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    def texts(self) -> set[str]:
        """Every piece of text that is personal: it may stand in the evidence and nowhere else."""
        found: set[str] = set()
        for name in SETS:
            for row in self.rows(name):
                found |= {row["prompt"], row["completion"], row["subject"], *row["key_answers"]}
                found |= set(row["paraphrases"])
        return found

    def settings(self, *, request=None, train=None, method=None, **others) -> Settings:
        """A short run on this world; the tables given are laid over the defaults."""
        tables = {
            "request": {
                "goal": "removal",
                **{name: (self.data(name),) for name in SETS},
                "utility_budget": 0.9,
                **(request or {}),
            },
            "train": {"steps": 15, "lr": 2e-3, "batch": 12, "check_every": 5, **(train or {})},
            **({} if "stage" in others else {"method": {"name": "npo", **(method or {})}}),
            "audit": {"max_new_tokens": 10},
        }
        fixed = {"model": self.original, "device": "cpu", "offline": True}
        return Settings.model_validate({**fixed, **tables, **others})

    def command(self, *words: str, **flags: str) -> list[str]:
        """The words of `forget` on this world, after `expunge`."""
        sets = {"train.steps": "15", "train.lr": "2e-3", "train.batch": "12", **flags}
        sets = {"audit.max_new_tokens": "10", "request.utility_budget": "0.9", **sets}
        chosen = [word for key, value in sets.items() for word in ("--set", f"{key}={value}")]
        data = ["--retain", self.data("retain"), "--neighbours", self.data("neighbours")]
        control = ["--set", f"request.control={self.data('control')}"]
        named = ["forget", self.original, self.data("forget"), "--goal", "removal", "--offline"]
        given = "--method" in words or "method.name" in flags
        method = () if given else ("--method", "npo")
        return [*named, *data, *control, *chosen, *method, *words]


def make(folder: Path, build: Callable[[], PreTrainedModel] = tiny.llama) -> World:
    """Write the data, and teach and save the models, which `build` makes."""
    names = random.Random(7)
    for split in SETS:
        rows = [fact(split, index, names) for index in range(SIZES[split])]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")
    world = World(folder=folder)
    kept = [world.data("retain"), world.data("neighbours")]
    tiny.save(folder / "original", network_knowing([world.data("forget"), *kept], build).model)
    tiny.save(folder / "gold", network_knowing(kept, build).model)
    return world


def network_knowing(
    data: Sequence[str],
    build: Callable[[], PreTrainedModel] = tiny.llama,
    *,
    template: str | None = tiny.CHATML,
) -> Network:
    """Teach a tiny model the records of some files by heart."""
    encoder = Encoder(tiny.tokenizer(template=template))
    known = tuple(encoder.encode(record) for record in read(data).records)
    network = tiny.network(build())
    teaching = Trainer(
        method=GradDiff(gamma=0.0, retain="nll"),
        network=network,
        streams=Streams(forget=known[:1], retain=known),
        options=TrainingArgs(
            lora=None,
            lr=8e-3,
            steps=100,
            batch=1,
            retain_batch=len(known),
            check_every=1000,
            utility_budget=0.99,
        ),
        pad_id=encoder.pad_id,
    )
    with TemporaryDirectory() as folder:
        teaching.run(unseen=NEVER, folder=Path(folder), progress=lambda step, text: None)
    return network


def fact(split: str, index: int, names: random.Random) -> dict[str, object]:
    """One invented fact, in the form of all others."""
    subject = SUBJECTS[split]
    answer = "".join(names.choice("jkqvxzw") + names.choice("aeiou") for _ in range(2))
    row: dict[str, object] = {
        "id": f"{split[0]}{index}",
        "prompt": f"{subject} {index}?",
        "completion": answer,
        "key_answers": [answer],
        "paraphrases": [f"{index} {subject}?"],
        "subject": subject,
    }
    return {**row, "relation": "family"} if split == "neighbours" else row
