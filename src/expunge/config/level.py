"""Levels of an audit. Apart from the settings, so that `--help` need not load pydantic."""

from typing import Literal

Level = Literal["quick", "standard", "paranoid"]
"""How much an audit tries: minutes, an hour or two, or most of a day on two cores."""
