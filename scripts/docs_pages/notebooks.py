"""The pages of the notebooks: their text, code and stored outputs."""

import json
from pathlib import Path
from typing import Any

from docs_pages.markdown import GENERATED

FOLDER = "docs/notebooks"


def pages(root: Path) -> dict[str, str]:
    """Return the text of the page of each notebook by its path below the repository.

    Args:
        root: The repository.
    """
    return {
        f"{FOLDER}/{path.stem}.md": page(path.name, json.loads(path.read_text(encoding="utf-8")))
        for path in sorted((root / FOLDER).glob("*.ipynb"))
    }


def page(name: str, notebook: dict[str, Any]) -> str:
    """Return a notebook as Markdown.

    Args:
        name: Its file.
        notebook: What the file holds.
    """
    parts = ["\n\n".join(_parts(cell)) for cell in notebook["cells"]]
    title, *rest = parts
    files = f"[This notebook]({name}) needs [tiny_model.py](tiny_model.py) beside it."
    return GENERATED + "\n\n".join((title, files, *rest)) + "\n"


def _parts(cell: dict[str, Any]) -> list[str]:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return [source]
    return [f"```python\n{source}\n```", *filter(None, map(_shown, cell["outputs"]))]


def _shown(output: dict[str, Any]) -> str:
    """Return what an output shows: a table as HTML, else its text."""
    data = output.get("data", {})
    if "text/html" in data:
        lines = "".join(data["text/html"]).splitlines()
        html = "\n".join(line.strip() for line in lines if line.strip())
        return f'<div class="output" markdown="0">\n{html}\n</div>'
    text = "".join(data.get("text/plain", output.get("text", "")))
    return f"```text\n{text.rstrip()}\n```" if text.strip() else ""
