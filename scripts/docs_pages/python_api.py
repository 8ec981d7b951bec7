"""The reference of the Python API: every public name, at the place where it is defined."""

import inspect

import expunge
from docs_pages.markdown import GENERATED

_HEAD = """# Python API

`import expunge` loads no other library. Each name below is loaded when it is first used.
Functions have the names of the commands.

```python
import expunge
from expunge import Request, Settings

settings = Settings(
    model="path/to/model",
    request=Request(goal="removal", forget=("erase.jsonl",), retain=("keep.jsonl",)),
)
outcome = expunge.forget(settings)
print(outcome.results.verdict.ruling, outcome.folder)
```
"""


def page() -> str:
    """Return the text of the page."""
    functions: list[str] = []
    types: list[str] = []
    for name in sorted(expunge.__all__):
        found = getattr(expunge, name)
        if inspect.isfunction(found):
            functions.append(_entry(found))
        elif inspect.isclass(found):
            types.append(_entry(found))
    return "\n\n".join([GENERATED + _HEAD, "## Functions", *functions, "## Types", *types]) + "\n"


def _entry(found: type | object) -> str:
    where = f"{found.__module__}.{found.__qualname__}"  # type: ignore[attr-defined]
    return f"::: {where}"
