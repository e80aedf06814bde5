"""Logging of a stage: one MLflow run for each run of the pipeline, with a child run for each stage.

A stage only writes to a file (`outbox`). Another process, its sender (`sender`, `delivery`), reads the file and calls
MLflow (`store`). MLflow's asynchronous logging, or uploading at the end, would be less code but is not enough:

- A stage must not wait for MLflow, and MLflow's failures must not affect it or its results. In the stage's own process,
  importing mlflow takes 6 seconds of a core, logging a step 0.4 ms, and the queue's thread competes with the training.
- What cannot be logged now must be delivered later, exactly once. Asynchronous logging fails if the server is down at
  the start, and loses requests that fail later.
- A stage that is killed must keep its log, and show as KILLED. Of 1000 steps logged asynchronously, MLflow had 8 after
  SIGKILL, and showed the run as RUNNING for ever.
- Curves must be visible during training, which takes hours in some recipes. Uploading at the end would show none.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec
from uuid import uuid4

import psutil
from jaxtyping import Float
from torch import Tensor

from ddpm.images import reconstruction_grid, to_uint8
from ddpm.run.baseline import changed_params, main_params
from ddpm.run.files import atomic_path, md5
from ddpm.run.invocation import invocation
from ddpm.run.params import flatten
from ddpm.run.plan import source_folder
from ddpm.run.root import door, dvc_command
from ddpm.run.tracking.lineage import known_as, outputs_of_stages
from ddpm.run.tracking.outbox import OUTBOX, RUN_ID, Journal, now, reason
from ddpm.run.tracking.sender import Sender

if TYPE_CHECKING:
    import mlflow

KEPT = f"warning: MLflow failed, so this stage is kept in {OUTBOX} until `make send`:"
REFUSED = "warning: MLflow rejected a part of this stage:"
LOST = "warning: a part of this stage could not be logged:"
PREVIEW_PIXELS = 256  # the longer side of the thumbnails on MLflow's pages
NOTE = "mlflow.note.content"  # the tag of a run's description, which MLflow folds to 100 pixels
STRIP, STRIP_PIXELS = "strip.png", (480, 92)  # the middle of the samples' picture
NO_HEADLINES = "No headline metrics: stage `summary` has not run. It runs last, and only if its inputs have changed."
Images = Float[Tensor, "b c h w"]
P = ParamSpec("P")


@contextmanager
def stage_run(stage: str, params: Mapping[str, Any]) -> Iterator["Run"]:
    """Log a block as a stage's run, with status FINISHED, or FAILED if the block raises.

    Args:
        stage: Its name.
        params: Logged with dotted keys.

    Yields:
        The run.
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
    """Pictures of a network's inputs, predictions and reconstructions, for `mlflow.log_image`.

    Args:
        img: Normalised images. All arguments are on the same scale.
        noised: The noised images.
        noise: The noise.
        noise_pred: The predicted noise.
        reconstructed: The images that follow from it.
        num_images: Maximum number of pictures.

    Returns:
        For each image, its row of `ddpm.images.reconstruction_grid`.
    """
    import mlflow

    grids = reconstruction_grid(img, noised, noise, noise_pred, reconstructed)
    return [mlflow.Image(to_uint8(grid.detach()).permute(1, 2, 0).cpu().numpy()) for grid in grids[:num_images]]


