"""Run the notebooks of the documentation and store what they show.

    python scripts/make_notebooks.py            # all of them
    python scripts/make_notebooks.py NAME       # docs/notebooks/NAME.ipynb

Each runs in a folder of its own that is deleted afterwards, so that no path of this machine is
stored. `make_docs.py` then writes the page of each from what is stored.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"
HELPER = "tiny_model.py"
SECONDS = 3000
"""After which a cell counts as stuck."""


def notebooks() -> list[Path]:
    """Return the notebooks of the documentation, by name."""
    return sorted(FOLDER.glob("*.ipynb"))


def executed(path: Path, place: Path) -> nbformat.NotebookNode:
    """Run a notebook and return it with its outputs.

    Args:
        path: The notebook; it is not changed.
        place: An empty folder to run it in; cache and keys of expunge go there, too.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell failed.
    """
    shutil.copy(path.parent / HELPER, place)
    notebook = nbformat.read(path, as_version=4)
    env = {
        **os.environ,
        "EXPUNGE_CACHE": str(place / "cache"),
        "EXPUNGE_KEY_FILE": str(place / "operator.key"),
        "HF_HUB_OFFLINE": "1",
        "TQDM_DISABLE": "1",
        "IPYTHONDIR": str(place / "ipython"),
    }
    resources = {"metadata": {"path": str(place)}}
    client = NotebookClient(
        notebook, timeout=SECONDS, kernel_name="python3", resources=resources, record_timing=False
    )
    client.execute(env=env)
    return notebook


def main(names: list[str]) -> int:
    """Run the notebooks that are named, or all; return the exit code."""
    for path in notebooks():
        if names and path.stem not in names:
            continue
        with tempfile.TemporaryDirectory() as place:
            found = executed(path, Path(place))
        found.metadata.pop("language_info", None)
        for cell in found.cells:
            if "outputs" in cell:  # warnings name files of this machine
                cell.outputs = [each for each in cell.outputs if each.get("name") != "stderr"]
        nbformat.write(found, path)
        print(f"{path.name}: {sum(len(cell.get('outputs', ())) for cell in found.cells)} outputs")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
