"""Experiments side by side: `make compare`, or `python -m ddpm.compare NAME ...`.

A row for each parameter and each headline metric that differs, a column for each experiment: what `dvc exp show
--only-changed` prints, turned so that it fits a terminal, and the minutes that MLflow has.
"""

import csv
import subprocess
import sys
from collections.abc import Mapping, Sequence

from ddpm.errors import UserError
from ddpm.run.stage import mistakes_in_one_line

FILES = r".*/|params\.yaml"  # columns with the hashes of files
WIDTH = 120  # characters
ABOUT = "Experiment", "rev", "typ", "Created", "parent", "State", "Executor"

Table = Mapping[str, Mapping[str, str]]  # values by experiment and row


def experiments() -> dict[str, dict[str, str]]:
    """What DVC knows: the workspace, the last commit, and its experiments, the latest first.

    Raises:
        UserError: DVC fails.
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
    """The experiments of these names; all of them without names.

    Raises:
        UserError: There is none of that name. The message lists those there are.
    """
    if unknown := [name for name in names if name not in found]:
        raise UserError(f"{unknown[0]!r} is no experiment; there are: {', '.join(found)}")
    return {name: found[name] for name in names} if names else found


def side_by_side(table: Table, minutes: Mapping[str, float], width: int = WIDTH) -> str:
    """The table as text, a line for each value that differs.

    Args:
        table: Values by experiment.
        minutes: By experiment, where they are known.
        width: Characters of a line, at most: the first experiments that fit are shown, at least two.
    """
    keys = list(dict.fromkeys(key for values in table.values() for key in values))
    rows = [[key, *(values.get(key) or "-" for values in table.values())] for key in keys]
    rows = [row for row in rows if len({*row[1:]}) > 1]
    if known := minutes.keys() & table.keys():
        rows.append(["minutes", *(f"{minutes[name]:.1f}" if name in known else "-" for name in table)])
    lines = [["", *table], *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    fit = [end for end in range(3, len(widths) + 1) if sum(widths[:end]) + 2 * (end - 1) <= width]
    widths = widths[: max(fit, default=3)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def main(names: Sequence[str]) -> None:
    from ddpm.run.tracking.durations import minutes_of_experiments  # imports mlflow, which is slow

    table = chosen(experiments(), names)
    try:
        minutes = minutes_of_experiments()
    except Exception as error:  # a server that does not answer: the rest is there without it
        print(f"compare: MLflow fails, so there are no minutes: {str(error).splitlines()[0]}", file=sys.stderr)
        minutes = {}
    print(side_by_side(table, minutes))


if __name__ == "__main__":
    with mistakes_in_one_line("compare"):
        main(sys.argv[1:])
