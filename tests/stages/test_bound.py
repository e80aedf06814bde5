"""Stage bound: the images, params and weights it uses, and that its tables match the bound."""

import csv
import json
from pathlib import Path

import pytest
import torch
from workbench import noise, run, save_split

from ddpm.conditioning.kinds.labels import Labels
from ddpm.diffusion.model import DiffusionModel
from ddpm.diffusion.schedule import NoiseSchedule, cosine_schedule
from ddpm.errors import UserError
from ddpm.evaluation.bound import Bound, VariationalBound
from ddpm.evaluation.rate_distortion import rate_distortion
from ddpm.networks.architectures.mlp import TinyDiffuser, TinyDiffuserConfig
from ddpm.networks.checkpoint import load_model, save_model
from ddpm.run.seeding import derive_seed, global_stream

REPORTS = Path("reports/bound")
FEW = {"n_images": 10, "stride": 5, "batch_size": 4}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An untrained network and a few images in the working folder."""
    monkeypatch.chdir(tmp_path)
    for seed, (split, n) in enumerate((("train", 30), ("held_out", 5), ("test", 20))):
        save_split(split, noise(seed, n))
    with global_stream(0, "network"):
        model = TinyDiffuser(TinyDiffuserConfig((1, 28, 28), 4, 25))
        for parameter in model.parameters():
            parameter.data *= 8  # so that its estimates leave [-1, 1]
    model.noise_schedule, model.prediction = NoiseSchedule(25, betas=cosine_schedule(25)), "x0"
    save_model(Path("models/unet.safetensors"), model, {"step": 1, "seed": 0})


@pytest.mark.parametrize("clip_sample", [True, False])
def test_bound_of_both_splits_matches_variational_bound(clip_sample):
    stage = run("bound", FEW | {"clip_sample": clip_sample})
    metrics = json.loads((REPORTS / "metrics.json").read_text())
    model = load_model("models/unet.safetensors")
    for seed, split in ((0, "train"), (2, "test")):
        images, own = noise(seed, 30 if split == "train" else 20)[:10], derive_seed(stage.seed, split)
        expected = VariationalBound(
            model, images, ["fixed_small", "fixed_large"], own, clip_sample=clip_sample, stride=5
        ).run()
        for variance, bound in expected.items():
            assert metrics[variance][split]["bits_per_dim"] == pytest.approx(bound.bits_per_dim, rel=1e-6)
        with (REPORTS / f"{split}.csv").open() as file:
            rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
        assert [row["t"] for row in rows] == list(range(26))
        for variance, bound in expected.items():
            assert [row[f"L_{variance}"] for row in rows] == pytest.approx(bound.means.tolist(), rel=1e-5)
            assert [row[f"rate_{variance}"] for row in rows] == pytest.approx(bound.rate.tolist(), rel=1e-5)
        assert [row["distortion"] for row in rows[1:]] == pytest.approx(
            next(iter(expected.values())).distortion.tolist(), rel=1e-5
        )
    known = json.loads((REPORTS / "bound.json").read_text())
    assert (known["n_images"], known["stride"]) == (10, 5)
    # `rows` are now those of the test split. The first of `variances` is fixed_small.
    assert [row["t"] for row in known["rate_distortion"]][:: len(known["rate_distortion"]) - 1] == [25, 1]
    for row in known["rate_distortion"]:
        assert (row["rate"], row["distortion"]) == (
            rows[int(row["t"])]["rate_fixed_small"],
            rows[int(row["t"])]["distortion"],
        )
    for variance, table in known["variances"].items():
        train, test, gap = (table[split]["bits_per_dim"] for split in ("train", "test", "gap"))
        assert gap["value"] == pytest.approx(test["value"] - train["value"])
        assert all(found["low"] < found["value"] < found["high"] for found in (train, test, gap))
        assert stage.log.metrics[f"{variance}/test/bits_per_dim"] == test["value"]
        # The variances of independent means add up.
        widths = [(found["high"] - found["low"]) ** 2 for found in (train, test, gap)]
        assert widths[2] == pytest.approx(widths[0] + widths[1])
        assert metrics[variance]["gap"]["bits_per_dim"] == gap["value"]


class Grey(DiffusionModel):
    """Predicts an image of the grey of its class."""

    def __init__(self):
        super().__init__()
        self.img_shape, self.prediction = (1, 28, 28), "x0"
        self.noise_schedule = NoiseSchedule(25, betas=cosine_schedule(25))
        self.conditioning = Labels((1, 28, 28), 10, 4, 0.1).eval()

    def forward(self, images, num_steps, cond):  # noqa: ARG002
        return (cond / 9 * 2 - 1)[:, None, None, None].expand_as(images)


def test_model_receives_each_images_label():
    for split in ("train", "test"):
        labels = torch.arange(20) % 10
        greys = (labels / 9 * 255).round().to(torch.uint8).reshape(-1, 1, 1, 1).expand(-1, 1, 28, 28)
        save_split(split, greys.contiguous(), labels)
    run("bound", FEW, load_model=lambda _: Grey())
    with (REPORTS / "test.csv").open() as file:
        errors = [float(row["distortion"]) for row in csv.DictReader(file)]
    assert max(errors) < 0.51  # levels: the rounding of the greys


def test_n_images_is_capped_by_the_smaller_split():
    """Asking for twelve when one split has eleven is like asking for eleven."""
    save_split("test", noise(0, 11))
    run("bound", FEW | {"n_images": 12})
    facts = json.loads((REPORTS / "bound.json").read_text())
    assert facts["n_images"] == 11
    run("bound", FEW | {"n_images": 11})
    assert json.loads((REPORTS / "bound.json").read_text()) == facts


def test_images_of_another_shape_are_rejected():
    save_split("train", torch.zeros(30, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(UserError, match=r"makes images of shape \(1, 28, 28\); the train split has \(3, 8, 8\)"):
        run("bound", FEW)
    assert not REPORTS.exists()


def test_rate_distortion_table_has_every_tenth_of_the_steps_from_the_top():
    terms, errors = torch.rand(2, 1001, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows = rate_distortion(Bound(terms, errors[1:], stride=1))
    assert [row["t"] for row in rows] == [1000, 900, 800, 700, 600, 500, 400, 300, 200, 100, 1]
    for row in rows:
        assert row["rate"] == pytest.approx(terms[row["t"] :].sum().item() / 4)
        assert row["distortion"] == pytest.approx((errors[row["t"]].sum().item() / 4) ** 0.5)
