"""The experiment in MLflow, as a sender sees it: every call may be repeated.

A sender may be killed between any two calls, and MLflow's answer may be lost. So a run is looked for by a tag before it
is made, and a param, metric, tag, input or artifact that MLflow has already is stored only once.
"""

import json
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from filelock import FileLock

from ddpm.run.root import repo_root
from ddpm.run.tracking import outbox
from ddpm.run.tracking.outbox import SQLITE, reason, tracking_uri, without_secrets

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "ddpm"
INVOCATION, JOURNAL = "dvc.invocation", "ddpm.journal"  # tags by which a parent and a stage's run are found again
SETTINGS = {  # read by MLflow; the user's own values win
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the sender itself tries again
}
LINES = 1000  # of a journal, delivered together


@dataclass
class Progress:
    """How much of a journal is delivered: up to the byte `position`, whose line is of `time`, as the run `run`."""

    run: str
    parent: str
    position: int = 0
    time: int = 0


class Store:
    """The experiment in MLflow, and what this process has delivered to it."""

    def __init__(self, timeout: int) -> None:
        """Connect.

        Args:
            timeout: Seconds for a request.

        Raises:
            OSError: Nothing listens; mlflow is not imported then.
            Exception: MLflow's own.
        """
        uri = tracking_uri()
        self.name = without_secrets(uri)
        self.refused: list[str] = []
        _check_that_something_listens(uri)
        os.environ.update(SETTINGS | {"MLFLOW_HTTP_REQUEST_TIMEOUT": str(timeout)} | os.environ)
        self._client, self._experiment = _connect(uri)
        self._progress: dict[Path, Progress] = {}
        # One sender of this repository at a time, so that they make a parent only once.
        self._lock = FileLock(repo_root() / outbox.OUTBOX / "sending.lock")

    def deliver(self, folder: Path, over: bool) -> None:
        """Deliver what a journal holds.

        Args:
            folder: The run's.
            over: Whether its stage has ended: a journal without an end is then that of a stage that was killed.

        Raises:
            ValueError: The journal's first line is damaged.
            Exception: MLflow's own; what has been delivered until then is not delivered again.
        """
        from mlflow.exceptions import MlflowException

        with self._lock:
            try:
                while (folder / outbox.JOURNAL).exists():
                    progress = self._progress.get(folder) or self._open(folder)
                    if records := outbox.read(folder, progress.position, LINES):
                        self._send(folder, progress, records)
                    elif over:
                        self._finish(folder, "KILLED", progress.time)
                    else:
                        break
            except MlflowException as error:
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":  # the store was begun anew, so this run is too
                    self._progress.pop(folder, None)
                raise

    def _open(self, folder: Path) -> Progress:
        """Find the stage's run and its parent, or make them."""
        head = outbox.head(folder)
        parent = self._found_or_made(INVOCATION, head["parent"])
        own = {**head, "tags": {**head["tags"], "mlflow.parentRunId": parent, JOURNAL: folder.name}}
        self._progress[folder] = Progress(self._found_or_made(JOURNAL, own), parent)
        self._settle(parent)
        return self._progress[folder]

    def _found_or_made(self, tag: str, about: Mapping[str, Any]) -> str:
        query = f"tags.`{tag}` = '{about['tags'][tag]}'"
        if found := self._client.search_runs([self._experiment], query, max_results=1):
            return str(found[0].info.run_id)
        return str(self._client.create_run(self._experiment, about["time"], about["tags"], about["name"]).info.run_id)

    def _send(self, folder: Path, progress: Progress, records: list[tuple[dict[str, Any], int]]) -> None:
        """Send params, metrics and tags in one request; then artifacts, inputs and the end in their order."""
        self._log_batch(progress.run, [record for record, _ in records])
        for record, position in records:
            match record:
                case {"artifact": name}:
                    self._log_artifact(progress.run, folder / "files" / name, name)
                case {"input": about}:
                    self._log_input(progress.run, about)
                case {"end": status, "time": ended}:
                    self._finish(folder, status, ended)
                case {}:
                    if not record:
                        self.refused.append(f"a damaged line in {folder / outbox.JOURNAL}")
            progress.position, progress.time = position, record.get("time", progress.time)

    def _log_batch(self, run: str, records: list[dict[str, Any]]) -> None:
        from mlflow.entities import Metric, Param, RunTag

        params = [Param(*pair) for record in records for pair in record.get("params", {}).items()]
        tags = {key: value for record in records for key, value in record.get("tags", {}).items()}
        metrics = [
            Metric(key, value, record["time"], record["step"])
            for record in records
            for key, value in record.get("metrics", {}).items()
        ]
        batch = metrics, params, [RunTag(*pair) for pair in tags.items()]
        if any(batch) and not self._took(lambda: self._client.log_batch(run, *batch, synchronous=True), len(records)):
            for record in records if len(records) > 1 else ():  # all but the one that MLflow does not take
                self._log_batch(run, [record])

    def _log_artifact(self, run: str, path: Path, name: str) -> None:
        if path.is_file():
            self._took(lambda: self._client.log_artifact(run, str(path), name.rpartition("/")[0] or None))
        else:
            self.refused.append(f"{path} is missing")

    def _log_input(self, run: str, about: Mapping[str, str]) -> None:
        from mlflow.entities import Dataset, DatasetInput

        source = json.dumps({"uri": about["name"]})
        dataset = Dataset(about["name"], about["digest"], source_type="local", source=source)
        self._took(lambda: self._client.log_inputs(run, [DatasetInput(dataset)]))

    def _took(self, call: Callable[[], object], parts: int = 1) -> bool:
        """Whether MLflow took what was sent: not if it never will, because a value is not allowed."""
        from mlflow.exceptions import MlflowException

        try:
            call()
        except MlflowException as error:
            if error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            if parts == 1:
                self.refused.append(reason(error))
            return False
        return True

    def _finish(self, folder: Path, status: str, ended: int) -> None:
        """Close the run; with the last run that is open, its parent too."""
        progress = self._progress.pop(folder)
        self._client.set_terminated(progress.run, status, ended)
        self._settle(progress.parent)
        outbox.remove(folder)

    def _settle(self, parent: str) -> None:
        """Set a parent's status: RUNNING while one of its stages is, FAILED if one of them failed, else FINISHED."""
        below = f"tags.`mlflow.parentRunId` = '{parent}'"
        stages = [run.info for run in self._client.search_runs([self._experiment], below, max_results=1000)]
        statuses = {stage.status for stage in stages}
        if "RUNNING" in statuses:
            self._client.update_run(parent, "RUNNING")
        else:
            status = "FINISHED" if statuses == {"FINISHED"} else "FAILED"
            self._client.set_terminated(parent, status, max(stage.end_time for stage in stages))


