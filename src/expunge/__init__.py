"""expunge: make a language model forget, and show it.

The public names are functions of the same name as the commands, and the types that they take and
return. Each is loaded when it is first used: `import expunge` itself loads no other library.

Example:
    >>> import expunge
    >>> "forget" in expunge.__all__
    True
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from expunge.benchmarking.run import BenchArguments, bench
    from expunge.benchmarking.tune import Tuned, tune
    from expunge.config.queue import Queue, read_queue
    from expunge.config.request import Request
    from expunge.config.settings import FinetuneSettings, Settings
    from expunge.data.readers import read
    from expunge.errors import ExpungeError
    from expunge.evals.results import Results
    from expunge.ledger.documents.annex import annex
    from expunge.ledger.documents.approval import approve
    from expunge.ledger.documents.certificate import certificate
    from expunge.ledger.documents.letter import LetterDetails, WrittenLetter, letter
    from expunge.ledger.store import Ledger
    from expunge.ledger.verify import LedgerVerification, verify_ledger
    from expunge.pipeline.attack import AttackedModel, attack
    from expunge.pipeline.canaries import PlantedData, audit_canaries, plant
    from expunge.pipeline.chain import chain
    from expunge.pipeline.chain_state import ChainOutcome
    from expunge.pipeline.chat import ChatReply, ChatSession, chat
    from expunge.pipeline.exact import forget_exactly
    from expunge.pipeline.finetune import train
    from expunge.pipeline.forget import RunOutcome
    from expunge.pipeline.gold import gold
    from expunge.pipeline.locate import LocatedFacts, locate
    from expunge.pipeline.merge import merge
    from expunge.pipeline.plan import Plan
    from expunge.pipeline.probes import probes
    from expunge.pipeline.push import push
    from expunge.pipeline.reapply import ReappliedUpdate, reapply
    from expunge.pipeline.recheck import Recheck, recheck
    from expunge.pipeline.request import WrittenRequest, request
    from expunge.pipeline.rollback import rollback
    from expunge.pipeline.trace import TracedData, trace
    from expunge.pipeline.verbs import audit, forget, plan
    from expunge.provenance.training_facts import TrainedRun
    from expunge.provenance.verify import Verification, verify
    from expunge.recipes.base import RecipeOutcome
    from expunge.recipes.run import recipe
    from expunge.reporting.build import build_report
    from expunge.reporting.build import build_report as report
    from expunge.reporting.gate_text import GateText, explain
    from expunge.requests.names import SearchedPerson
    from expunge.utils.console import ProgressUpdate

__all__ = [
    "AttackedModel",
    "BenchArguments",
    "ChainOutcome",
    "ChatReply",
    "ChatSession",
    "ExpungeError",
    "FinetuneSettings",
    "GateText",
    "Ledger",
    "LedgerVerification",
    "LetterDetails",
    "LocatedFacts",
    "Plan",
    "PlantedData",
    "ProgressUpdate",
    "Queue",
    "ReappliedUpdate",
    "Recheck",
    "RecipeOutcome",
    "Request",
    "Results",
    "RunOutcome",
    "SearchedPerson",
    "Settings",
    "TracedData",
    "TrainedRun",
    "Tuned",
    "Verification",
    "WrittenLetter",
    "WrittenRequest",
    "__version__",
    "annex",
    "approve",
    "attack",
    "audit",
    "audit_canaries",
    "bench",
    "build_report",
    "certificate",
    "chain",
    "chat",
    "explain",
    "forget",
    "forget_exactly",
    "gold",
    "letter",
    "locate",
    "merge",
    "plan",
    "plant",
    "probes",
    "push",
    "read",
    "read_queue",
    "reapply",
    "recheck",
    "recipe",
    "report",
    "request",
    "rollback",
    "trace",
    "train",
    "tune",
    "verify",
    "verify_ledger",
]

_MODULES = {
    "AttackedModel": "expunge.pipeline.attack",
    "BenchArguments": "expunge.benchmarking.run",
    "ChainOutcome": "expunge.pipeline.chain_state",
    "ChatReply": "expunge.pipeline.chat",
    "ChatSession": "expunge.pipeline.chat",
    "ExpungeError": "expunge.errors",
    "FinetuneSettings": "expunge.config.settings",
    "GateText": "expunge.reporting.gate_text",
    "Ledger": "expunge.ledger.store",
    "LedgerVerification": "expunge.ledger.verify",
    "LetterDetails": "expunge.ledger.documents.letter",
    "LocatedFacts": "expunge.pipeline.locate",
    "Plan": "expunge.pipeline.plan",
    "PlantedData": "expunge.pipeline.canaries",
    "ProgressUpdate": "expunge.utils.console",
    "Queue": "expunge.config.queue",
    "ReappliedUpdate": "expunge.pipeline.reapply",
    "RecipeOutcome": "expunge.recipes.base",
    "Recheck": "expunge.pipeline.recheck",
    "Request": "expunge.config.request",
    "Results": "expunge.evals.results",
    "RunOutcome": "expunge.pipeline.forget",
    "SearchedPerson": "expunge.requests.names",
    "Settings": "expunge.config.settings",
    "TracedData": "expunge.pipeline.trace",
    "TrainedRun": "expunge.provenance.training_facts",
    "Tuned": "expunge.benchmarking.tune",
    "Verification": "expunge.provenance.verify",
    "WrittenLetter": "expunge.ledger.documents.letter",
    "WrittenRequest": "expunge.pipeline.request",
    "annex": "expunge.ledger.documents.annex",
    "approve": "expunge.ledger.documents.approval",
    "attack": "expunge.pipeline.attack",
    "audit": "expunge.pipeline.verbs",
    "audit_canaries": "expunge.pipeline.canaries",
    "bench": "expunge.benchmarking.run",
    "build_report": "expunge.reporting.build",
    "certificate": "expunge.ledger.documents.certificate",
    "chain": "expunge.pipeline.chain",
    "chat": "expunge.pipeline.chat",
    "explain": "expunge.reporting.gate_text",
    "forget": "expunge.pipeline.verbs",
    "forget_exactly": "expunge.pipeline.exact",
    "gold": "expunge.pipeline.gold",
    "letter": "expunge.ledger.documents.letter",
    "locate": "expunge.pipeline.locate",
    "merge": "expunge.pipeline.merge",
    "plan": "expunge.pipeline.verbs",
    "plant": "expunge.pipeline.canaries",
    "probes": "expunge.pipeline.probes",
    "push": "expunge.pipeline.push",
    "read": "expunge.data.readers",
    "read_queue": "expunge.config.queue",
    "reapply": "expunge.pipeline.reapply",
    "recheck": "expunge.pipeline.recheck",
    "recipe": "expunge.recipes.run",
    "report": "expunge.reporting.build",
    "request": "expunge.pipeline.request",
    "rollback": "expunge.pipeline.rollback",
    "trace": "expunge.pipeline.trace",
    "train": "expunge.pipeline.finetune",
    "tune": "expunge.benchmarking.tune",
    "verify": "expunge.provenance.verify",
    "verify_ledger": "expunge.ledger.verify",
}

__version__: str


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("expunge")
    if name not in _MODULES:
        raise AttributeError(f"module 'expunge' has no attribute {name!r}")
    symbol = "build_report" if name == "report" else name
    return vars(import_module(_MODULES[name]))[symbol]


def __dir__() -> list[str]:
    return __all__
