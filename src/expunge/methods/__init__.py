"""The methods: each a frozen set of terms, the formula in its own file.

`METHODS` is the whole list. A method from elsewhere is named `package.module:Class`.
"""

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import get_type_hints

from expunge.errors import UsageError
from expunge.methods.dpo import DPO
from expunge.methods.graddiff import GradDiff
from expunge.methods.idk import IDK
from expunge.methods.npo import NPO
from expunge.methods.rmu import RMU
from expunge.methods.simnpo import SimNPO
from expunge.methods.terms import Method

METHODS: dict[str, type[Method]] = {
    "graddiff": GradDiff,
    "npo": NPO,
    "simnpo": SimNPO,
    "idk": IDK,
    "dpo": DPO,
    "rmu": RMU,
}


def build(name: str, knobs: Mapping[str, object]) -> Method:
    """Make a method from its name and knobs.

    Args:
        name: A key of `METHODS` or `package.module:Class`.
        knobs: Values for fields of the method; numbers are converted to the field's type.

    Raises:
        UsageError: No such method, no such knob, or a value of the wrong type.
    """
    kind = METHODS.get(name) or _imported(name)
    assert is_dataclass(kind), "methods are frozen dataclasses"
    known = {field.name: field for field in fields(kind)}
    types = get_type_hints(kind)
    values: dict[str, object] = {}
    for knob, value in knobs.items():
        if knob not in known:
            near = get_close_matches(knob, known, n=1)
            raise UsageError(
                "unknown-knob",
                what=f"method {name} has no parameter {knob}",
                why=f"it has {', '.join(known) or 'none'}",
                fix=f"did you mean {near[0]}?" if near else "leave it out",
            )
        values[knob] = _convert(name, knob, value, types[knob])
    missing = [
        field.name
        for field in known.values()
        if field.default is MISSING
        and field.default_factory is MISSING
        and field.name not in values
    ]
    if missing:
        raise UsageError(
            "missing-knob",
            what=f"method {name} needs {', '.join(missing)}",
            why="it has no default",
            fix=f"set {missing[0]} in [method]",
        )
    return kind(**values)


def _imported(name: str) -> type[Method]:
    module, colon, attribute = name.partition(":")
    if colon:
        try:
            return vars(import_module(module))[attribute]
        except (ImportError, KeyError) as error:
            raise UsageError(
                "unknown-method",
                what=f"cannot import {attribute} from {module}",
                why=str(error),
                fix="give package.module:Class of something importable",
            ) from error
    near = get_close_matches(name, METHODS, n=1)
    raise UsageError(
        "unknown-method",
        what=f"there is no method {name}",
        why=f"expunge knows {', '.join(METHODS)}",
        fix=f"did you mean {near[0]}?" if near else "choose one of these, or package.module:Class",
    )


def _convert(name: str, knob: str, value: object, kind: type) -> object:
    if isinstance(value, kind) and isinstance(value, bool) == (kind is bool):
        return value
    if kind in (int, float) and isinstance(value, int | float | str) and value is not True:
        try:
            return kind(value)
        except ValueError:
            pass
    raise UsageError(
        "wrong-knob",
        what=f"{knob} = {value} does not suit method {name}",
        why=f"{knob} must be {kind.__name__}",
        fix=f"give a value of that kind, or leave it out for the default of {name}",
    )
