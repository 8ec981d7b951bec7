"""The methods: each a frozen set of terms, an operation on weights, or rules around a model.

The formula stands in each file. `METHODS`, `EDITS` and `GUARDS` are the whole list. One from
elsewhere is named `package.module:Class`.
"""

from collections.abc import Mapping

from expunge.methods.adaptive_rmu import AdaptiveRMU
from expunge.methods.altpo import AltPO
from expunge.methods.ascent_and_sft import Replace
from expunge.methods.base import Method
from expunge.methods.counterfactual import Counterfactual
from expunge.methods.dpo import DPO
from expunge.methods.edits.alphaedit import AlphaEdit
from expunge.methods.edits.base import Edit
from expunge.methods.edits.cir import CIR
from expunge.methods.edits.influence import Influence
from expunge.methods.edits.lunar import LUNAR
from expunge.methods.edits.repselect import RepSelect
from expunge.methods.edits.rewind import Rewind
from expunge.methods.edits.ssd import SSD
from expunge.methods.edits.task_vector import TaskVector
from expunge.methods.edits.ties import Ties
from expunge.methods.edits.undo import UNDO
from expunge.methods.elm import ELM
from expunge.methods.flat import FLAT
from expunge.methods.ga import GA
from expunge.methods.graddiff import GradDiff
from expunge.methods.guards.base import Guard
from expunge.methods.guards.eco import ECO
from expunge.methods.guards.icul import ICUL
from expunge.methods.guards.ngram_block import NGramBlock
from expunge.methods.guards.refusal_guard import RefusalGuard
from expunge.methods.guards.uld import ULD
from expunge.methods.idk import IDK
from expunge.methods.idk_ap import IDKAP
from expunge.methods.ihl import IHL
from expunge.methods.jensun import JensUn
from expunge.methods.kto import KTO
from expunge.methods.llmu import LLMU
from expunge.methods.maxent import MaxEnt
from expunge.methods.nll_match import Level
from expunge.methods.npo import NPO
from expunge.methods.pdu import PDU
from expunge.methods.random_label import RandomLabel
from expunge.methods.relearn import ReLearn
from expunge.methods.repnoise import RepNoise
from expunge.methods.rmu import RMU
from expunge.methods.rr import RR
from expunge.methods.rwhp import RWHP
from expunge.methods.satimp import SatImp
from expunge.methods.simdpo import SimDPO
from expunge.methods.simnpo import SimNPO
from expunge.methods.tnpo import TNPO
from expunge.methods.undial import UNDIAL
from expunge.methods.unilogit import Unilogit
from expunge.methods.unlikelihood import Unlikelihood
from expunge.methods.wga import WGA
from expunge.methods.whp import WHP
from expunge.utils.registry import build_named

METHODS: dict[str, type[Method]] = {
    "graddiff": GradDiff,
    "ga": GA,
    "wga": WGA,
    "satimp": SatImp,
    "unlikelihood": Unlikelihood,
    "ihl": IHL,
    "maxent": MaxEnt,
    "pdu": PDU,
    "jensun": JensUn,
    "flat": FLAT,
    "llmu": LLMU,
    "npo": NPO,
    "simnpo": SimNPO,
    "level": Level,
    "idk": IDK,
    "dpo": DPO,
    "tnpo": TNPO,
    "simdpo": SimDPO,
    "replace": Replace,
    "kto": KTO,
    "altpo": AltPO,
    "idk_ap": IDKAP,
    "random_label": RandomLabel,
    "relearn": ReLearn,
    "whp": WHP,
    "undial": UNDIAL,
    "unilogit": Unilogit,
    "rwhp": RWHP,
    "counterfactual": Counterfactual,
    "elm": ELM,
    "rmu": RMU,
    "adaptive_rmu": AdaptiveRMU,
    "rr": RR,
    "repnoise": RepNoise,
}


EDITS: dict[str, type[Edit]] = {
    "ssd": SSD,
    "influence": Influence,
    "task_vector": TaskVector,
    "ties": Ties,
    "undo": UNDO,
    "lunar": LUNAR,
    "alphaedit": AlphaEdit,
    "cir": CIR,
    "repselect": RepSelect,
    "rewind": Rewind,
}

GUARDS: dict[str, type[Guard]] = {
    "ngram_block": NGramBlock,
    "refusal_guard": RefusalGuard,
    "eco": ECO,
    "icul": ICUL,
    "uld": ULD,
}

AnyMethod = Method | Edit | Guard
EVERY: dict[str, type[Method] | type[Edit] | type[Guard]] = {**METHODS, **EDITS, **GUARDS}
"""Every method, edit and guard that `--method` accepts."""


def build(name: str, parameters: Mapping[str, object]) -> AnyMethod:
    """Make a method from its name and its hyperparameters.

    Args:
        name: A key of `EVERY`, or `package.module:Class`.
        parameters: Its hyperparameters.

    Raises:
        UsageError: No such method or hyperparameter, or a value of the wrong type.

    Example:
        >>> build("npo", {"beta": 0.2}).beta
        0.2
    """
    return build_named(EVERY, name, parameters, what="method")
