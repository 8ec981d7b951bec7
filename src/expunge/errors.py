"""Errors that a user can act on: what happened, why, and how to fix it.

    ExpungeError
    ├── UsageError      2    the command, configuration or request is wrong
    ├── GateError       3    a gate failed: forgetting, utility, or the evidence does not verify
    ├── InputError      4    a model or data set is missing, unreadable or malformed
    ├── ResourceError   5    out of memory, disk or time; what was done is kept
    └── Interrupted     130  stopped by the user; the same command resumes

`assert` is reserved for our own mistakes. Everything that a user can cause raises one of these.
"""

from collections.abc import Sequence
from typing import ClassVar


class ExpungeError(ValueError):
    """Base of every error that names its cause and its remedy.

    Args:
        code: Stable short name in kebab case, for example `missing-field`.
        what: One line that says what happened.
        why: One line that says why it matters or how it came about.
        fix: One line that says what to do next.

    Example:
        >>> error = UsageError("no-goal", what="there is no goal", why="it decides", fix="set goal")
        >>> error.code, error.exit_code
        ('no-goal', 2)
        >>> print(error)
        error[no-goal]: there is no goal
          why: it decides
          fix: set goal
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, code: str, *, what: str, why: str, fix: str) -> None:
        super().__init__(f"error[{code}]: {what}\n  why: {why}\n  fix: {fix}")
        self.code = code
        self.what = what
        self.why = why
        self.fix = fix

    def __reduce__(self) -> tuple[object, ...]:
        """Let an error travel between processes: its words are named, not positional."""
        return (_again, (type(self), self.code, self.what, self.why, self.fix))


def _again(kind: type[ExpungeError], code: str, what: str, why: str, fix: str) -> ExpungeError:
    return kind(code, what=what, why=why, fix=fix)


class UsageError(ExpungeError):
    """The command, configuration or request cannot be carried out as written."""

    exit_code = 2


class GateError(ExpungeError):
    """A gate failed, or evidence does not verify."""

    exit_code = 3


class InputError(ExpungeError):
    """A model, tokenizer or data set is not available or not well formed."""

    exit_code = 4


class ResourceError(ExpungeError):
    """Memory, disk or time ran out; finished work is kept and the run can be resumed."""

    exit_code = 5


class Interrupted(ExpungeError):  # noqa: N818 - an interruption is not an error of anyone
    """The user stopped the run; the same command resumes it."""

    exit_code = 130


def named_in_part(names: Sequence[str], *, most: int) -> str:
    """Return the first names, comma-separated, and how many more there are: `a, b and 3 more`."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


_FULL = ("can't allocate memory", "CUDA error: out of memory", "STATUS_ALLOC_FAILED")
"""What PyTorch says of full memory where it has no class for that: on a processor, and where the
driver of a graphics card, or a library on it, asked for the memory."""


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether memory ran out, that of the processor or of a graphics card."""
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    said = isinstance(error, RuntimeError) and any(sign in str(error) for sign in _FULL)
    return named or said
