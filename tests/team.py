"""A team's servers on loopback: PostgreSQL, S3 (moto), and an MLflow server that stores its runs in them."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

from project import REPO

SERVICES = REPO / ".benchmark/services"
SECRETS = {"database": "pgs3cret", "key": "AKIAs3cret", "bucket": "s3s3cret"}


def postgres_programs() -> Path | None:
    """The folder of PostgreSQL's programs, or None."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [Path(shutil.which("initdb") or "")]
    return found[-1].parent if found[-1].name else None


def missing() -> str:
    """What must be installed, or "" if nothing."""
    if not postgres_programs():
        return "PostgreSQL is not installed"
    return "" if SERVICES.exists() else "the servers' packages are missing: make services"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port: int, process: subprocess.Popen, log: Path) -> None:
    """Wait until something listens on a port."""
    deadline = time.monotonic() + 180  # MLflow creates tables first
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if not probe.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.1)
    raise RuntimeError(log.read_text()[-2000:])


@contextmanager
def running(*command: str, port: int, log: Path, environment: dict[str, str]) -> Iterator[None]:
    """A server, until the block ends."""
    with log.open("a") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=environment, start_new_session=True)
        try:
            wait_for(port, process, log)
            yield
        finally:
            process.terminate()
            process.wait(60)


@contextmanager
def postgres(log: Path) -> Iterator[str]:
    """Run a database server with an empty database, and yield its address for MLflow."""
    programs, port = postgres_programs(), free_port()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        data, password = Path(name, "data"), Path(name, "password")
        password.write_text(SECRETS["database"])
        as_user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []  # it cannot run as root
        if as_user:
            for path in (Path(name), password):
                shutil.chown(path, "postgres")
        own = {"PATH": os.environ["PATH"], "PGPASSWORD": SECRETS["database"]}
        made = f"{programs}/initdb", "-D", str(data), "-U", "team", "-A", "scram-sha-256", f"--pwfile={password}"
        subprocess.run([*as_user, *made], check=True, capture_output=True, cwd="/", env=own)
        command = *as_user, f"{programs}/postgres", "-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", name
        stack.enter_context(running(*command, port=port, log=log, environment=own))
        at = "-h", "127.0.0.1", "-p", str(port), "-U", "team"
        for _ in range(100):  # it listens before it answers
            if not subprocess.run([f"{programs}/createdb", *at, "mlflow"], capture_output=True, env=own).returncode:
                break
            time.sleep(0.1)
        yield f"postgresql+psycopg2://team:{SECRETS['database']}@127.0.0.1:{port}/mlflow"


class Team:
    """MLflow's server, which can be stopped and started. Its clients need no credentials of database or bucket."""

    def __init__(self, folder: Path, database: str, store: int) -> None:
        self._log, self._port, self._stack = folder / "server.log", free_port(), ExitStack()
        path = f"{SERVICES}{os.pathsep}{REPO / 'src'}"
        keys = {"AWS_ACCESS_KEY_ID": SECRETS["key"], "AWS_SECRET_ACCESS_KEY": SECRETS["bucket"]}
        endpoint = {"MLFLOW_S3_ENDPOINT_URL": f"http://127.0.0.1:{store}", "AWS_DEFAULT_REGION": "us-east-1"}
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "AWS_", "DVC_"))}
        where = {"MLFLOW_BACKEND_STORE_URI": database, "MLFLOW_ARTIFACTS_DESTINATION": "s3://team/mlflow"}
        self._environment = kept | keys | endpoint | where | {"PYTHONPATH": path, "MLFLOW_DISABLE_TELEMETRY": "true"}
        self.uri = f"http://127.0.0.1:{self._port}"
        self.start()

    def start(self) -> None:
        at = "--host", "127.0.0.1", "--port", str(self._port), "--workers", "1"
        command = sys.executable, "-m", "mlflow", "server", *at
        self._stack.enter_context(running(*command, port=self._port, log=self._log, environment=self._environment))

    def stop(self) -> None:
        self._stack.close()


@contextmanager
def team(folder: Path) -> Iterator[Team]:
    """All servers. Logs are in the folder."""
    store = free_port()
    environment = os.environ | {"PYTHONPATH": str(SERVICES)}
    moto = sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(store)
    with (
        postgres(folder / "postgres.log") as database,
        running(*moto, port=store, log=folder / "moto.log", environment=environment),
    ):
        urlopen(Request(f"http://127.0.0.1:{store}/team", method="PUT"))
        servers = Team(folder, database, store)
        try:
            yield servers
        finally:
            servers.stop()
