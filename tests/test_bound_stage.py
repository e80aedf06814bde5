"""Stage bound refuses what does not fit, in one line, and its files agree with each other."""

import csv
import json
from pathlib import Path

import pytest
import torch
from project import REPO, TINY, write_params
from safetensors.torch import save_file
from stage import run

from ddpm.diffusion.schedule import NoiseSchedule, cosine_schedule
from ddpm.errors import UserError
from ddpm.networks.checkpoint import save_model
from ddpm.networks.architectures.mlp import TinyDiffuser, TinyDiffuserConfig
from ddpm.run.seeding import global_stream

REPORTS = Path("reports/bound")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An untrained network and a few images in the working folder."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text((REPO / "params.yaml").read_text())
    write_params(tmp_path, TINY)
    for name in ("dvc.yaml", "src", "stages"):  # the files that its state is keyed on
        Path(name).symlink_to(REPO / name)
    draw = torch.Generator().manual_seed(0)
    for split, n in (("train", 30), ("test", 20)):
        split_images(split, torch.randint(256, (n, 1, 28, 28), dtype=torch.uint8, generator=draw))
    with global_stream(0, "network"):
        model = TinyDiffuser(TinyDiffuserConfig((1, 28, 28), 4, 25))
    model.noise_schedule, model.prediction = NoiseSchedule(25, betas=cosine_schedule(25)), "x0"
    save_model(Path("models/unet.safetensors"), model, {"step": 1, "seed": 0})
    return tmp_path


def split_images(split, images):
    Path("data/fashion_mnist").mkdir(parents=True, exist_ok=True)
    labels = torch.zeros(len(images), dtype=torch.uint8)
    save_file({"images": images, "labels": labels}, f"data/fashion_mnist/{split}.safetensors")


@pytest.mark.usefixtures("folder")
def test_what_it_writes_fits_together():
    run("bound.py")
    metrics = json.loads((REPORTS / "metrics.json").read_text())
    known = json.loads((REPORTS / "bound.json").read_text())
    assert list(known["variances"]) == ["fixed_large", "fixed_small"]  # sorted, as all JSON here
    for split in ("train", "test"):
        with (REPORTS / f"{split}.csv").open() as file:
            rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
        assert [row["t"] for row in rows] == list(range(26))
        assert rows[0]["distortion"] == 0
        for variance, splits in metrics.items():
            terms, rate = ([row[f"{column}_{variance}"] for row in rows] for column in ("L", "rate"))
            parts = {"L_0": terms[0], "L_between": sum(terms[1:-1]), "L_T": terms[-1]}
            assert splits[split] == pytest.approx({**parts, "bits_per_dim": rate[0]})
            assert rate[0] == pytest.approx(sum(terms))
            assert rate == sorted(rate, reverse=True)
            gap = splits["test"]["bits_per_dim"] - splits["train"]["bits_per_dim"]
            assert splits["gap"]["bits_per_dim"] == pytest.approx(gap)
            interval = known["variances"][variance][split]["bits_per_dim"]
            assert interval["low"] < interval["value"] == splits[split]["bits_per_dim"] < interval["high"]
    # The rows are now those of the test split; the first of `variances` is fixed_small.
    steps = [row["t"] for row in known["rate_distortion"]]
    assert (steps[0], steps[-1], len(steps)) == (25, 1, 11)
    for row in known["rate_distortion"]:
        written = rows[row["t"]]
        assert (row["rate"], row["distortion"]) == (written["rate_fixed_small"], written["distortion"])


@pytest.mark.usefixtures("folder")
def test_more_images_than_a_split_holds_are_refused():
    split_images("test", torch.zeros(9, 1, 28, 28, dtype=torch.uint8))
    with pytest.raises(UserError, match=r"bound.n_images is 10; data/fashion_mnist/test.safetensors holds 9 images"):
        run("bound.py")
    assert not REPORTS.exists()


@pytest.mark.usefixtures("folder")
def test_images_of_another_shape_are_refused():
    split_images("train", torch.zeros(30, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(UserError, match=r"makes images of shape \(1, 28, 28\); data/.*train.* has \(3, 8, 8\)"):
        run("bound.py")
    assert not REPORTS.exists()
