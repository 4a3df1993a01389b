"""A model hub on loopback: as much of the Hugging Face hub as its own client asks for when it fetches a snapshot."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def small_hub(repository: str, files: Mapping[str, bytes], asked: list[str]) -> Iterator[str]:
    """The hub's address; ``asked`` gets the path of each file that is downloaded."""
    listing = {
        "id": repository,
        "sha": COMMIT,
        "siblings": [{"rfilename": name, "size": len(data)} for name, data in files.items()],
        "tags": [],
        "private": False,
        "downloads": 0,
    }
    tree = [{"type": "file", "path": name, "size": len(data), "oid": "0"} for name, data in files.items()]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, *, body: bool) -> None:
            path = self.path.split("?")[0]
            if path.startswith(f"/api/models/{repository}"):
                data = json.dumps(tree if "/tree/" in path else listing).encode()
                self.send(200, data, {"Content-Type": "application/json"}, body=body)
                return
            name = path.removeprefix(f"/{repository}/resolve/{COMMIT}/")
            if name not in files:
                self.send(404, b"", {"X-Error-Code": "EntryNotFound"}, body=body)
                return
            if body:
                asked.append(name)
            data = files[name]
            headers = {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": COMMIT}
            self.send(200, data, headers, body=body)

        def send(self, status: int, data: bytes, headers: Mapping[str, str], *, body: bool) -> None:
            self.send_response(status)
            for header, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(header, value)
            self.end_headers()
            if body:
                self.wfile.write(data)

        def log_message(self, *arguments: object) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
