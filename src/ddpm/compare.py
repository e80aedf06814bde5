"""Experiments side by side: `make compare`, or `python -m ddpm.compare NAME ...`.

One row for each parameter and headline metric that differs, one column for each experiment: `dvc exp show
--only-changed`, transposed to fit a terminal, with the minutes from MLflow. The same table with the samples of each
experiment is written to `reports/experiments.html`.
"""

import csv
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ddpm.errors import UserError
from ddpm.run.files import atomic_path
from ddpm.run.stage import mistakes_in_one_line

FILES = r".*/|params\.yaml|stages$|init$"  # columns with the hashes of files
WIDTH = 120  # characters
WORKSPACE = "workspace"  # as DVC calls it
PAGE, TEMPLATE = Path("reports/experiments.html"), Path(__file__).with_suffix(".html")
NETWORKS = {"unet": "U-Net", "tiny": "tiny model"}  # whose samples are shown
N_SHOWN, N_COLUMNS = 32, 8  # samples per network
N_BASELINE = 2  # the workspace and the last commit, which are not experiments
HOW_TO = "compare: there are no experiments yet; to run one: dvc exp run -S train_tiny.lr=3e-4"
ABOUT = "Experiment", "rev", "typ", "Created", "parent", "State", "Executor"

Table = Mapping[str, Mapping[str, str]]  # values by experiment and row


def experiments() -> dict[str, dict[str, str]]:
    """The params and metrics of the workspace, the last commit and its experiments, the latest first, from DVC.

    Raises:
        UserError: DVC failed.
    """
    command = [sys.executable, "-m", "dvc", "exp", "show", "--only-changed", "--csv", "--drop", FILES]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"dvc exp show: {done.stderr.strip() or done.stdout.strip()}")
    rows = list(csv.DictReader(done.stdout.splitlines()))
    return {
        row["Experiment"] or row["rev"]: {key: value for key, value in row.items() if key not in ABOUT} for row in rows
    }


def chosen(found: Table, names: Sequence[str]) -> Table:
    """The experiments with these names, or all if no names are given.

    Raises:
        UserError: There is no experiment of that name. The message lists the existing ones.
    """
    if unknown := [name for name in names if name not in found]:
        raise UserError(f"{unknown[0]!r} is not an experiment; available: {', '.join(found)}")
    return {name: found[name] for name in names} if names else found


def differences(table: Table, minutes: Mapping[str, float]) -> list[list[str]]:
    """Rows for the values that differ: the name of the value, then the value in each experiment.

    Args:
        table: Values by experiment.
        minutes: Run times by experiment, where known.
    """
    keys = list(dict.fromkeys(key for values in table.values() for key in values))
    rows = [[key, *(values.get(key) or "-" for values in table.values())] for key in keys]
    rows = [row for row in rows if len({*row[1:]}) > 1]
    if known := minutes.keys() & table.keys():
        rows.append(["minutes", *(f"{minutes[name]:.1f}" if name in known else "-" for name in table)])
    return rows


def side_by_side(table: Table, rows: Sequence[Sequence[str]], width: int = WIDTH) -> str:
    """The table as text.

    Args:
        table: Its keys are the experiments.
        rows: The output of `differences`.
        width: Maximum line length. The first experiments that fit are shown, but at least two.
    """
    lines = [["", *table], *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    fit = [end for end in range(3, len(widths) + 1) if sum(widths[:end]) + 2 * (end - 1) <= width]
    widths = widths[: max(fit, default=3)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def samples_of(experiment: str) -> dict[str, str]:
    """The first samples of each network, as an image in a data URI. Networks without samples in DVC are omitted."""
    import dvc.api
    from dvc.exceptions import DvcException
    from safetensors import SafetensorError
    from safetensors.torch import load
    from torchvision.utils import make_grid

    from ddpm.figures.page import pixels_uri

    revision, pictures = None if experiment == WORKSPACE else experiment, {}
    for network in NETWORKS:
        with suppress(DvcException, OSError, SafetensorError):
            images = load(dvc.api.read(f"samples/{network}.safetensors", rev=revision, mode="rb"))["samples"]
            pictures[network] = pixels_uri(make_grid(images[:N_SHOWN], N_COLUMNS, padding=1, pad_value=128))
    return pictures


def write_page(table: Table, rows: Sequence[Sequence[str]]) -> None:
    """Write the table and the samples of all its experiments as a page that works offline."""
    from ddpm.figures.page import template

    pictures = {name: samples_of(name) for name in table}
    shown = {network: words for network, words in NETWORKS.items() if any(network in of for of in pictures.values())}
    with atomic_path(PAGE) as temporary:
        text = template(TEMPLATE).render(experiments=pictures, networks=shown, rows=rows)
        temporary.write_text(text, encoding="utf-8")


def main(names: Sequence[str]) -> None:
    from ddpm.run.tracking.durations import minutes_of_experiments  # imports mlflow, which is slow
    from ddpm.run.tracking.outbox import reason

    found = experiments()
    table = chosen(found, names)
    try:
        minutes = minutes_of_experiments()
    except Exception as error:  # such as a server that does not respond. The rest works without it.
        print(f"compare: MLflow failed, so minutes are left out: {reason(error)}", file=sys.stderr)
        minutes = {}
    rows = differences(table, minutes)
    print(side_by_side(table, rows))
    if len(found) <= N_BASELINE:
        print(HOW_TO, file=sys.stderr)
    write_page(table, rows)
    print(f"With samples: open {PAGE}")


if __name__ == "__main__":
    with mistakes_in_one_line("compare"):
        main(sys.argv[1:])
