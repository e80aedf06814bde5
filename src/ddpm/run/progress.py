"""Progress bars are for a person who looks: in a terminal or a notebook, and nowhere else."""

import sys


def hidden() -> bool | None:
    """`disable` of tqdm: False in a notebook, else None, by which tqdm shows a bar in a terminal alone."""
    return False if "ipykernel" in sys.modules else None
