"""A server with small networks, and the library's samples from them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from threading import Thread
from typing import Any

import torch
from torch import Tensor

from ddpm import NoiseSchedule, Unet, UnetConfig, denormalize_img
from ddpm.images import to_uint8
from ddpm.play.networks import Networks
from ddpm.play.server import HOST, Server

T = 20
LABELS = {"conditioning": {"name": "labels", "dropout": 0.1}, "n_classes": 3}
CLUSTERS = {"conditioning": {"name": "clusters", "n_clusters": 3, "dropout": 0.1}}


def network(channels: int = 1, seed: int = 0, **config: Any) -> Unet:
    """A network for images of 8 rows and 12 columns that depends on all of its inputs."""
    torch.manual_seed(seed)
    model = Unet(UnetConfig((channels, 8, 12), 8, (1, 2), 2, T, heads=1, **config))
    for parameter in model.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)  # no layer is zero
    if "clusters" in str(config):
        model.conditioning.means.uniform_(-1, 1)
        model.conditioning.frequencies.fill_(1 / 3)
    model.noise_schedule = NoiseSchedule(T)
    return model.eval().requires_grad_(False)


MODELS = {
    "grey": network(),
    "colour": network(3, 1),
    "labels": network(3, 2, **LABELS),
    "clusters": network(1, 3, **CLUSTERS),
}


@contextmanager
def serving(networks: Networks | None = None) -> Iterator[Server]:
    """A server of these networks, or of MODELS, on a free port."""
    server = Server(0, networks or {name: lambda model=model: model for name, model in MODELS.items()})
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def ask(server: Server, path: str, words: Any = None, method: str = "", **headers: str) -> HTTPResponse:
    """The server's response to a GET, or with `words` to a POST of them as JSON."""
    connection = HTTPConnection(HOST, server.server_port, timeout=60)
    body = words if words is None or isinstance(words, bytes) else json.dumps(words)
    kind = {} if words is None else {"Content-Type": "application/json"}
    connection.request(method or ("GET" if words is None else "POST"), path, body, kind | headers)
    return connection.getresponse()


def levels(x: Tensor) -> Tensor:
    """Images in [-1, 1] as the page gets them: 8-bit, channels last."""
    return to_uint8(denormalize_img(x)).permute(0, 2, 3, 1)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
