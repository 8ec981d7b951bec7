"""One row per method: adding a method adds a row here and inherits every generic test."""

from dataclasses import dataclass, field

from expunge.methods import build
from expunge.methods.terms import Method


@dataclass(frozen=True, kw_only=True)
class Case:
    """A method with knobs, and what to expect of it."""

    name: str
    knobs: dict[str, object] = field(default_factory=dict)
    lr: float = 3e-3

    @property
    def id(self) -> str:
        return "-".join([self.name, *(f"{k}={v}" for k, v in self.knobs.items())])

    def build(self) -> Method:
        return build(self.name, self.knobs)


CASES = (
    Case(name="graddiff"),
    Case(name="graddiff", knobs={"retain": "kl"}),
    Case(name="npo"),
    Case(name="npo", knobs={"beta": 1.0, "retain": "kl", "alpha": 2.0}),
    Case(name="simnpo", knobs={"gamma": 1.0, "delta": 0.5}),
    Case(name="dpo"),
    Case(name="dpo", knobs={"beta": 0.5, "retain": "kl"}),
    Case(name="idk"),
    Case(name="rmu", knobs={"layer": 1, "steering": 5.0, "alpha": 10.0}, lr=3e-2),
)