def _cannot_fail(method: Callable[Concatenate["Run", P], None]) -> Callable[Concatenate["Run", P], None]:
    """Print the first error of a run on stderr as one line, and ignore later ones."""

    @wraps(method)
    def call(self: "Run", /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception as error:
            if not self._warned:
                self._warned = True
                print(LOST, reason(error), file=sys.stderr)

    return call


class Run:
    """The log of a stage. Nothing is logged until it is started, and no method raises or waits."""

    _journal: Journal | None = None
    _sender: Sender | None = None
    _warned = False

    @_cannot_fail
    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Log metrics of a training step, or of step 0."""
        if self._journal:
            self._journal.write(metrics={key: float(value) for key, value in metrics.items()}, step=step)

    @_cannot_fail
    def log_image(self, image: Float[Tensor, "c h w"], key: str, step: int) -> None:
        """Log a picture of a training step, with values in [0, 1]."""
        from PIL import Image

        if self._journal:
            pixels = to_uint8(image.detach()).permute(1, 2, 0).cpu().numpy()
            picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
            small = picture.copy()
            small.thumbnail((PREVIEW_PIXELS, PREVIEW_PIXELS))
            # MLflow's pages read key and step from these names.
            name = f"images/{key.replace('/', '~')}+step+{step}+timestamp+{now()}+{uuid4()}"
            for artifact, shown in ((f"{name}.png", picture), (f"{name}+compressed.webp", small)):
                shown.save(self._journal.file(artifact))
                self._journal.write(artifact=artifact, tags={"mlflow.loggedImages": "True"})

    @_cannot_fail
    def log_artifact(self, path: Path) -> None:
        """Log a file under its path in the repository, and its MD5 as the tag `output.PATH`."""
        if self._journal:
            name, digest = known_as(path), md5(path)
            _keep(path, self._journal.file(name))
            self._outputs[name] = digest
            self._journal.write(artifact=name, tags={f"output.{name}": digest})

    @_cannot_fail
    def log_input(self, path: Path) -> None:
        """Log a file that the stage reads as a dataset, and its MD5 as the tag `input.PATH`."""
        if self._journal:
            name, digest = known_as(path), md5(path)
            self._journal.write(input={"name": name, "digest": digest}, tags={f"input.{name}": digest})

    @_cannot_fail
    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags of the run."""
        if self._journal:
            self._journal.write(tags=dict(tags))

    @_cannot_fail
    def summarize(self, metrics: Mapping[str, float], picture: Path) -> None:
        """Log to the run of the whole pipeline, so that experiments can be compared, sorted and searched.

        Args:
            metrics: The headline metrics.
            picture: Samples, for the run's description.
        """
        from PIL import Image, ImageOps

        if self._journal:
            _keep(picture, self._journal.file(picture.name))
            with Image.open(picture) as whole:
                ImageOps.fit(whole, STRIP_PIXELS).save(self._journal.file(STRIP))
            for name in (picture.name, STRIP):
                self._journal.write(of_parent=True, artifact=name)
            about = f"{_shown(STRIP)}\n\n{how_to_repeat()}\n{_shown(picture.name)}\n"
            values = {key: float(value) for key, value in metrics.items()}
            self._journal.write(of_parent=True, metrics=values, step=0, tags={NOTE: about})

    @_cannot_fail
    def log_model(self, path: Path, about: Mapping[str, Any]) -> None:
        """Log a trained network as an MLflow model of the run of the whole pipeline.

        Args:
            path: Its file.
            about: What `ddpm.run.tracking.model_registry.register` needs to know about it, as JSON values.
        """
        if self._journal:
            name = known_as(path)
            _keep(path, self._journal.file(name))
            self._journal.write(of_parent=True, model={"file": name, "time": now(), **about})

    @_cannot_fail
    def _start(self, stage: str, params: Mapping[str, Any]) -> None:
        self._stage, self._outputs = stage, dict[str, str]()
        by, tags = invocation(), _tags()
        started = f"{'repro' if by.command else f'{stage} by hand'} {tags.get('mlflow.source.git.commit', '')[:7]}"
        name = os.environ.get("DVC_EXP_NAME") or started.strip()
        note = f"{NO_HEADLINES}\n\n{how_to_repeat()}"  # until `summarize`
        parent_tags = tags | {"dvc.invocation": by.key, "dvc.command": by.command, NOTE: note}
        self._journal = Journal(
            stage,
            parent={"name": name, "time": by.began, "tags": parent_tags},
            tags=tags | {"dvc.stage": os.environ.get("DVC_STAGE", stage)},
            params={key: str(value) for key, value in flatten(params)},
        )
        # Separately: MLflow rejects a new value of an existing param, with the whole request.
        own = main_params() | changed_params()
        self._journal.write(of_parent=True, params={key: str(value) for key, value in own.items()})
        self._sender = Sender(self._journal.folder)

    @_cannot_fail
    def _log_stages(self, own: dict[str, str]) -> None:
        """Log the outputs of this stage and of earlier ones to the run of the whole pipeline."""
        if self._journal and (stages := outputs_of_stages(self._stage, own)):
            self._journal.write(of_parent=True, stages=stages)

    @_cannot_fail
    def _end(self, status: str) -> None:
        """End the log, and wait until its sender has finished or given up."""
        if self._journal:
            try:
                self._log_stages(self._outputs if status == "FINISHED" else {})
                self._journal.write(end=status)
            finally:
                self._journal.close()
                delivered, said = self._sender.finish() if self._sender else (False, "its sender could not be started")
                if said:
                    print(REFUSED if delivered else KEPT, said, file=sys.stderr)


def how_to_repeat() -> str:
    """The commands that repeat this run, in Markdown: its commit, and the params that differ from it."""
    params, commit = changed_params(), _git("rev-parse", "HEAD")
    values = (f"-S {shlex.quote(f'{key}={_spell(value)}')}" for key, value in params.items())
    commands = [f"git checkout {commit}"] if commit else []
    again = dvc_command("repro") if door() else "make repro"
    commands.append(" ".join((dvc_command("exp run"), *values)) if params else again)
    return "\n".join(("To repeat it:\n", "```sh", *commands, "```\n"))


def _shown(picture: str) -> str:
    """Markdown that shows an artifact of the run as a picture in its description."""
    return f"![samples](get-artifact?path={picture}&run_uuid={RUN_ID})"


def _spell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _tags() -> dict[str, str]:
    """Tags for the user, the code and the experiment, without unknown values."""
    commit = _git("rev-parse", "HEAD")
    changed = _git("--no-optional-locks", "status", "--porcelain", "--", str(source_folder()), "stages")
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
    """The output of git for the working folder, or "" without git or a repository."""
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _keep(path: Path, kept: Path) -> None:
    """Copy a file atomically."""
    with atomic_path(kept) as temporary:
        shutil.copyfile(path, temporary)
