"""Progress bars are for a person who looks: in a terminal or a notebook, and nowhere else."""

import os
import sys


def hidden() -> bool | None:
    """`disable` of tqdm: False in a notebook, else None, by which tqdm shows a bar in a terminal alone.

    Of processes that share their work (`ddpm.run.processes`) the first shows it.
    """
    if os.environ.get("RANK", "0") != "0":
        return True
    return False if "ipykernel" in sys.modules else None
