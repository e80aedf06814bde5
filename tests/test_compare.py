"""Comparing experiments: their differences, in a table that fits a terminal."""

import hashlib
import re
import subprocess
from base64 import b64decode
from io import BytesIO
from pathlib import Path

import numpy
import pytest
import torch
from dvc.repo import Repo
from PIL import Image
from safetensors.torch import save

from ddpm import compare
from ddpm.compare import chosen, differences, side_by_side
from ddpm.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")  # inside DVC

TABLE = {
    "workspace": {"auc": "0.7", "fid": "", "train_tiny.lr": "0.01", "seed": "0"},
    "main": {"auc": "0.68", "fid": "0.3", "train_tiny.lr": "0.003", "seed": "0"},
    "bold-name": {"auc": "0.7", "fid": "0.4", "train_tiny.lr": "0.003", "seed": "0"},
}


def shown(table, minutes=None):
    return side_by_side(table, differences(table, minutes or {}))


def test_table_lists_differing_values_and_minutes():
    lines = shown(TABLE, {"bold-name": 12.34, "of another time": 5.0}).splitlines()
    assert [line.split() for line in lines] == [
        ["workspace", "main", "bold-name"],
        ["auc", "0.7", "0.68", "0.7"],
        ["fid", "-", "0.3", "0.4"],
        ["train_tiny.lr", "0.01", "0.003", "0.003"],
        ["minutes", "-", "-", "12.3"],
    ]
    assert [line.index(word) for line, word in zip(lines[:1] + lines[-1:], ("bold", "12.3"), strict=True)] == [33, 33]


def test_table_is_limited_to_requested_experiments():
    assert list(chosen(TABLE, ["bold-name", "main"])) == ["bold-name", "main"]
    assert "fid" in shown(chosen(TABLE, ["bold-name", "main"]))
    assert "lr" not in shown(chosen(TABLE, ["bold-name", "main"]))
    with pytest.raises(UserError, match="'odd-name' is not an experiment; available: workspace, main, bold-name"):
        chosen(TABLE, ["main", "odd-name"])


def test_wide_tables_fit_in_120_columns():
    names = {f"{'long' * 3}-{i}": {"train_unet.unet.max_attention_size": f"{i / 7:.5f}"} for i in range(20)}
    lines = shown(chosen(names, []), dict.fromkeys(names, 1234.5)).splitlines()
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("127.0.0.1:9: Connection refused", "127.0.0.1:9: Connection refused"),
        ("", "ConnectionError"),
        ("API request to http://me:secret@host:1/api failed\nagain", "API request to http://host:1/api failed"),
    ],
)
def test_minutes_are_omitted_when_mlflow_fails(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def fails():
        raise ConnectionError(words)

    monkeypatch.setattr(compare, "experiments", lambda: TABLE)
    monkeypatch.setattr("ddpm.run.tracking.durations.minutes_of_experiments", fails)
    compare.main([])
    printed = capsys.readouterr()
    assert printed.out.splitlines()[:-1] == shown(TABLE).splitlines()
    assert printed.err == f"compare: MLflow failed, so minutes are left out: {said}\n"


def grey(value, shape=(1, 4, 4), n=40):
    return save({"samples": torch.full((n, *shape), value, dtype=torch.uint8)})


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Samples in the workspace, and others in DVC's cache at two revisions, one of which lost a file."""
    monkeypatch.chdir(tmp_path)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t"]
    subprocess.run(["git", "init", "-qb", "main"], check=True)
    with Repo.init() as repo:
        for branch, value in (("main", 50), ("bold-name", 150), (None, 250)):
            for name, shape in (("unet", (1, 4, 4)), ("tiny", (3, 2, 2))):
                path = Path(f"samples/{name}.safetensors")
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(grey(value, shape))
                if branch:
                    repo.add(str(path))
            if branch:
                subprocess.run([*git, "checkout", "-qB", branch], check=True)
                subprocess.run([*git, "add", "."], check=True)
                subprocess.run([*git, "commit", "-qm", branch], check=True)
    lost = hashlib.md5(grey(150, (3, 2, 2))).hexdigest()
    Path(f".dvc/cache/files/md5/{lost[:2]}/{lost[2:]}").unlink()
    return tmp_path


@pytest.mark.usefixtures("project")
def test_page_shows_differences_and_samples(monkeypatch, capsys):
    hostile = "<script>alert(1)</script>"
    table = {name: {**values, "train_unet.init": f"{hostile}{name}"} for name, values in TABLE.items()}
    monkeypatch.setattr(compare, "experiments", lambda: table)
    monkeypatch.setattr("ddpm.run.tracking.durations.minutes_of_experiments", lambda: {"main": 3.25})
    compare.main([])
    assert capsys.readouterr().out.splitlines()[-1] == "With samples: open reports/experiments.html"
    page = Path("reports/experiments.html").read_text()
    assert hostile not in page
    assert not re.search(r"https?:|@import|url\(", page)
    rows = {
        re.sub("<.*?>", "", name): re.findall("<td>(.*?)</td>", cells, re.DOTALL)
        for name, cells in re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', page, re.DOTALL)
    }
    assert rows["auc"] == ["0.7", "0.68", "0.7"]
    assert rows["minutes"] == ["-", "3.2", "-"]
    for words, values in (("U-Net", [250, 50, 150]), ("tiny model", [250, 50, None])):
        for cell, value in zip(rows[words], values, strict=True):
            if value is None:
                assert cell == "no samples in DVC's cache"
                continue
            [uri] = re.findall(r'src="data:image/png;base64,([^"]+)"', cell)
            image = numpy.asarray(Image.open(BytesIO(b64decode(uri))))
            assert set(numpy.unique(image)) == {value, 128}  # the samples, and the lines between them
            size = 4 if words == "U-Net" else 2
            assert image.shape == (4 * (size + 1) + 1, 8 * (size + 1) + 1, 3)


def test_hint_is_printed_when_there_are_no_experiments(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compare, "experiments", lambda: dict(list(TABLE.items())[:2]))
    monkeypatch.setattr("ddpm.run.tracking.durations.minutes_of_experiments", lambda: {})
    compare.main([])
    assert capsys.readouterr().err == f"{compare.HOW_TO}\n"
