"""From the outbox to MLflow: what a stage's sender does, and `python -m ddpm.run.tracking.record send`.

A process of its own, with little priority, for each stage: importing mlflow takes seconds and a server may take more,
and a thread would share the interpreter's lock with the training. It outlives a stage that is killed long enough to
say so in MLflow. No stage imports this file, so a change here trains no model anew; and this file does not import
torch, so a sender starts at once.

Every call may be repeated, for a sender can be killed between a call and its note of it: runs are found by a tag
before they are made, and params, metrics, tags, inputs and artifacts that MLflow has already are left as they are.
"""

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from filelock import FileLock

from ddpm.run.root import repo_root
from ddpm.run.tracking import outbox
from ddpm.run.tracking.outbox import SQLITE, Sent, tracking_uri, without_secrets

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

EXPERIMENT = "ddpm"
INVOCATION, JOURNAL = "dvc.invocation", "ddpm.journal"  # tags by which a parent and a stage's run are found again
SETTINGS = {  # read by MLflow; the user's own values win
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the sender tries again itself, and looks first what has arrived
}
HURRIED, PATIENT = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "3"}, {"MLFLOW_HTTP_REQUEST_TIMEOUT": "60"}  # seconds
LINES = 1000  # of a journal, delivered together
PAUSE_SECONDS = 5.0  # between two looks at the journal
CONNECT_SECONDS, END_SECONDS = 120.0, 10.0  # at a stage's end: to import mlflow and make its tables; then to send
TOO_SLOW = "it took longer than {:.0f} seconds"
PREVIEW_PIXELS = 256  # the longer side of the small picture that MLflow's pages show


