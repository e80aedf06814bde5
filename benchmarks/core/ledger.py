"""Results in a CSV file, one row at a time. Existing rows are not computed again, so any work can be resumed."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from filelock import FileLock

from ddpm.run.files import write_csv

KEPT = Path(".benchmark")  # intermediate files of the benchmarks, not in git
Row = Mapping[str, str]


class Ledger:
    """The rows of a CSV file. Several processes may add rows at the same time.

    Args:
        path: The file, created with the first row.
        key: The columns that identify a row. No two rows agree in all of them.
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
        """Whether there is a row with key `cell`."""
        return self._key(cell) in map(self._key, self.rows())

    def add(self, cell: Mapping[str, object], values: Mapping[str, object]) -> None:
        """Add a row, unless one with the same key exists. A new column is left empty in earlier rows.

        Args:
            cell: The key columns.
            values: All other columns. None leaves a column empty.
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
        rows: The rows, oldest first.
        of: Columns to group by.
        agree: Columns in which a row must agree with the newest row of its group.
    """
    newest = {tuple(row[name] for name in of): row for row in rows}
    return [row for row in rows if all(row[a] == newest[tuple(row[n] for n in of)][a] for a in agree)]


def groups(rows: Sequence[Row], *by: str) -> Iterator[tuple[tuple[str, ...], list[Row]]]:
    """Group rows by the columns `by`: pairs of their values and the rows, in order of first appearance."""
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in by), []).append(row)
    yield from found.items()


def numbers(rows: Sequence[Row], column: str) -> list[float]:
    """The non-empty values of a column."""
    return [float(row[column]) for row in rows if row.get(column)]
