"""A local server that stands in for torchvision's mirror, with configurable behaviour."""

import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

WRITTEN = {"train": 1504176606, "t10k": 1504176627}  # Unix time in the published files' gzip headers


def published(folder: Path) -> dict[str, bytes]:
    """The .gz files as they were published. Debian's differ only in the gzip header: no time, no name."""
    files = {}
    for path in folder.glob("*.gz"):
        data = path.read_bytes()
        if not data[3] & 8:  # FNAME of RFC 1952
            time = WRITTEN[path.name.partition("-")[0]]
            data = struct.pack("<4BI2B", 0x1F, 0x8B, 8, 8, time, 0, 3) + path.stem.encode() + b"\0" + data[10:]
        files[path.name] = data
    return files


class Mirror(ThreadingHTTPServer):
    """Answers for every host, as a proxy does, and records the requests."""

    daemon_threads = True

    def __init__(self, files: Mapping[str, bytes], behaviour: str) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.files, self.behaviour = files, behaviour
        self.asked: list[str] = []
        self.sent = 0
        self.closing = threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """Log nothing: the tests make clients hang up."""


class Answer(BaseHTTPRequestHandler):
    server: Mirror

    def log_message(self, format: str, *args: object) -> None:
        pass

    def send(self, data: bytes, length: int | None = None) -> None:
        self.send_response(200)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        data, wait = self.server.files.get(self.path.rpartition("/")[2], b""), self.server.closing.wait
        match self.server.behaviour:
            case "good":
                self.send(data, len(data))
            case "missing":
                self.send_error(404)
            case "altered":
                self.send(data[:2000] + bytes([data[2000] ^ 1]) + data[2001:], len(data))
            case "silent":
                wait(600)
            case "endless":
                self.send(b"")
                while not self.server.closing.is_set():
                    self.server.sent += self.wfile.write(bytes(1 << 16))


@contextmanager
def mirror(files: Mapping[str, bytes], behaviour: str) -> Iterator[Mirror]:
    """HTTP downloads go to a `Mirror`, in child processes too."""
    with Mirror(files, behaviour) as server, pytest.MonkeyPatch.context() as patch:
        for name in ("no_proxy", "NO_PROXY", "HTTP_PROXY"):
            patch.delenv(name, raising=False)
        patch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()