class Store:
    """The experiment in MLflow."""

    def __init__(self, timeouts: dict[str, str]) -> None:
        """Raises OSError where nothing listens, without importing mlflow, and else what MLflow raises."""
        uri = tracking_uri()
        self.name = without_secrets(uri)
        self.refused: list[str] = []
        _check_that_something_listens(uri)
        os.environ.update(SETTINGS | timeouts | os.environ)
        self._client, self._experiment = _connect(uri)
        self._lock = FileLock(repo_root() / outbox.OUTBOX / "sending.lock")

    def step(self, folder: Path, over: bool) -> bool:
        """Deliver the next records of a run; False if there are none.

        over: the stage has ended, so that a journal without an end is the one of a stage that was killed.
        """
        from mlflow.exceptions import MlflowException

        with self._lock:  # of this repository's senders one at a time, so that they make a parent only once
            if not (folder / outbox.JOURNAL).exists():
                return False
            sent = Sent.read(folder, self.name)
            if not (records := outbox.read(folder, sent.position, LINES)):
                if over:
                    self._finish(folder, sent, "KILLED", sent.time)
                return False
            try:
                if not sent.run:
                    sent.run, sent.parent = self._open(folder)
                self._deliver(folder, sent, records)
            except MlflowException as error:
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":  # the store was begun anew, so this run is too
                    (folder / outbox.SENT).unlink(missing_ok=True)
                raise
            return True

    def _open(self, folder: Path) -> tuple[str, str]:
        """The ids of the stage's run and its parent, made unless they are there."""
        head = outbox.head(folder)
        parent = self._found_or_made(INVOCATION, head["parent"])
        own = {**head, "tags": {**head["tags"], "mlflow.parentRunId": parent, JOURNAL: folder.name}}
        run = self._found_or_made(JOURNAL, own)
        self._settle(parent)
        return run, parent

    def _found_or_made(self, tag: str, about: Mapping[str, Any]) -> str:
        key = about["tags"][tag]
        if found := self._client.search_runs([self._experiment], f"tags.`{tag}` = '{key}'", max_results=1):
            return found[0].info.run_id
        made = self._client.create_run(self._experiment, about["time"], about["tags"], about["name"])
        return made.info.run_id

    def _deliver(self, folder: Path, sent: Sent, records: Sequence[tuple[dict[str, Any], int]]) -> None:
        """Params, metrics and tags in one request; then artifacts, inputs and the end in their order."""
        self._log_batch(sent.run, [record for record, _ in records])
        for record, position in records:
            sent.position, sent.time = position, record.get("time", sent.time)
            match record:
                case {"artifact": name}:
                    self._log_artifact(sent.run, folder / "files" / name, name)
                    sent.write(folder)
                case {"picture": name}:
                    self._log_artifact(sent.run, folder / "files" / name, name)
                    self._log_artifact(sent.run, *_preview(folder / "files" / name, name))
                case {"input": about}:
                    self._log_input(sent.run, about)
                case {"end": status}:
                    return self._finish(folder, sent, status, record["time"])
                case {}:
                    if not record:
                        self.refused.append(f"a damaged line in {folder / outbox.JOURNAL}")
        sent.write(folder)

    def _log_batch(self, run: str, records: Sequence[dict[str, Any]]) -> None:
        from mlflow.entities import Metric, Param, RunTag

        params = {key: value for record in records for key, value in record.get("params", {}).items()}
        tags = {key: value for record in records for key, value in record.get("tags", {}).items()}
        metrics = [
            Metric(key, value, record["time"], record["step"])
            for record in records
            for key, value in record.get("metrics", {}).items()
        ]
        batch = metrics, [Param(*pair) for pair in params.items()], [RunTag(*pair) for pair in tags.items()]
        if not self._taken(lambda: self._client.log_batch(run, *batch, synchronous=True), records):
            for record in records if len(records) > 1 else ():  # all but the one that MLflow does not take
                self._log_batch(run, [record])

    def _log_artifact(self, run: str, path: Path, name: str) -> None:
        if not path.is_file():
            self.refused.append(f"{path} is missing")
            return
        self._taken(lambda: self._client.log_artifact(run, str(path), name.rpartition("/")[0] or None), [])

    def _log_input(self, run: str, about: Mapping[str, str]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        name = about["name"]
        dataset = Dataset(name, about["digest"], source_type="local", source=json.dumps({"uri": name}))
        described = DatasetInput(dataset, [InputTag("mlflow.data.context", about["context"])])
        self._taken(lambda: self._client.log_inputs(run, [described]), [])

    def _taken(self, call: Callable[[], object], records: Sequence[object]) -> bool:
        """Whether MLflow took what was sent; False where it never will, because a value is not to its liking."""
        from mlflow.exceptions import MlflowException

        try:
            call()
        except MlflowException as error:
            if error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            if len(records) <= 1:
                self.refused.append(reason(error))
            return False
        return True

    def _finish(self, folder: Path, sent: Sent, status: str, ended: int) -> None:
        """Close the run; with the last one that runs, the parent too. All of the journal is delivered then."""
        if sent.run:
            self._client.set_terminated(sent.run, status, ended)
            self._settle(sent.parent)
        outbox.remove(folder)

    def _settle(self, parent: str) -> None:
        """The parent runs while one of its stages does, fails with any of them and ends with the last."""
        below = f"tags.`mlflow.parentRunId` = '{parent}'"
        stages: list[Run] = self._client.search_runs([self._experiment], below, max_results=1000)
        statuses = {stage.info.status for stage in stages}
        if "RUNNING" in statuses:
            self._client.update_run(parent, "RUNNING")
        else:
            end = max(stage.info.end_time for stage in stages)
            self._client.set_terminated(parent, "FINISHED" if statuses == {"FINISHED"} else "FAILED", end)


def reason(error: Exception) -> str:
    """An error in one line, without the user:password of an address."""
    return without_secrets(str(error)).strip().partition("\n")[0][:200] or type(error).__name__


def follow(folder: Path) -> int:
    """Deliver a journal while its stage writes it, and say on stdout what does not arrive; 0 if nothing has to stay.

    The stage holds this process's standard input open as long as it lives. Where MLflow fails, it is tried again. While
    the stage works, what older runs have left for the same store is delivered too.
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
            while store.step(folder, over=last):
                pass
            for other in outbox.waiting() if not last else ():
                if other != folder and not outbox.is_running(other) and outbox.head(other)["store"] == store.name:
                    while not over.is_set() and store.step(other, over=True):
                        pass
            trouble = ""
        except Exception as error:
            trouble = reason(error)
        if not last:
            over.wait(PAUSE_SECONDS)
    print(trouble or "; ".join(store.refused if store else ()))
    return 1 if trouble else 0


def _end_in_time(over: threading.Event, connected: threading.Event) -> None:
    """Wait for the stage's end, and then end this process soon: nobody is to wait for a slow server."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    over.set()
    connected.wait(CONNECT_SECONDS)
    time.sleep(END_SECONDS)
    print(TOO_SLOW.format(END_SECONDS), flush=True)
    os._exit(1)


def send() -> int:
    """Deliver every run whose stage has ended, oldest first, and tell about it; 0 if nothing of them is left."""
    folders = outbox.waiting()
    over = [folder for folder in folders if not outbox.is_running(folder)]
    if running := len(folders) - len(over):
        print(f"left alone, for they still run: {running}")
    if not over:
        print("nothing to send")
        return 0
    delivered, refused, trouble = 0, list[str](), ""
    try:
        store = Store(PATIENT)
        refused = store.refused
        for folder in over:
            try:
                while store.step(folder, over=True):
                    pass
                delivered += 1
            except ValueError as damage:
                refused.append(reason(damage))
    except Exception as error:
        trouble = f"MLflow fails, so the rest is kept: {reason(error)}"
    print(f"runs sent to {without_secrets(tracking_uri())}: {delivered} of {len(over)}")
    for line in (*refused, *filter(None, [trouble])):
        print(line, file=sys.stderr)
    return 1 if delivered < len(over) else 0


def _check_that_something_listens(uri: str) -> None:
    """OSError where a server's port is closed or out of reach; what stands behind a proxy is not asked."""
    address = urlsplit(uri)
    ports = {"http": 80, "https": 443}
    if address.scheme not in ports or address.hostname is None:
        return
    if {address.scheme, "all"} & getproxies().keys() and not proxy_bypass(address.hostname):
        return
    at = address.hostname, address.port or ports[address.scheme]
    try:
        socket.create_connection(at, timeout=3).close()
    except OSError as error:
        raise ConnectionError(f"{at[0]}:{at[1]}: {error.strerror or error}") from error


def _connect(uri: str) -> tuple["MlflowClient", str]:
    """A client and the id of the experiment. The lock lets two first starts at once make the tables only once."""
    from mlflow import MlflowClient
    from mlflow.store.db.utils import create_sqlalchemy_engine

    is_database = uri.startswith(("sqlite", "postgresql", "mysql", "mssql"))
    beside = Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else repo_root() / "mlflow.db"
    beside.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(beside.with_name(f"{beside.name}.lock"), timeout=60):
        if is_database:  # one try: where it cannot be opened, MLflow itself goes on trying for 100 seconds
            with create_sqlalchemy_engine(uri).connect() as connection:
                connection.detach()  # from the pool, so that it is closed here
        client = MlflowClient(uri)
        if experiment := client.get_experiment_by_name(EXPERIMENT):
            return client, experiment.experiment_id
        # MLflow's own choice, a folder in the working folder, is lost with an experiment's copy of the repository.
        location = (repo_root() / "mlartifacts").as_uri() if is_database else None
        return client, client.create_experiment(EXPERIMENT, artifact_location=location)


def _preview(path: Path, name: str) -> tuple[Path, str]:
    """A small copy of a picture, beside it, under the name by which MLflow's pages know it."""
    from PIL import Image

    small = path.with_name(f"{path.stem}+compressed.webp")
    with Image.open(path) as picture:
        scale = PREVIEW_PIXELS / max(picture.size)
        picture.resize([max(1, int(side * scale)) for side in picture.size]).save(small)
    return small, f"{name.removesuffix(path.suffix)}+compressed.webp"


if __name__ == "__main__":
    sys.exit(follow(Path(sys.argv[1])))
