"""Progress bars are shown in a terminal or a notebook only."""

import os
import sys


def hidden() -> bool | None:
    """The argument `disable` of tqdm: False in a notebook, else None, so that tqdm shows bars in terminals only.

    If processes share their work (`ddpm.run.processes`), only the first shows bars.
    """
    if os.environ.get("RANK", "0") != "0":
        return True
    return False if "ipykernel" in sys.modules else None
