"""expunge: make a language model forget, and show it.

The public names are functions of the same name as the commands, and the types they take. They are
loaded when first used: `import expunge` itself loads no other library.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from expunge.config.request import Request
    from expunge.config.settings import Settings
    from expunge.data.readers import read
    from expunge.pipeline.forget import audit, forget, plan
    from expunge.pipeline.merge import merge
    from expunge.provenance.verify import verify
    from expunge.reporting.build import build_report

__all__ = [
    "Request",
    "Settings",
    "__version__",
    "audit",
    "build_report",
    "forget",
    "merge",
    "plan",
    "read",
    "verify",
]

_HOMES = {
    "Request": "expunge.config.request",
    "Settings": "expunge.config.settings",
    "audit": "expunge.pipeline.forget",
    "build_report": "expunge.reporting.build",
    "forget": "expunge.pipeline.forget",
    "merge": "expunge.pipeline.merge",
    "plan": "expunge.pipeline.forget",
    "read": "expunge.data.readers",
    "verify": "expunge.provenance.verify",
}

__version__: str


class _Package(ModuleType):
    """A package whose public functions win over the rooms of the same name.

    Importing the room `expunge.audit` would bind the module over the function `expunge.audit`, and
    what the name means would hang on who imported what before.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("expunge")
    if name not in _HOMES:
        raise AttributeError(f"module 'expunge' has no attribute {name!r}")
    return vars(import_module(_HOMES[name]))[name]


def __dir__() -> list[str]:
    return __all__
