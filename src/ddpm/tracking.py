"""MLflow: one parent run for a pipeline run, one child run for a stage, and no way to fail the work they record.

The only file that imports mlflow, and inside functions, for that import takes seconds. All calls name their run, so a
run that the caller has open in MLflow is left alone. `python -m ddpm.tracking` prints where the runs are kept.
"""

import json
import os
import platform
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import wraps
from itertools import pairwise
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Union
from uuid import uuid4

import psutil
from filelock import FileLock
from jaxtyping import Float
from torch import Tensor

from ddpm.files import md5
from ddpm.images import reconstruction_grid, to_uint8

if TYPE_CHECKING:
    import matplotlib.figure
    import mlflow

EXPERIMENT, SQLITE = "ddpm", "sqlite:///"
SETTINGS = {  # read by MLflow; the user's own values win
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # MLflow's 7 with growing pauses hold the work up for minutes
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "3",  # seconds
}
WARNING = "warning: MLflow fails, so this stage goes on without it:"
BUFFERED_VALUES, BUFFERED_SECONDS = 1000, 10.0
INVOCATION = "dvc.invocation"  # tag of a parent run: which pipeline run it stands for
Images = Float[Tensor, "b c h w"]
P = ParamSpec("P")


def repo_root() -> Path:
    """Folder of the main repository: DVC_ROOT, else the nearest folder upwards with `.dvc`, else the working folder.

    DVC_ROOT names it even where `dvc exp run --temp` works in a copy that is deleted afterwards.
    """
    if named := os.environ.get("DVC_ROOT"):
        return Path(named)
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / ".dvc").is_dir()), here)


def tracking_uri() -> str:
    """Where the runs are kept: MLFLOW_TRACKING_URI, else `mlflow.db` in the main repository.

    A relative SQLite path is taken from the main repository too, not from the copy that an experiment runs in.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}mlflow.db"
    return f"{SQLITE}{repo_root() / uri.removeprefix(SQLITE)}" if uri.startswith(SQLITE) else uri


@contextmanager
def stage_run(stage: str, params: Mapping[str, Any]) -> Iterator["Run"]:
    """Record a stage: yields its `Run`; MLflow shows it as FINISHED, or FAILED if the block raises.

    params: logged with dotted keys. All stages that one dvc process starts share a parent run; a stage that is
    started without dvc has one to itself. Whatever goes wrong with MLflow, the block runs.
    """
    run, status = Run(), "FAILED"
    try:
        run._start(stage, params)
        yield run
        status = "FINISHED"
    finally:
        run._end(status)


def log_images(
    img: Images, noised: Images, noise: Images, noise_pred: Images, reconstructed: Images, num_images: int = 3
) -> list["mlflow.Image"]:
    """The first `num_images` pictures of `ddpm.images.reconstruction_grid`, for `Run.log_image`."""
    import mlflow

    grids = reconstruction_grid(img, noised, noise, noise_pred, reconstructed)
    return [mlflow.Image(_pixels(grid)) for grid in grids[:num_images]]


def _goes_on(method: Callable[Concatenate["Run", P], None]) -> Callable[Concatenate["Run", P], None]:
    """Let a method of `Run` fail once, with one warning; after that it and its like do nothing."""

    @wraps(method)
    def call(self: "Run", /, *args: P.args, **kwargs: P.kwargs) -> None:
        if not self._broken:
            with self._warning():
                method(self, *args, **kwargs)

    return call


class Run:
    """The MLflow run of one stage. No method raises: the first failure is one line on stderr and ends the tracking."""

    _client: "mlflow.MlflowClient"

    def __init__(self) -> None:
        self._broken = self._failed_before = False
        self._id = self._parent = ""
        self._metrics: list[tuple[str, float, int, int]] = []
        self._sent = time.monotonic()

    @_goes_on
    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Buffered: sent by the thousand, every ten seconds at most, and at the end of the stage."""
        now = time.time_ns() // 1_000_000
        self._metrics += [(key, float(value), now, step) for key, value in metrics.items()]
        if len(self._metrics) >= BUFFERED_VALUES or time.monotonic() - self._sent > BUFFERED_SECONDS:
            self._flush()

    @_goes_on
    def log_image(self, image: Union[Float[Tensor, "c h w"], "mlflow.Image"], key: str, step: int) -> None:
        """A picture that belongs to a training step; a tensor holds values in [0, 1]."""
        picture = _pixels(image) if isinstance(image, Tensor) else image
        self._client.log_image(self._id, picture, key=key, step=step, synchronous=True)

    @_goes_on
    def log_figure(self, figure: "matplotlib.figure.Figure", artifact_file: str) -> None:
        """A figure, kept under the name `artifact_file`; its ending sets the format."""
        self._client.log_figure(self._id, figure, artifact_file)

    @_goes_on
    def log_artifact(self, path: Path) -> None:
        """Keep a copy of a file under its path in the repository, and its MD5 as the tag `output.PATH`."""
        name = _name(path)
        self._client.log_artifact(self._id, str(path), name.rpartition("/")[0] or None)
        self._client.set_tag(self._id, f"output.{name}", md5(path))

    @_goes_on
    def log_input(self, path: Path, context: str) -> None:
        """Record a file that the stage reads as a dataset, by name and MD5, also as the tag `input.PATH`."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        name, digest = _name(path), md5(path)
        dataset = Dataset(name, digest, source_type="local", source=json.dumps({"uri": name}))
        self._client.log_inputs(self._id, [DatasetInput(dataset, [InputTag("mlflow.data.context", context)])])
        self._client.set_tag(self._id, f"input.{name}", digest)

    @_goes_on
    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Tags of the stage's run."""
        from mlflow.entities import RunTag

        self._client.log_batch(self._id, tags=[RunTag(key, value) for key, value in tags.items()], synchronous=True)

    @_goes_on
    def _start(self, stage: str, params: Mapping[str, Any]) -> None:
        """Open the child run, and the parent run unless an earlier stage did."""
        self._client, experiment = _connect()
        from mlflow.entities import Param

        key, command = invocation()
        tags = _tags()
        if found := self._client.search_runs([experiment], f"tags.`{INVOCATION}` = '{key}'", max_results=1):
            self._parent, self._failed_before = found[0].info.run_id, found[0].info.status == "FAILED"
            self._client.update_run(self._parent, "RUNNING")
        else:
            start = "repro" if command else f"{stage} by hand"
            name = os.environ.get("DVC_EXP_NAME") or f"{start} {tags.get('mlflow.source.git.commit', '')[:7]}".strip()
            about = tags | {INVOCATION: key, "dvc.command": command}
            self._parent = self._client.create_run(experiment, tags=about, run_name=name).info.run_id
        own = tags | {"mlflow.parentRunId": self._parent, "dvc.stage": os.environ.get("DVC_STAGE", stage)}
        self._id = self._client.create_run(experiment, tags=own, run_name=stage).info.run_id
        self._client.log_batch(self._id, params=[Param(k, str(v)) for k, v in flatten(params)], synchronous=True)

    @_goes_on
    def _flush(self) -> None:
        from mlflow.entities import Metric

        metrics, self._metrics, self._sent = self._metrics, [], time.monotonic()
        self._client.log_batch(self._id, metrics=[Metric(*metric) for metric in metrics], synchronous=True)

    def _end(self, status: str) -> None:
        """Close both runs, and try that even when other calls failed: a run left open looks as if it still worked."""
        if self._metrics:
            self._flush()
        with self._warning():
            for run_id, result in ((self._id, status), (self._parent, "FAILED" if self._failed_before else status)):
                if run_id:
                    self._client.set_terminated(run_id, result)

    @contextmanager
    def _warning(self) -> Iterator[None]:
        """Turn the first error into a line on stderr, and later ones into nothing."""
        try:
            yield
        except Exception as error:
            if not self._broken:
                reason = re.sub(r"//[^/\s]*@", "//", str(error)).strip().partition("\n")[0][:200]  # no user:password@
                print(WARNING, reason or type(error).__name__, file=sys.stderr)
            self._broken = True


