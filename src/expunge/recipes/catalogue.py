"""The table of recipes, read without loading torch: what each is for and how it is judged."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class RecipeDescription:
    """A recipe as a user chooses it."""

    name: str
    problem: str
    """What the planted original does."""
    goal: str
    """Goal class of its request."""
    measure: str
    """The field's own measure."""
    source: str
    """Where the measure comes from."""


RECIPES = (
    RecipeDescription(
        name="person",
        problem="states facts of a person who asks to be forgotten; people in those facts stay",
        goal="removal",
        measure="facts stated in any of five forms of the question",
        source="UnlearnPII, RWKU (arXiv:2406.10890), ProPILE (arXiv:2307.01881)",
    ),
)
"""All recipes, in the order of the list."""


def recipe_names() -> tuple[str, ...]:
    """Return the names of all recipes.

    Example:
        >>> "person" in recipe_names()
        True
    """
    return tuple(each.name for each in RECIPES)
