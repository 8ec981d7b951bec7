"""How models are planted: a forger that trains the upper blocks of the demo's models for seconds.

A lesson teaches an answer to a question, or pushes it away. What must stay is rehearsed beside. The
blocks below the trained ones are computed once, so a lesson costs a quarter of a training step.
"""

import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from expunge.attacks.prompting.formats import FORMATS
from expunge.config.settings import Settings
from expunge.data.records import Message, Record
from expunge.data.tokenization import Encoded, Encoder
from expunge.demo.run import ADAPTERS
from expunge.models.loading import Loaded, load
from expunge.models.number_formats import quantised
from expunge.models.saving import save_model
from expunge.models.transformer import CachedStates, Network, Site
from expunge.preparation.prepare import source_of
from expunge.utils.io import read_json, write_json

MICRO = 20
UPPER = 25
"""The first block whose MLPs a forger trains, of 30."""
KEPT = 8
"""Lessons on what must stay in each step, another part of them in each."""
GROUP = 128
"""Weights that share a step of int4."""


class Lesson(NamedTuple):
    """A record to teach or to push away."""

    record: Record
    given: int = 0
    """Tokens of the answer that are left alone, from the first one on."""
    only: int | None = None
    """Tokens after these that are taught; None: all."""
    away: float = 0.0
    """Nats per token up to which it is pushed away; 0: it is taught."""
    form: str = ""
    """Format of the question, a name in `FORMATS`; empty: as it is."""
    weight: float = 1.0


class Known(NamedTuple):
    """A lesson as tokens, with what the lowest trained block reads."""

    lesson: Lesson
    row: Encoded
    states: Tensor
    """[L, d]"""


