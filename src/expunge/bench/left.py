"""What a run left in its folder: facts for the row, and weights that are deleted."""

import shutil
import time
from pathlib import Path

from expunge.bench.row import Cost
from expunge.files import read_json
from expunge.machine import peak_gib
from expunge.model.load import choose_device
from expunge.settings import Settings


def cost_of(run: Path, settings: Settings, began: float) -> Cost:
    """Return what a run took; its training as the run itself wrote it down.

    Args:
        run: The run folder.
        settings: Its settings.
        began: Monotonic seconds at its beginning.
    """
    path = run / "facts.json"
    train = read_json(path).get("train") if path.is_file() else None
    train = train or {"seconds": 0.0, "steps": 0, "stopped": ""}
    return Cost(
        seconds=round(time.monotonic() - began, 1),
        train_seconds=round(float(train["seconds"]), 1),
        steps=int(train["steps"]),
        stopped=str(train["stopped"]),
        peak_gib=round(peak_gib(choose_device(settings.device)), 2),
    )


def digests(run: Path) -> dict[str, str]:
    """Return the digests of the weights that a run was about, by role."""
    path = run / "manifest.json"
    found = read_json(path).get("models") if path.is_file() else None
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}


def shed(run: Path) -> None:
    """Delete the weights: the row's settings make them again, and they would fill the disk."""
    shutil.rmtree(run / "checkpoints", ignore_errors=True)
    for path in run.glob("*.safetensors"):
        path.unlink()
