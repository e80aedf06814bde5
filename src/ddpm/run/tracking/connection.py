"""Connecting to MLflow: the tracking URI, the experiment, and a store that may have been moved or copied."""

import json
import os
import socket
import sqlite3
import sys
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies, url2pathname

from filelock import FileLock

from ddpm.run.root import repo_root
from ddpm.run.tracking.outbox import SQLITE, tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "ddpm"
ARTIFACTS = "mlartifacts"
VIEW = "headlines"  # of the experiment's page, from which MLflow reads its columns


def columns(metrics: Iterable[str]) -> tuple[str, str]:
    """The tag that selects the columns of the experiment's page: creation time, duration, and these metrics."""
    shown = ["attributes.`Created`", "attributes.`Duration`", *(f"metrics.`{name}`" for name in metrics)]
    return f"mlflow.sharedViewState.{VIEW}", json.dumps({"selectedColumns": shown})


TAGS = {
    "mlflow.experimentKind": "custom_model_development",  # otherwise its page opens with LLM traces
    **dict([columns(())]),  # until there are headline metrics
}
# The columns of MLflow's tables that hold artifact locations.
PLACES = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
}


def connect() -> tuple["MlflowClient", str]:
    """Return a client and the id of the experiment, which is created if it does not exist.

    A lock ensures that MLflow's tables are created only once even if two senders start at the same time.

    Raises:
        OSError: No server listens. mlflow has not been imported.
        LookupError: The experiment was deleted.
        Exception: Errors of MLflow.
    """
    uri = tracking_uri()
    _check_that_something_listens(uri)
    from mlflow import MlflowClient
    from mlflow.store.db.utils import create_sqlalchemy_engine

    is_database = uri.startswith(("sqlite", "postgresql", "mysql", "mssql"))
    beside = Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else repo_root() / "mlflow.db"
    beside.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(beside.with_name(f"{beside.name}.lock"), timeout=60):
        if is_database:  # one attempt: MLflow itself would retry for 100 seconds
            with create_sqlalchemy_engine(uri).connect() as connection:
                connection.detach()  # from the pool, so that it is closed at once
        if uri.startswith(SQLITE) and (n_moved := relocate(beside, beside.parent / ARTIFACTS)):
            print(f"MLflow's store is now in {beside.parent}: {n_moved} locations updated", file=sys.stderr)
        client = MlflowClient(uri)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        if experiment := client.get_experiment_by_name(name):
            if experiment.lifecycle_stage == "deleted":
                raise LookupError(
                    f"experiment {name} is deleted; to restore it: MLFLOW_TRACKING_URI={uri} "
                    f"mlflow experiments restore --experiment-id {experiment.experiment_id}"
                )
            missing = {key: value for key, value in TAGS.items() if key not in experiment.tags}
            identity = str(experiment.experiment_id)
        else:
            # MLflow's default, a folder in the working folder, is lost with an experiment's copy of the repository.
            place = beside.parent if uri.startswith(SQLITE) else repo_root()
            location = (place / ARTIFACTS).as_uri() if is_database else None
            missing, identity = TAGS, str(client.create_experiment(name, artifact_location=location))
        for key, value in missing.items():
            client.set_experiment_tag(identity, key, value)
        return client, identity


def page(identity: str) -> str:
    """The URL of the experiment's page, relative to the server's."""
    return f"/#/experiments/{identity}/runs?workflowType=machine_learning&viewStateShareKey={VIEW}"


def relocate(database: Path, folder: Path) -> int:
    """Update the artifact locations of a store that was moved or copied with its folder of artifacts.

    MLflow stores artifact locations as absolute URIs. Locations in another folder `mlartifacts` are changed, all or
    none, except for artifacts that exist only there. New artifacts always go to `folder`.

    Args:
        database: An SQLite store. One without MLflow's tables is not changed.
        folder: Where the artifacts are.

    Returns:
        The number of locations changed.
    """
    if not database.is_file():
        return 0
    changed = 0
    with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for table in PLACES.keys() & tables:
            for column in PLACES[table]:
                places = connection.execute(f"SELECT DISTINCT {column} FROM {table}").fetchall()
                for old, new in ((old, moved(old or "", folder)) for (old,) in places):
                    if new != (old or "") and (table == "experiments" or _exists(new) or not _exists(old)):
                        connection.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (new, old))
                        changed += 1
    return changed


def moved(place: str, folder: Path) -> str:
    """The URI of an artifact in `folder` if `place` is in a folder of the same name, else `place`."""
    before, name, rest = f"{place}/".rpartition(f"/{folder.name}/")  # the last, as a parent may have the same name
    return f"{folder.as_uri()}/{rest}".removesuffix("/") if name and before.startswith("file:") else place


def _exists(place: str) -> bool:
    return Path(url2pathname(urlsplit(place).path)).exists()


def _check_that_something_listens(uri: str) -> None:
    """Raise OSError if a server's port is closed or unreachable. Servers behind a proxy are not checked."""
    address = urlsplit(uri)
    port = address.port or {"http": 80, "https": 443}.get(address.scheme)
    if address.scheme in ("http", "https") and not {address.scheme, "all"} & getproxies().keys():
        try:
            socket.create_connection((address.hostname or "", port or 0), timeout=3).close()
        except OSError as error:
            raise ConnectionError(f"{address.hostname}:{port}: {error.strerror or error}") from error
