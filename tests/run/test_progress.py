"""Progress bars in a terminal, a notebook and a log file."""

import subprocess
import sys

import pytest

SCRIPT = """
import sys
if "notebook" in sys.argv:
    sys.modules["ipykernel"] = sys
from tqdm import tqdm
from ddpm.run.progress import hidden
for _ in tqdm(range(3), "work", disable=hidden()):
    pass
"""


@pytest.mark.parametrize(("where", "shown"), [("notebook", True), ("pipe", False)])
def test_progress_bar_is_shown_in_notebooks_but_not_in_pipes(where, shown):
    """Terminals: tests/pipeline/test_pipeline.py."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, where], capture_output=True, text=True, check=True)
    assert ("work: 100%" in done.stderr) == shown
