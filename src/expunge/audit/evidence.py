"""Evidence: what a model did on each record, stored raw, from which every number is recomputed.

One *unit* is one file: what one model said on one set of records under one attack. Units are
written whole or not at all, so an interrupted audit goes on with the units that are missing.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from expunge.files import read_json, read_jsonl, write_json, write_jsonl

Kind = Literal["scores", "answers"]

PLAIN = "plain"
"""The attack name of evidence taken without an attack."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """The record that evidence refers to, with all that metrics need of it.

    Personal data: this is the forget set itself. It stays in the evidence folder and is never
    copied into the manifest, the model card or the log.
    """

    record: str
    split: str
    """`forget`, `retain`, `neighbours`, `holdout`, `control` or `generic`."""
    question: str
    answer: str
    key_answers: tuple[str, ...] = ()
    subject: str | None = None
    relation: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """One teacher-forced pass of one model over one record: a row per scored token.

    The tokens of the answer come first; when `ends` is true the last token is the end-of-turn
    token. Metrics score the answer only: `content` drops the end token by this flag, not by guess.
    """

    record: str
    logp: tuple[float, ...]
    """log p(token | what precedes it), nats, float32 softmax."""
    hit: tuple[bool, ...]
    """Whether the token is the model's most likely one."""
    z: tuple[float, ...]
    """(log p - mean) / sd of log-probabilities over the vocabulary under the model (Min-K++)."""
    ends: bool
    zlib: int
    """Bytes of the answer's UTF-8 text after zlib."""

    @property
    def content(self) -> int:
        """Number of scored tokens without the end-of-turn token."""
        return len(self.logp) - int(self.ends)


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """One greedy answer of one model to one question.

    `given` is the part of the answer that the attack put into the model's mouth (a prefill); `text`
    is what the model added. `nll` is the mean negative log-probability per token of the model's own
    text under the original model, for fluency, where measured.
    """

    record: str
    text: str
    given: str = ""
    nll: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """Names one evidence file: model role, set of records, attack, and kind of evidence."""

    role: str
    """`original`, `unlearned`, `gold-0`, `gold-1`, ..., or `ladder-0.25` and so on."""
    split: str
    attack: str = PLAIN
    kind: Kind

    @property
    def filename(self) -> str:
        """`role.split.attack.kind.jsonl`."""
        return f"{self.role}.{self.split}.{self.attack}.{self.kind}.jsonl"


class EvidenceStore:
    """The evidence folder of a run: `items.jsonl`, `context.json` and one file per unit."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def has(self, unit: Unit) -> bool:
        """Tell whether the unit has been collected."""
        return (self.folder / unit.filename).is_file()

    def units(self) -> list[Unit]:
        """List all collected units, sorted by name."""
        found: list[Unit] = []
        for path in sorted(self.folder.glob("*.*.*.jsonl")):
            role_split_attack, _, kind = path.name.removesuffix(".jsonl").rpartition(".")
            head, _, attack = role_split_attack.rpartition(".")
            role, _, split = head.rpartition(".")
            found.append(
                Unit(
                    role=role,
                    split=split,
                    attack=attack,
                    kind="scores" if kind == "scores" else "answers",
                )
            )
        return found

    def write_items(self, items: list[Item]) -> None:
        """Write the records that the evidence refers to."""
        write_jsonl(self.folder / "items.jsonl", (asdict(item) for item in items))

    def items(self, split: str | None = None) -> list[Item]:
        """Read the items, all or those of one set, in the order written."""
        rows = read_jsonl(self.folder / "items.jsonl")
        for row in rows:
            row["key_answers"] = tuple(row["key_answers"])
        items = [Item(**row) for row in rows]
        return [item for item in items if split is None or item.split == split]

    def write_scores(self, unit: Unit, scores: list[Scores]) -> None:
        """Write the scores of one unit, rounded to six decimals, whole or not at all."""
        write_jsonl(
            self.folder / unit.filename,
            (
                {
                    **asdict(score),
                    "logp": [round(x, 6) for x in score.logp],
                    "z": [round(x, 6) for x in score.z],
                }
                for score in scores
            ),
        )

    def scores(self, unit: Unit) -> list[Scores]:
        """Read the scores of one unit in the order of its records."""
        return [
            Scores(
                record=row["record"],
                logp=tuple(row["logp"]),
                hit=tuple(row["hit"]),
                z=tuple(row["z"]),
                ends=row["ends"],
                zlib=row["zlib"],
            )
            for row in read_jsonl(self.folder / unit.filename)
        ]

    def write_answers(self, unit: Unit, answers: list[Answer]) -> None:
        """Write the answers of one unit, whole or not at all."""
        write_jsonl(self.folder / unit.filename, (asdict(answer) for answer in answers))

    def answers(self, unit: Unit) -> list[Answer]:
        """Read the answers of one unit in the order of its records."""
        return [Answer(**row) for row in read_jsonl(self.folder / unit.filename)]

    def write_context(self, context: "Context") -> None:
        """Write what was audited against what, by which rules."""
        write_json(self.folder / "context.json", asdict(context))

    def context(self) -> "Context":
        """Read what was audited against what, by which rules."""
        row = read_json(self.folder / "context.json")
        row["golds"], row["policy"] = tuple(row["golds"]), Policy(**row["policy"])
        return Context(**row)


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """The margins that decide; the defaults are those of the erasure scorecard.

    Rates and losses are fractions of one. Every margin is compared with a one-sided 95 % bound.
    """

    residual: float = 0.10
    """Forgetting and robustness: largest residual of knowledge, 0 = gold, 1 = original."""
    leak_excess: float = 0.05
    """Forgetting: largest excess of the key-fact leak rate over the anchor."""
    straggler_excess: float = 0.05
    """Forgetting: largest excess of the straggler rate over the 5 % expected by construction."""
    privacy: float = 0.10
    """Privacy: largest distance of a membership AUC from gold's (0.05 from 400 records on)."""
    utility: float = 0.03
    """Utility: largest relative loss on general text (perplexity)."""
    retain: float = 0.05
    """Utility: largest relative loss on retained questions."""
    fluency: float = 0.03
    """Utility: largest rise of gibberish, repetition and over-refusal rates."""
    neighbours: float = 0.05
    """Locality: largest loss on neighbours beyond gold's own loss."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """What was audited against what: the part of an audit that is not in the evidence rows."""

    request: str
    goal: str
    """`removal`, `suppression` or `edit`."""
    tier: str
    """`G1` to `G4`: what stands for a model that never saw the data."""
    threat_model: str
    """`T0` to `T3`: the promise that was asked for."""
    level: str
    """`quick`, `standard` or `paranoid`."""
    golds: tuple[str, ...]
    """Roles of the gold models, `gold-0` first; empty without gold."""
    adapter: bool
    """True when an unmerged adapter was audited: then the result is suppression."""
    seed: int
    policy: Policy
