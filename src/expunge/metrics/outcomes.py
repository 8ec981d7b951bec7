"""What a gate can come to, and the axes that gates belong to."""

from enum import StrEnum


class Status(StrEnum):
    """Outcome of one gate or one axis."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    SCAR = "scar"
    """Over-shoot on privacy: the model reacts unusually to the erased data."""
    NOT_COMPUTABLE = "not computable"


class Axis(StrEnum):
    """The five gated axes."""

    FORGETTING = "forgetting"
    PRIVACY = "privacy"
    ROBUSTNESS = "robustness"
    UTILITY = "utility"
    LOCALITY = "locality"
