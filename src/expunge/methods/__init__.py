"""The methods: each a frozen set of terms, the formula in its own file.

`METHODS` is the whole list. A method from elsewhere is named `package.module:Class`.
"""

from collections.abc import Mapping

from expunge.methods.dpo import DPO
from expunge.methods.graddiff import GradDiff
from expunge.methods.idk import IDK
from expunge.methods.npo import NPO
from expunge.methods.rmu import RMU
from expunge.methods.simnpo import SimNPO
from expunge.methods.terms import Method
from expunge.named import build_named

METHODS: dict[str, type[Method]] = {
    "graddiff": GradDiff,
    "npo": NPO,
    "simnpo": SimNPO,
    "idk": IDK,
    "dpo": DPO,
    "rmu": RMU,
}


def build(name: str, knobs: Mapping[str, object]) -> Method:
    """Make a method from its name, a key of `METHODS` or `package.module:Class`, and its knobs.

    Raises:
        UsageError: No such method, no such knob, or a value of the wrong type.
    """
    return build_named(METHODS, name, knobs, what="method")
