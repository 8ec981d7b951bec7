"""Where the package keeps its tables: the only module that changes when one moves."""

from expunge.attacks import presets
from expunge.attacks.base import FAMILIES as ATTACK_FAMILIES
from expunge.attacks.base import Attack
from expunge.attacks.finetuning.base import Sweep
from expunge.attacks.prompting.custom_prompts import OwnPrompts
from expunge.benchmarking.leaderboard_pages import MARKS
from expunge.benchmarking.suites import SUITES
from expunge.cli.main import COMMANDS, app
from expunge.config.catalogue import Catalogue, flowing
from expunge.config.catalogue import MethodDescription as Description
from expunge.config.families import FAMILIES
from expunge.config.settings import NamedChoice, Settings
from expunge.evals.gates import THRESHOLD
from expunge.evals.gates import VALIDITY_FILE as VALIDITY
from expunge.methods import EDITS, EVERY, METHODS, build
from expunge.methods.base import FAMILIES as METHOD_FAMILIES
from expunge.methods.describe import describe
from expunge.metrics.outcomes import Axis
from expunge.metrics.registry import METRICS
from expunge.metrics.registry.record import Metric
from expunge.optim import TABLES as WRAPPERS
from expunge.optim import describe_wrapper, described_wrappers
from expunge.planning.memory import OVERHEAD, Memory, RunLayout, Size, fewest, measure, memory
from expunge.utils.io import read_json

__all__ = [
    "ATTACK_FAMILIES",
    "COMMANDS",
    "EDITS",
    "EVERY",
    "FAMILIES",
    "MARKS",
    "METHODS",
    "METHOD_FAMILIES",
    "METRICS",
    "OVERHEAD",
    "SUITES",
    "THRESHOLD",
    "VALIDITY",
    "WRAPPERS",
    "Attack",
    "Axis",
    "Catalogue",
    "Description",
    "Memory",
    "Metric",
    "NamedChoice",
    "OwnPrompts",
    "RunLayout",
    "Settings",
    "Size",
    "Sweep",
    "app",
    "build",
    "describe",
    "describe_wrapper",
    "described_wrappers",
    "fewest",
    "flowing",
    "measure",
    "memory",
    "presets",
    "read_json",
]  # fmt: skip
