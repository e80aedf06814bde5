"""One MLflow parent run for a pipeline run, one child run for a stage, and no way to hold up the work they record.

A stage writes what it logs to a journal on disk (`ddpm.run.tracking.outbox`), which takes microseconds and needs no server. Another
process, the sender (`ddpm.run.tracking.delivery`), delivers it meanwhile, and at the stage's end gets ten seconds for the rest.
What MLflow has not taken by then stays, and `python -m ddpm.run.tracking.record send` delivers it.
`python -m ddpm.run.tracking.record` prints where the runs go.
"""

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import wraps
from itertools import pairwise
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Concatenate, NamedTuple, ParamSpec, Union
from uuid import uuid4

import psutil
from jaxtyping import Float
from torch import Tensor

from ddpm.images import reconstruction_grid, to_uint8
from ddpm.run.files import atomic_path, md5
from ddpm.run.tracking.outbox import OUTBOX, Journal, now, tracking_uri, without_secrets

if TYPE_CHECKING:
    import matplotlib.figure
    import mlflow

KEPT = f"warning: MLflow fails, so this stage is kept in {OUTBOX} until `python -m ddpm.run.tracking.record send`:"
REFUSED = "warning: MLflow refuses a part of this stage:"
LOST = "warning: a part of this stage is lost to MLflow:"
Images = Float[Tensor, "b c h w"]
P = ParamSpec("P")


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
    """Let a method of `Run` fail with no more than a warning; without a journal it does nothing."""

    @wraps(method)
    def call(self: "Run", /, *args: P.args, **kwargs: P.kwargs) -> None:
        if self._journal:
            with self._warning():
                method(self, *args, **kwargs)

    return call


class Run:
    """The record of one stage. No method raises or waits; what cannot be written down is one line on stderr."""

    _journal: Journal | None = None
    _sender: "Sender | None" = None
    _warned = False

    @_goes_on
    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Numbers that belong to a training step, or to step 0."""
        self._record(metrics={key: float(value) for key, value in metrics.items()}, step=step)

    @_goes_on
    def log_image(self, image: Union[Float[Tensor, "c h w"], "mlflow.Image"], key: str, step: int) -> None:
        """A picture that belongs to a training step; a tensor holds values in [0, 1]."""
        from PIL import Image

        if isinstance(image, Tensor):
            pixels = _pixels(image)
            picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        else:
            picture = image.to_pil()
        # The name by which MLflow's pages find key and step.
        name = f"images/{key.replace('/', '~')}+step+{step}+timestamp+{now()}+{uuid4()}.png"
        picture.save(self._file(name))
        self._record(picture=name, tags={"mlflow.loggedImages": "True"})

    @_goes_on
    def log_figure(self, figure: "matplotlib.figure.Figure", artifact_file: str) -> None:
        """A figure, kept under the name `artifact_file`; its ending sets the format."""
        with atomic_path(self._file(artifact_file)) as temporary:
            figure.savefig(temporary)
        self._record(artifact=artifact_file)

    @_goes_on
    def log_artifact(self, path: Path) -> None:
        """Keep a copy of a file under its path in the repository, and its MD5 as the tag `output.PATH`."""
        name = _name(path)
        with atomic_path(self._file(name)) as temporary:
            shutil.copyfile(path, temporary)
        self._record(artifact=name, tags={f"output.{name}": md5(path)})

    @_goes_on
    def log_input(self, path: Path, context: str) -> None:
        """Record a file that the stage reads as a dataset, by name and MD5, also as the tag `input.PATH`."""
        name, digest = _name(path), md5(path)
        self._record(input={"name": name, "digest": digest, "context": context}, tags={f"input.{name}": digest})

    @_goes_on
    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Tags of the stage's run."""
        self._record(tags=dict(tags))

    def _start(self, stage: str, params: Mapping[str, Any]) -> None:
        """Begin the journal, and start its sender."""
        with self._warning():
            by, tags = invocation(), _tags()
            start = "repro" if by.command else f"{stage} by hand"
            name = os.environ.get("DVC_EXP_NAME") or f"{start} {tags.get('mlflow.source.git.commit', '')[:7]}".strip()
            parent = {
                "name": name,
                "time": by.began,
                "tags": tags | {"dvc.invocation": by.key, "dvc.command": by.command},
            }
            self._journal = Journal(
                stage,
                parent=parent,
                tags=tags | {"dvc.stage": os.environ.get("DVC_STAGE", stage)},
                params={key: str(value) for key, value in flatten(params)},
            )
            self._sender = Sender(self._journal.folder)

    @_goes_on
    def _end(self, status: str) -> None:
        """End the journal, and wait until its sender is through or gives up."""
        assert self._journal
        with self._warning():
            self._record(end=status)
        self._journal.close()
        delivered, said = self._sender.finish() if self._sender else (False, "no process could be started for it")
        if said:
            print(REFUSED if delivered else KEPT, said, file=sys.stderr)

    def _record(self, **record: Any) -> None:
        assert self._journal
        self._journal.write(**record)

    def _file(self, name: str) -> Path:
        assert self._journal
        return self._journal.file(name)

    @contextmanager
    def _warning(self) -> Iterator[None]:
        """Turn the first error into a line on stderr, and later ones into nothing."""
        try:
            yield
        except Exception as error:
            if not self._warned:
                self._warned = True
                reason = without_secrets(str(error)).strip().partition("\n")[0][:200]
                print(LOST, reason or type(error).__name__, file=sys.stderr)


class Sender:
    """The process that delivers a journal; it notices by itself when this one ends in whatever way."""

    def __init__(self, folder: Path) -> None:
        # A group of its own, for Ctrl-C is meant for the stage.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ddpm.run.tracking.delivery", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            process_group=0,
        )

    def finish(self) -> tuple[bool, str]:
        """Whether all has been delivered, and what the sender says to it; waits as long as the sender lets it."""
        said, _ = self._process.communicate()
        status = self._process.returncode
        return status == 0, said.strip() or (f"its sender ended with status {status}" if status else "")


class Invocation(NamedTuple):
    """What tells a pipeline run from every other, the command line of its dvc, and when it began in milliseconds."""

    key: str
    command: str
    began: int


def invocation() -> Invocation:
    """The pipeline run that this process belongs to.

    dvc gives a plain `dvc repro` no name, so that is the nearest dvc process above; without one, a new key each time.
    """
    if process := dvc_process():
        with suppress(psutil.Error):
            began = process.create_time()
            key = f"{platform.node()} {process.pid} {began:.2f}"
            return Invocation(key, shlex.join(process.cmdline()), int(began * 1000))
    return Invocation(uuid4().hex, "", now())


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
    path, here = Path(os.path.abspath(path)), Path.cwd()
    return re.sub(r"[^\w. /-]", "_", path.relative_to(here).as_posix() if path.is_relative_to(here) else path.name)


def _pixels(image: Float[Tensor, "c h w"]) -> Any:
    """The numpy array (height, width, channels) of 0..255 that MLflow takes."""
    return to_uint8(image.detach()).permute(1, 2, 0).cpu().numpy()


if __name__ == "__main__":
    if sys.argv[1:] == ["send"]:
        from ddpm.run.tracking.delivery import send

        sys.exit(send())
    print(tracking_uri())