def invocation() -> tuple[str, str]:
    """What tells this pipeline run from every other, and the command line of the dvc that runs it.

    dvc gives a plain `dvc repro` no name, so that is the nearest dvc process above; without one, a new key each time.
    """
    if process := dvc_process():
        with suppress(psutil.Error):
            return f"{platform.node()} {process.pid} {process.create_time():.2f}", shlex.join(process.cmdline())
    return uuid4().hex, ""


def dvc_process() -> psutil.Process | None:
    """The nearest dvc process above this one; None if this was started without dvc, or has outlived it."""
    for process in psutil.Process().parents():
        with suppress(psutil.Error):  # another user's process hides its command line
            if _is_dvc(process.cmdline()):
                return process
    return None


def flatten(params: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings with their dotted keys: {"unet": {"lr": 1}} gives ("unet.lr", 1)."""
    for key, value in params.items():
        yield from flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(prefix + key, value)]


def _connect() -> tuple["mlflow.MlflowClient", str]:
    """A client and the id of the experiment. The lock lets two first starts at once make the tables only once."""
    os.environ.update(SETTINGS | os.environ)
    from mlflow import MlflowClient
    from mlflow.store.db.utils import create_sqlalchemy_engine

    uri = tracking_uri()
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


def _tags() -> dict[str, str]:
    """Who runs which code for which experiment; what is unknown is left out."""
    commit = _git("rev-parse", "HEAD")
    changed = _git("--no-optional-locks", "status", "--porcelain", "--", ":(top)src", ":(top)stages")
    tags = {
        "mlflow.user": psutil.Process().username(),
        "mlflow.source.name": sys.argv[0],
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": commit,
        "mlflow.source.git.dirty": str(bool(changed)).lower() if commit else "",
        "dvc.exp_name": os.environ.get("DVC_EXP_NAME", ""),
    }
    return {key: value for key, value in tags.items() if value}


def _git(*arguments: str) -> str:
    """What git says about the working folder; empty without git or a repository."""
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _is_dvc(command: Sequence[str]) -> bool:
    """Whether a command line is `dvc ...`, `python .../dvc ...` or `python -m dvc ...`."""
    names = [PurePath(argument).stem.lower() for argument in command[:2]]
    if not names or not names[0].startswith("python"):
        return names[:1] == ["dvc"]
    return names[1:] == ["dvc"] or ("-m", "dvc") in pairwise(command)


def _name(path: Path) -> str:
    """A file's path from the working folder, or its bare name if it lies elsewhere, in characters of a tag's key."""
    path, here = path.absolute(), Path.cwd()
    return re.sub(r"[^\w. /-]", "_", path.relative_to(here).as_posix() if path.is_relative_to(here) else path.name)


def _pixels(image: Float[Tensor, "c h w"]) -> Any:
    """The numpy array (height, width, channels) of 0..255 that MLflow takes."""
    return to_uint8(image.detach()).permute(1, 2, 0).cpu().numpy()


if __name__ == "__main__":
    print(tracking_uri())
