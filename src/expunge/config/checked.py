"""Settings that are built in Python fail with an error of this package, not of pydantic."""

import difflib
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from expunge.errors import UsageError

_UNKNOWN = "extra_forbidden"


def reason(error: ErrorDetails) -> str:
    """Return in words why a value is not allowed.

    Example:
        >>> reason({"type": "too_short", "loc": (), "msg": "Tuple should have ...", "input": ()})
        'it is empty'
    """
    if error["type"] == "too_short":
        return "it is empty"
    return error["msg"][:1].lower() + error["msg"][1:]


class _OwnErrors(type(BaseModel)):
    """Translates what pydantic raises when a class is called; validation of a tree stays as it is.

    Only a call passes here. What `model_validate` raises is translated where a file or a flag was
    read, which the message must name.
    """

    if not TYPE_CHECKING:  # a type checker reads the fields of the class instead

        def __call__(cls, *given: object, **named: object) -> Any:  # noqa: ANN401 - any model
            """Build the model.

            Raises:
                UsageError: `invalid-value`, `unknown-key`, `missing-value`.
            """
            try:
                return super().__call__(*given, **named)
            except ValidationError as error:
                found = error.errors(include_url=False, include_input=False)
            # A misspelt field is often the one that is missing, and its name says more.
            raise _explained(cls, min(found, key=lambda each: each["type"] != _UNKNOWN))


class CheckedModel(BaseModel, metaclass=_OwnErrors):
    """Base of the settings.

    Example:
        >>> class Speed(CheckedModel, extra="forbid"):
        ...     limit: int = 50
        >>> Speed(limits=60)
        Traceback (most recent call last):
            ...
        expunge.errors.UsageError: error[unknown-key]: Speed has no field `limits`
          why: a misspelt setting that is ignored would change what the run does
          fix: did you mean `limit`?
    """


def _explained(kind: type[BaseModel], error: ErrorDetails) -> UsageError:
    place = [str(part) for part in error["loc"]]
    path, leaf = ".".join(place), place[-1] if place else ""
    if error["type"] == _UNKNOWN:
        fields = _fields_at(kind, place[:-1])
        close = difflib.get_close_matches(leaf, fields, n=1, cutoff=0.5)
        return UsageError(
            "unknown-key",
            what=f"{kind.__name__} has no field `{path}`",
            why="a misspelt setting that is ignored would change what the run does",
            fix=f"did you mean `{close[0]}`?" if close else f"choose from: {', '.join(fields)}",
        )
    description = _description(kind, place)
    if error["type"] == "missing":
        return UsageError(
            "missing-value",
            what=f"{kind.__name__} needs `{path}`",
            why="it is never guessed",
            fix=f"{path}: {description}",
        )
    return UsageError(
        "invalid-value",
        what=f"`{path or kind.__name__}` of {kind.__name__} has a value that is not allowed",
        why=reason(error),
        fix=f"{path}: {description}",
    )


def _fields_at(kind: type[BaseModel], place: list[str]) -> list[str]:
    """Return the names of the fields of a table below a model."""
    for name in place:
        field = kind.model_fields.get(name)
        below = None if field is None else field.annotation
        if not (isinstance(below, type) and issubclass(below, BaseModel)):
            break
        kind = below
    return list(kind.model_fields)


def _description(kind: type[BaseModel], place: list[str]) -> str:
    """Return what the nearest field that has a description is for."""
    found = "see the documentation"
    for name in place:
        field = kind.model_fields.get(name)
        if field is None:
            break
        found = field.description or found
        below = field.annotation
        if not (isinstance(below, type) and issubclass(below, BaseModel)):
            break
        kind = below
    return found