def _check_that_something_listens(uri: str) -> None:
    """Raise OSError if a server's port is closed or out of reach. A server behind a proxy is not asked."""
    address = urlsplit(uri)
    port = address.port or {"http": 80, "https": 443}.get(address.scheme)
    if address.scheme in ("http", "https") and not {address.scheme, "all"} & getproxies().keys():
        try:
            socket.create_connection((address.hostname or "", port or 0), timeout=3).close()
        except OSError as error:
            raise ConnectionError(f"{address.hostname}:{port}: {error.strerror or error}") from error


def _connect(uri: str) -> tuple["MlflowClient", str]:
    """A client, and the id of the experiment. The lock lets two first senders at once make the tables only once."""
    from mlflow import MlflowClient
    from mlflow.store.db.utils import create_sqlalchemy_engine

    is_database = uri.startswith(("sqlite", "postgresql", "mysql", "mssql"))
    beside = Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else repo_root() / "mlflow.db"
    beside.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(beside.with_name(f"{beside.name}.lock"), timeout=60):
        if is_database:  # one try: if it cannot be opened, MLflow itself goes on trying for 100 seconds
            with create_sqlalchemy_engine(uri).connect() as connection:
                connection.detach()  # from the pool, so that it is closed here
        client = MlflowClient(uri)
        if experiment := client.get_experiment_by_name(EXPERIMENT):
            return client, str(experiment.experiment_id)
        # MLflow's own choice, a folder in the working folder, is lost with an experiment's copy of the repository.
        location = (repo_root() / "mlartifacts").as_uri() if is_database else None
        return client, str(client.create_experiment(EXPERIMENT, artifact_location=location))
