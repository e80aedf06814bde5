"""The real stages that sample and measure: killed, they go on, and write the bytes of a run that was left alone."""

import logging
import runpy
import shutil
import sys
from pathlib import Path

import pytest
import stage as stage_main
import torch
from project import NOWHERE, REPO, TINY, write_params
from safetensors.torch import load_file, save_file

from ddpm.diffusion.schedule import NoiseSchedule, cosine_schedule
from ddpm.evaluation.classifier import FashionCnn
from ddpm.networks.checkpoint import save_model
from ddpm.networks.architectures.mlp import TinyDiffuser, TinyDiffuserConfig
from ddpm.run.resume.pieces import Pieces
from ddpm.sampling import sample
from ddpm.run.seeding import global_stream

STAGES = {
    "sample_unet": ("stages/sample.py unet", "samples/unet.safetensors", {"sample": {"unet": {"batch_size": 60}}}),
    "paper": ("stages/paper.py", "samples/paper.safetensors", {"paper": {"batch_size": 60}}),
}


class Kill(BaseException):
    """What no `except Exception` stops."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An untrained network of FashionMNIST's shape, a classifier and a few images, in the working folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("src", "stages"):
        Path(name).symlink_to(REPO / name)
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(REPO / name, name)
    write_params(tmp_path, TINY)
    Path("data/fashion_mnist").mkdir(parents=True)
    draw = torch.Generator().manual_seed(0)
    for split, n in (("train", 300), ("test", 200)):
        images = torch.randint(256, (n, 1, 28, 28), dtype=torch.uint8, generator=draw)
        labels = torch.randint(10, (n,), dtype=torch.uint8, generator=draw)
        save_file({"images": images, "labels": labels}, f"data/fashion_mnist/{split}.safetensors")
    with global_stream(0, "networks"):
        model, classifier = TinyDiffuser(TinyDiffuserConfig((1, 28, 28), 4, 25)), FashionCnn()
    model.noise_schedule, model.prediction = NoiseSchedule(25, betas=cosine_schedule(25)), "x0"
    save_model(Path("models/unet.safetensors"), model, {"step": 1, "seed": 0})
    save_file(classifier.state_dict(), "models/classifier.safetensors")
    yield tmp_path
    torch.use_deterministic_algorithms(False)


def run(stage, steps=None):
    """Run a stage in this process, killed after so many steps of the sampler; how many it took."""
    real, taken = sample.sample_steps, 0

    def counted(*arguments, **options):
        nonlocal taken
        for x in real(*arguments, **options):
            if taken == steps:
                raise Kill
            taken += 1
            yield x

    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sample, "sample_steps", counted)
        patch.setattr("ddpm.sampling.reverse.sample_steps", counted)
        patch.setattr(sys, "argv", STAGES[stage][0].split())
        patch.setenv("MLFLOW_TRACKING_URI", NOWHERE)
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        finally:
            torch.set_num_threads(threads)
    return taken


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_stage_goes_on_with_the_first_batch_that_is_missing(folder, stage, caplog):
    _, out, settings = STAGES[stage]
    write_params(folder, settings)
    whole = run(stage)
    expected = Path(out).read_bytes()
    reports = {path: path.read_bytes() for path in Path().glob("reports/**/*.*")}
    shutil.rmtree("samples")
    with pytest.raises(Kill):
        run(stage, 15)  # of a chain's six stops: in the third batch
    with pytest.raises(Kill):
        run(stage, whole - 14)  # two batches are there, and this run falls two steps short of the end
    assert not Path(out).exists()
    with caplog.at_level(logging.INFO):
        rest = run(stage)
    assert f"{stage}: resumes after piece" in caplog.text
    assert 0 < rest <= 12
    assert Path(out).read_bytes() == expected
    assert {path: path.read_bytes() for path in reports} == reports
    assert list(Path(".resume").iterdir()) == []


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("stage", ["bound", "evaluate_tiny"])
def test_a_killed_evaluation_measures_nothing_twice(stage, caplog, monkeypatch):
    """Every figure of its reports is the same as without the kills."""
    if stage == "evaluate_tiny":
        tiny_files()
    made, real = [], Pieces.__call__

    def measured(most=None):
        def counted(self, name, make):
            def make_or_die():
                if len(made) == most:
                    raise Kill
                made.append(name)
                return make()

            return real(self, name, make_or_die)

        made.clear()
        monkeypatch.setattr(Pieces, "__call__", counted)
        stage_main.run(f"{stage}.py")
        return {path: path.read_bytes() for path in Path("reports", stage).iterdir()}

    expected, names = measured(), list(made)
    shutil.rmtree("reports")
    parts = []
    for most in (3, 5):
        with pytest.raises(Kill):
            measured(most)
        parts += made
    with caplog.at_level(logging.INFO):
        assert measured() == expected
    assert f"{stage}: resumes after piece 8" in caplog.text
    assert parts + made == names
    assert list(Path(".resume").iterdir()) == []


def tiny_files():
    """What the stages before evaluate_tiny leave."""
    with global_stream(0, "tiny"):
        model = TinyDiffuser(TinyDiffuserConfig((3, 4, 5), 4, 25))
    model.noise_schedule, model.prediction = NoiseSchedule(25, betas=cosine_schedule(25)), "x0"
    save_model(Path("models/tiny.safetensors"), model, {"step": 1, "seed": 0, "schedule": "cosine"})
    draw = torch.Generator().manual_seed(0)
    images = {"images": torch.rand(4, 3, 4, 5, generator=draw)}
    samples = {"samples": torch.randint(256, (42, 3, 4, 5), dtype=torch.uint8, generator=draw)}
    for path, tensors in (("data/gradients/eval", images), ("samples/tiny", samples)):
        Path(path).parent.mkdir(exist_ok=True)
        save_file(tensors, f"{path}.safetensors")


def test_batches_of_1_and_of_64_start_from_the_same_noise_and_end_in_the_same_images(folder):
    made = []
    for size in (1, 64):
        write_params(folder, {"sample": {"unet": {"batch_size": size, "n_films": 3}}})
        run("sample_unet")
        made.append(load_file("samples/unet.safetensors"))
    alone, together = made
    # Sums of 784 products are taken in another order: below 1e-5 of a value in [0, 255], so at most a rounding apart.
    assert torch.equal(alone["steps"][0], together["steps"][0])
    assert (alone["samples"].int() - together["samples"].int()).abs().max() <= 1
    assert (alone["samples"] != together["samples"]).float().mean() < 1e-3
