"""Processes that share work, forked from a test, as torchrun would start them."""

import multiprocessing
import os
import socket
from collections.abc import Callable
from typing import Any

import torch

from ddpm.run.processes import together


def in_processes(n: int, work: Callable[[], Any]) -> list[Any]:
    """Return values of `work` in n processes, by rank, or the text of its exception."""
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = [context.Process(target=_child, args=(rank, n, port, work, queue)) for rank in range(n)]
    for child in children:
        child.start()
    found = dict(queue.get() for _ in children)
    for child in children:
        child.join()
    return [found[rank] for rank in range(n)]


def _child(rank: int, n: int, port: int, work: Callable[[], Any], queue: Any) -> None:
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": n, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in names.items()} | {"GLOO_SOCKET_IFNAME": "lo"}
    torch.set_num_threads(1)
    try:
        with together(n, n):
            found = work()
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
    queue.put((rank, found))
