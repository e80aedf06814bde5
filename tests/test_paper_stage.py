"""Stage paper refuses what does not fit, in one line, and what it writes is what it says."""

import csv
import json
from pathlib import Path

import pytest
import torch
from project import REPO, TINY, write_params
from safetensors.torch import load_file, save_file
from stage import run

from ddpm.diffusion.schedule import NoiseSchedule, cosine_schedule
from ddpm.errors import UserError
from ddpm.evaluation.classifier import FashionCnn, describe, load_classifier
from ddpm.evaluation.metrics import fid
from ddpm.networks.checkpoint import save_model
from ddpm.networks.architectures.mlp import TinyDiffuser, TinyDiffuserConfig
from ddpm.sampling.spacing import timesteps
from ddpm.run.seeding import global_stream

FILE = "models/unet.safetensors"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An untrained network, a classifier and a few images, in the working folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("src", "stages", "dvc.yaml"):
        Path(name).symlink_to(REPO / name)
    Path("params.yaml").write_text((REPO / "params.yaml").read_text())
    write_params(tmp_path, TINY)
    Path("data/fashion_mnist").mkdir(parents=True)
    Path("models").mkdir()
    draw = torch.Generator().manual_seed(0)
    for split, n in (("train", 300), ("test", 200)):
        images = torch.randint(256, (n, 1, 28, 28), dtype=torch.uint8, generator=draw)
        labels = torch.randint(10, (n,), dtype=torch.uint8, generator=draw)
        save_file({"images": images, "labels": labels}, f"data/fashion_mnist/{split}.safetensors")
    with global_stream(0, "classifier"):
        save_file(FashionCnn().state_dict(), "models/classifier.safetensors")
    network((1, 28, 28))
    return tmp_path


def network(shape):
    with global_stream(0, "network"):
        model = TinyDiffuser(TinyDiffuserConfig(shape, 4, 25))
    model.noise_schedule, model.prediction = NoiseSchedule(25, betas=cosine_schedule(25)), "x0"
    save_model(Path(FILE), model, {"step": 1, "seed": 0})


@pytest.mark.usefixtures("folder")
def test_what_it_writes_fits_together():
    run("paper.py")
    made = load_file("samples/paper.safetensors")
    test = load_file("data/fashion_mnist/test.safetensors")["images"]
    kept = timesteps(25, 5)
    assert made["estimates_t"].tolist() == [kept[5], kept[1]]
    assert made["split_t"].tolist() == [kept[5], kept[4], kept[2], kept[1]]
    assert torch.equal(made["sources"].flatten(0, 1), test[:4])
    branches = made["branches"][:, :3].flatten(0, 2)
    assert len(branches.unique(dim=0)) == len(branches)  # each has noise of its own; the step from stop 1 has none
    # Figure 9 at t = 0 mixes pixels; its halves may round either way.
    first, second = test[:2].float()
    assert made["coarse_t"].tolist() == [0, 25]
    assert torch.equal(made["coarse"][0, [0, 2]], test[:2])
    assert (made["coarse"][0, 1].float() - (first + second) / 2).abs().max() <= 0.5
    # At t = T of this schedule nothing of a pair is left, and every mixture has the same noise.
    assert (made["coarse"][1].float() - made["coarse"][1, :1].float()).abs().max() <= 1
    with Path("reports/paper/x0_quality.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["num_steps"]) for row in rows] == made["estimates_t"].tolist()
    facts = json.loads(Path("reports/paper/x0_quality.json").read_text())
    assert (facts["n_samples"], facts["reference"]) == (258, "test")
    classifier, extractor = load_classifier(Path("models/classifier.safetensors"))
    train = load_file("data/fashion_mnist/train.safetensors")["images"][-258:]
    floor = fid(*(describe(classifier, images).features for images in (test, train)))
    assert abs(facts["fid_fashion_cnn_floor"]["value"] / floor - 1) < 1e-3  # other batches round otherwise
    assert facts["extractor"] == extractor
    # An untrained network is further from the images, which are noise here, than they are from one another.
    assert all(float(row["low"]) > facts["fid_fashion_cnn_floor"]["high"] for row in rows)


def test_a_sample_is_the_same_whatever_the_batch(folder):
    run("paper.py")
    whole = load_file("samples/paper.safetensors")["estimates"].int()
    write_params(folder, {"paper": {"batch_size": 1, "n_samples": 258}})
    run("paper.py")
    assert (load_file("samples/paper.safetensors")["estimates"].int() - whole).abs().max() <= 1  # 8 bits, rounded


@pytest.mark.usefixtures("folder")
def test_a_model_of_another_shape_is_named():
    network((3, 4, 5))
    with pytest.raises(UserError, match=rf"{FILE}: makes images of shape \(3, 4, 5\); FashionMNIST has \(1, 28, 28\)"):
        run("paper.py")
    assert not Path("samples").exists()


@pytest.mark.usefixtures("folder")
def test_fewer_test_images_than_pairs_are_refused():
    path = Path("data/fashion_mnist/test.safetensors")
    save_file({"images": load_file(path)["images"][:3]}, path)
    with pytest.raises(UserError, match=r"paper.n_pairs is 2; data/fashion_mnist/test.safetensors holds 3 images"):
        run("paper.py")
    assert not Path("samples").exists()
