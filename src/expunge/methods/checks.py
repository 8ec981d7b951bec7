"""Checks of the parameters of methods and wrappers."""

from expunge.errors import UsageError


def require_positive(knob: str, value: float, table: str) -> None:
    """Refuse a parameter that is not above zero.

    Raises:
        UsageError: It is not.
    """
    if not value > 0:
        raise _refused(knob, value, table, "must be larger than 0")


def require_share(knob: str, value: float, table: str) -> None:
    """Refuse a parameter that is no share: above 0, at most 1.

    Raises:
        UsageError: It is not.
    """
    if not 0 < value <= 1:
        raise _refused(knob, value, table, "is a share: above 0 and at most 1")


def require_word(knob: str, value: str, table: str, words: tuple[str, ...]) -> None:
    """Refuse a parameter that is none of some words.

    Raises:
        UsageError: It is not.
    """
    if value not in words:
        raise _refused(knob, value, table, f"is {' or '.join(words)}")


def _refused(knob: str, value: object, table: str, rule: str) -> UsageError:
    return UsageError(
        "wrong-knob",
        what=f"{knob} = {value} does not work in [{table}]",
        why=f"{knob} {rule}",
        fix="leave it out for the default",
    )
