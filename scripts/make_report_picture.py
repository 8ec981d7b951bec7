"""Take the picture of a report that README and documentation show, from the folder of a real run.

    expunge demo --out runs/demo
    python scripts/make_report_picture.py runs/demo

Needs Chromium; it opens the page offline. The report masks names and facts, so the picture does.
"""

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "report.png"
WIDTH, HEIGHT = 900, 1120
"""Size of the window in pixels; about one printed page."""
COLOURS = 64
LARGEST = 200_000
"""Bytes that the picture may have."""


def browser() -> str:
    """Return the path of a Chromium.

    Raises:
        SystemExit: There is none.
    """
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    raise SystemExit("no Chromium found; install the package `chromium`")


def picture(report: Path, out: Path) -> int:
    """Write the picture and return its size in bytes.

    Args:
        report: A `report.html`.
        out: Where the PNG is written.
    """
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "report.png"
        command = [
            browser(),
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--window-size={WIDTH},{HEIGHT}",
            f"--screenshot={shot}",
            report.resolve().as_uri(),
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        with Image.open(shot) as image:
            small = image.convert("RGB").quantize(colors=COLOURS)
            small.save(out, optimize=True)
    return out.stat().st_size


def main() -> None:
    """Take the picture of the run that is named."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("run", type=Path, help="folder of a run with its report")
    parser.add_argument("--out", type=Path, default=PICTURE)
    given = parser.parse_args()
    size = picture(given.run / "report.html", given.out)
    print(f"{given.out.name}: {size:,} bytes")
    if size > LARGEST:
        raise SystemExit(f"larger than {LARGEST:,} bytes")


if __name__ == "__main__":
    main()
