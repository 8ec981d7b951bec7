"""A server on this machine that answers as OpenAI's chat API does, from a table."""

import json
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@contextmanager
def chat_server(
    answer: Callable[[str], object], *, models: tuple[str, ...] = ("tiny",)
) -> Generator[tuple[str, list[dict]]]:
    """Serve; yield the address and the requests that arrived.

    Args:
        answer: Last user turn to the text of the answer; bytes are the whole body, an int is the
            status.
        models: What is listed.
    """
    seen: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self._send(json.dumps({"data": [{"id": name} for name in models]}).encode())

        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append(asked)
            said = answer(asked["messages"][-1]["content"])
            if isinstance(said, int):
                self.send_response(said)
                self.send_header("Location", "http://127.0.0.1:9/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()
            elif isinstance(said, bytes):
                self._send(said)
            else:
                self._send(json.dumps({"choices": [{"message": {"content": said}}]}).encode())

        def _send(self, body: bytes):
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
