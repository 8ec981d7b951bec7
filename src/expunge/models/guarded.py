"""Guards at work: their rules applied around a network that scores or writes, saved and loaded.

`rewrite_prompts` changes what the model reads, `adjust_logits` the next-token logits. Scoring and
generation apply the guard of their network, where it has one. Training, and everything else that
touches weights or states, uses the bare model.

A guard folder holds the rules in `guard.json`, and which model they are for. Tensors, where there
are any, lie in `guard.safetensors`. The folder names its base as an adapter does; it holds no
weights of the model, for these did not change. Some rules hold text of the forget set
(`GuardRules.tells`), which no seal covers: a guard that knows nothing of it cannot act on it.
"""

import random
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as safetensors_bytes
from torch import Tensor
from torch.nn import functional
from transformers import DynamicCache

from expunge.data.tokenization import Encoded
from expunge.errors import InputError
from expunge.methods.guards.base import (
    Corruption,
    Frame,
    GuardRules,
    Ids,
    Offset,
    PromptClassifier,
    Shots,
)
from expunge.models.batching import Batch, PackLayout, by_length
from expunge.models.reference import model_folder
from expunge.models.transformer import Network, Site, new_cache
from expunge.utils.file_names import GUARD
from expunge.utils.io import atomic, read_json, sha256_file, sha256_json, write_json

TENSORS = "guard.safetensors"
SCHEMA = "expunge.guard/1"


def save_guard(
    rules: GuardRules, folder: Path, *, base: str, method: str, parameters: Mapping[str, object]
) -> None:
    """Write the rules into a folder, the JSON file last.

    Args:
        rules: What to do around the model.
        folder: The run folder.
        base: Reference of the model.
        method: Name of the guard.
        parameters: Its parameters, as they were set.
    """
    tensors = _tensors(rules)
    if tensors:
        with atomic(folder / TENSORS) as file:
            file.write(safetensors_bytes(tensors, metadata={"format": "pt"}))
    write_json(
        folder / GUARD,
        {
            "schema": SCHEMA,
            "base_model_name_or_path": base,
            "method": method,
            "knobs": dict(parameters),
            "rules": _plain(rules),
        },
    )


def load_guard(folder: Path, device: torch.device) -> GuardRules:
    """Read the rules of a guard folder.

    Raises:
        InputError: It holds something else, or rules of another version.
    """
    try:
        found = read_json(folder / GUARD)
        if found["schema"] != SCHEMA:
            raise ValueError(f"schema {found['schema']}")
        tensors = load_file(folder / TENSORS) if (folder / TENSORS).is_file() else {}
        return _rules(found["rules"], {name: t.to(device) for name, t in tensors.items()})
    except (KeyError, TypeError, ValueError, AttributeError, OSError, SafetensorError) as error:
        raise InputError(
            "bad-guard",
            what=f"{folder / GUARD} holds no rules that this version reads",
            why=f"it must be a guard that expunge wrote, of schema {SCHEMA}",
            fix="run the guard again with this version",
        ) from error


