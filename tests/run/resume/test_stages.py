"""The stages that sample and measure: killed, they go on, and write the bytes of a run that was left alone."""

import logging
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from workbench import noise, run, save_split

from ddpm.data.dataset import ImageDataset, save_dataset
from ddpm.diffusion.schedule import NoiseSchedule, cosine_schedule
from ddpm.evaluation.classifier import Classifier, ClassifierConfig, save_classifier
from ddpm.networks.architectures.mlp import TinyDiffuser, TinyDiffuserConfig
from ddpm.networks.checkpoint import save_model
from ddpm.run.resume.context import Resume
from ddpm.run.resume.pieces import Pieces
from ddpm.run.seeding import global_stream

FEW = {
    "sample_unet": {"n_samples": 100, "n_trajectories": 2, "batch_size": 9, "n_steps": 5, "guidance_scale": 1.0},
    "paper": {
        **{"n_samples": 258, "batch_size": 60, "n_steps": 5, "n_moments": 2, "n_trajectories": 2, "n_halves": 2},
        **{"n_split": 2, "n_branches": 2, "coarse_depths": [0.0, 1.0], "n_pairs": 2, "n_lambdas": 3},
    },
    "bound": {"n_images": 10, "stride": 5},
    "evaluate_tiny": {"n_eval_per_step": 2, "n_samples": 42, "n_bound": 2},
}


class Kill(BaseException):
    """What no `except Exception` stops."""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Untrained networks, a classifier and a few images, in the working folder."""
    monkeypatch.chdir(tmp_path)
    for seed, (split, n) in enumerate((("train", 280), ("held_out", 270), ("test", 200))):
        save_split(split, noise(seed, n))
    draw = torch.Generator().manual_seed(0)
    gradients = ImageDataset(torch.rand(4, 3, 4, 5, generator=draw))
    save_dataset(Path("data/gradients/held_out.safetensors"), gradients)
    Path("samples").mkdir()
    samples = torch.randint(256, (42, 3, 4, 5), dtype=torch.uint8, generator=draw)
    save_file({"samples": samples}, "samples/tiny.safetensors")
    for name, shape in (("unet", (1, 28, 28)), ("tiny", (3, 4, 5))):
        with global_stream(0, name):
            model = TinyDiffuser(TinyDiffuserConfig(shape, 4, 25))
        model.noise_schedule, model.prediction = NoiseSchedule(25, betas=cosine_schedule(25)), "x0"
        save_model(Path(f"models/{name}.safetensors"), model, {"step": 1, "seed": 0, "schedule": "cosine"})
    with global_stream(0, "classifier"):
        save_classifier(Path("models/classifier.safetensors"), Classifier(ClassifierConfig(1, 10)))
    return tmp_path


def outputs(stage):
    return {
        path: path.read_bytes() for path in (*Path("reports").glob("*/*"), *Path("samples").glob(f"*{stage[-5:]}*"))
    }


@pytest.mark.parametrize("stage", FEW)
def test_a_killed_stage_makes_nothing_twice_and_ends_in_the_same_bytes(stage, folder, caplog, monkeypatch):
    made, real = [], Pieces.__call__

    def work(most=None):
        def counted(self, name, make):
            def make_or_die():
                if len(made) == most:
                    raise Kill
                made.append(name)
                return make()

            return real(self, name, make_or_die)

        made.clear()
        monkeypatch.setattr(Pieces, "__call__", counted)
        with Resume(stage, {"a": "b"}, 3600.0, folder / ".resume") as resume:
            run(stage, FEW[stage], resume=resume)
        return outputs(stage)

    expected, names = work(), list(made)
    shutil.rmtree("reports", ignore_errors=True)
    parts = []
    for most in (3, 2):
        with pytest.raises(Kill):
            work(most)
        parts += made
    with caplog.at_level(logging.INFO):
        assert work() == expected
    assert f"{stage}: resumes after piece 5" in caplog.text
    assert parts + made == names
    assert list((folder / ".resume").iterdir()) == []
