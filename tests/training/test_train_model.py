"""From params and data to a model and its files: the images, seeds and options used, and the outputs."""

import csv
import json
import sys
from pathlib import Path

import pytest
import torch
from training.small import Scale, greys, params

from ddpm.conditioning import kinds
from ddpm.conditioning.conditioning import CONDITIONINGS
from ddpm.conditioning.guidance import given
from ddpm.data.dataset import ImageDataset, to_x0_range
from ddpm.networks import architectures
from ddpm.networks.checkpoint import load_model, save_model
from ddpm.networks.network import NETWORKS
from ddpm.run.compute import Compute
from ddpm.run.files import load_tensors
from ddpm.run.seeding import derive_seed, global_stream
from ddpm.run.stage import StageRun
from ddpm.run.tracking.record import Run
from ddpm.training.evaluate import loss_by_timestep
from ddpm.training.fit import fit
from ddpm.training.train_model import TrainModel, build_model, examples, held_out_examples, write_outputs

SHAPE = (1, 8, 8)
SMALL = {"channels": 8, "dim_mults": [1, 2], "groups": 2, "heads": 2, "n_clusters": 3, "dropout": 0.2}


def small_options(registry, name):
    """Options of any entry: those of SMALL, 8 if required, else the defaults."""
    fields = registry[name].Options.model_fields
    required = {key: 8 for key, field in fields.items() if field.is_required()}
    return required | {key: value for key, value in SMALL.items() if key in fields}


def train_params(network="unet", conditioning=None, **changes):
    subsections = {network: small_options(NETWORKS, network)}
    if conditioning is not None:
        subsections[conditioning] = small_options(CONDITIONINGS, conditioning)
    own = params(**{"max_steps": 30, "schedule": "cosine", "log_interval": 50, **changes}).model_dump()
    return TrainModel(
        **own, network=network, conditioning=conditioning, init=None, n_eval=4, n_eval_per_step=3, **subsections
    )


def dataset(n=24, first=0):
    labels = (torch.arange(n) % 3).to(torch.uint8)
    return ImageDataset(greys(n, first, SHAPE) * 5, labels, ("a", "b", "c"))


def takes_vectors(own):
    """The error of a network for vectors only (tested elsewhere), or "" if it takes images."""
    try:
        own.config(SHAPE, 3)
    except ValueError as error:
        return str(error) if "vectors" in str(error) else ""
    return ""


@pytest.mark.parametrize("conditioning", [None, *CONDITIONINGS])
@pytest.mark.parametrize("network", list(NETWORKS))
def test_model_is_trained_saved_and_loaded(network, conditioning, tmp_path):
    own, train = train_params(network, conditioning, epochs=1.0), dataset()
    if refusal := takes_vectors(own):
        assert f"network {network} takes vectors" in refusal
        return
    if conditioning and "conditioning" not in vars(NETWORKS[network])["Config"].__dataclass_fields__:
        with pytest.raises(ValueError, match=f"conditioning is {conditioning}; network {network} is unconditional"):
            build_model(own, train, 0)
        return
    model = build_model(own, train, 0)
    before = [p.clone() for p in model.parameters()]
    history = fit(model, own, examples(model, train), held_out_examples(model, train, 4))
    assert any(not torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True))
    model.to(memory_format=torch.contiguous_format)  # as when loaded: the order of sums depends on it
    save_model(tmp_path / "m.safetensors", model, {"step": history.steps})
    loaded = load_model(tmp_path / "m.safetensors")
    assert (loaded.config, loaded.facts) == (model.config, {"step": history.steps})
    x, t = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(0)), torch.tensor([1, 2, 15, 30])
    cond = None if model.conditioning is None else model.conditioning.draw(0, range(4))
    with torch.no_grad():
        ours, theirs = (given(m.eval(), cond, guidance_scale=1.5).with_variance(x, t)[0] for m in (model, loaded))
    assert torch.equal(ours, theirs)


