"""Stage paper: its files and reports agree, for unconditional and conditional networks."""

import csv
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from workbench import noise, run, save_split

from ddpm.conditioning.kinds.clusters import Clusters
from ddpm.conditioning.kinds.labels import Labels
from ddpm.data.dataset import load_dataset
from ddpm.diffusion.model import DiffusionModel
from ddpm.diffusion.schedule import NoiseSchedule, cosine_schedule
from ddpm.errors import UserError
from ddpm.evaluation import progressive
from ddpm.evaluation.classifier import Classifier, ClassifierConfig, describe, load_classifier, save_classifier
from ddpm.evaluation.estimate import Estimate
from ddpm.evaluation.frechet import fid
from ddpm.evaluation.metric import Described
from ddpm.images import denormalize_img, to_uint8
from ddpm.networks.architectures.mlp import TinyDiffuser, TinyDiffuserConfig
from ddpm.networks.checkpoint import load_model, save_model
from ddpm.run.seeding import generator, global_stream
from ddpm.sampling.chain import Chain
from ddpm.sampling.spacing import timesteps

FEW = {
    "n_samples": 258,
    "batch_size": 256,
    "n_steps": 5,
    "n_moments": 2,
    "n_trajectories": 2,
    "n_halves": 2,
    "n_split": 1,
    "n_branches": 2,
    "coarse_depths": [0.0, 1.0],
    "n_pairs": 2,
    "n_lambdas": 3,
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An untrained network, a classifier and a few images in the working folder."""
    monkeypatch.chdir(tmp_path)
    for seed, (split, n) in enumerate((("train", 280), ("held_out", 300), ("test", 200))):
        save_split(split, noise(seed, n))
    with global_stream(0, "classifier"):
        save_classifier(Path("models/classifier.safetensors"), Classifier(ClassifierConfig(1, 10)))
    with global_stream(0, "network"):
        model = TinyDiffuser(TinyDiffuserConfig((1, 28, 28), 4, 25))
    model.noise_schedule, model.prediction = NoiseSchedule(25, betas=cosine_schedule(25)), "x0"
    save_model(Path("models/unet.safetensors"), model, {"step": 1, "seed": 0})


def test_outputs_and_reports_are_consistent():
    stage = run("paper", FEW)
    made = load_file("samples/paper.safetensors")
    test = load_dataset(Path("data/images/test.safetensors")).images
    kept = timesteps(NoiseSchedule(25), 5)
    assert made["n_steps"] == 5
    assert made["estimates_t"].tolist() == [kept[5], kept[1]]
    assert made["split_t"].tolist() == [kept[5], kept[4], kept[2], kept[1]]
    assert torch.equal(made["sources"].flatten(0, 1), test[:4])
    branches = made["branches"][:, :3].flatten(0, 2)
    assert len(branches.unique(dim=0)) == len(branches)  # each has its own noise, but the last step has none
    # Figure 9 at t = 0 mixes pixels, and halves may round either way.
    first, second = test[:2].float()
    assert made["coarse_t"].tolist() == [0, 25]
    assert torch.equal(made["coarse"][0, [0, 2]], test[:2])
    assert (made["coarse"][0, 1].float() - (first + second) / 2).abs().max() <= 0.5
    # At t = T nothing of a pair is left, and every mixture has the same noise.
    assert (made["coarse"][1].float() - made["coarse"][1, :1].float()).abs().max() <= 1
    with Path("reports/paper/x0_quality.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["num_steps"]) for row in rows] == made["estimates_t"].tolist()
    facts = json.loads(Path("reports/paper/x0_quality.json").read_text())
    classifier, extractor = load_classifier(Path("models/classifier.safetensors"))
    assert (facts["n_samples"], facts["reference"], facts["extractor"]) == (258, "test", extractor)
    held_out = load_dataset(Path("data/images/held_out.safetensors")).images[-258:]
    floor = fid(*(describe(classifier, images).features for images in (test, held_out)))
    assert abs(facts["fid_classifier_floor"]["value"] / floor - 1) < 1e-3  # rounding differs by batch
    assert stage.log.tags == {
        "metric": "fid_classifier",
        "n_samples": "258",
        "reference": "test",
        "extractor": extractor,
    }
    last = min(rows, key=lambda row: int(row["num_steps"]))
    assert stage.log.metrics["x0_estimates/fid_classifier"] == pytest.approx(float(last["fid_classifier"]))
    assert stage.log.metrics["real/fid_classifier"] == facts["fid_classifier_floor"]["value"]
    # An untrained network is further from the images, noise here, than they are from each other.
    assert all(float(row["low"]) > facts["fid_classifier_floor"]["high"] for row in rows)


def test_n_samples_is_capped_by_held_out_images():
    """Asking for more than there are is like asking for all."""
    run("paper", FEW | {"n_samples": 1000})
    facts = json.loads(Path("reports/paper/x0_quality.json").read_text())
    assert facts["n_samples"] == 300
    run("paper", FEW | {"n_samples": 300})
    assert json.loads(Path("reports/paper/x0_quality.json").read_text()) == facts


def test_samples_do_not_depend_on_batch_size():
    found = []
    for size in (256, 1):
        run("paper", FEW | {"batch_size": size})
        found.append(load_file("samples/paper.safetensors")["estimates"].int())
    assert (found[0] - found[1]).abs().max() <= 1  # 8 bits, rounded


def test_unsuitable_test_split_is_rejected_before_any_work():
    save_split("test", noise(2, 3))
    with pytest.raises(UserError, match=r"paper.n_pairs is 2; the test split has 3 images"):
        run("paper", FEW)
    save_split("test", noise(2, 200, (3, 4, 5)))
    with pytest.raises(UserError, match=r"makes images of shape \(1, 28, 28\); the test split has \(3, 4, 5\)"):
        run("paper", FEW)
    assert not Path("samples").exists()


def unseeing(_, images):
    n = len(images)
    return Described(images, torch.zeros(n, 2), torch.zeros(n, dtype=torch.long))


def unscored(*_):
    return Estimate(0.0, 0.0, 0.0)


class Oracle(DiffusionModel):
    """Predicts a uniform grey that shows its condition."""

    def __init__(self, conditioning):
        super().__init__()
        self.img_shape, self.prediction, self.conditioning = (1, 28, 28), "x0", conditioning
        self.noise_schedule = NoiseSchedule(25, betas=cosine_schedule(25))

    def forward(self, images, num_steps, cond):  # noqa: ARG002
        if isinstance(self.conditioning, Labels):
            return (cond / 9 * 2 - 1)[:, None, None, None].expand_as(images)
        return self.conditioning(cond).image


def drawn_with(model, monkeypatch, params=FEW):
    """The stage's samples with another model, and its seed. Nothing is scored."""
    monkeypatch.setattr(progressive, "load_classifier", lambda _: (torch.nn.Identity(), "none"))
    monkeypatch.setattr(progressive, "describe", unseeing)
    monkeypatch.setattr(progressive, "fid_classifier", unscored)
    stage = run("paper", params, load_model=lambda _: model)
    return load_file("samples/paper.safetensors"), stage.seed


@pytest.mark.parametrize("change", [{}, {"variance": "fixed_large"}, {"clip_sample": False}, {"n_steps": 8}])
def test_chains_match_their_stream_and_params(change, monkeypatch):
    model = load_model(Path("models/unet.safetensors"))
    for parameter in model.parameters():
        parameter.data *= 4  # so that its estimates leave [-1, 1]
    params = FEW | {"variance": "fixed_small", "clip_sample": True, "n_split": 2, "split_depths": [0.15]} | change
    made, seed = drawn_with(model, monkeypatch, params)
    kept = timesteps(model.noise_schedule, params["n_steps"])
    chain = Chain(model, kept, params["variance"], params["clip_sample"])
    for i in range(2):
        *_, x1, _ = chain.walk([generator(seed, "chain", i)])
        expected = to_uint8(denormalize_img(chain.estimate(x1, 1))).int()
        assert (made["estimates"][-1, i].int() - expected[0]).abs().max() <= 1  # rounding differs by batch
        # Branches of this depth have one step left, which adds no noise.
        assert (made["branches"][i, -1].int() - expected[0]).abs().max() <= 1


def test_each_pair_has_its_own_noise(monkeypatch):
    """Two equal pairs, mixed where one step is left, which adds no noise: differences come from the noise."""
    images = load_dataset(Path("data/images/test.safetensors")).images.clone()
    images[2:4] = images[:2]
    save_split("test", images)
    made, _ = drawn_with(load_model(Path("models/unet.safetensors")), monkeypatch, FEW | {"interpolation_depth": 0.2})
    assert made["interpolation_t"].tolist() == [5]
    assert torch.equal(made["sources"][0], made["sources"][1])
    assert not torch.equal(made["interpolation"][0], made["interpolation"][1])


def grey(classes):
    return (torch.as_tensor(classes) / 9 * 255).round()


def test_chain_has_one_class_and_mixture_that_of_nearer_image(monkeypatch):
    params = FEW | {"n_split": 3, "n_trajectories": 12, "batch_size": 5}
    made, _ = drawn_with(Oracle(Labels((1, 28, 28), 10, 4, 0.1).eval()), monkeypatch, params)
    classes = [i % 10 for i in range(12)]
    assert torch.equal(made["estimates"].float()[..., 0, 0, 0], grey(classes).expand(2, -1))
    for chain in range(3):
        assert (made["branches"][chain].float() == grey([chain])).all()
    labels = load_dataset(Path("data/images/test.safetensors")).labels[:4].reshape(2, 2)
    expected = grey(labels[:, [0, 0, 1]])  # lambda 0, 1/2 and 1
    assert torch.equal(made["interpolation"].float()[..., 0, 0, 0], expected)
    assert torch.equal(made["coarse"].float()[1, :, 0, 0, 0], expected[0])  # not the one at t = 0


def test_image_mixture_uses_mixture_of_cluster_means(monkeypatch):
    clusters = Clusters((1, 28, 28), 10, 4, 2, 0.0).eval()
    clusters.means.copy_(torch.tensor([0.5, -0.5]).reshape(2, 1, 1, 1).expand(2, 1, 28, 28))
    clusters.frequencies.fill_(0.5)
    images = load_dataset(Path("data/images/test.safetensors")).images.clone()
    images[:4] = torch.tensor([200, 50, 50, 200], dtype=torch.uint8).reshape(4, 1, 1, 1)
    save_split("test", images)
    made, _ = drawn_with(Oracle(clusters), monkeypatch)
    expected = to_uint8(denormalize_img(torch.tensor([[0.5, 0.0, -0.5], [-0.5, 0.0, 0.5]])))  # lambda 0, 1/2 and 1
    assert torch.equal(made["interpolation"][..., 0, 0, 0], expected)
