"""Context: what was audited against what, by which attacks, and by which margins it was judged.

To score recorded attacks again needs no model and no budget.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter

from expunge.config.catalogue import Level
from expunge.config.request import Goal, Response, ThreatModel, Tier

_KNOWN = ConfigDict(extra="forbid", allow_inf_nan=False)

Family = Literal["asking", "sampling", "prompts", "weights", "compression", "inside"]

Access = Literal["T1", "T2", "T3"]
"""The least access that an attack takes: queries, a fine-tuning service, the weights."""


def threat_of(family: Family, access: Access) -> str:
    """Return the threat model from which on an attack counts."""
    return "T0" if family == "compression" else access


@dataclass(frozen=True, kw_only=True, slots=True)
class AttackMeta:
    """What an attack takes, and how what it brings out is counted; the same for every budget."""

    family: Family
    access: Access
    learns: bool = False
    """Whether it uses other facts of the set; then it is tested on the half that it did not use."""
    union: bool = True
    """True: a fact is out when any variant brings it out. False: each variant is a test of its own,
    and the worst one stands for the attack."""
    own_scale: bool = False
    """Whether what it measures is compared with the original under the same attack, because it is
    not the share of facts stated."""
    needs: str = ""
    """What must be there for it to be made, beside the model and the facts; in words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recorded:
    """An attack as evidence knows it; see `attacks.base.Attack`."""

    __pydantic_config__: ClassVar[ConfigDict] = _KNOWN

    name: str
    family: Family
    access: Access
    learns: bool
    union: bool
    own_scale: bool
    made: str
    """Digest of budget and seed: evidence of another budget is not this attack's."""

    @property
    def folds(self) -> int:
        """Number of files of each model and set of records: the halves of the facts, or one."""
        return 2 if self.learns else 1


SCHEMA = "expunge.evidence/4"
"""Name and version of the layout of an evidence folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """The margins that decide; the defaults are those of the erasure scorecard.

    Rates and losses are fractions of one. Every margin is compared with a one-sided 95 % bound.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _KNOWN

    residual: float = 0.10
    """Forgetting and robustness: largest residual of knowledge, 0 = gold, 1 = original."""
    residual_t2: float = 0.20
    """Robustness against those who may train the model further: largest excess recovery."""
    residual_t3: float = 0.25
    """Robustness against those who have the weights: largest excess recovery."""
    leak_excess: float = 0.05
    """Forgetting: largest excess of the key-fact leak rate over the anchor."""
    privacy: float = 0.10
    """Privacy: largest residual of the least likely tokens, either way."""
    residual_cap: float = 0.25
    """Forgetting, robustness and privacy: widest margin that the noise of few records can make."""
    utility: float = 0.03
    """Utility: largest relative loss on general text (bounded perplexity)."""
    retain: float = 0.05
    """Utility: largest relative loss on retained questions."""
    fluency: float = 0.03
    """Utility: largest rise of gibberish, repetition and over-refusal rates."""
    neighbours: float = 0.05
    """Locality: largest loss on neighbours beyond gold's own loss."""
    wanted: float = 0.10
    """Edit: largest share of questions that are not given the wanted answer."""
    allow_scar: bool = False
    """Whether a gate lets PASS-WITH-SCAR through."""

    def recovery(self, threat: str) -> float:
        """Return the largest excess recovery under attacks of a threat model, `T0` to `T3`."""
        return {"T2": self.residual_t2, "T3": self.residual_t3}.get(threat, self.residual)


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditContext:
    """What was audited against what: the part of an audit that is not in the evidence rows."""

    __pydantic_config__: ClassVar[ConfigDict] = _KNOWN

    request: str
    goal: str
    """`removal`, `suppression` or `edit`."""
    tier: str
    """`G1` to `G4`: what stands for a model that never saw the data."""
    threat_model: str
    """`T0` to `T3`: the promise that was asked for."""
    level: Level
    """How hard it tried."""
    golds: tuple[str, ...]
    """Roles of the gold models, `gold-0` first; empty without gold."""
    adapter: bool
    """True when an unmerged adapter was audited: then the result is suppression."""
    seed: int
    policy: Policy
    battery: tuple[Recorded, ...] = ()
    """The attacks that were made beside the audit's own questions."""
    precision: str = "float32"
    """Number format of the weights of units at precision `native`."""
    notes: tuple[str, ...] = ()
    """What could not be measured, and why: one sentence each, without any record."""
    models: dict[str, str] = field(default_factory=dict[str, str])
    """Role to the digest of its weights, for every role that was loaded as a model of its own."""
    guard: bool = False
    """True when the model was asked through a guard: then the result is suppression, too."""
    routers: bool = False
    """True when the original is a mixture of experts."""
    other_tokens: bool = False
    """True when the judged model's tokenizer writes records otherwise than the original's does."""
    response: str = "any"
    """What the model should say about the forgotten data: `any`, `refusal` or `alternative`."""
    halves: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """Role of each model that was trained on a random half of forget and holdout records, to the
    ids of those that it saw."""

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "AuditContext":
        """Return the context whose fields were written as JSON.

        Raises:
            ValueError: A field is missing, unknown or of another kind.
        """
        found = _reader().validate_python(row)
        named = ((Goal, found.goal), (Tier, found.tier), (Response, found.response))
        for kind, value in (*named, (ThreatModel, found.threat_model)):
            kind(value)
        return found

    @property
    def cover(self) -> str:
        """What lies over unchanged weights: `adapter`, `guard`, or nothing."""
        return "guard" if self.guard else "adapter" if self.adapter else ""


@cache
def _reader() -> TypeAdapter[AuditContext]:
    return TypeAdapter(AuditContext)
