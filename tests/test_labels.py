"""Class labels from training to score: what a network is told is what it draws, and what it is judged by."""

import json
from pathlib import Path

import pytest
import torch
from project import write_params
from safetensors.torch import load_file, save_file
from stage import run, write_noise_project

from ddpm.diffusion.schedule import NoiseSchedule, cosine_schedule
from ddpm.evaluation.classifier import N_FEATURES, Described
from ddpm.evaluation.quality import label_accuracy
from ddpm.images import denormalize_img, to_uint8
from ddpm.networks.model import DiffusionModel, labelled
from ddpm.conditioning.kinds.clusters import Clusters
from ddpm.networks.architectures.unet import Unet, UnetConfig
from ddpm.sampling.sample import sample_steps
from ddpm.sections import Training
from ddpm.run.seeding import generator, global_stream
from ddpm.training.evaluate import loss_by_timestep, simple_loss
from ddpm.training.loop import COURSE_DEFAULTS, fit

SETTINGS = {"max_steps": 30, "schedule": "cosine", "prediction": "x0", "lr": 0.01, "batch_size": 16, "epochs": 5}


def small(n_classes=2):
    with global_stream(0, "init"):
        return Unet(UnetConfig((1, 4, 4), 8, (1,), 2, 30, heads=2, n_classes=n_classes))


@pytest.fixture(scope="module")
def taught():
    """A network that was taught that class 0 is dark and class 1 is bright, its data, and what it is told of them."""
    labels = torch.randint(2, (160,), generator=generator(0, "labels"))
    images = (0.8 * (2.0 * labels - 1))[:, None, None, None].expand(-1, 1, 4, 4).contiguous()
    model = small()
    fit(model, Training(**COURSE_DEFAULTS | SETTINGS), images, images[:9], labels=labels, eval_labels=labels[:9])
    return model, images, labels


def last(model, first, count):
    *_, x = sample_steps(model, [generator(0, "x", first + i) for i in range(count)], variance="fixed_small")
    return x


def test_samples_are_of_the_class_that_was_asked_for(taught):
    model, _, _ = taught
    labels = torch.arange(12) % 2
    images = last(labelled(model, labels), 0, 12)
    assert ((images.mean((1, 2, 3)) > 0).long() == labels).all()
    # The same noise, other labels.
    assert ((last(labelled(model, 1 - labels), 0, 12).mean((1, 2, 3)) > 0).long() == 1 - labels).all()


def test_a_sample_depends_on_its_own_label_and_noise_alone(taught):
    model, _, _ = taught
    labels = torch.arange(7) % 2
    together = last(labelled(model, labels), 0, 7)
    apart = [last(labelled(model, labels, slice(first, first + 3)), first, min(3, 7 - first)) for first in (0, 3, 6)]
    assert (together - torch.cat(apart)).abs().max() < 1e-5  # float32 sums in another order


def test_losses_are_those_of_the_labels_given(taught):
    model, images, labels = taught
    # More than one batch of the evaluation: its labels must keep step with its images.
    images, labels = images.repeat(4, 1, 1, 1), labels.repeat(4)
    right, wrong = (simple_loss(model, images, model.noise_schedule, 0, labels=told) for told in (labels, 1 - labels))
    assert right < wrong / 10
    right, wrong = (
        loss_by_timestep(model, images, model.noise_schedule, 20, 0, labels=told) for told in (labels, 1 - labels)
    )
    assert right[-1] < wrong[-1] / 10  # where nothing of the image is left, only the label tells


def test_guidance_goes_on_from_what_is_said_untold_through_what_is_said_when_told():
    model, labels = small().eval(), torch.tensor([0, 1, 1])
    x, t = torch.randn(3, 1, 4, 4, generator=generator(0, "x")), torch.tensor([3, 20, 30])
    told, untold = labelled(model, labels)(x, t), model(x, t, torch.full((3,), 2))
    assert (told - untold).abs().max() > 1e-3
    for scale in (1.0, 1.5, 3.0):
        found = labelled(model, labels, guidance_scale=scale)(x, t)
        assert (found - ((1 - scale) * untold + scale * told)).abs().max() < 1e-5  # float32, values of order 1


def test_label_accuracy_is_the_share_of_hits():
    def seen(classes):
        return Described(torch.zeros(8, 784), torch.zeros(8, N_FEATURES), torch.tensor(classes))

    made, real = seen([0, 1, 2, 3, 4, 5, 6, 7]), seen([0, 0, 0, 0, 1, 1, 1, 1])
    asked, true = torch.tensor([0, 1, 2, 9, 9, 9, 9, 9]), torch.tensor([0, 0, 0, 0, 1, 1, 2, 2], dtype=torch.uint8)
    found = label_accuracy(made, real, asked, true, n_halves=20, seed=0)
    assert (found.samples.value, found.floor.value) == (3 / 8, 6 / 8)
    assert found.samples.low < 3 / 8 < found.samples.high


