"""The catalogue of wrappers, from the code."""

from docs_pages.markdown import GENERATED, sentence, table
from docs_pages.registries import WRAPPERS, describe_wrapper

_HEAD = """# Wrappers

A wrapper changes the optimisation. It composes with every method that trains.
Masks rank individual weights, so all but `memflex` need `--full`.
"""


def page() -> str:
    """Return the text of the page."""
    found = {
        name: [describe_wrapper(name, each) for each in kinds]
        for name, (kinds, _) in WRAPPERS.items()
    }
    rows = [
        (f"[`{each.name}`](#{each.name})", f"`{name}`", each.advice)
        for name, members in found.items()
        for each in members
    ]
    parts = [GENERATED + _HEAD.rstrip(), table(("wrapper", "table", "choose it"), rows)]
    for name, members in found.items():
        meaning = sentence(WRAPPERS[name][1])
        parts.append(f"## [{name}]\n\n{meaning} Choose it with `--set {name}.name=NAME`.")
        for each in members:
            values = ", ".join(f"`{key}` {value}" for key, value in each.defaults) or "none"
            title = f"### `{each.name}` {{ #{each.name} }}"
            facts = f"{sentence(each.advice)}\n\n- hyperparameters: {values}"
            parts.append(f"{title}\n\n{facts}\n\n{each.formula}")
    return "\n\n".join(parts) + "\n"
