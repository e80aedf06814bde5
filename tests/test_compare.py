"""Experiments side by side: what differs, in a table that fits a terminal."""

import pytest

from ddpm import compare
from ddpm.compare import chosen, side_by_side
from ddpm.errors import UserError

TABLE = {
    "workspace": {"auc": "0.7", "fid": "", "train_tiny.lr": "0.01", "seed": "0"},
    "main": {"auc": "0.68", "fid": "0.3", "train_tiny.lr": "0.003", "seed": "0"},
    "bold-name": {"auc": "0.7", "fid": "0.4", "train_tiny.lr": "0.003", "seed": "0"},
}


def test_a_row_for_each_value_that_differs_and_the_minutes():
    lines = side_by_side(TABLE, {"bold-name": 12.34, "of another time": 5.0}).splitlines()
    assert [line.split() for line in lines] == [
        ["workspace", "main", "bold-name"],
        ["auc", "0.7", "0.68", "0.7"],
        ["fid", "-", "0.3", "0.4"],
        ["train_tiny.lr", "0.01", "0.003", "0.003"],
        ["minutes", "-", "-", "12.3"],
    ]
    assert [line.index(word) for line, word in zip(lines[:1] + lines[-1:], ("bold", "12.3"), strict=True)] == [33, 33]


def test_only_the_experiments_that_are_asked_for():
    assert list(chosen(TABLE, ["bold-name", "main"])) == ["bold-name", "main"]
    assert "fid" in side_by_side(chosen(TABLE, ["bold-name", "main"]), {})
    assert "lr" not in side_by_side(chosen(TABLE, ["bold-name", "main"]), {})
    with pytest.raises(UserError, match="'odd-name' is no experiment; there are: workspace, main, bold-name"):
        chosen(TABLE, ["main", "odd-name"])


def test_many_experiments_leave_the_table_a_terminals_width():
    names = {f"{'long' * 3}-{i}": {"train_unet.unet.max_attention_size": f"{i / 7:.5f}"} for i in range(20)}
    lines = side_by_side(chosen(names, []), dict.fromkeys(names, 1234.5)).splitlines()
    assert max(map(len, lines)) <= 120


def test_without_mlflow_the_rest_is_shown(monkeypatch, capsys):
    def fails():
        raise ConnectionError("127.0.0.1:9: Connection refused")

    monkeypatch.setattr(compare, "experiments", lambda: TABLE)
    monkeypatch.setattr("ddpm.run.tracking.durations.minutes_of_experiments", fails)
    compare.main([])
    said = capsys.readouterr()
    assert said.out.splitlines() == side_by_side(TABLE, {}).splitlines()
    assert said.err == "compare: MLflow fails, so there are no minutes: 127.0.0.1:9: Connection refused\n"