def require_fitting(rules: GuardRules, network: Network, folder: Path) -> None:
    """Refuse rules that name tokens or blocks that a model does not have, or no possible share.

    Raises:
        InputError: `guard-does-not-fit`.
    """
    config = network.model.config.get_text_config()
    blocks = range(config.num_hidden_layers + 1)
    probe, shots, noise, offset = rules.probe, rules.shots, rules.corruption, rules.offset
    fits = [isinstance(token, int) and 0 <= token < config.vocab_size for token in _named(rules)]
    fits += [len({len(run) for run in rules.blocked}) <= 1, () not in rules.blocked]
    if probe is not None:
        fits += [probe.layer in blocks, probe.weights.shape == (config.hidden_size,)]
        fits.append(_is_number(probe.threshold))
    if shots is not None:
        fits.append(_is_number(shots.number) and shots.number >= 0)
    if noise is not None:
        fits += [_is_number(noise.share) and 0 <= noise.share <= 1, bool(noise.pool)]
    if offset is not None:
        fits += [offset.layers in blocks and offset.layers > 0, bool(offset.factors)]
        fits += [_is_number(offset.weight), _is_number(offset.floor)]
    if all(fits):
        return
    raise InputError(
        "guard-does-not-fit",
        what=f"{folder / GUARD} is not for this model",
        why="its rules name tokens or blocks that the model does not have, or no possible share",
        fix="run the guard again on this model, or name the model that it was made for",
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _named(rules: GuardRules) -> Iterator[object]:
    """Yield every token that rules name."""
    yield from (*rules.reply, *rules.frame.head, *rules.frame.tail)
    for run in rules.blocked:
        yield from run
    if rules.corruption is not None:
        yield from rules.corruption.pool
    if rules.shots is not None:
        for run in (*rules.shots.always, *(run for shot in rules.shots.near for run in shot)):
            yield from run


def guard_to_json(folder: Path) -> str:
    """Return the text of the forget set that the rules in a folder hold; empty where there is none.

    Raises:
        InputError: As `load_guard`.
    """
    folder = model_folder(folder)
    return load_guard(folder, torch.device("cpu")).tells if (folder / GUARD).is_file() else ""


def rules_digest(folder: Path) -> str:
    """Return the SHA-256 of the rules of a guard folder, tensors and all; not of its base."""
    load_guard(folder, torch.device("cpu"))  # refuses what is none
    tensors = folder / TENSORS
    known = sha256_file(tensors) if tensors.is_file() else ""
    return sha256_json([read_json(folder / GUARD)["rules"], known])


def _tensors(rules: GuardRules) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    if rules.probe is not None:
        found["probe"] = rules.probe.weights.contiguous()
    if rules.offset is not None:
        for name, (down, up) in rules.offset.factors.items():
            found[f"{name}.A"], found[f"{name}.B"] = down.contiguous(), up.contiguous()
    return found


def _plain(rules: GuardRules) -> dict[str, Any]:
    probe, shots, noise, offset = rules.probe, rules.shots, rules.corruption, rules.offset
    return {
        "frame": list(rules.frame),
        "probe": probe and {"layer": probe.layer, "threshold": probe.threshold},
        "shots": shots
        and {"near": list(shots.near), "number": shots.number, "always": list(shots.always)},
        "corruption": noise
        and {"share": noise.share, "pool": list(noise.pool), "seed": noise.seed},
        "reply": list(rules.reply),
        "blocked": sorted(rules.blocked),
        "offset": offset
        and {"layers": offset.layers, "weight": offset.weight, "floor": offset.floor},
    }


def _rules(found: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> GuardRules:
    probe, shots, noise = found["probe"], found["shots"], found["corruption"]
    offset = found["offset"]
    if any(part is not None and not part for part in (probe, shots, noise, offset)):
        raise ValueError("an empty rule")
    names = [name.removesuffix(".A") for name in tensors if name.endswith(".A")]
    return GuardRules(
        frame=Frame(*map(tuple, found["frame"])),
        probe=probe and PromptClassifier(weights=tensors["probe"], **probe),
        shots=shots
        and Shots(
            near=tuple((tuple(q), tuple(turn)) for q, turn in shots["near"]),
            number=shots["number"],
            always=_runs(shots["always"]),
        ),
        corruption=noise
        and Corruption(share=noise["share"], pool=tuple(noise["pool"]), seed=noise["seed"]),
        reply=tuple(found["reply"]),
        blocked=frozenset(_runs(found["blocked"])),
        offset=offset
        and Offset(
            factors={name: (tensors[f"{name}.A"], tensors[f"{name}.B"]) for name in names},
            **offset,
        ),
    )


def _runs(rows: list[list[int]]) -> tuple[Ids, ...]:
    return tuple(tuple(row) for row in rows)


FORCE = 20.0
"""Nats by which a rule bends a logit: e^-20 of the odds are left, so that scores stay finite."""


class RewrittenPrompts(NamedTuple):
    """Prompts as the guarded model reads them."""

    prompts: list[Ids]
    """What the model reads."""
    meant: list[bool]
    """Whether the rules are for the prompt."""


def rewrite_prompts(
    network: Network, rules: GuardRules, prompts: Sequence[Ids], *, tokens: int
) -> RewrittenPrompts:
    """Rewrite the prompts that the rules are for.

    Args:
        network: The model.
        rules: What to do.
        prompts: Token ids up to the answer.
        tokens: Largest number of padded tokens in one forward pass.
    """
    meant = _meant(network, rules, prompts, tokens)
    rewritten = [
        _rewrite(rules, prompt) if acts else prompt
        for prompt, acts in zip(prompts, meant, strict=True)
    ]
    return RewrittenPrompts(rewritten, meant)


def adjust_logits(
    rules: GuardRules,
    logits: Tensor,
    *,
    meant: Sequence[bool],
    written: Sequence[Ids],
    aside: Tensor | None = None,
) -> Tensor:
    """Return the logits that the user of a guarded model sees.

    Args:
        rules: What to do.
        logits: Of the model, float32 [n, V].
        meant: Whether the prompt of each row is meant, n of them.
        written: The answer's tokens before each row, n of them.
        aside: Logits of the assistant at the same places, [n, V], where the rules have one.
    """
    bent = logits.clone()  # [n, V]
    if rules.offset is not None and aside is not None:
        bent = _offset(rules.offset, logits, aside)
    # A blocked run is split into its first tokens and the last one, which is barred after them.
    size = len(next(iter(rules.blocked), ())) - 1
    ends: dict[Ids, list[int]] = {}
    for run in rules.blocked:
        ends.setdefault(run[:-1], []).append(run[-1])
    for row, said in enumerate(written):
        if size >= 0 and (barred := ends.get(tuple(said[len(said) - size :]))):
            bent[row, barred] -= FORCE
        if rules.reply and meant[row]:
            forced = rules.reply[min(len(said), len(rules.reply) - 1)]
            bent[row, forced] = bent[row].max() + FORCE
    return bent


def admitted(
    network: Network, records: Sequence[Encoded], *, tokens: int
) -> tuple[Sequence[Encoded], list[bool]]:
    """Return records as the model reads them, and which of them the rules are for."""
    if network.guard is None:
        return records, [False] * len(records)
    found = rewrite_prompts(
        network, network.guard, [r.ids[: r.start] for r in records], tokens=tokens
    )
    read = [
        replace(record, ids=prompt + record.ids[record.start :], start=len(prompt))
        for record, prompt in zip(records, found.prompts, strict=True)
    ]
    return read, found.meant


class GuardedOutputs:
    """The logits of a network on one batch of records, at their scored positions.

    Args:
        network: The model, with or without a guard.
        batch: The records, as the model reads them.
        records: The same.
        meant: Which of them the rules are for.
    """

    def __init__(
        self, network: Network, batch: Batch, records: Sequence[Encoded], meant: Sequence[bool]
    ) -> None:
        self._network, self._rules = network, network.guard
        self._meant: list[bool] = []
        self._written: list[Ids] = []
        self._aside: Tensor | None = None
        if self._rules is None:
            return
        for record, acts in zip(records, meant, strict=True):
            places = range(record.start, len(record.ids))
            self._meant += [acts] * len(places)
            self._written += [record.ids[record.start : place] for place in places]
        if self._rules.offset is not None:
            hidden = assistant_hidden(network, self._rules.offset, batch.ids, layout=batch.layout)
            self._aside = hidden[batch.rows, batch.columns]

    def logits(self, hidden: Tensor, first: int) -> Tensor:
        """Return logits, [n, V] float32, of the n positions from the `first` on; hidden [n, d]."""
        logits = self._network.logits(hidden)
        if self._rules is None:
            return logits
        part = slice(first, first + len(hidden))
        aside = None if self._aside is None else self._network.logits(self._aside[part])
        return adjust_logits(
            self._rules, logits, meant=self._meant[part], written=self._written[part], aside=aside
        )


class StartedAnswers(NamedTuple):
    """An answer that is to be written."""

    read: Ids
    """What the model reads: the rewritten prompt, and the answer as far as it is there."""
    answer: Ids
    meant: bool


def begun_answers(
    network: Network,
    prompts: Sequence[Sequence[int]],
    begun: Sequence[int] | None,
    *,
    tokens: int,
) -> list[StartedAnswers]:
    """Return the answers to write to prompts whose last `begun` tokens are of the answer."""
    if network.guard is None:
        return [StartedAnswers(tuple(prompt), (), False) for prompt in prompts]
    cuts = [len(p) - n for p, n in zip(prompts, begun or [0] * len(prompts), strict=True)]
    opening = [tuple(prompt[:cut]) for prompt, cut in zip(prompts, cuts, strict=True)]
    said = [tuple(prompt[cut:]) for prompt, cut in zip(prompts, cuts, strict=True)]
    found = rewrite_prompts(network, network.guard, opening, tokens=tokens)
    return [
        StartedAnswers(prompt + answer, answer, acts)
        for prompt, answer, acts in zip(found.prompts, said, found.meant, strict=True)
    ]


class AssistantLogits:
    """What a guard adds while a batch of answers is written, in step with the model's own cache.

    Args:
        network: The model, with or without a guard.
        answers: The answers of the batch, a row each.
    """

    def __init__(self, network: Network, answers: Sequence[StartedAnswers]) -> None:
        self._network, self._rules = network, network.guard
        self._rows = list(answers)
        self._cache = new_cache(network.model.config)
        self._logits: Tensor | None = None

    def read(self, ids: Tensor, mask: Tensor, positions: Tensor) -> None:
        """Let the assistant, where there is one, read the tokens that the model just read."""
        if self._rules is None or self._rules.offset is None:
            return
        hidden = assistant_hidden(
            self._network,
            self._rules.offset,
            ids,
            cache=self._cache,
            where={"attention_mask": mask, "position_ids": positions},
        )
        self._logits = self._network.logits(hidden[:, -1])

    def repeat(self, copies: int) -> None:
        """Let every row stand for several answers from now on."""
        self._rows = [row for row in self._rows for _ in range(copies)]
        if self._logits is not None:
            self._cache.batch_repeat_interleave(copies)
            self._logits = self._logits.repeat_interleave(copies, dim=0)

    def select(self, index: Tensor) -> None:
        """Keep some rows."""
        self._rows = [self._rows[place] for place in index.tolist()]
        if self._logits is not None:
            self._cache.batch_select_indices(index)

    def bent(self, logits: Tensor, written: Sequence[Ids]) -> Tensor:
        """Return the logits of the next tokens, [b, V], given the new tokens of each row."""
        if self._rules is None:
            return logits
        said = [row.answer + new for row, new in zip(self._rows, written, strict=True)]
        meant = [row.meant for row in self._rows]
        return adjust_logits(self._rules, logits, meant=meant, written=said, aside=self._logits)


@torch.no_grad()
def features(
    network: Network, prompts: Sequence[Ids], frame: Frame, layer: int, *, tokens: int
) -> Tensor:
    """Return the mean state after a block over the own tokens of each prompt, [n, d] float32."""
    width = network.model.config.get_text_config().hidden_size
    found = torch.zeros(len(prompts), width)
    for group in by_length([len(prompt) for prompt in prompts], tokens=tokens):
        longest = max(len(prompts[index]) for index in group)
        ids = torch.zeros(len(group), longest, dtype=torch.long)
        for row, index in enumerate(group):
            ids[row, : len(prompts[index])] = torch.tensor(prompts[index])
        site = Site(layer)
        states = network.observe(ids.to(network.device), sites=(site,), final=False).states[site]
        for row, index in enumerate(group):
            own = states[row, len(frame.head) : len(prompts[index]) - len(frame.tail)]
            found[index] = own.float().mean(0).cpu()
    return found


@contextmanager
def unguarded(network: Network) -> Generator[None]:
    """Use the bare model inside the block."""
    kept, network.guard = network.guard, None
    try:
        yield
    finally:
        network.guard = kept


@torch.no_grad()
def assistant_hidden(
    network: Network,
    offset: Offset,
    ids: Tensor,
    *,
    layout: PackLayout | None = None,
    cache: DynamicCache | None = None,
    where: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """Run the assistant: the lower blocks under their change and the final norm, [B, L, d]."""
    site = Site(offset.layers - 1)
    with ExitStack() as stack:
        for name, (down, up) in offset.factors.items():
            module = network.model.get_submodule(name)
            stack.enter_context(_corrected(module, down, up))
        seen = network.observe(
            ids, sites=(site,), final=False, layout=layout, cache=cache, where=where
        )
    return network.lens(seen.states[site])


@contextmanager
def _corrected(module: torch.nn.Module, down: Tensor, up: Tensor) -> Generator[None]:
    def add(_module: object, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        low = functional.linear(inputs[0], down.to(inputs[0]))
        return output + functional.linear(low, up.to(output))

    handle = module.register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()


def _offset(offset: Offset, logits: Tensor, aside: Tensor) -> Tensor:
    # [n, V]: above zero where the assistant finds a token likelier than a uniform guess.
    said = torch.log_softmax(aside, dim=-1) + torch.log(torch.tensor(float(aside.shape[-1])))
    likely = torch.log_softmax(logits, dim=-1)
    near = likely >= likely.max(-1, keepdim=True).values + torch.log(torch.tensor(offset.floor))
    return torch.where(near, logits + offset.weight * said, logits)


def _meant(network: Network, rules: GuardRules, prompts: Sequence[Ids], tokens: int) -> list[bool]:
    acts = bool(rules.shots or rules.corruption or rules.reply)
    if rules.probe is None or not acts:
        return [acts] * len(prompts)
    probe, frame = rules.probe, rules.frame
    framed = [i for i, prompt in enumerate(prompts) if own_part(prompt, frame)]
    scores = _scores(network, probe, [prompts[i] for i in framed], frame, tokens)
    meant = [False] * len(prompts)
    for index, score in zip(framed, scores, strict=True):
        meant[index] = score > probe.threshold
    return meant


def _scores(
    network: Network, probe: PromptClassifier, prompts: Sequence[Ids], frame: Frame, tokens: int
) -> list[float]:
    if not prompts:
        return []
    found = features(network, prompts, frame, probe.layer, tokens=tokens)
    return (found @ probe.weights.cpu()).tolist()


def own_part(prompt: Ids, frame: Frame) -> Ids:
    """Return the part of a prompt between head and tail; empty where it has not this frame."""
    if prompt[: len(frame.head)] != frame.head:
        return ()
    start, end = len(frame.head), len(prompt) - len(frame.tail)
    return prompt[start : max(start, end)]


def _rewrite(rules: GuardRules, prompt: Ids) -> Ids:
    own = own_part(prompt, rules.frame)
    if not own:
        return prompt
    head, tail = rules.frame.head, prompt[len(rules.frame.head) + len(own) :]
    if rules.corruption is not None:
        draw = random.Random(f"{rules.corruption.seed} {own}")
        count = round(rules.corruption.share * len(own))
        places = set(draw.sample(range(len(own)), count))
        own = tuple(
            draw.choice(rules.corruption.pool) if place in places else token
            for place, token in enumerate(own)
        )
    before = () if rules.shots is None else _turns(rules.shots, own)
    return head + before + own + tail


def _turns(shots: Shots, own: Ids) -> Ids:
    words = set(own)
    # The most similar example, by shared tokens, stands last: next to the question.
    ranked = sorted(shots.near, key=lambda shot: -len(words & set(shot[0])) / len(words))
    chosen = [*shots.always, *(turn for _, turn in reversed(ranked[: shots.number]))]
    return tuple(token for turn in chosen for token in turn)