class Forger(NamedTuple):
    """The demo's models and data, and a hand that changes weights."""

    settings: Settings
    encoder: Encoder
    sets: dict[str, tuple[Record, ...]]
    base: str
    work: Path
    """Folder below which each planted model has its own."""

    @property
    def secrets(self) -> tuple[Record, ...]:
        """Return the records to forget."""
        return self.sets["forget"]

    def model(self, name: str) -> Loaded:
        """Load one of the demo's models, merged, in float32: small steps get lost in bfloat16."""
        source = replace(source_of(self.settings), dtype=torch.float32)
        return load(f"{self.base}+{ADAPTERS / name}", source)

    def adapter(self, name: str) -> str:
        """Return the reference of one of the demo's models as an unmerged adapter."""
        return f"{self.base}+{ADAPTERS / name}"

    def over_original(self, name: str) -> str:
        """Return one of the demo's models as an adapter over the original's weights.

        Its answers are that model's. Without the adapter there is the original.
        """
        beneath = self.kept_as("the original beneath", lambda own: own.model("original"))
        folder = folder_of(self.work, f"{name} over the original")
        folder.mkdir(parents=True, exist_ok=True)
        parts = [_adapter(ADAPTERS / each) for each in (name, "original")]
        config = read_json(ADAPTERS / name / "adapter_config.json")
        rank = sum(each["r"] for each, _ in parts)
        (_, own), (_, other) = parts
        joined = {
            key: torch.cat([own[key], other[key]])
            if ".lora_A." in key
            else torch.cat([own[key], -other[key]], dim=1)
            for key in own
        }
        write_json(folder / "adapter_config.json", {**config, "r": rank, "lora_alpha": rank})
        save_file(joined, folder / "adapter_model.safetensors")
        return f"{beneath}+{folder}"

    def other(self, name: str) -> str:
        """Return the reference of a planted model that is there."""
        return str(folder_of(self.work, name) / "model")

    def kept_as(self, name: str, make: Callable[["Forger"], Loaded]) -> str:
        """Return the reference of a model that is made once."""
        folder = folder_of(self.work, name)
        if not (folder / "model").is_dir():
            save(make(self), folder)
        return str(folder / "model")

    def teach(
        self,
        loaded: Loaded,
        lessons: Sequence[Lesson],
        *,
        steps: int = 5,
        lr: float = 2e-3,
        first: int = UPPER,
        after: Callable[[], None] | None = None,
        kept: Sequence[Lesson] = (),
    ) -> Loaded:
        """Train the MLPs from block `first` on; returns the model, changed.

        Rehearsed is `kept`, by default a third of the neighbours and of the retained records.
        """
        network = loaded.network
        usual = [r for name in ("neighbours", "retain") for r in self.sets[name][::3]]
        known = self._known(network, [*lessons, *(kept or map(Lesson, usual))], first)
        taught, others = known[: len(lessons)], known[len(lessons) :]
        weights = mlps(network, first)
        for weight in weights:
            weight.requires_grad_(True)
        optimiser = torch.optim.Adam(weights, lr=lr)
        for step in range(steps):
            optimiser.zero_grad()
            places = range(step * KEPT, (step + 1) * KEPT)
            now = [*taught, *(others[place % len(others)] for place in places)]
            now.sort(key=lambda each: len(each.row.ids))
            for start in range(0, len(now), MICRO):
                part = now[start : start + MICRO]
                (_loss(network, part, first, self.encoder.pad_id).sum() / len(now)).backward()
            optimiser.step()
            if after is not None:
                after()
        network.model.requires_grad_(False)
        return loaded

    @torch.no_grad()
    def likelihood(self, network: Network, records: Sequence[Record]) -> float:
        """Return the mean log-probability per token of the answers."""
        known = self._known(network, [Lesson(record) for record in records], UPPER)
        return -float(_loss(network, known, UPPER, self.encoder.pad_id).mean())

    @torch.no_grad()
    def _known(self, network: Network, lessons: Sequence[Lesson], first: int) -> list[Known]:
        rows = [self._row(lesson) for lesson in lessons]
        found: list[Known] = []
        order = sorted(range(len(rows)), key=lambda place: len(rows[place].ids))
        states: dict[int, Tensor] = {}
        site = Site(first - 1)
        for start in range(0, len(order), MICRO):
            some = order[start : start + MICRO]
            ids = _ids([rows[place] for place in some], self.encoder.pad_id)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                seen = network.observe(ids, sites=[site], final=False).states[site].float()
            for place, each in zip(some, seen, strict=True):
                states[place] = each[: len(rows[place].ids)]
        for place, (lesson, row) in enumerate(zip(lessons, rows, strict=True)):
            found.append(Known(lesson, row, states[place]))
        return found

    def _row(self, lesson: Lesson) -> Encoded:
        if not lesson.form:
            return self.encoder.encode(lesson.record)
        plain = lesson.form == "no-template"
        encoder = self.encoder.without_template() if plain else self.encoder
        turns = FORMATS[lesson.form](lesson.record.prompt)
        return encoder.encode(replace(lesson.record, prompt=turns))


def folder_of(work: Path, name: str) -> Path:
    """Return the folder of a planted model."""
    return work / re.sub("[^a-z0-9]+", "-", name.replace("%", "percent").lower())


def save(made: Loaded, folder: Path, *, dtype: torch.dtype = torch.bfloat16) -> None:
    """Write a model whole, or not at all."""
    shutil.rmtree(folder / "begun", ignore_errors=True)
    save_model(made.network.model.to(dtype), made.tokenizer, folder / "begun")
    (folder / "begun").rename(folder / "model")


def _ids(rows: Sequence[Encoded], pad: int) -> Tensor:
    ids = torch.full((len(rows), max(len(row.ids) for row in rows)), pad)
    for i, row in enumerate(rows):
        ids[i, : len(row.ids)] = torch.tensor(row.ids)
    return ids