NEW_NETWORK = """
from dataclasses import dataclass
from typing import Annotated
import torch
from annotated_types import Gt
from torch import nn
from ddpm.diffusion.model import DiffusionModel
from ddpm.networks.network import NETWORKS, options_of

@dataclass(frozen=True)
class Config:
    img_shape: tuple[int, ...]
    gain: Annotated[float, Gt(0)]

class Gain(DiffusionModel):
    Config, Options = Config, options_of(Config)

    def __init__(self, config):
        super().__init__()
        self.config, self.img_shape = config, tuple(config.img_shape)
        self.gain = nn.Parameter(torch.tensor(config.gain))

    def forward(self, images, num_steps):
        return self.gain * images

NETWORKS.register(__name__, Gain)
"""
NEW_CONDITIONING = '''
import torch
from ddpm.conditioning import kinds
from ddpm.conditioning.conditioning import CONDITIONINGS, Conditioning, Given
from ddpm.run.params import Section

class Options(Section):
    gain: float = 1.0

class Brightness(Conditioning):
    """`cond` is the mean of an image, shown as an image."""
    Options, describes, gives_image = Options, "given a brightness", True

    def __init__(self, img_shape, n_classes, embedding_size, gain):
        super().__init__()
        self.img_shape, self.gain = img_shape, gain

    def encode(self, images, labels):
        return images.mean((1, 2, 3))

    def draw(self, seed, indices):
        return torch.tensor([index / 10 for index in indices])

    def null(self, cond):
        return torch.zeros_like(cond)

    def mix(self, first, second, weights):
        return torch.lerp(first, second, weights)

    def forward(self, cond):
        return Given(image=self.gain * self.dropped(cond).reshape(-1, 1, 1, 1).expand(-1, *self.img_shape))

CONDITIONINGS.register(__name__, Brightness)
'''


@pytest.fixture
def new_files(tmp_path, monkeypatch):
    """A network and a conditioning, each added as one file."""
    made = []
    for package, registry, name, text in (
        (architectures, NETWORKS, "gain", NEW_NETWORK),
        (kinds, CONDITIONINGS, "brightness", NEW_CONDITIONING),
    ):
        folder = tmp_path / package.__name__
        folder.mkdir()
        (folder / f"{name}.py").write_text(text)
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
        monkeypatch.setitem(vars(registry), "_names", tuple(sorted([*registry, name])))  # listed once a process
        made.append((package, name))
    yield
    for package, name in made:
        sys.modules.pop(f"{package.__name__}.{name}", None)
        vars(package).pop(name, None)


@pytest.mark.usefixtures("new_files")
@pytest.mark.parametrize(("network", "conditioning"), [("gain", None), ("unet", "brightness")])
def test_new_network_or_conditioning_takes_one_file(network, conditioning, tmp_path):
    assert "gain" in list(NETWORKS)
    assert "brightness" in list(CONDITIONINGS)
    test_model_is_trained_saved_and_loaded(network, conditioning, tmp_path)
    own = train_params("gain")
    assert own.model_dump()["gain"] == {"gain": 8}
    assert build_model(own, dataset(), 0).gain == 8


