"""Effort: how hard an audit and its attacks try."""

from typing import Literal

Level = Literal["quick", "standard", "paranoid"]
"""Minutes, an hour or two, or most of a day on two cores."""
