"""A training run stopped at any step and resumed is bit-for-bit identical to an uninterrupted one."""

import logging
import os
import signal
import time
from contextlib import suppress
from dataclasses import fields

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from project import REPO
from ten_steps import ABOUT, STEPS, train
from torch import nn

from ddpm.data.dataset import ImageDataset
from ddpm.errors import UserError
from ddpm.evaluation.classifier import Classifier, ClassifierConfig, TrainClassifier, fit_classifier
from ddpm.images import to_uint8
from ddpm.run.compute import Compute
from ddpm.run.resume import context
from ddpm.run.resume.context import Resume, determinants
from ddpm.run.resume.file import read_about
from ddpm.run.resume.state import TrainingState
from ddpm.run.seeding import generator, global_stream


class Kill(BaseException):
    """Not caught by `except Exception`."""


class Saboteur:
    """A log that calls `act` at a step."""

    def __init__(self, step, act):
        self.step, self.act = step, act

    def log_metrics(self, metrics, step):
        if step == self.step and "train/loss" in metrics:
            self.act()

    def log_image(self, image, key, step):
        pass


def kill():
    raise Kill


@pytest.fixture(scope="module")
def undisturbed():
    return {kind: train(kind) for kind in ("tiny", "unet")}


def assert_same(result, expected):
    (weights, history), (expected_weights, expected_history) = result, expected
    assert weights.keys() == expected_weights.keys()
    assert all(torch.equal(weights[key], expected_weights[key]) for key in weights)
    for field in fields(history):
        ours, theirs = getattr(history, field.name), getattr(expected_history, field.name)
        assert torch.equal(ours, theirs) if isinstance(ours, torch.Tensor) else ours == theirs


def stop(folder, step, act=kill, kind="tiny", about=ABOUT):
    """Train until `act` ends it as the training loss at `step` is logged."""
    ending = Kill if act is kill else SystemExit
    with pytest.raises(ending) as caught, Resume("stage", about, 0.0, folder) as resume:
        train(kind, resume, Saboteur(step, act))
    return resume, caught.value


def go_on(folder, kind="tiny", about=ABOUT):
    with Resume("stage", about, 0.0, folder) as resume:
        return train(kind, resume)


@settings(max_examples=8, deadline=None)
@given(stops=st.lists(st.sampled_from([3, 6, 9, STEPS]), min_size=1, max_size=3).map(sorted))
def test_killed_training_resumes_identically(undisturbed, tmp_path_factory, stops):
    folder = tmp_path_factory.mktemp("state")
    for step in stops:
        resume, _ = stop(folder, step)
        assert read_about(resume.path) == (ABOUT, step - 1)  # it died before this step's state was written
    assert_same(go_on(folder), undisturbed["tiny"])
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("at", [1, 4, 6, 8])
def test_killed_classifier_training_resumes_identically(tmp_path, at):
    # The state includes BatchNorm's running means and SGD's momentum. There are three epochs of three batches.
    params = TrainClassifier(
        batch_size=8, micro_batches=2, epochs=3, lr=0.1, weight_decay=1e-3, label_smoothing=0.1, max_shift=1
    )
    images = to_uint8(torch.rand(20, 1, 8, 8, generator=generator(0, "images")))
    dataset = ImageDataset(images, (torch.arange(20) % 3).to(torch.uint8), ("hat", "scarf", "glove"))

    def learn(resume=None):
        with global_stream(0, "init"):
            model = Classifier(ClassifierConfig(1, 3))
        return fit_classifier(model, params, dataset, 3, Compute(), resume), model.state_dict()

    class Killed(Resume):
        def after_step(self, state, last=False):
            super().after_step(state, last)
            if state.step == at:
                raise Kill

    with pytest.raises(Kill), Killed("stage", ABOUT, 0.0, tmp_path) as resume:
        learn(resume)
    assert read_about(resume.path) == (ABOUT, at)
    with Resume("stage", ABOUT, 0.0, tmp_path) as resume:
        (losses, weights), (expected_losses, expected) = learn(resume), learn()
    assert losses == expected_losses
    assert all(torch.equal(weights[key], expected[key]) for key in expected)


def test_training_killed_while_writing_outputs_resumes(undisturbed, tmp_path):
    with suppress(Kill), Resume("stage", ABOUT, 3600.0, tmp_path) as resume:
        train(resume=resume)
        raise Kill
    assert read_about(resume.path) == (ABOUT, STEPS)
    assert_same(go_on(tmp_path), undisturbed["tiny"])


