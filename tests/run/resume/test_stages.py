"""The real sampling and evaluation stages: killed and resumed, they write the bytes of an uninterrupted run."""

import logging
import shutil
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from project import REPO, TINY, write_params
from safetensors.torch import load_file
from whole import stages

from ddpm.data.dataset import ImageDataset, save_dataset
from ddpm.diffusion.schedule import NoiseSchedule, cosine_schedule
from ddpm.evaluation.classifier import Classifier, ClassifierConfig, save_classifier
from ddpm.networks.architectures.mlp import TinyDiffuser, TinyDiffuserConfig
from ddpm.networks.checkpoint import save_model
from ddpm.run.files import save_tensors
from ddpm.run.resume.pieces import Pieces
from ddpm.run.seeding import global_stream
from ddpm.run.stage import run_stage

SMALL_BATCHES = {"sample": {"tiny": {"batch_size": 10}, "unet": {"batch_size": 60}}, "paper": {"batch_size": 60}}


class Kill(BaseException):
    """Not caught by `except Exception`."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Outputs of earlier stages: untrained networks, a classifier and a few images of noise."""
    folder = tmp_path_factory.mktemp("prepared")
    (folder / "params.yaml").write_text((REPO / "params.yaml").read_text())
    write_params(folder, TINY)
    write_params(folder, SMALL_BATCHES)
    for name in ("src", "stages"):
        (folder / name).symlink_to(REPO / name)
    draw = torch.Generator().manual_seed(0)
    names = tuple("abcdefghij")
    for split in ("train", "held_out", "test"):
        images = torch.randint(256, (300, 1, 8, 8), dtype=torch.uint8, generator=draw)
        labels = torch.randint(10, (300,), dtype=torch.uint8, generator=draw)
        save_dataset(folder / f"data/images/{split}.safetensors", ImageDataset(images, labels, names))
    gradients = ImageDataset(torch.rand(4, 3, 4, 5, generator=draw))
    save_dataset(folder / "data/gradients/held_out.safetensors", gradients)
    samples = torch.randint(256, (42, 3, 4, 5), dtype=torch.uint8, generator=draw)
    save_tensors(folder / "samples/tiny.safetensors", samples=samples)
    with global_stream(0, "networks"):
        save_classifier(folder / "models/classifier.safetensors", Classifier(ClassifierConfig(1, 10)))
        for name, shape in (("tiny", (3, 4, 5)), ("unet", (1, 8, 8))):
            model = TinyDiffuser(TinyDiffuserConfig(shape, 4, 25))
            model.noise_schedule, model.prediction = NoiseSchedule(25, betas=cosine_schedule(25)), "x0"
            facts = {"step": 1, "seed": 0, "schedule": "cosine", "weights": "raw", "weighting": "simple"}
            save_model(folder / f"models/{name}.safetensors", model, facts)
    return folder


@pytest.fixture
def folder(prepared, tmp_path, monkeypatch):
    """A copy of these outputs, as the working folder."""
    copy = shutil.copytree(prepared, tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(copy)
    threads = torch.get_num_threads()
    yield copy
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def run(name, most=None):
    """Run a stage in this process, killed after `most` pieces, and return the names of the pieces made."""
    made, real = [], Pieces.__call__

    def make_or_die(piece, make):
        if len(made) == most:
            raise Kill
        result = make()
        made.append(piece)
        return result

    def counted(self, makes):
        return real(self, {piece: partial(make_or_die, piece, make) for piece, make in makes.items()})

    stage, script, _ = stages()[name]
    with pytest.MonkeyPatch.context() as patch, suppress(Kill):
        patch.setattr(Pieces, "__call__", counted)
        patch.setattr("sys.argv", [str(script), name])
        run_stage(name, replace(stage, tracked=False))
    return made


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("name", ["sample_tiny", "sample_unet", "paper", "bound", "evaluate_tiny", "study_samplers"])
def test_killed_stage_resumes_without_repeating_pieces(name, caplog):
    outputs = stages()[name].stage.outputs
    expected = run(name)
    files = {path: path.read_bytes() for path in outputs}
    for path in outputs:
        path.unlink()
    half = len(expected) // 2
    parts = run(name, half)
    assert not all(path.exists() for path in outputs)
    parts += run(name, len(expected) - half - 1)
    with caplog.at_level(logging.INFO):
        parts += run(name)
    assert parts == expected
    assert len(expected) >= 3
    assert f"{name}: resumes after piece {len(expected) - 1}" in caplog.text
    assert {path: path.read_bytes() for path in outputs} == files
    assert list(Path(".resume").iterdir()) == []


def test_samples_match_across_batch_sizes(folder):
    made = []
    for size in (1, 64):
        write_params(folder, {"sample": {"unet": {"batch_size": size, "n_trajectories": 3}}})
        run("sample_unet")
        made.append(load_file("samples/unet.safetensors"))
    alone, together = made
    # Sums of 64 products differ in order: by less than 1e-5 of a value in [0, 255], so by at most one rounding.
    assert torch.equal(alone["steps"][0], together["steps"][0])
    assert (alone["samples"].int() - together["samples"].int()).abs().max() <= 1
    assert (alone["samples"] != together["samples"]).float().mean() < 1e-3
