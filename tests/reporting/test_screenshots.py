"""The report in a real browser: light, dark and on paper. Skipped where there is no Chromium."""

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from browser import CHROMIUM, FLAGS, WHY_NOT, Browser
from expunge.reporting.build import build_report
from synthetic_run import build_run

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=WHY_NOT)
WIDTH, HEIGHT = 900, 1200


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return build_report(build_run(tmp_path_factory.mktemp("shots") / "run"))


def browse(page: Path, *flags: str) -> None:
    fixed = [
        *FLAGS,
        f"--window-size={WIDTH},{HEIGHT}",
        f"--user-data-dir={page.parent / 'browser'}",
    ]
    done = subprocess.run(
        [str(CHROMIUM), *fixed, *flags, page.as_uri()], capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, done.stderr[-500:]


def brightness(path: Path) -> tuple[float, float]:
    """Mean brightness, 0 to 1, and the share of pixels that stand out from the paper."""
    green = imread(path)[:, :, 1]
    shades, times = np.unique(np.round(green * 255), return_counts=True)
    paper = shades[times.argmax()] / 255
    return float(green.mean()), float((abs(green - paper) > 0.25).mean())


@pytest.mark.parametrize(
    ("scheme", "flags", "low", "high"),
    [("light", (), 0.8, 1.0), ("dark", ("--blink-settings=preferredColorScheme=0",), 0.0, 0.3)],
)
def test_the_page_is_drawn_in_both_schemes(page, tmp_path, scheme, flags, low, high):
    shot = tmp_path / f"{scheme}.png"
    browse(page, *flags, f"--screenshot={shot}")
    mean, inked = brightness(shot)
    assert low < mean < high
    assert 0.01 < inked < 0.4, "text and plots are there, and can be told from the paper"


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_page(page, tmp_path, width):
    """Folded and open."""
    with Browser(tmp_path / "browser") as browser:
        browser.open(page.as_uri(), width=width)
        assert browser.width(unfolded=False) <= width
        assert browser.width() <= width


def test_it_prints_three_pages_before_the_annexes(page, tmp_path):
    """The annexes are folded, so that all of them are the list on one further page."""
    paper = tmp_path / "report.pdf"
    browse(page, "--no-pdf-header-footer", f"--print-to-pdf={paper}")
    pages = len(re.findall(rb"/Type\s*/Page\b", paper.read_bytes()))
    assert 2 <= pages <= 4
