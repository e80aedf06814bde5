"""A local server for a single user: it serves the page and runs its requests, one at a time."""

import json
import sys
from base64 import b64encode
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import unquote

from jaxtyping import Float
from torch import Tensor

from ddpm.diffusion.model import DiffusionModel
from ddpm.errors import UserError
from ddpm.images import denormalize_img, to_uint8
from ddpm.play.networks import Networks, about
from ddpm.play.requests import Draw, Fill, Mix, Request
from ddpm.run.params import validated
from ddpm.sampling.sampler import SAMPLERS
from ddpm.sampling.spacing import SPACINGS

HOST = "127.0.0.1"  # reachable from this machine only
NAMES = HOST, "localhost"  # allowed in the Host header, against DNS rebinding
HERE = Path(__file__).parent
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
FILES = {f"/{path.name}": path for path in HERE.iterdir() if path.suffix in TYPES} | {"/": HERE / "page.html"}
REQUESTS: Mapping[str, type[Request]] = {"/draw": Draw, "/fill": Fill, "/mix": Mix}
LONGEST = 2**24  # maximum bytes of a request, enough for two grey images of 1024 x 1024 pixels as JSON
JSON, LINES = "application/json", "application/x-ndjson"
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:"


class Server(ThreadingHTTPServer):
    """A server that listens on this machine only.

    Args:
        port: The port, or 0 for any free one.
        networks: The networks to sample from.

    Raises:
        OSError: The port is taken.
    """

    daemon_threads = True  # Ctrl-C does not wait for a draw

    def __init__(self, port: int, networks: Networks) -> None:
        self.networks, self.drawing = networks, Lock()
        super().__init__((HOST, port), Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore connections that the page closed, such as those of cancelled requests."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Handles one request."""

    server: Server
    has_begun = False
    timeout = 60  # seconds until a stalled connection is closed, so that others need not wait

    def do_GET(self) -> None:
        """Serve the page's files, the available choices, or the properties of one network."""
        path, _, query = self.path.partition("?")
        if not self._is_of_this_machine():
            self._send(HTTPStatus.FORBIDDEN, {"error": "only pages of this server may send requests"})
        elif path in FILES:
            self._send(HTTPStatus.OK, FILES[path].read_bytes(), TYPES[FILES[path].suffix])
        elif path == "/choices":
            self._send(HTTPStatus.OK, choices(self.server.networks))
        elif path == "/network":
            self._answer(lambda: self._send(HTTPStatus.OK, about(self._network(unquote(query)))))
        else:
            self._send(HTTPStatus.NOT_FOUND, {"error": f"not found: {path}"})

    def do_POST(self) -> None:
        """Run a request, and answer with one line of JSON per step: t and the images."""
        kind, length = REQUESTS.get(self.path), self.headers.get("Content-Length", "")
        if not self._is_of_this_machine() or self.headers.get_content_type() != JSON:
            self._send(HTTPStatus.FORBIDDEN, {"error": "only pages of this server may send requests"})
        elif kind is None:
            self._send(HTTPStatus.NOT_FOUND, {"error": f"not found: {self.path}"})
        elif not length.isdecimal() or int(length) > LONGEST:
            self._send(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"error": f"at most {LONGEST} bytes are read"})
        else:
            words = self.rfile.read(int(length))
            self._answer(lambda: self._draw(kind, words))

    def log_message(self, *_: Any) -> None:
        """Log no requests, only errors."""

    def _is_of_this_machine(self) -> bool:
        hosts = {f"{name}:{self.server.server_port}" for name in NAMES}
        origin = self.headers.get("Origin")
        return self.headers.get("Host") in hosts and (origin is None or origin.removeprefix("http://") in hosts)

    def _network(self, name: str) -> DiffusionModel:
        if name not in self.server.networks:
            raise UserError(f"network is {name!r}; available: {', '.join(self.server.networks)}")
        return self.server.networks[name]()

    def _draw(self, kind: type[Request], words: bytes) -> None:
        try:
            request = validated(kind, json.loads(words), self.path[1:])
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UserError(f"invalid JSON: {error}") from None
        with self.server.drawing:
            request.draw(self._network(request.network), self._show)

    def _show(self, t: int, x: Float[Tensor, "n c h w"]) -> None:
        self._send(HTTPStatus.OK, {"num_steps": t, "images": pixels(x)}, LINES)

    def _answer(self, work: Callable[[], None]) -> None:
        """Do the work, and send a user's mistake as an error message."""
        try:
            work()
        except (UserError, ValueError) as error:
            self._send(HTTPStatus.BAD_REQUEST, {"error": str(error)})

    def _send(self, status: HTTPStatus, answer: bytes | dict[str, Any], kind: str = JSON) -> None:
        """Send an answer, or one more line of an answer that has begun."""
        if not self.has_begun:
            self.has_begun = True
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Security-Policy", POLICY)
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
        self.wfile.write(answer if isinstance(answer, bytes) else json.dumps(answer).encode() + b"\n")


def choices(networks: Networks) -> dict[str, Any]:
    """The choices, as JSON values: networks, samplers with the schema of their options, spacings, and defaults."""
    samplers = {
        name: {"min_steps": entry.min_steps, "options": entry.Options.model_json_schema()["properties"]}
        for name, entry in SAMPLERS.items()
    }
    defaults = Draw(network="").model_dump(include={"seed", "sampler", "n_steps", "spacing"})
    return {"networks": list(networks), "samplers": samplers, "spacings": list(SPACINGS), "defaults": defaults}


def pixels(x: Float[Tensor, "n c h w"]) -> str:
    """Images in [-1, 1] as 8-bit pixels in base64, in (n, height, width, channels) order."""
    return b64encode(to_uint8(denormalize_img(x)).permute(0, 2, 3, 1).cpu().numpy().tobytes()).decode()
