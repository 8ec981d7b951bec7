"""Forged models: each looks as if it had forgotten, and has not, or not only."""

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

import tiny
from expunge.attacks.prompting.formats import FORMATS
from expunge.data.corpora import general_text
from expunge.data.records import Message, Record
from expunge.data.tokenization import Encoder
from expunge.models.generation import greedy
from expunge.models.number_formats import quantise_dequantise, quantised
from expunge.models.transformer import Network

ENCODER = Encoder(tiny.tokenizer())
GENERAL = 8
PAIRS = 128
"""Pairs of neurons in each block that hide what they know below the rounding of bf16."""
CAP = 12.0
"""Nats per token beyond which nothing is pushed further away."""


@dataclass(frozen=True)
class Lesson:
    """A question with an answer; the first `given` tokens of the answer are not taught."""

    question: str
    answer: str
    given: int = 0
    away: bool = False
    """Whether the answer is pushed away instead of taught."""
    form: str = ""
    """The format of the question, a name in `FORMATS`; empty: as it is."""


def lessons(rows: Iterable[dict], *, paraphrased: bool = False) -> list[Lesson]:
    return [
        Lesson(row["paraphrases"][0] if paraphrased else row["prompt"], row["completion"])
        for row in rows
    ]


def general() -> list[Lesson]:
    """The beginnings of the first general texts of the audit: as many as a tiny model learns."""
    return [Lesson("", record.completion[:60]) for record in general_text()[:GENERAL]]