class Oracle(DiffusionModel):
    """Sees in everything an image of one grey, which tells the class that it was told."""

    img_shape, prediction, n_classes = (1, 28, 28), "x0", 10

    def __init__(self):
        super().__init__()
        self.noise_schedule = NoiseSchedule(25, betas=cosine_schedule(25))

    def forward(self, images, num_steps, labels):  # noqa: ARG002
        return (labels / 9 * 2 - 1)[:, None, None, None].expand_as(images)

    def with_variance(self, images, num_steps, labels):
        return self(images, num_steps, labels), None


def grey(classes):
    return (torch.as_tensor(classes) / 9 * 255).round()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_noise_project(tmp_path)
    return tmp_path


def test_the_stage_draws_all_classes_in_turn(folder):
    write_params(folder, {"sample": {"unet": {"guidance_scale": 1.0}}})  # it sees one class more where it is not told
    run("sample.py", "unet", load_model=lambda _: (Oracle(), {}), determinants=lambda *_: {})
    made = load_file("samples/unet.safetensors")
    assert made["labels"].tolist() == [i % 10 for i in range(258)]
    assert torch.equal(made["samples"].float(), grey(made["labels"])[:, None, None, None].expand(-1, 1, 28, 28))


def unseeing(_, images):
    n = len(images)
    return Described(torch.zeros(n, 784), torch.zeros(n, 2), torch.zeros(n, dtype=torch.long))


def papers_figures(model):
    """What stage paper draws with `model`, unjudged."""
    run(
        "paper.py",
        load_model=lambda _: (model, {}),
        determinants=lambda *_: {},
        load_classifier=lambda _: (torch.nn.Identity(), "none"),
        describe=unseeing,
        fid=lambda *_: 0.0,
    )
    return load_file("samples/paper.safetensors")


@pytest.mark.usefixtures("folder")
def test_the_papers_figures_are_of_one_class_a_chain_and_of_the_nearer_image_in_a_mixture():
    made = papers_figures(Oracle())
    n_films = made["estimates"].shape[1]
    assert torch.equal(made["estimates"].float()[..., 0, 0, 0], grey(range(n_films)).expand(2, -1))
    assert (made["branches"] == 0).all()  # of the first chain, whose class is 0
    labels = load_file("data/fashion_mnist/test.safetensors")["labels"][:4].reshape(2, 2)
    expected = grey(labels[:, [0, 0, 1]])  # lambda 0, 1/2 and 1
    assert torch.equal(made["interpolation"].float()[..., 0, 0, 0], expected)
    assert torch.equal(made["coarse"].float()[1, :, 0, 0, 0], expected[0])  # the one that is not at t = 0


class Shown(Oracle):
    """Takes every image for the mean that its cluster has: 0.5 and -0.5 of the two."""

    def __init__(self):
        super().__init__()
        self.clusters = Clusters(2, self.img_shape)
        self.clusters.means.copy_(torch.tensor([0.5, -0.5]).reshape(2, 1, 1, 1).expand(2, *self.img_shape))
        self.clusters.shares.fill_(0.5)

    def forward(self, images, num_steps, labels):  # noqa: ARG002
        return self.clusters(labels)


@pytest.mark.usefixtures("folder")
def test_a_mixture_of_images_is_shown_a_mixture_of_their_means():
    test = Path("data/fashion_mnist/test.safetensors")
    tensors = load_file(test)
    tensors["images"][:4] = torch.tensor([200, 50, 50, 200], dtype=torch.uint8).reshape(4, 1, 1, 1)
    save_file(tensors, test)
    made = papers_figures(Shown())
    expected = to_uint8(denormalize_img(torch.tensor([[0.5, 0.0, -0.5], [-0.5, 0.0, 0.5]])))  # lambda 0, 1/2 and 1
    assert torch.equal(made["interpolation"][..., 0, 0, 0], expected)


def test_a_conditional_network_is_trained_drawn_and_scored(folder):
    write_params(folder, {"train_unet": {"labels": "classes", "channels": 8, "patch_size": 4, "dim_mults": [1]}})
    run("train_unet.py")
    run("sample.py", "unet")
    run("train_classifier.py")
    run("evaluate_unet.py")
    scores = json.loads(Path("reports/evaluate_unet/scores.json").read_text())
    found = scores["label_accuracy_fashion_cnn"]
    assert found["samples"]["low"] <= found["samples"]["value"] <= found["samples"]["high"]
    assert 0 <= found["floor"]["value"] <= 1
