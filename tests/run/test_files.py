"""Outputs are either complete or absent."""

import csv
import json
import os
import signal
import time

import pytest
import torch

from ddpm.errors import UserError
from ddpm.run.files import atomic_path, load_tensors, save_tensors, tensors_sha256, write_csv, write_json


def test_atomic_path_keeps_old_file_on_failure(tmp_path):
    target = tmp_path / "sub" / "file.txt"
    with atomic_path(target) as temporary:
        temporary.write_text("old")

    def fail_half_way():
        with atomic_path(target) as temporary:
            temporary.write_text("ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_half_way()
    assert target.read_text() == "old"
    assert [path.name for path in target.parent.iterdir()] == ["file.txt"]


def test_outputs_have_default_permissions(tmp_path):
    (tmp_path / "plain").write_text("")
    write_json(tmp_path / "made.json", {})
    assert (tmp_path / "made.json").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_tensors_round_trip(tmp_path):
    x = torch.arange(6, dtype=torch.uint8).reshape(2, 3).T
    save_tensors(tmp_path / "x.safetensors", x=x)
    assert torch.equal(load_tensors(tmp_path / "x.safetensors")["x"], x)


def test_killed_writer_leaves_only_recognisable_temporary_files(tmp_path):
    """Leftovers are named after their file, so that the next run can identify and remove them."""
    target = tmp_path / "x.safetensors"
    if (writer := os.fork()) == 0:
        tensor = torch.zeros(1_000_000)
        while True:
            save_tensors(target, x=tensor)
    try:
        for _ in range(500):  # until the file is being written
            time.sleep(0.01)
            os.kill(writer, signal.SIGSTOP)
            left = [path.name for path in tmp_path.iterdir() if path != target]
            if target.exists() and left:
                break
            os.kill(writer, signal.SIGCONT)
    finally:
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
    assert left
    assert all(name.startswith(".x.safetensors.") for name in left)
    assert torch.equal(load_tensors(target)["x"], torch.zeros(1_000_000))


@pytest.mark.parametrize("content", [b"", b"not safetensors at all", b"\xff" * 100])
def test_load_tensors_reports_damaged_and_missing_files(tmp_path, content):
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.safetensors: damaged or not a safetensors file"):
        load_tensors(tmp_path / "x.safetensors")
    with pytest.raises(UserError, match=r"y\.safetensors: no such file"):
        load_tensors(tmp_path / "y.safetensors")


def test_missing_tensor_is_reported_with_file_name(tmp_path):
    save_tensors(tmp_path / "x.safetensors", labels=torch.zeros(1))
    with pytest.raises(UserError, match=r"x\.safetensors: has no 'images', only \['labels'\]"):
        load_tensors(tmp_path / "x.safetensors")["images"]


def test_csv_and_json_preserve_full_precision(tmp_path):
    write_csv(tmp_path / "a.csv", ("step", "loss"), [(1, 0.1 + 0.2)])
    with (tmp_path / "a.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[0]["loss"]) == 0.1 + 0.2
    write_json(tmp_path / "a.json", {"b": 1 / 3, "a": 1})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 1, "b": 1 / 3}


def test_digest_covers_header_names_types_shapes_and_values():
    x = torch.tensor([[0, 1], [2, 3]], dtype=torch.int32)
    cases = [("a", {"x": x, "y": x + 1}), ("b", {"x": x, "y": x + 1}), ("a", {"x": x + 1, "y": x})]
    cases += [("a", {"x": x, "z": x + 1})]
    cases += [("a", {"x": x, "y": other}) for other in (x, x.T + 1, x.reshape(4) + 1, (x + 1).view(torch.float32))]
    assert len({tensors_sha256(*case) for case in cases}) == len(cases)
    assert tensors_sha256("a", {"y": x + 1, "x": x}) == tensors_sha256(*cases[0])  # in any order
