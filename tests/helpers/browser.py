"""A headless Chromium, driven through its debugging pipe: no port, no package."""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = next((path for name in NAMES if (path := shutil.which(name))), None)
WHY_NOT = f"none of {', '.join(NAMES)} is installed"
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars")
_FREE = 10
"""The browser reads commands at 3 and writes at 4; our own ends lie above both."""
_UNFOLD = 'document.querySelectorAll("details").forEach(each => { each.open = true; })'


class Browser:
    """One tab.

    Args:
        folder: Where the browser keeps its own files; it begins empty.
    """

    def __init__(self, folder: Path, *, seconds: float = 60) -> None:
        self._seconds, self._last, self._rest = seconds, 0, b""
        to_read, self._commands = (_above(each) for each in os.pipe())
        self._answers, to_write = (_above(each) for each in os.pipe())

        def connect() -> None:
            os.dup2(to_read, 3)
            os.dup2(to_write, 4)

        self._process = subprocess.Popen(
            [str(CHROMIUM), *FLAGS, "--remote-debugging-pipe", f"--user-data-dir={folder}"],
            preexec_fn=connect,
            pass_fds=(3, 4),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        found = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = found["sessionId"]
        self.call("Page.enable")

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._commands)
        os.close(self._answers)

    def open(self, address: str, *, width: int, height: int = 900) -> None:
        """Show a page in a window of so many pixels, and wait until it is loaded."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        failed = self.call("Page.navigate", url=address).get("errorText")
        assert failed is None, failed
        self._wait_for_page()

    def follow(self, script: str) -> None:
        """Run what leads to another page, and wait until that is loaded."""
        self.evaluate(script)
        self._wait_for_page()

    def evaluate(self, script: str) -> Any:
        """Return the value of an expression of the page."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def width(self, *, unfolded: bool = True) -> int:
        """Return how many pixels wide the page is, with everything unfolded or as it is."""
        if unfolded:
            self.evaluate(_UNFOLD)
        return self.evaluate("document.documentElement.scrollWidth")

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """Write what is seen, or the whole page, as PNG."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def call(self, method: str, **given: Any) -> dict[str, Any]:
        """Send one command of the DevTools protocol to the tab, and return the answer."""
        return self._call(method, session=self._session, **given)

    def _wait_for_page(self) -> None:
        while self._next().get("method") != "Page.loadEventFired":
            pass

    def _call(self, method: str, *, session: str | None = None, **given: Any) -> dict[str, Any]:
        self._last += 1
        said = {"id": self._last, "method": method, "params": given}
        said |= {} if session is None else {"sessionId": session}
        os.write(self._commands, json.dumps(said).encode() + b"\0")
        while (answer := self._next()).get("id") != self._last:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + self._seconds
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, end - time.monotonic()))
            assert ready, "the browser does not answer"
            read = os.read(self._answers, 1 << 20)
            assert read, "the browser has ended"
            self._rest += read
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)


def _above(handle: int) -> int:
    moved = fcntl.fcntl(handle, fcntl.F_DUPFD_CLOEXEC, _FREE)
    os.close(handle)
    return moved
