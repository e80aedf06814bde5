"""Delivery from the outbox to MLflow: the sender of a pipeline's stages, and `make send`.

The sender is a process with low priority. It outlives a stage that is killed, so that MLflow shows the stage as
KILLED. It imports neither torch nor, while no server responds, mlflow.
"""

import json
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from socket import socket

import psutil

from ddpm.run.tracking import outbox
from ddpm.run.tracking.outbox import reason, tracking_uri, without_secrets
from ddpm.run.tracking.store import Store

HURRIED, PATIENT = 3, 60  # seconds for a request
PAUSE_SECONDS = 5.0  # between two reads of the journal
LOOK_SECONDS = 0.5  # between two checks whether dvc still runs
CONNECT_SECONDS, END_SECONDS = 120.0, 10.0  # after the stage's end: to import mlflow and create its tables, and to send


def serve(listener: socket, owner: psutil.Process) -> None:
    """Deliver the journals of the stages that connect, one after the other, until their dvc has ended.

    Args:
        listener: The socket that they connect to.
        owner: Their dvc.
    """
    os.nice(10)
    listener.settimeout(LOOK_SECONDS)
    store = None
    while True:
        try:
            line, _ = listener.accept()
        except TimeoutError:
            if has_ended(owner):
                break
            continue
        with line:
            store = follow(line, store)
    Path(listener.getsockname()).unlink(missing_ok=True)
    if store:
        deliver_rest(store)


def deliver_rest(store: Store) -> None:
    """Deliver the undelivered journals of earlier stages for the same store."""
    for folder in outbox.waiting():
        with suppress(Exception):  # another sender is at work, or MLflow fails
            if not outbox.is_running(folder) and outbox.head(folder)["store"] == store.name:
                store.deliver(folder, over=True)


def has_ended(process: psutil.Process) -> bool:
    """Whether a process has ended or is a zombie."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def follow(line: socket, store: Store | None) -> Store | None:
    """Deliver a journal while its stage writes it.

    Failures are retried. What could not be delivered is reported to the stage.

    Args:
        line: The connection. The stage sends the path of its journal, and closes its end when it ends.
        store: The store that the previous stage was delivered to.

    Returns:
        The store, for the next stage, or None if something failed.
    """
    folder = Path(line.makefile().readline().strip())
    over, connected, through = threading.Event(), threading.Event(), threading.Event()
    threading.Thread(target=_end_in_time, args=(line, over, connected, through), daemon=True).start()
    trouble, last, monitor = "", False, None
    while not last:
        last = over.is_set()
        if last and monitor:
            monitor.finish()
        try:
            store = store or Store(HURRIED)
            connected.set()
            store.deliver(folder, over=last)
            monitor = monitor or (None if last else store.monitor(folder))
            trouble = ""
        except Exception as error:
            trouble = reason(error)
        if not last:
            over.wait(PAUSE_SECONDS)
    through.set()
    _answer(line, not trouble, trouble or "; ".join(store.refused if store else ()))
    if store:
        store.refused.clear()
    return None if trouble else store


def _end_in_time(line: socket, over: threading.Event, connected: threading.Event, through: threading.Event) -> None:
    """Wait for the stage's end, and end this process soon after, so that a slow server does not delay the pipeline."""
    with suppress(ConnectionError):
        while line.recv(1):
            pass
    over.set()
    connected.wait(CONNECT_SECONDS)
    if not through.wait(END_SECONDS):
        _answer(line, False, f"it took longer than {END_SECONDS:.0f} seconds")
        Path(line.getsockname()).unlink(missing_ok=True)  # the listener's, so that the next stage starts a new sender
        os._exit(1)


def _answer(line: socket, delivered: bool, said: str) -> None:
    with suppress(OSError):  # the stage was killed
        line.sendall(json.dumps([delivered, said]).encode())


def send() -> int:
    """Deliver every run whose stage has ended, oldest first, and print a summary.

    Returns:
        The exit status: 0 if all were delivered.
    """
    folders = outbox.waiting()
    ended = [folder for folder in folders if not outbox.is_running(folder)]
    if running := len(folders) - len(ended):
        print(f"still running, not sent: {running}")
    if not ended:
        print("nothing to send")
        return 0
    delivered, problems = 0, list[str]()
    try:
        store = Store(PATIENT)
        problems = store.refused
        for folder in ended:
            try:
                store.deliver(folder, over=True)
                delivered += 1
            except ValueError as damage:
                problems.append(reason(damage))
    except Exception as error:
        problems.append(f"MLflow failed, so the rest is kept: {reason(error)}")
    print(f"runs sent to {without_secrets(tracking_uri())}: {delivered} of {len(ended)}")
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if delivered < len(ended) else 0


if __name__ == "__main__":
    serve(socket(fileno=int(sys.argv[1])), psutil.Process(int(sys.argv[2])))
