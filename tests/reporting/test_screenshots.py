"""The report in a real browser: light, dark and on paper. Skipped where there is no Chromium."""

import html as entities
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from expunge.reporting.build import build_report
from synthetic_run import build_run

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = next((path for name in NAMES if (path := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=f"none of {', '.join(NAMES)} is installed")
WIDTH, HEIGHT = 900, 1200


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return build_report(build_run(tmp_path_factory.mktemp("shots") / "run"))


def browse(page: Path, *flags: str) -> None:
    fixed = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    fixed += [f"--window-size={WIDTH},{HEIGHT}", f"--user-data-dir={page.parent / 'browser'}"]
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
    """Folded and open; the browser's own window cannot be as narrow as a phone, a frame can."""
    html = page.read_text(encoding="utf-8")
    html = re.sub(r"<meta http-equiv=.Content-Security-Policy.[^>]*>", "", html)
    inner = entities.escape(html, quote=True)
    script = """
    frame.onload = () => {
      const inside = frame.contentDocument, wide = () => inside.documentElement.scrollWidth;
      const folded = wide();
      inside.querySelectorAll("details").forEach(each => { each.open = true; });
      document.title = `wide ${folded} ${wide()}`;
    };"""
    probe = page.with_name(f"probe-{width}.html")
    frame = f'<iframe id="frame" style="width:{width}px;height:900px;border:0" srcdoc="{inner}">'
    probe.write_text(f"<body>{frame}</iframe><script>{script}</script>", encoding="utf-8")
    fixed = ["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    fixed += ["--virtual-time-budget=5000", f"--user-data-dir={tmp_path / 'browser'}"]
    done = subprocess.run(
        [str(CHROMIUM), *fixed, probe.as_uri()], capture_output=True, text=True, timeout=90
    )
    found = re.search(r"<title>wide (\d+) (\d+)</title>", done.stdout)
    assert found is not None
    assert max(map(int, found.groups())) <= width


def test_it_prints_three_pages_before_the_annexes(page, tmp_path):
    """The annexes are folded, so that all of them are the list on one further page."""
    paper = tmp_path / "report.pdf"
    browse(page, "--no-pdf-header-footer", f"--print-to-pdf={paper}")
    pages = len(re.findall(rb"/Type\s*/Page\b", paper.read_bytes()))
    assert 2 <= pages <= 4
