"""The main repository, to which paths in params.yaml are relative, and the place of the working folder in it.

torch is not imported here, so that the sender of tracking starts quickly.
"""

import os
from pathlib import Path


def repo_root() -> Path:
    """Folder of the main repository: DVC_ROOT, else the checkout.

    DVC_ROOT is set even if `dvc exp run --temp` runs in a copy that is deleted afterwards.
    """
    named = os.environ.get("DVC_ROOT")
    return Path(named) if named else checkout()


def checkout() -> Path:
    """The repository, or its copy, that this process works in: the nearest folder upwards with `.dvc`, else its own."""
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / ".dvc").is_dir()), here)


def from_root(path: str) -> Path:
    """Resolve a path of params.yaml, in which ~ is the home folder.

    A relative path means the same in the workspace and in an experiment's copy.
    """
    return repo_root() / os.path.expanduser(path)  # unlike Path.expanduser, it leaves an unknown user's ~ as it is


def in_repo(path: Path | str) -> str:
    """A path relative to the top of the checkout, or unchanged if it is outside."""
    absolute = Path(os.path.abspath(path))
    return absolute.relative_to(checkout()).as_posix() if absolute.is_relative_to(checkout()) else str(path)


def door() -> str:
    """The name of the door (docs/doors.md) whose pipeline runs in the working folder, or "" for the main pipeline."""
    return Path(in_repo(".")).name


def with_door(stage: str) -> str:
    """A stage's name that is unique among all pipelines: "latent.sample" for stage sample of doors/latent."""
    return f"{door()}.{stage}" if door() else stage


def dvc_command(verb: str) -> str:
    """The DVC command for the working folder's pipeline, as typed at the top of the repository."""
    return f"dvc {verb} {in_repo('dvc.yaml')}" if door() else f"dvc {verb}"
