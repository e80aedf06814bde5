"""From the outbox to MLflow: the sender of each stage, and `make send`.

The sender is a process with little priority. It outlives a stage that is killed, so that MLflow shows the stage as
KILLED. It imports neither torch nor, while no server answers, mlflow.
"""

import os
import sys
import threading
import time
from pathlib import Path

from ddpm.run.tracking import outbox
from ddpm.run.tracking.outbox import reason, tracking_uri, without_secrets
from ddpm.run.tracking.store import Store

HURRIED, PATIENT = 3, 60  # seconds for a request
PAUSE_SECONDS = 5.0  # between two looks at the journal
CONNECT_SECONDS, END_SECONDS = 120.0, 10.0  # after the stage's end: to import mlflow and make its tables; to send


def follow(folder: Path) -> int:
    """Deliver a journal while its stage writes it, and what earlier runs have left for the same store.

    The stage holds the standard input of this process open as long as it lives. What fails is tried again. What does
    not arrive in the end is named on stdout.

    Args:
        folder: The run's.

    Returns:
        The exit status: 0 if nothing of the run stays in the outbox.
    """
    os.nice(10)
    over, connected = threading.Event(), threading.Event()
    threading.Thread(target=_end_in_time, args=(over, connected), daemon=True).start()
    store, trouble, last = None, "", False
    while not last:
        last = over.is_set()
        try:
            store = store or Store(HURRIED)
            connected.set()
            store.deliver(folder, over=last)
            for other in outbox.waiting():
                if not over.is_set() and not outbox.is_running(other) and outbox.head(other)["store"] == store.name:
                    store.deliver(other, over=True)
            trouble = ""
        except Exception as error:
            trouble = reason(error)
        if not last:
            over.wait(PAUSE_SECONDS)
    print(trouble or "; ".join(store.refused if store else ()))
    return 1 if trouble else 0


def _end_in_time(over: threading.Event, connected: threading.Event) -> None:
    """Wait for the stage's end, and end this process soon after: nobody should wait for a slow server."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    over.set()
    connected.wait(CONNECT_SECONDS)
    time.sleep(END_SECONDS)
    print(f"it took longer than {END_SECONDS:.0f} seconds", flush=True)
    os._exit(1)


def send() -> int:
    """Deliver every run whose stage has ended, oldest first, and say what happened.

    Returns:
        The exit status: 0 if none of them is left.
    """
    folders = outbox.waiting()
    ended = [folder for folder in folders if not outbox.is_running(folder)]
    if running := len(folders) - len(ended):
        print(f"still running, so left alone: {running}")
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
        problems.append(f"MLflow fails, so the rest is kept: {reason(error)}")
    print(f"runs sent to {without_secrets(tracking_uri())}: {delivered} of {len(ended)}")
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if delivered < len(ended) else 0


if __name__ == "__main__":
    sys.exit(follow(Path(sys.argv[1])))
