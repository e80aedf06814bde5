"""Stage evaluate_unet says what is wrong in one line before it works, and what each value is measured with."""

import json
import re
from pathlib import Path

import pytest
import torch
from project import write_params
from safetensors.torch import save_file
from stage import run, write_noise_project
from torch import nn

from ddpm.run.params import load_params
from ddpm.errors import UserError
from ddpm.evaluation.classifier import FashionCnn
from ddpm.evaluation.inception import WEIGHTS_SHA256
from ddpm.evaluation.metrics import fid
from ddpm.run.seeding import generator, global_stream

SAMPLES, WEIGHTS = Path("samples/unet.safetensors"), Path("models/classifier.safetensors")
REPORTS = Path("reports/evaluate_unet")


def draw(*shape, dtype=torch.uint8):
    save_file({"samples": torch.randint(256, shape, dtype=dtype, generator=generator(0, "samples"))}, SAMPLES)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Images of noise, as many samples as are asked for, and an untrained classifier."""
    monkeypatch.chdir(tmp_path)
    write_noise_project(tmp_path)
    SAMPLES.parent.mkdir()
    WEIGHTS.parent.mkdir()
    draw(258, 1, 28, 28)
    with global_stream(0, "classifier"):
        save_file(FashionCnn().state_dict(), WEIGHTS)
    return tmp_path


def fewer_samples():
    draw(200, 1, 28, 28)


def other_shape():
    draw(258, 3, 4, 5)


def no_samples():
    SAMPLES.unlink()


def no_classifier():
    WEIGHTS.unlink()


def other_classifier():
    save_file({"weight": torch.zeros(3)}, WEIGHTS)


def inception_gone():
    write_params(Path(), {"sample": {"unet": {"n_samples": 4098}}, "evaluate_unet": {"inception_weights": "gone.pth"}})
    write_params(Path(), {"evaluate_unet": {"n_samples": 4098, "n_held_out": 4098}})
    draw(4098, 1, 28, 28)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (fewer_samples, f"evaluate_unet.n_samples is 258, but {SAMPLES} holds 200; run `dvc repro` to draw more"),
        (other_shape, f"{SAMPLES}: images of shape (3, 4, 5); FashionMNIST has (1, 28, 28)"),
        (no_samples, f"{SAMPLES}: no such file; run `dvc repro` to make it"),
        (no_classifier, f"{WEIGHTS}: no such file; run `dvc repro` to make it"),
        (other_classifier, f"{WEIGHTS}: not the classifier's weights; delete it and run `dvc repro train_classifier`"),
        (
            inception_gone,
            "evaluate_unet.inception_weights is gone.pth: No such file or directory; give the path of pt_",
        ),
    ],
)
def test_what_cannot_be_scored_is_one_line(break_it, message):
    break_it()
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        run("evaluate_unet.py")
    assert "\n" not in str(caught.value)
    assert not REPORTS.exists()


@pytest.mark.usefixtures("folder")
def test_every_value_is_printed_with_what_it_was_measured_with(caplog):
    caplog.set_level("INFO")
    params, seen = load_params(), []

    def describe_inception(_, images, device):  # noqa: ARG001
        seen.append(images[:, 0, 5, :4].float())  # 4 pixels for features
        return seen[-1]

    asked = params.evaluate_unet.model_copy(update={"inception_weights": "there.pth"})
    run(
        "evaluate_unet.py",
        params=params.model_copy(update={"evaluate_unet": asked}),
        load_inception=lambda _: nn.Identity(),
        describe_inception=describe_inception,
    )
    scores = json.loads((REPORTS / "scores.json").read_text())
    kinds = {name: value for name, value in scores.items() if isinstance(value, dict)}
    assert "fid_inception" in kinds
    assert "label_accuracy_fashion_cnn" not in kinds  # these samples have no labels
    assert all(name.endswith(("_fashion_cnn", "_pixel", "_inception")) for name in kinds)
    for name, value in kinds.items():
        by = WEIGHTS_SHA256[:12] if name == "fid_inception" else scores["extractor"]
        [line] = [line for line in caplog.messages if line.startswith(f"{name}: ")]
        number = r"(-?[\d.e+-]+|nan) \[\S+, \S+\]"
        assert re.fullmatch(rf"{name}: {number}, floor {number} \(N = 258, against test \(300\), {by}\)", line)
        assert set(value) == {"samples", "floor"}
        assert value["samples"]["low"] <= value["samples"]["value"] <= value["samples"]["high"]
    assert scores["extractor_inception"] == WEIGHTS_SHA256[:12]
    metrics = json.loads((REPORTS / "metrics.json").read_text())
    assert metrics["fid_inception"] == kinds["fid_inception"]["samples"]["value"]
    samples, floor, reference = seen
    assert [len(images) for images in seen] == [258, 258, 300]
    assert kinds["fid_inception"]["samples"]["value"] == pytest.approx(fid(reference, samples))
    assert kinds["fid_inception"]["floor"]["value"] == pytest.approx(fid(reference, floor))
