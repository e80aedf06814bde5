"""Results in a CSV file, one row at a time: a row that is there is not made again, so any work can stop and go on."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from filelock import FileLock

from ddpm.run.files import write_csv

KEPT = Path(".benchmark")  # what benchmarks keep beside their results; not in git
Row = Mapping[str, str]


class Ledger:
    """The rows of a CSV file. Processes may add rows to one file at the same time.

    Args:
        path: The file; the first row makes it.
        key: The columns that say what was measured. No two rows agree in all of them.
    """

    def __init__(self, path: Path, key: Sequence[str]) -> None:
        self.path, self.key = path, tuple(key)

    def rows(self) -> list[Row]:
        """All rows, oldest first."""
        if not self.path.exists():
            return []
        with self.path.open(newline="") as file:
            return list(csv.DictReader(file))

    def __contains__(self, cell: Mapping[str, object]) -> bool:
        """Whether there is a row of which `cell` is the key."""
        return self._key(cell) in map(self._key, self.rows())

    def add(self, cell: Mapping[str, object], values: Mapping[str, object]) -> None:
        """Add a row, unless there is one with the same key. A new column is empty in the rows before.

        Args:
            cell: The key columns.
            values: All other columns; None leaves one empty.
        """
        KEPT.mkdir(exist_ok=True)
        with FileLock(KEPT / f"{'-'.join(self.path.parts[-2:])}.lock"):
            rows = self.rows()
            if self._key(cell) in map(self._key, rows):
                return
            written = {name: "" if value is None else str(value) for name, value in {**cell, **values}.items()}
            rows.append({**dict.fromkeys(rows[0] if rows else self.key, ""), **written})
            write_csv(self.path, rows[-1], ([row.get(name, "") for name in rows[-1]] for row in rows))

    def _key(self, row: Mapping[str, object]) -> tuple[str, ...]:
        return tuple(str(row[name]) for name in self.key)


def latest(rows: Sequence[Row], of: Sequence[str], agree: Sequence[str]) -> list[Row]:
    """The rows with the latest settings.

    Args:
        rows: Oldest first.
        of: Columns by which rows are grouped.
        agree: Columns in which a row must agree with the newest row of its group.
    """
    newest = {tuple(row[name] for name in of): row for row in rows}
    return [row for row in rows if all(row[a] == newest[tuple(row[n] for n in of)][a] for a in agree)]


def groups(rows: Sequence[Row], *by: str) -> Iterator[tuple[tuple[str, ...], list[Row]]]:
    """The rows that agree in the columns `by`, with the values of those: in the order in which they first appear."""
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in by), []).append(row)
    yield from found.items()


def numbers(rows: Sequence[Row], column: str) -> list[float]:
    """The values of a column, those that are there."""
    return [float(row[column]) for row in rows if row.get(column)]