def test_initial_weights_depend_only_on_the_seed():
    one, same, other = (torch.cat([p.flatten() for p in build(seed).parameters()]) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    with global_stream(1, "init"):
        expected = NETWORKS["unet"](train_params().config(SHAPE, 3))
    assert torch.equal(one, torch.cat([p.flatten() for p in expected.parameters()]))


def build(seed, conditioning=None, train=None):
    torch.manual_seed(seed + 100)  # the global RNG must not matter
    return build_model(train_params(conditioning=conditioning), train or dataset(), seed)


def test_network_matches_images_and_classes_of_the_data():
    model = build(0, "labels")
    assert (model.img_shape, model.config.n_classes, model.config.max_steps) == (SHAPE, 3, 30)
    assert model.config.conditioning == {"name": "labels", "dropout": 0.2}
    assert model.conditioning.n_classes == 3


def test_conditioning_is_fitted_to_training_images_with_its_own_seed():
    train = dataset()
    model = build(7, "clusters", train)
    expected = CONDITIONINGS["clusters"](img_shape=SHAPE, n_classes=3, embedding_size=32, n_clusters=3, dropout=0.2)
    expected.fit(train.x0, derive_seed(7, "clusters"))
    assert torch.equal(model.conditioning.means, expected.means)
    assert torch.equal(model.conditioning.frequencies, expected.frequencies)
    assert train.x0.min() <= model.conditioning.means.min() <= model.conditioning.means.max() <= train.x0.max()


def test_training_examples_are_the_whole_split():
    train = dataset()
    images, cond = examples(build(0), train)
    assert torch.equal(images, train.images)  # 8-bit
    assert cond is None
    assert torch.equal(examples(build(0, "labels"), train).cond, train.labels.long())
    clusters = build(0, "clusters")
    assert torch.equal(examples(clusters, train).cond, clusters.conditioning.encode(train.x0, None))
    floats = ImageDataset(train.images / 255)
    assert torch.equal(examples(Scale(), floats).images, train.x0)  # in [-1, 1]


@pytest.mark.parametrize(("n_eval", "first"), [(4, 20), (1, 23), (24, 0), (None, 0)])
def test_held_out_examples_are_the_last_of_the_split(n_eval, first):
    held_out = dataset()
    images, cond = held_out_examples(build(0, "labels"), held_out, n_eval)
    assert torch.equal(images, to_x0_range(greys(24 - first, first, SHAPE) * 5))
    assert cond.tolist() == [i % 3 for i in range(first, 24)]
    assert held_out_examples(build(0), held_out, n_eval).cond is None


def rows(path):
    with Path(path).open(newline="") as file:
        return list(csv.reader(file))


class Log(Run):
    def log_metrics(self, metrics, step):
        self.metrics = {**metrics, "at": step}


@pytest.mark.parametrize(("ema_decay", "kept"), [(0.0, "raw"), (0.9, "EMA 0.9")])
def test_training_stage_outputs(ema_decay, kept, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    changes = {"weighting": "min_snr", "prediction": "x0", "log_interval": 2, "img_log_interval": 2, "epochs": 5 / 3}
    own = train_params(ema_decay=ema_decay, **changes)
    stage = StageRun("train_x", own, 11, Compute(), Log())
    model = build_model(own, dataset(), stage.seed)
    unseen = held_out_examples(model, dataset(first=20), own.n_eval)
    history = fit(model, own, examples(model, dataset()), unseen, stage.seed)
    write_outputs(stage, model, history, unseen)

    loaded = load_model("models/x.safetensors")
    assert loaded.facts == {"schedule": "cosine", "seed": 11, "step": 5, "weighting": "min_snr", "weights": kept}
    assert loaded.prediction == "x0"
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in model.state_dict().items())
    previews = load_tensors(Path("models/x_previews.safetensors"))
    assert previews["steps"].tolist() == [2, 4, 5]
    assert torch.equal(previews["images"], history.previews)

    def floats(table):
        return [tuple(map(float, row)) for row in table]

    assert (head := rows("reports/train_x/loss.csv"))[0] == ["step", "train_loss"]
    assert floats(head[1:]) == history.train_loss
    assert (head := rows("reports/train_x/eval_loss.csv"))[0] == ["step", "eval_loss"]
    assert floats(head[1:]) == history.eval_loss
    head, *body = rows("reports/train_x/loss_by_quartile.csv")
    assert head == ["step", *(f"train_loss_q{i}" for i in (1, 2, 3, 4))]
    assert [[float(x) if x else None for x in row] for row in body] == [[s, *q] for s, q in history.quartile_loss]
    head, *body = rows("reports/train_x/loss_by_timestep.csv")
    assert head == ["t", "loss"]
    expected = loss_by_timestep(model, unseen, 3, stage.seed)
    assert floats(body) == list(enumerate(expected, start=1))
    assert len(expected) == 30

    metrics = json.loads(Path("reports/train_x/metrics.json").read_text())
    assert metrics == {
        "train_loss": history.train_loss[-1][1],
        "eval_loss": history.eval_loss[-1][1],
        "steps": 5,
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    assert stage.log.metrics == {"model/parameters": metrics["parameters"], "at": 0}
