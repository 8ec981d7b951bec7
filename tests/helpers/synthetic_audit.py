"""A small world of synthetic evidence: models that know, do not know, hide, or are broken."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from expunge.evidence.context import AuditContext, Policy
from expunge.evidence.store import Answer, EvidenceStore, Item, Scores, Unit

ATTACKS = ("paraphrase", "prefill-affirm", "prefill-25", "prefill-50", "int8", "int4")
TOKENS = 8
SIZES = {"forget": 20, "retain": 40, "neighbours": 30, "holdout": 40, "control": 20, "generic": 30}

Knows = Callable[[str, int, str], bool]
"""(split, index, attack) -> whether the model knows the record there."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """What a synthetic model does; `noise` is its own seed."""

    knows: Knows
    noise: int = 0
    says: str | None = None
    """What it says to a plain forget question instead of an answer."""
    worse: float = 0.0
    """Nats per token by which general text got less likely."""
    shift: float = 0.0
    """Nats per token added to forget records: negative shuns them."""


def trained(split: str, _: int, __: str) -> bool:
    return split in ("forget", "retain", "neighbours")


def never(split: str, _: int, __: str) -> bool:
    return split in ("retain", "neighbours")


def _rng(*parts: object) -> np.random.Generator:
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def items(sizes: dict[str, int], subjects: int = 1) -> list[Item]:
    return [
        Item(
            record=f"{split}-{index}",
            split=split,
            question="" if split == "generic" else f"What is fact {split} of person {index}?",
            answer=f"the answer is {_fact(split, index)}",
            key_answers=() if split == "generic" else (_fact(split, index),),
            subject=f"{split}-{index % subjects}" if split != "generic" else None,
            relation=("family" if index % 2 else "town") if split == "neighbours" else None,
        )
        for split, size in sizes.items()
        for index in range(size)
    ]


def _fact(split: str, index: int) -> str:
    return f"zq{split}{index}"


def scores(model: Model, split: str, index: int, attack: str) -> Scores:
    """Known: nearly certain. Unknown: hard by the record, alike for all models, plus noise."""
    known = model.knows(split, index, attack)
    hard = _rng("hard", split, index)
    base = hard.normal(-2.2, 0.5) + 0.7 * hard.normal(size=TOKENS)
    own = _rng("own", model.noise, split, index, attack)
    logp = base + 0.15 * own.normal() + 0.2 * own.normal(size=TOKENS)
    if known:
        logp = -0.02 - 0.03 * own.random(TOKENS)
    if split == "generic":
        logp = base - model.worse
    if split == "forget":
        logp = logp + model.shift
    logp = np.minimum(logp, -1e-4)
    hit = logp > math.log(0.5)
    if not known:
        hit = hit | (np.arange(TOKENS) < 2)
        hit[-1] = False
    return Scores(
        record=f"{split}-{index}",
        logp=tuple(float(x) for x in logp),
        hit=tuple(bool(x) for x in hit),
        z=tuple(float(x) / 2 + 1 for x in logp),
        ends=False,
        zlib=30,
    )


def answer(model: Model, split: str, index: int, attack: str) -> Answer:
    known = model.knows(split, index, attack)
    text = f"the answer is {_fact(split, index)}" if known else f"the answer is other{index}"
    if model.says is not None and split == "forget" and attack == "plain":
        text = model.says
    given = {"prefill-25": "the", "prefill-50": "the answer"}.get(attack, "")
    return Answer(record=f"{split}-{index}", text=text.removeprefix(given), given=given, nll=1.0)


def collect(store: EvidenceStore, role: str, model: Model, sizes: dict[str, int]) -> None:
    """Write all units of one role; a ladder role has forget scores only."""

    def unit(split: str, attack: str, kind: str) -> None:
        name = Unit.under(attack, role=role, split=split, kind=kind)  # type: ignore[arg-type]
        rows = range(sizes[split])
        if kind == "scores":
            store.write_scores(name, [scores(model, split, row, attack) for row in rows])
        else:
            store.write_answers(name, [answer(model, split, row, attack) for row in rows])

    if role.startswith("ladder"):
        return unit("forget", "plain", "scores")
    for split in sizes:
        unit(split, "plain", "scores")
        if split not in ("generic", "holdout"):
            unit(split, "plain", "answers")
    for attack in ATTACKS:
        splits = ("forget", "control") if "control" in sizes else ("forget",)
        for split in splits:
            unit(split, attack, "answers")
            if attack.startswith("int"):
                unit(split, attack, "scores")
    return None


def _between(original: Model, unlearned: Model, step: float) -> Knows:
    """An interpolated model: the first `step` of every four records are as in the unlearned one."""

    def knows(split: str, index: int, attack: str) -> bool:
        nearer = unlearned if index % 4 < 4 * step else original
        return nearer.knows(split, index, attack) and nearer.says is None

    return knows


def world(
    folder: Path,
    unlearned: Model,
    *,
    original: Model | None = None,
    golds: int = 2,
    sizes: dict[str, int] = SIZES,
    subjects: int = 1,
    ladder: bool = True,
    seed: int = 0,
    goal: str = "removal",
    adapter: bool = False,
) -> EvidenceStore:
    """Write a whole evidence folder: original, unlearned, golds and ladder."""
    store = EvidenceStore(folder)
    store.write_items(items(sizes, subjects))
    original = original or Model(knows=trained, noise=1000 + seed)
    collect(store, "original", original, sizes)
    collect(store, "unlearned", unlearned, sizes)
    for index in range(golds):
        collect(store, f"gold-{index}", Model(knows=never, noise=2000 + 10 * seed + index), sizes)
    for step in (0.25, 0.5, 0.75) if ladder else ():
        between = Model(knows=_between(original, unlearned, step), noise=3000)
        collect(store, f"ladder-{step}", between, {"forget": sizes["forget"]})
    store.write_context(
        AuditContext(
            request="synthetic",
            goal=goal,
            tier="G2" if golds else "G4",
            threat_model="T1",
            level="quick",
            golds=tuple(f"gold-{index}" for index in range(golds)),
            adapter=adapter,
            seed=seed,
            policy=Policy(),
        )
    )
    return store
