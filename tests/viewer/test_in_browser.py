"""The viewer's pages in a real browser: as wide as a phone, and as a desk. Skipped without one."""

import threading
import time
from urllib.parse import quote

import pytest
import uvicorn

from browser import CHROMIUM, WHY_NOT, Browser
from expunge.cli.view import listening
from expunge.evidence.store import WEIGHTS, EvidenceStore, Layers, Unit
from expunge.reporting.build import build_report
from expunge.utils.io import write_json
from expunge.viewer.app import make_app
from expunge.viewer.library import RunLibrary
from ledgers import entries, open_ledger
from synthetic_run import build_run, write_attacks, write_run_manifest

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=WHY_NOT)

LONG = "kovanda-erasure-" + "npo+sam+gru_lora_r16_" * 4
SECOND = f"deep/{LONG}"
PAGES = {
    "list": "/",
    "run": f"/run/{SECOND}",
    "run with its texts": "/run/first?show=text",
    "chat": "/chat/first?show=text",
    "comparison": f"/compare?a=first&b={quote(f'deep/{LONG}')}&show=text",
    "leaderboard": "/board/bench",
    "attacks": "/run/attack",
    "ledger": "/ledger/books/ledger.db",
    "report": "/report/first",
    "unfinished run": "/run/half",
    "error": "/run/none",
}
SCROLLED = """[...document.querySelectorAll(".scroll")].filter(
  each => each.scrollWidth > each.clientWidth).length"""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    root = tmp_path_factory.mktemp("seen") / "runs"
    for name in ("first", SECOND):
        run = build_run(root / name)
        moved = [
            Layers(record=f"model.layers.{block}.{LONG}.{part}.weight", values=(0.001 * block,))
            for block in range(24)
            for part in ("q_proj", "down_proj")
        ]
        unit = Unit(role="unlearned", split="weights", attack=WEIGHTS, kind="layers")
        EvidenceStore(run / "evidence").write(unit, moved)
        build_report(run)
        write_run_manifest(run, key=b"k" * 32)
    write_attacks(root / "attack")
    with open_ledger(root / "books" / "ledger.db").writing() as writer:
        for entry in entries():
            writer.add(entry)
    (root / "half").mkdir()
    write_json(root / "half" / "run.json", {})
    head = ["model", *(f"axis number {n}" for n in range(12)), "ruling"]
    rows = [[f"package.module:{'Method' * 9}", *["0.53 [0.41, 0.67]"] * 12, "FAIL-RESIDUAL, PASS"]]
    board = {"title": f"Leaderboard: {LONG}", "sentences": ["S."], "standings": [head, rows]}
    (root / "bench").mkdir()
    write_json(root / "bench" / "leaderboard.json", board)
    with listening(0) as listener:
        port = listener.getsockname()[1]
        app = make_app(RunLibrary(root), port=port)
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}"
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("page", PAGES)
def test_no_page_is_wider_than_the_window(browser, address, page, width):
    browser.open(address + PAGES[page], width=width)
    assert browser.evaluate("document.querySelector('h1').offsetHeight") > 0
    assert browser.width() <= width


@pytest.mark.parametrize("page", ["list", "run with its texts", "comparison", "leaderboard"])
def test_no_column_of_a_table_is_out_of_sight_on_a_phone(browser, address, page):
    browser.open(address + PAGES[page], width=390)
    assert browser.evaluate("document.querySelectorAll('td').length") > 10
    assert browser.evaluate(SCROLLED) == 0


def test_two_runs_are_chosen_and_compared_by_clicks(browser, address):
    browser.open(address, width=390)
    for side in "ab":
        browser.evaluate(f"document.querySelector('[name={side}]').click()")
    browser.follow("document.querySelector('form[action=\"/compare\"] button').click()")
    assert browser.evaluate("location.pathname + document.querySelector('h1').innerText") == (
        "/compareTwo runs"
    )
