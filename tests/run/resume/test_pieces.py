"""Work in pieces: none is computed twice, whatever stops the stage, and all equal those of an uninterrupted run."""

import logging
import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddpm.run.resume import context
from ddpm.run.resume.context import Resume
from ddpm.run.resume.file import read_about
from ddpm.run.resume.pieces import Pieces
from ddpm.run.seeding import generator

ABOUT = {"n": "6"}
N = 6


class Kill(BaseException):
    """Not caught by `except Exception`."""


class Stage:
    """Six pieces of two tensors each, one of them empty. `act` is called while piece `at` is made."""

    def __init__(self, at=None, act=None):
        self.at, self.act, self.made = at, act, []

    def piece(self, i):
        whole = torch.randn(3, 2, generator=generator(0, "piece", i))
        if i == self.at:
            self.act()
        self.made.append(i)
        return whole, (10 * whole[: 3 * (i == 0)]).to(torch.uint8)

    def run(self, folder, every=0.0):
        with Resume("stage", ABOUT, every, folder) as resume:
            pieces = Pieces(resume)
            made = list(pieces({f"from {i}": partial(self.piece, i) for i in range(N)}))
        return [torch.cat(column) for column in zip(*made, strict=True)]


def kill():
    raise Kill


def kept(folder):
    [path] = folder.glob("*.safetensors")
    return read_about(path)


@settings(max_examples=8, deadline=None)
@given(stops=st.lists(st.integers(0, N - 1), min_size=1, max_size=3).map(sorted))
def test_killed_work_resumes_without_repeating_pieces(tmp_path_factory, stops):
    folder = tmp_path_factory.mktemp("state")
    made = []
    for at in stops:
        stage = Stage(at, kill)
        with pytest.raises(Kill):
            stage.run(folder)
        made += stage.made
    last = Stage()
    assert all(map(torch.equal, last.run(folder), Stage().run(folder / "undisturbed")))
    assert made + last.made == list(range(N))
    assert list(folder.glob("*.*")) == []


def test_groups_keep_pieces_of_the_same_name_apart(tmp_path):
    def draw(make):
        with Resume("stage", ABOUT, 0.0, tmp_path) as resume:
            pieces = Pieces(resume)
            for group in range(3):
                [(made,)] = pieces.within(f"scale {group}")({"from 0": partial(make, group)})
                assert made == group
            kill()

    with pytest.raises(Kill):
        draw(lambda group: (torch.tensor([group]),))
    with pytest.raises(Kill):
        draw(lambda group: pytest.fail(f"the piece of group {group} is made again"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_interrupts_piece_and_keeps_finished_ones(tmp_path, number):
    before = signal.signal(number, signal.SIG_DFL)
    stage = Stage(4, lambda: os.kill(os.getpid(), number))
    try:
        with pytest.raises(SystemExit) as ending:
            stage.run(tmp_path, every=3600.0)
    finally:
        signal.signal(number, before)
    assert ending.value.code == 128 + number
    assert stage.made == [0, 1, 2, 3]
    assert kept(tmp_path) == (ABOUT, 4)


def test_work_stops_when_dvc_has_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(context, "LOOK_SECONDS", 0.01)

    def gone():
        monkeypatch.setattr(context, "dvc_process", lambda: "gone")
        time.sleep(60)  # a signal interrupts it

    stage = Stage(2, gone)
    with pytest.raises(SystemExit):
        stage.run(tmp_path, every=3600.0)
    assert stage.made == [0, 1]
    assert kept(tmp_path) == (ABOUT, 2)


def test_state_is_not_written_before_it_is_due(tmp_path):
    stage = Stage(3, lambda: written.extend(tmp_path.glob("*.safetensors")))
    written = []
    stage.run(tmp_path, every=3600.0)
    assert written == []


def test_damaged_state_is_discarded_and_pieces_recomputed(tmp_path, caplog):
    with pytest.raises(Kill):
        Stage(4, kill).run(tmp_path)
    [path] = tmp_path.glob("*.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[:-3] + bytes([whole[-3] ^ 4]) + whole[-2:])
    with caplog.at_level(logging.INFO):
        again = Stage()
        again.run(tmp_path)
    assert again.made == list(range(N))
    assert "starts from scratch" in caplog.text
    assert "damaged state" in caplog.text


def test_full_disk_prevents_saving_state_but_not_work(tmp_path, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Pieces, "save", full)
    stage = Stage()
    stage.run(Path(tmp_path))
    assert stage.made == list(range(N))
    assert "the state after piece 1 cannot be saved: [Errno 28] No space left on device" in caplog.text
