"""The experiment in MLflow, for senders: every call is idempotent.

A sender may be killed between any two calls, and MLflow's response may be lost. So a run is searched for by a tag
before it is created, and params, metrics, tags, inputs and artifacts that are sent again are stored only once.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from ddpm.run.root import repo_root
from ddpm.run.tracking import outbox
from ddpm.run.tracking.connection import columns, connect
from ddpm.run.tracking.model_registry import register
from ddpm.run.tracking.outbox import RUN_ID, reason, tracking_uri, without_secrets

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

INVOCATION, JOURNAL = "dvc.invocation", "ddpm.journal"  # tags that identify a parent and a stage's run
SETTINGS = {  # read by MLflow, but the user's own values take precedence
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the sender itself retries
}
STAGES = "stages.json"  # of a pipeline's run, in the format of `mlflow.log_table`, which would append
LINES = 1000  # of a journal, per request


@dataclass
class Progress:
    """How much of a journal is delivered to `run`: the bytes up to `position`, with a last line written at `time`."""

    run: str
    parent: str
    position: int = 0
    time: int = 0


class Store:
    """The experiment in MLflow, and the progress of this process's deliveries."""

    def __init__(self, timeout: int) -> None:
        """Connect.

        Args:
            timeout: Seconds for a request.

        Raises:
            OSError: No server listens. mlflow has not been imported.
            Exception: Errors of MLflow.
        """
        self.name = without_secrets(tracking_uri())
        self.refused: list[str] = []
        os.environ.update(SETTINGS | {"MLFLOW_HTTP_REQUEST_TIMEOUT": str(timeout)} | os.environ)
        self._client, self._experiment = connect()
        self._progress: dict[Path, Progress] = {}
        # One sender of this repository at a time, so that a parent is created only once.
        self._lock = FileLock(repo_root() / outbox.OUTBOX / "sending.lock")

    def deliver(self, folder: Path, over: bool) -> None:
        """Deliver the contents of a journal.

        Args:
            folder: The run's.
            over: Whether its stage has ended. If so, a journal without an end means that the stage was killed.

        Raises:
            ValueError: The journal's first line is damaged.
            Exception: Errors of MLflow. What was delivered before is not delivered again.
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
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":  # the store was recreated, so the run must be too
                    self._progress.pop(folder, None)
                raise

    def monitor(self, folder: Path) -> "SystemMetricsMonitor | None":
        """Start logging system metrics to the run of a journal, every ten seconds until `finish` is called."""
        from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        if folder not in self._progress or not MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.get():
            return None
        monitor = SystemMetricsMonitor(self._progress[folder].run, tracking_uri=tracking_uri())
        monitor.start()
        return monitor

    def _open(self, folder: Path) -> Progress:
        """Find or create the stage's run and its parent."""
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
        """Send params, metrics and tags in one request, then artifacts, inputs and the status, in order."""
        for of_parent, run in ((False, progress.run), (True, progress.parent)):
            self._log_batch(run, [record for record, _ in records if bool(record.get("of_parent")) == of_parent])
        for record, position in records:
            match record:
                case {"artifact": name}:
                    run = progress.parent if record.get("of_parent") else progress.run
                    self._log_artifact(run, folder / "files" / name, name)
                case {"of_parent": True, "metrics": headlines}:
                    self._client.set_experiment_tag(self._experiment, *columns(headlines))
                case {"model": about}:
                    self._log_model(progress.parent, folder / "files" / about["file"], about)
                case {"stages": outputs}:
                    self._log_stages(progress.parent, outputs)
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
        tags = {key: value.replace(RUN_ID, run) for record in records for key, value in record.get("tags", {}).items()}
        metrics = [
            Metric(key, value, record["time"], record["step"])
            for record in records
            for key, value in record.get("metrics", {}).items()
        ]
        batch = metrics, params, [RunTag(*pair) for pair in tags.items()]
        if any(batch) and not self._took(lambda: self._client.log_batch(run, *batch, synchronous=True), len(records)):
            for record in records if len(records) > 1 else ():  # all records except the rejected one
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

    def _log_stages(self, parent: str, outputs: Mapping[str, Mapping[str, str] | None]) -> None:
        """Write a table of all stages, each with the run that wrote its outputs."""
        runs = {run.info.run_name: run.info.run_id for run in self._below(parent)}
        rows = []
        for stage, written in outputs.items():
            if stage in runs:
                rows.append([stage, "run", runs[stage]])
            else:
                rows.append([stage, "restored" if written else "out of date", self._maker(written or {})])
        table = {"columns": ["stage", "state", "run"], "data": rows}
        self._took(lambda: self._client.log_dict(parent, table, STAGES))
        self._client.set_tag(parent, "mlflow.loggedArtifacts", json.dumps([{"path": STAGES, "type": "table"}]))

    def _maker(self, outputs: Mapping[str, str]) -> str:
        """The first run with all these outputs, by their MD5s, or "" if this store has none."""
        query = " and ".join(f"tags.`output.{path}` = '{md5}'" for path, md5 in outputs.items())
        found = query and self._client.search_runs(
            [self._experiment], query, max_results=1, order_by=["attributes.start_time ASC"]
        )
        return str(found[0].info.run_id) if found else ""

    def _log_model(self, run: str, path: Path, about: Mapping[str, Any]) -> None:
        if path.is_file():
            self._took(lambda: register(self._client, run, path, about))
        else:
            self.refused.append(f"{path} is missing")

    def _took(self, call: Callable[[], object], parts: int = 1) -> bool:
        """Whether MLflow accepted the data. False if it never will, as a value is not allowed or MLflow is too old."""
        from mlflow.exceptions import MlflowException

        try:
            call()
        except MlflowException as error:
            if error.error_code not in ("INVALID_PARAMETER_VALUE", "ENDPOINT_NOT_FOUND"):
                raise
            if parts == 1:
                self.refused.append(reason(error))
            return False
        return True

    def _finish(self, folder: Path, status: str, ended: int) -> None:
        """Close the run, and its parent if no other run is open."""
        progress = self._progress.pop(folder)
        self._client.set_terminated(progress.run, status, ended)
        self._settle(progress.parent)
        outbox.remove(folder)

    def _settle(self, parent: str) -> None:
        """Set a parent's status: RUNNING while a stage is, FAILED if a stage failed, else FINISHED."""
        stages = [run.info for run in self._below(parent)]
        statuses = {stage.status for stage in stages}
        if "RUNNING" in statuses:
            self._client.update_run(parent, "RUNNING")
        else:
            status = "FINISHED" if statuses == {"FINISHED"} else "FAILED"
            self._client.set_terminated(parent, status, max(stage.end_time for stage in stages))

    def _below(self, parent: str) -> list["Run"]:
        """The runs of a pipeline's stages."""
        query = f"tags.`mlflow.parentRunId` = '{parent}'"
        return list(self._client.search_runs([self._experiment], query, max_results=1000))
