"""One run of a matrix as a task of a cluster; imports nothing heavy before its variables are set.

The folder of the matrix, the data and the models must lie at the same paths on every machine.
"""

import os
import platform
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from expunge.errors import ExpungeError, InputError
from expunge.utils.file_names import LOG

VARIABLES = ("EXPUNGE_", "HF_HUB_", "HF_HOME", "HF_DATASETS_", "TRANSFORMERS_", "TQDM_")
"""Variables of the command that its tasks have as well, by how they begin; no token is among them:
`HF_TOKEN` must be set on the machines themselves."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CellTask:
    """A run, as it is sent to another machine.

    Example:
        >>> task = CellTask(matrix="/shared/m", cell="npo-s0-0123abcd", folder="/shared")
        >>> "not there" in str(task())
        True
    """

    matrix: str
    """Folder of the matrix, as the command named it."""
    cell: str
    folder: str
    """Working folder of the command, from which it named matrix, data and models."""
    variables: tuple[tuple[str, str], ...] = ()
    version: str = version("expunge")

    def __call__(self) -> ExpungeError | None:
        """Run the cell; its row lies in its folder then.

        Returns:
            What stands in the way of the matrix; None, also where another process has the cell. It
            is returned and not raised, since not every cluster brings an exception home as it was.
        """
        os.environ.update(self.variables)
        try:
            self._require_place()
            self._run()
        except ExpungeError as error:
            return error
        return None

    def checkpoint(self) -> object:
        """Return what SLURM runs when the time of a job is up: the same, which goes on."""
        from submitit.helpers import DelayedSubmission  # type: ignore[reportMissingImports]

        return DelayedSubmission(self)

    def _require_place(self) -> None:
        if not (Path(self.folder) / self.matrix / "cells" / self.cell).is_dir():
            raise InputError(
                "not-shared",
                what=f"{Path(self.folder) / self.matrix} is not there on {platform.node()}",
                why="every machine of a cluster reads and writes the same folder",
                fix="put the matrix, the data and the models on a shared file system",
            )
        if version("expunge") != self.version:
            raise InputError(
                "other-version",
                what=f"{platform.node()} has expunge {version('expunge')}, not {self.version}",
                why="rows of two versions do not compare",
                fix=f"pip install expunge=={self.version} there",
            )

    def _run(self) -> None:
        from expunge.benchmarking.result import read_cell
        from expunge.benchmarking.sweep import run_cell_here
        from expunge.utils.system import keep_freed_memory

        keep_freed_memory()
        os.chdir(self.folder)
        if self.folder not in sys.path:
            sys.path.insert(0, self.folder)  # where `--method module:Class` is looked for
        place = Path(self.matrix)
        cell = read_cell(place / "cells" / self.cell)
        # Not to the cluster's own log: that is read by others.
        file = place / "cells" / self.cell / LOG
        with file.open("a", encoding="utf-8") as log, redirect_stdout(log), redirect_stderr(log):
            run_cell_here(place, cell)


def run_task(task: CellTask) -> ExpungeError | None:
    """Run a task: what Ray is given, since it wants a function with a name."""
    return task()