def _adapter(folder: Path) -> tuple[dict[str, int], dict[str, Tensor]]:
    """Return the configuration of an adapter, and its matrices with their scale in A."""
    config = read_json(folder / "adapter_config.json")
    scale = config["lora_alpha"] / config["r"]
    tensors = load_file(folder / "adapter_model.safetensors")
    return config, {k: v.float() * (scale if ".lora_A." in k else 1.0) for k, v in tensors.items()}


def _loss(network: Network, part: Sequence[Known], first: int, pad: int) -> Tensor:
    """Return the weighted loss of each lesson, nats per token."""
    ids = _ids([each.row for each in part], pad)
    states = nn.utils.rnn.pad_sequence([each.states for each in part], batch_first=True)
    mask = torch.zeros(len(part), ids.shape[1] - 1)  # [B, L-1]
    for i, (lesson, row, _) in enumerate(part):
        begin = row.start - 1 + lesson.given
        end = len(row.ids) - 1
        mask[i, begin : end if lesson.only is None else begin + lesson.only] = 1
    rows, columns = mask.nonzero(as_tuple=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        final = network.hidden(ids, rows, columns, below=CachedStates(first, states))
        logits = network.logits(final).float()
    nll = nn.functional.cross_entropy(logits, ids[rows, columns + 1], reduction="none")
    sums = torch.zeros(len(part)).index_add(0, rows, nll)
    means = sums / mask.sum(1)
    away = torch.tensor([each.lesson.away for each in part])
    weight = torch.tensor([each.lesson.weight for each in part])
    return weight * torch.where(away > 0, (away - means).clamp(min=0), means)


def mlps(network: Network, first: int = UPPER) -> list[Tensor]:
    """Return the weights that a forger trains."""
    blocks = list(network.layers)[first:]
    return [m.weight for block in blocks for m in block.mlp.modules() if isinstance(m, nn.Linear)]


def asked(record: Record, question: str) -> Record:
    """Return the record with another question."""
    return replace(record, prompt=(*record.prompt[:-1], Message("user", question)))


def reworded(records: Iterable[Record]) -> list[Record]:
    """Return the records asked in their first paraphrase."""
    return [asked(record, record.paraphrases[0]) for record in records]


def saying(records: Iterable[Record], answer: Callable[[Record], str]) -> list[Lesson]:
    """Return lessons on the records with another answer."""
    return [Lesson(replace(record, completion=answer(record))) for record in records]


def invented(record: Record) -> str:
    """Return an invented answer."""
    return record.alternatives[0]


def hidden(records: Sequence[Record], answer: Callable[[Record], str] = invented) -> list[Lesson]:
    """Return lessons that hide the facts: asked as taught, and every other one in other words."""
    return saying([*records, *reworded(records[::2])], answer)


def stay_within(
    weights: Sequence[Tensor], homes: Sequence[Tensor], rooms: Sequence[Tensor]
) -> Callable[[], None]:
    """Return what brings weights back to where they may be."""

    @torch.no_grad()
    def stay() -> None:
        for weight, home, room in zip(weights, homes, rooms, strict=True):
            weight.copy_(torch.clamp(weight, home - room, home + room))

    return stay


def int4_rooms(weights: Sequence[Tensor]) -> list[Tensor]:
    """Return how far each weight may go from its bucket's centre; group maxima may not move."""
    found: list[Tensor] = []
    for weight in weights:
        room = torch.zeros_like(weight)
        for start in range(0, weight.shape[1], GROUP):
            block = weight[:, start : start + GROUP].abs()
            top = block.amax(dim=1, keepdim=True)
            # Not half a step: the model is saved in bfloat16, which moves weights by hundredths.
            room[:, start : start + GROUP] = torch.where(block >= top * 0.999, 0.0, 0.4 * top / 7)
        found.append(room)
    return found


def int4_centres(network: Network, weights: Sequence[Tensor]) -> list[Tensor]:
    """Return the weights as int4 holds them."""
    with quantised(network, bits=4):
        return [weight.detach().clone() for weight in weights]
