"""docs/course.ipynb runs without errors, and each cell shows as many images as in the file."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from project import REPO

NOTEBOOK = REPO / "docs/course.ipynb"


def pictures(path: Path) -> list[int]:
    """The number of pictures in each cell. A failed cell fails the test."""
    cells = json.loads(path.read_text())["cells"]
    outputs = [cell.get("outputs", []) for cell in cells]
    assert not [output for of_cell in outputs for output in of_cell if output["output_type"] == "error"]
    return [sum("image/png" in output.get("data", {}) for output in of_cell) for of_cell in outputs]


def test_notebook_runs_and_shows_as_many_images_as_stored(tmp_path):
    copy = Path(shutil.copy(NOTEBOOK, tmp_path))
    stored = pictures(copy)
    assert sum(stored) > 20
    bare = json.loads(copy.read_text())
    for cell in bare["cells"]:
        if "outputs" in cell:
            cell["outputs"] = []
    copy.write_text(json.dumps(bare))
    jupyter = Path(sys.executable).with_name("jupyter-execute")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "IPYTHONDIR": str(tmp_path / "ipython")}
    done = subprocess.run(
        [jupyter, "--inplace", copy.name], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert pictures(copy) == stored
    assert {path.name for path in tmp_path.iterdir()} == {copy.name, "ipython"}  # the training wrote nothing


def test_stored_notebook_was_executed_in_order():
    counts = [cell["execution_count"] for cell in json.loads(NOTEBOOK.read_text())["cells"] if "outputs" in cell]
    assert counts == list(range(1, len(counts) + 1))
    assert NOTEBOOK.stat().st_size < 300_000
