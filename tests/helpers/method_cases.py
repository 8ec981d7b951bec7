"""One row per method: adding a method adds a row here and inherits every generic test."""

from dataclasses import dataclass, field

from expunge.methods import build
from expunge.methods.base import Method


@dataclass(frozen=True, kw_only=True)
class Case:
    """A method with knobs, and what to expect of it."""

    name: str
    knobs: dict[str, object] = field(default_factory=dict)
    lr: float = 3e-3
    loses: str = ""
    """Why retained answers need not survive training."""
    constant: str = ""
    """What the loss holds constant, so that its gradient is not the slope of its value."""

    @property
    def id(self) -> str:
        return "-".join([self.name, *(f"{k}={v}" for k, v in self.knobs.items())])

    def build(self) -> Method:
        return build(self.name, self.knobs)


ALONE = "there is no retain term"
PINNED = "the states are pinned, not the answers"
CASES = (
    Case(name="graddiff"),
    Case(name="graddiff", knobs={"retain": "kl"}),
    Case(name="graddiff", knobs={"retain": "jsd"}),
    Case(name="ga", loses=ALONE),
    Case(name="wga"),
    Case(name="wga", knobs={"beta": 0.5}),
    Case(name="satimp", constant="the weight of a token"),
    Case(name="unlikelihood"),
    Case(name="unlikelihood", knobs={"skip": 1, "cut": -5.0, "retain": "kl"}),
    Case(name="ihl"),
    Case(name="maxent"),
    Case(name="pdu"),
    Case(name="pdu", knobs={"slack": 0.5, "wait": 0.0, "start": 1.0}),
    Case(name="jensun"),
    Case(name="jensun", knobs={"token": 7}),
    *(Case(name="flat", knobs={"divergence": d, "retain": "nll"}) for d in ("kl", "pearson", "js")),
    Case(name="flat", loses=ALONE),
    Case(name="llmu"),
    Case(name="npo"),
    Case(name="npo", knobs={"beta": 1.0, "retain": "kl", "alpha": 2.0}),
    Case(name="simnpo", knobs={"gamma": 1.0, "delta": 0.5}),
    Case(name="dpo"),
    Case(name="dpo", knobs={"beta": 0.5, "retain": "kl"}),
    Case(name="replace", knobs={"alpha": 2.0}),
    Case(name="replace", knobs={"beta": 0.5, "teach": 0.5, "retain": "nll", "alpha": 1.0}),
    Case(name="level"),
    Case(name="level", knobs={"teach": 2.0, "sharp": 0.5, "retain": "nll"}),
    Case(name="idk"),
    Case(name="tnpo"),
    Case(name="tnpo", knobs={"beta": 4.0, "retain": "argmax"}),
    Case(name="simdpo"),
    Case(name="simdpo", knobs={"delta": 0.5, "retain": "kl"}),
    Case(name="kto", knobs={"gamma": 40.0}, constant="the anchor"),
    Case(name="altpo"),
    Case(name="idk_ap"),
    Case(name="random_label"),
    Case(name="relearn"),
    # Records known by heart are hardly reinforced further: it takes strength to see it.
    Case(name="whp", knobs={"strength": 300.0, "retain": "nll"}),
    Case(name="whp", knobs={"strength": 300.0, "retain": "nll", "target": "soft"}),
    Case(name="undial", knobs={"retain": "nll"}),
    Case(name="unilogit"),
    Case(name="unilogit", knobs={"direction": "forward"}),
    Case(name="rwhp"),
    Case(name="counterfactual"),
    Case(name="counterfactual", knobs={"pin": 0.0, "general": 0.0, "retain": "nll"}),
    Case(name="elm", knobs={"ramp": 5}),
    Case(name="rmu", knobs={"layer": 1, "steering": 5.0, "alpha": 10.0}, lr=3e-2, loses=PINNED),
    Case(name="adaptive_rmu", knobs={"layer": 1, "alpha": 10.0}, lr=3e-2),
    Case(name="rr", knobs={"layers": "0,1"}),
    Case(name="repnoise", knobs={"beta": 1.0}),
)