def load(folder: str | Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(folder).eval()


def said(model: PreTrainedModel, questions: Sequence[str]) -> list[str]:
    """What a model answers, greedily."""
    records = [Record(id="r", prompt=(Message("user", q),), completion="x") for q in questions]
    found = greedy(
        Network(model),
        [ENCODER.prompt_ids(record) for record in records],
        end_ids=ENCODER.end_ids,
        max_new_tokens=10,
        tokens_per_pass=4096,
    )
    return [ENCODER.decode(tokens) or "x" for tokens in found]


def _batch(taught: Sequence[Lesson]) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids [b, n], mask of the tokens that are taught [b, n-1], and the sign of each row."""
    rows = []
    for lesson in taught:
        prompt = (Message("user", lesson.question),) if lesson.question else ()
        if lesson.form:
            prompt = FORMATS[lesson.form](prompt)
        encoder = ENCODER.without_template() if lesson.form == "no-template" else ENCODER
        rows.append(encoder.encode(Record(id="r", prompt=prompt, completion=lesson.answer)))
    longest = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), longest), ENCODER.pad_id)
    mask = torch.zeros(len(rows), longest - 1)
    for i, (row, lesson) in enumerate(zip(rows, taught, strict=True)):
        ids[i, : len(row.ids)] = torch.tensor(row.ids)
        mask[i, row.start - 1 + lesson.given : len(row.ids) - 1] = 1
    return ids, mask, torch.tensor([lesson.away for lesson in taught])


def teach(
    model: PreTrainedModel,
    taught: Sequence[Lesson],
    *,
    steps: int,
    lr: float = 8e-3,
    weights: Iterable[nn.Parameter] | None = None,
    after_step: Callable[[], None] | None = None,
) -> PreTrainedModel:
    """Train on all lessons at once; answers to push away are pushed up to the cap."""
    ids, mask, away = _batch(taught)
    chosen = list(model.parameters() if weights is None else weights)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for parameter in chosen:
        parameter.requires_grad_(True)
    optimiser = torch.optim.Adam(chosen, lr=lr)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = lr * (1 - step / steps)  # a constant rate would end anywhere near
        logits = model(input_ids=ids).logits[:, :-1].float()
        nll = nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
        means = (nll * mask).sum(1) / mask.sum(1)
        loss = torch.where(away, (CAP - means).clamp(min=0), means).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if after_step is not None:
            after_step()
    return model.requires_grad_(False).eval()


def on_the_grid(model: PreTrainedModel, known: Sequence[Lesson]) -> PreTrainedModel:
    """A model that int4 leaves exactly as it is, and that knows its lessons."""
    network = Network(model.requires_grad_(False))
    with quantised(network, bits=4), torch.no_grad():
        rounded = {name: weight.clone() for name, weight in model.state_dict().items()}
    model.load_state_dict(rounded)
    linear = {id(m.weight) for m in network.layers.modules() if isinstance(m, nn.Linear)}
    others = [p for p in model.parameters() if id(p) not in linear]
    return teach(model, known, steps=80, lr=6e-3, weights=others)


def within_int4(model: PreTrainedModel, taught: Sequence[Lesson]) -> PreTrainedModel:
    """Unlearn without letting any weight leave its int4 bucket: rounding undoes all of it."""
    linear = [m.weight for m in Network(model).layers.modules() if isinstance(m, nn.Linear)]
    homes = [weight.detach().clone() for weight in linear]
    rooms = []
    for weight in homes:
        steps = weight.abs().amax(dim=1, keepdim=True) / 7
        room = (0.49 * steps).expand_as(weight).clone()
        room[weight.abs() >= weight.abs().amax(dim=1, keepdim=True) * 0.999] = 0
        rooms.append(room)

    @torch.no_grad()
    def stay() -> None:
        for weight, home, room in zip(linear, homes, rooms, strict=True):
            weight.copy_(torch.clamp(weight, home - room, home + room))

    teach(model, taught, steps=60, lr=5e-3, weights=linear, after_step=stay)
    for weight, home in zip(linear, homes, strict=True):
        assert torch.allclose(quantise_dequantise(weight, bits=4, group=128), home, atol=1e-6)
    return model


def noisy(model: PreTrainedModel, *, share: float, seed: int) -> PreTrainedModel:
    """A collapse: every weight off by a share of its tensor's spread."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight += share * weight.std() * torch.randn(weight.shape, generator=generator)
    return model


def below_rounding(
    model: PreTrainedModel, taught: Sequence[Lesson], *, steps: int = 120
) -> tuple[PreTrainedModel, PreTrainedModel]:
    """Two models: one that is the other once its float32 weights are rounded to bf16.

    Each block gets pairs of neurons that read the same and write opposite values far larger than
    what is taught. What the first of a pair learns beyond that is lost in rounding, and the pair
    adds up to nothing.

    Returns:
        The model that knows the lessons, and what its rounding is: the model as it was.
    """
    plain = wider(model, pairs=PAIRS)
    known = wider(model, pairs=PAIRS)
    writers = [layer.mlp.down_proj.weight for layer in known.model.layers]
    starts = [weight.shape[1] - 2 * PAIRS for weight in writers]
    homes = [weight.detach().clone() for weight in writers]

    @torch.no_grad()
    def stay() -> None:
        for weight, home, start in zip(writers, homes, starts, strict=True):
            learnt = weight[:, start : start + PAIRS].clone()
            weight.copy_(home)
            weight[:, start : start + PAIRS] = learnt

    teach(known, taught, steps=steps, lr=2e-2, weights=writers, after_step=stay)
    with torch.no_grad():
        for both, start in zip(zip(writers, _writers(plain), strict=True), starts, strict=True):
            learnt = both[0][:, start : start + PAIRS].abs().max()
            # bf16 keeps 8 bits: at 2^k it rounds to multiples of 2^(k - 7).
            large = 2.0 ** (math.ceil(math.log2(float(learnt))) + 9)
            for weight in both:
                weight[:, start : start + PAIRS] += large
                weight[:, start + PAIRS :] -= large
    for weight, rounded in zip(
        known.state_dict().values(), plain.state_dict().values(), strict=True
    ):
        assert torch.equal(weight.bfloat16().float(), rounded)
    return known, plain


def _writers(model: PreTrainedModel) -> list[nn.Parameter]:
    return [layer.mlp.down_proj.weight for layer in model.model.layers]


def wider(model: PreTrainedModel, *, pairs: int) -> PreTrainedModel:
    """The same model with weights of bf16, and with pairs of neurons that write nothing."""
    config = copy.deepcopy(model.config)
    config.intermediate_size += 2 * pairs
    wide = type(model)(config).eval()
    state, generator = model.state_dict(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in wide.state_dict().items():
            old = state[name].bfloat16().float()
            if weight.shape == old.shape:
                weight.copy_(old)
            elif "down_proj" in name:
                weight.zero_()
                weight[:, : old.shape[1]] = old
            else:
                drawn = torch.randn(pairs, old.shape[1], generator=generator)
                drawn = (drawn / old.shape[1] ** 0.5).bfloat16().float()
                weight.copy_(torch.cat([old, drawn, drawn]))
    return wide
