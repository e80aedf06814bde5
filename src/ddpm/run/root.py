"""Where the main repository is: paths in params.yaml are taken from it.

Nothing of torch is imported here, so that tracking's sender starts at once.
"""

import os
from pathlib import Path


def repo_root() -> Path:
    """Folder of the main repository: DVC_ROOT, else the nearest folder upwards with `.dvc`, else the working folder.

    DVC_ROOT names it even where `dvc exp run --temp` works in a copy that is deleted afterwards.
    """
    if named := os.environ.get("DVC_ROOT"):
        return Path(named)
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / ".dvc").is_dir()), here)


def from_root(path: str) -> Path:
    """A path of params.yaml. A relative one means the same in the workspace and in the copy of an experiment."""
    return repo_root() / path
