"""The way into MLflow: an address, an experiment, and a store that may have been moved, copied or made by another."""

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
VIEW = "headlines"  # of the experiment's page, by which MLflow finds its columns


def columns(metrics: Iterable[str]) -> tuple[str, str]:
    """The tag that chooses the columns of the experiment's page: when, how long, and these metrics."""
    shown = ["attributes.`Created`", "attributes.`Duration`", *(f"metrics.`{name}`" for name in metrics)]
    return f"mlflow.sharedViewState.{VIEW}", json.dumps({"selectedColumns": shown})


TAGS = {
    "mlflow.experimentKind": "custom_model_development",  # else its page opens on an overview of LLM traces
    **dict([columns(())]),  # until there are headline metrics
}
# Where MLflow's tables hold the place of an artifact.
PLACES = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
}


def connect() -> tuple["MlflowClient", str]:
    """A client, and the id of the experiment, which is made if it is missing.

    The lock lets two first senders at once make MLflow's tables only once.

    Raises:
        OSError: Nothing listens; mlflow is not imported then.
        LookupError: The experiment was deleted.
        Exception: MLflow's own.
    """
    uri = tracking_uri()
    _check_that_something_listens(uri)
    from mlflow import MlflowClient
    from mlflow.store.db.utils import create_sqlalchemy_engine

    is_database = uri.startswith(("sqlite", "postgresql", "mysql", "mssql"))
    beside = Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else repo_root() / "mlflow.db"
    beside.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(beside.with_name(f"{beside.name}.lock"), timeout=60):
        if is_database:  # one try: if it cannot be opened, MLflow itself goes on trying for 100 seconds
            with create_sqlalchemy_engine(uri).connect() as connection:
                connection.detach()  # from the pool, so that it is closed here
        if uri.startswith(SQLITE) and (n_moved := relocate(beside, beside.parent / ARTIFACTS)):
            print(f"MLflow's store is now in {beside.parent}: {n_moved} places updated", file=sys.stderr)
        client = MlflowClient(uri)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        if experiment := client.get_experiment_by_name(name):
            if experiment.lifecycle_stage == "deleted":
                raise LookupError(
                    f"experiment {name} is deleted; to get it back: MLFLOW_TRACKING_URI={uri} "
                    f"mlflow experiments restore --experiment-id {experiment.experiment_id}"
                )
            missing = {key: value for key, value in TAGS.items() if key not in experiment.tags}
            identity = str(experiment.experiment_id)
        else:
            # MLflow's own choice, a folder in the working folder, is lost with an experiment's copy of the repository.
            place = beside.parent if uri.startswith(SQLITE) else repo_root()
            location = (place / ARTIFACTS).as_uri() if is_database else None
            missing, identity = TAGS, str(client.create_experiment(name, artifact_location=location))
        for key, value in missing.items():
            client.set_experiment_tag(identity, key, value)
        return client, identity


def page(identity: str) -> str:
    """The part of the experiment's address that follows the server's."""
    return f"/#/experiments/{identity}/runs?workflowType=machine_learning&viewStateShareKey={VIEW}"


def relocate(database: Path, folder: Path) -> int:
    """Let a store that was moved or copied with its folder of artifacts know where they are now.

    MLflow keeps the place of every artifact as an absolute address. Those that lead to another folder `mlartifacts`
    are changed, all or none, but for artifacts that are there and not here. New artifacts always go here.

    Args:
        database: An SQLite store. One without MLflow's tables is left alone.
        folder: Where the artifacts are.

    Returns:
        How many places were changed.
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
    """The address of an artifact in `folder` if `place` is one in a folder of the same name, else `place`."""
    before, name, rest = f"{place}/".rpartition(f"/{folder.name}/")  # the last: one above the project may be called so
    return f"{folder.as_uri()}/{rest}".removesuffix("/") if name and before.startswith("file:") else place


def _exists(place: str) -> bool:
    return Path(url2pathname(urlsplit(place).path)).exists()


def _check_that_something_listens(uri: str) -> None:
    """Raise OSError if a server's port is closed or out of reach. A server behind a proxy is not asked."""
    address = urlsplit(uri)
    port = address.port or {"http": 80, "https": 443}.get(address.scheme)
    if address.scheme in ("http", "https") and not {address.scheme, "all"} & getproxies().keys():
        try:
            socket.create_connection((address.hostname or "", port or 0), timeout=3).close()
        except OSError as error:
            raise ConnectionError(f"{address.hostname}:{port}: {error.strerror or error}") from error
