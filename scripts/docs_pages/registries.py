"""Where the package keeps its tables: the only module that changes when one moves."""

from expunge.audit.attacks import levels as presets
from expunge.audit.attacks.asking.own_prompts import OwnPrompts
from expunge.audit.attacks.protocol import FAMILIES as ATTACK_FAMILIES
from expunge.audit.attacks.protocol import Attack
from expunge.audit.attacks.weights.tune import Sweep
from expunge.audit.fitness import FILE as VALIDITY
from expunge.audit.fitness import THRESHOLD
from expunge.audit.metrics.catalogue import CATALOGUE as METRICS
from expunge.audit.metrics.catalogue import Entry as Metric
from expunge.audit.metrics.catalogue import named as direction
from expunge.audit.results import Axis
from expunge.bench.pages import MARKS, _markdown_table
from expunge.bench.suites import HUB, KNOWN, OWN_TEXT, SUITES
from expunge.cli.app import _EXAMPLES, COMMANDS, app
from expunge.engine.memory import OVERHEAD, Layout, Memory, fewest, memory
from expunge.engine.size import Size, measure
from expunge.files import read_json
from expunge.methods import EDITS, EVERY, METHODS, build
from expunge.methods.describe import Description, describe, flowing
from expunge.methods.terms import FAMILIES as METHOD_FAMILIES
from expunge.settings import Named, Settings
from expunge.wrappers.describe import TABLES as WRAPPERS
from expunge.wrappers.describe import describe_wrapper

__all__ = [
    "ATTACK_FAMILIES",
    "COMMANDS",
    "EDITS",
    "EVERY",
    "HUB",
    "KNOWN",
    "MARKS",
    "METHODS",
    "METHOD_FAMILIES",
    "METRICS",
    "OVERHEAD",
    "OWN_TEXT",
    "SUITES",
    "THRESHOLD",
    "VALIDITY",
    "WRAPPERS",
    "_EXAMPLES",
    "Attack",
    "Axis",
    "Description",
    "Layout",
    "Memory",
    "Metric",
    "Named",
    "OwnPrompts",
    "Settings",
    "Size",
    "Sweep",
    "_markdown_table",
    "app",
    "build",
    "describe",
    "describe_wrapper",
    "direction",
    "fewest",
    "flowing",
    "measure",
    "memory",
    "presets",
    "read_json",
]  # fmt: skip
