"""Processes that share the work of one stage, with torch.distributed.

Each process runs the stage's whole script. A shared task is done by one of them, and all get its result. Everything
else is done by each, with the same result. Only the first, rank 0, writes files, logs, saves states and shows progress
bars. It starts the others, unless torchrun has started all of them, on one machine or on several.

No task depends on which process does it, so results are bit-identical for any number of processes.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import IO, Any, TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor
from torch._C._distributed_c10d import Store, TCPStore
from tqdm import tqdm

from ddpm.errors import UserError
from ddpm.run.progress import hidden

T = TypeVar("T")
HOST, PORT = "127.0.0.1", "DDPM_PORT"
TIMEOUT = timedelta(hours=12)  # for the work between two exchanges, as the end of a process is noticed at once
GRACE = 5.0  # seconds for a process to end after its connection is closed
LOST = "another process that shares its work has ended"


@dataclass
class _Others:
    """The processes started by this one, in the order of their ranks from 1, and the files for their stderr."""

    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    errors: list[IO[bytes]] = field(default_factory=list)
    working_alone: bool = False

    def lost(self) -> UserError:
        """Return an error that says which process has ended, and why."""
        return UserError(f"{self._why()}; run it again, with any number of processes")

    def _why(self) -> str:
        deadline = time.monotonic() + GRACE
        while time.monotonic() < deadline:
            for number, (process, errors) in enumerate(zip(self.processes, self.errors, strict=True), start=2):
                if status := process.poll():
                    errors.seek(0)
                    lines = errors.read().decode(errors="replace").split("\n")
                    said = next((line for line in reversed(lines) if line.strip()), f"exit status {status}")
                    said = said.strip().removeprefix(f"[rank{number - 1}]: ")  # torch's excepthook
                    why = signal.Signals(-status).name if status < 0 else said
                    if LOST not in why:  # otherwise it ended because it lost the process that is looked for
                        return f"process {number} of {len(self.processes) + 1} has ended ({why})"
            time.sleep(0.05)
        return LOST


_others = _Others()


def rank() -> int:
    """The rank of this process, from 0."""
    return int(os.environ["RANK"]) if _is_started_by_another() else 0


def size() -> int:
    """The number of processes that share the work. It is 1 within a task, which is not shared further."""
    return 1 if _others.working_alone or not dist.is_initialized() else dist.get_world_size()


def cores() -> int:
    """The number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def together(n: int, most: int) -> Iterator[None]:
    """Share the work of the block among processes.

    Args:
        n: Number of processes wanted. If torchrun has started this process, its number is used instead.
        most: Maximum number of processes that can share the work.

    Raises:
        UserError: A process ended before its work was done, or torchrun has started too many.
    """
    if _is_started_by_another():
        if (started := int(os.environ["WORLD_SIZE"])) > most:
            raise UserError(f"{started} processes are too many; this stage's work can be shared by at most {most}")
        with _joined():
            yield
    elif min(n, most) == 1:
        yield
    else:
        with _started(min(n, most)):
            yield


def shared(tasks: Sequence[Callable[[], T]], name: str = "") -> list[T]:
    """Run independent tasks, distributed over the processes.

    Args:
        tasks: Functions to call, the same in each process. Their results must be picklable.
        name: Label of the progress bar, or "" for no bar.

    Returns:
        The results of all tasks, in order.
    """
    n, were_alone = size(), _others.working_alone
    _others.working_alone = True
    try:
        own = tasks if n == 1 else tasks[rank() :: n]
        mine = [task() for task in tqdm(own, name, disable=hidden() if name else True)]
    finally:
        _others.working_alone = were_alone
    found = gathered(mine)
    return [found[i % n][i // n] for i in range(len(tasks))]


def gathered(mine: T) -> list[T]:
    """The values passed by all processes, in the order of their ranks."""
    if size() == 1:
        return [mine]
    found: list[Any] = [None] * size()
    with _noticing_an_end():
        dist.all_gather_object(found, mine)
    return found


def gathered_tensors(mine: Shaped[Tensor, "*shape"]) -> list[Shaped[Tensor, "*shape"]]:
    """Like `gathered`, for tensors of equal shape and without pickling."""
    if size() == 1:
        return [mine]
    found = [torch.empty_like(mine) for _ in range(size())]
    with _noticing_an_end():
        dist.all_gather(found, mine)
    return found


def of_first(value: T) -> T:
    """The value passed by the process of rank 0."""
    if size() == 1:
        return value
    values = [value]
    with _noticing_an_end():
        dist.broadcast_object_list(values, src=0)
    return values[0]


def _is_started_by_another() -> bool:
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


@contextmanager
def _started(n: int) -> Iterator[None]:
    """Start n - 1 other processes, and end them with the block."""
    listener = socket.create_server((HOST, 0))  # torch's own would accept connections from other machines
    port = listener.getsockname()[1]
    store = TCPStore(HOST, port, n, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach())
    with ExitStack() as ending:
        ending.callback(_others.processes.clear)
        ending.callback(_others.errors.clear)
        for number in range(1, n):
            errors = ending.enter_context(tempfile.TemporaryFile())
            process = _start({"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": n, PORT: port}, errors)
            ending.callback(_end, process)
            _others.errors.append(errors)
            _others.processes.append(process)
        while not store.check([f"here/{number}" for number in range(1, n)]):
            if any(process.poll() for process in _others.processes):
                raise _others.lost()
            time.sleep(0.02)
        _connect(store, 0, n)
        ending.callback(_leave)
        yield
        _part()


def _start(names: Mapping[str, int], errors: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start this script again, with additional environment variables."""
    return subprocess.Popen(
        [sys.executable, *sys.argv],
        env=os.environ | {name: str(value) for name, value in names.items()},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        start_new_session=True,  # Ctrl-C goes to the first process only, which ends the others
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin
    process.stdin.close()  # see `_end_with_the_first`
    process.wait()


@contextmanager
def _joined() -> Iterator[None]:
    """Join the process that started this one, or those that torchrun has started."""
    world = int(os.environ["WORLD_SIZE"])
    for number in (signal.SIGINT, signal.SIGTERM) if rank() else ():
        signal.signal(number, signal.SIG_IGN)  # only the first process handles them, after a step
    if PORT in os.environ:
        threading.Thread(target=_end_with_the_first, daemon=True).start()
        store = TCPStore(HOST, int(os.environ[PORT]), world, is_master=False)
        store.set(f"here/{rank()}", "")
        _connect(store, rank(), world)
    else:
        dist.init_process_group(_backend(), timeout=TIMEOUT)
    yield
    _part()


def _part() -> None:
    """Wait until all exchanges are complete, and leave the group."""
    with _noticing_an_end():
        dist.barrier()
    _leave()


def _leave() -> None:
    """End the communication threads: one that still runs when Python exits may abort it."""
    if dist.is_initialized():
        dist.destroy_process_group()


def _connect(store: Store, number: int, n: int) -> None:
    """Form a group of processes of this machine, which listen on its loopback interface only."""
    import psutil  # not needed where networks are only served

    loopback = (name for name, addresses in psutil.net_if_addrs().items() if HOST in [a.address for a in addresses])
    os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = next(loopback, "lo")
    dist.init_process_group(_backend(), store=store, rank=number, world_size=n, timeout=TIMEOUT)


def _backend() -> str:
    return "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"


def _end_with_the_first() -> None:
    """Exit when stdin closes: the first process holds its other end, so it closes however that process ends."""
    os.read(0, 1)
    os._exit(1)


@contextmanager
def _noticing_an_end() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # from torch, when a connection is closed
        raise _others.lost() from error