def test_killed_unet_training_resumes_identically(undisturbed, tmp_path):
    # The U-Net's weights are channels-last, but not those in a file.
    stop(tmp_path, 6, kind="unet")
    assert_same(go_on(tmp_path, "unet"), undisturbed["unet"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_completes_step_saves_state_and_exits(undisturbed, tmp_path, number):
    # Not the inherited handler: a shell's background processes may ignore SIGINT and SIGHUP.
    before = signal.signal(number, signal.SIG_DFL)
    try:
        resume, ending = stop(tmp_path, 6, lambda: os.kill(os.getpid(), number))
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)
    assert ending.code == 128 + number
    assert read_about(resume.path) == (ABOUT, 6)
    assert_same(go_on(tmp_path), undisturbed["tiny"])


def test_training_stops_when_dvc_has_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(context, "LOOK_SECONDS", 0.01)
    signalled, on_signal = [], Resume._on_signal

    def gone():
        monkeypatch.setattr(context, "dvc_process", lambda: "gone")
        deadline = time.monotonic() + 60
        while not signalled:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    monkeypatch.setattr(Resume, "_on_signal", lambda *arguments: signalled.append(1) or on_signal(*arguments))
    resume, ending = stop(tmp_path, 6, gone)
    assert ending.code == 128 + signal.SIGHUP
    assert read_about(resume.path) == (ABOUT, 6)


def test_state_is_not_written_before_it_is_due(tmp_path):
    with pytest.raises(Kill), Resume("stage", ABOUT, 3600.0, tmp_path) as resume:
        train(resume=resume, log=Saboteur(9, kill))
    assert not resume.path.exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:-5],
        lambda whole: whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:],
        lambda whole: whole.replace(b"step", b"stop", 1),
        lambda _: b"",
    ],
    ids=["cut short", "a bit flipped in a tensor", "the header changed", "empty"],
)
def test_damaged_state_is_discarded(undisturbed, tmp_path, caplog, damage):
    resume, _ = stop(tmp_path, 6)
    resume.path.write_bytes(damage(resume.path.read_bytes()))
    with caplog.at_level(logging.INFO):
        assert_same(go_on(tmp_path), undisturbed["tiny"])
    assert "starts from scratch" in caplog.text
    assert "damaged state" in caplog.text


def test_changed_determinants_restart_training_and_are_logged(undisturbed, tmp_path, caplog):
    kept, _ = stop(tmp_path, 6, about={"lr": "0.02", "only then": "1", "same": "2"})
    with caplog.at_level(logging.INFO):
        assert_same(go_on(tmp_path, about={"lr": "0.01", "same": "2"}), undisturbed["tiny"])
    assert "changed since step 5" in caplog.text
    assert caplog.text.strip().endswith(": lr, only then")
    assert kept.path.exists()


def test_concurrent_resume_of_same_run_is_rejected(tmp_path, monkeypatch):
    monkeypatch.setattr(context, "LOCK_SECONDS", 0)
    with Resume("stage", ABOUT, 0.0, tmp_path):
        with pytest.raises(UserError, match="another process is already doing this run"):
            Resume("stage", ABOUT, 0.0, tmp_path).__enter__()
        with Resume("stage", {"lr": "0.02"}, 0.0, tmp_path):
            pass
    with Resume("stage", ABOUT, 0.0, tmp_path):
        pass


def test_half_written_states_are_deleted(tmp_path):
    left = tmp_path / f".{Resume('stage', ABOUT, 0.0, tmp_path).path.name}.abc.safetensors"
    left.touch()
    go_on(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_full_disk_prevents_saving_state_but_not_training(undisturbed, tmp_path, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(TrainingState, "save", full)
    assert_same(go_on(tmp_path), undisturbed["tiny"])
    assert "cannot be saved: [Errno 28] No space left on device" in caplog.text


def test_state_restores_several_optimizers(tmp_path):
    # Adam keeps a step and two moments for each tensor, Muon one momentum, SGD without momentum nothing.
    def build():
        with global_stream(0, "init"):
            layers = nn.ModuleList(nn.Linear(4, 4, bias=False) for _ in range(3))
        makers = (torch.optim.Adam, torch.optim.Muon, torch.optim.SGD)
        return TrainingState(
            {"layers": layers}, [make(x.parameters(), 0.1) for make, x in zip(makers, layers, strict=True)]
        )

    def descend(state, steps):
        for _ in range(steps):
            x = torch.ones(2, 4)
            for layer in state.modules["layers"]:
                x = layer(x)
            x.square().sum().backward()
            for optimizer in state.optimizers:
                optimizer.step()
                optimizer.zero_grad()
        return [p.clone() for p in state.modules["layers"].parameters()]

    whole = descend(build(), 5)
    first, second = build(), build()
    descend(first, 3)
    first.save(tmp_path / "state", {})
    second.load(tmp_path / "state")
    assert all(torch.equal(a, b) for a, b in zip(descend(second, 2), whole, strict=True))


def test_determinants_cover_params_data_code_and_precision(tmp_path):
    data, elsewhere = tmp_path / "train.safetensors", tmp_path / "gone.safetensors"
    data.write_text("images")

    def found(code="0", precision="fp32", **values):
        params = {"precision": "fp32", "train_tiny": {"lr": 0.1, "mlp": {"hidden_size": 8}} | values}
        return determinants(params, [str(data), str(elsewhere)], {"ddpm.a": code}, Compute(precision=precision))

    first = found()
    assert {
        "precision",
        "train_tiny.lr",
        "train_tiny.mlp.hidden_size",
        str(data),
        "ddpm.a",
        "torch",
        "processor",
    } <= first.keys()
    assert str(elsewhere) not in first
    data.write_text("other images")
    second = found(code="1", precision="bf16", lr=0.2)
    changed = {key for key in first if first[key] != second[key]}
    assert changed == {"train_tiny.lr", str(data), "ddpm.a", "resolved precision"}


def test_experiment_copy_keeps_state_in_main_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(REPO))
    assert Resume("stage", ABOUT, 0.0).path.parent == REPO / ".resume"
