"""Training an autoencoder: it learns, depends only on seed and params, and resumes where it was stopped."""

from itertools import pairwise
from math import isfinite

import pytest
import torch

from ddpm.data.dataset import ImageDataset
from ddpm.errors import UserError
from ddpm.latent import fit as module
from ddpm.latent.autoencoder import Autoencoder, reconstructed
from ddpm.latent.fit import TrainAutoencoder, error, fit_autoencoder
from ddpm.run.resume.context import Resume
from ddpm.run.seeding import global_stream

VALUES = {
    "factor": 2,
    "latent_channels": 3,
    "channels": 8,
    "groups": 2,
    "bottleneck": "kl",
    "lr": 0.01,
    "warmup_steps": 2,
    "batch_size": 8,
    "micro_batches": 2,
    "epochs": 3.0,
    "log_interval": 5,
}
KINDS = "kl", "vq", "none"


def stripes(n=32):
    """8x8 images of horizontal or vertical stripes: one bit each."""
    across = (torch.arange(8) // 2 % 2 * 255).to(torch.uint8).expand(8, 8)
    return ImageDataset(torch.stack([across if i % 2 else across.T for i in range(n)])[:, None])


def train(params=None, seed=3, resume=None, **changes):
    """(model, losses) of one training run."""
    params = params or TrainAutoencoder.model_validate(VALUES | changes)
    with global_stream(0, "init"):
        model = Autoencoder(params.config((1, 8, 8)))
    return model, fit_autoencoder(model, params, stripes(), seed, resume=resume)


def same(first, second):
    return all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_training_learns_to_reconstruct_two_images(kind):
    """Grey, the best guess without a latent, is off by 1/2. The error must be less than a tenth of that."""
    model, losses = train(bottleneck=kind, epochs=60.0)
    made = reconstructed(model, stripes().images, seed=0)
    assert (made.float() - stripes().images.float()).abs().mean() / 255 < 0.05
    assert losses[-1][1] < losses[0][1] / 4


def test_loss_curve_averages_since_last_row():
    _, losses = train(epochs=3.0)  # 32 images in batches of 8, three times
    assert [step for step, _ in losses] == [5, 10, 12]
    _, each = train(epochs=3.0, log_interval=1)
    loss = dict(each)
    assert losses[1][1] == pytest.approx(sum(loss[step] for step in range(6, 11)) / 5)
    assert losses[2][1] == pytest.approx((loss[11] + loss[12]) / 2)


def test_lr_warms_up_and_decays_linearly(monkeypatch):
    rates = []
    real = torch.optim.Adam.step

    def step(self, *args):
        rates.append(self.param_groups[0]["lr"])
        return real(self, *args)

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    train(epochs=2.0, warmup_steps=2, lr=0.8)
    expected = [0.8 * min(step / 2, 1) * (1 - (step - 1) / 8) for step in range(1, 9)]
    assert rates == pytest.approx(expected)


def test_each_micro_batch_has_noise_of_its_own(monkeypatch):
    seeds, forward = [], Autoencoder.forward

    def noted(self, images, stream):
        seeds.append(stream.initial_seed())
        return forward(self, images, stream)

    monkeypatch.setattr(Autoencoder, "forward", noted)
    train(epochs=1.0)  # 4 steps of 2 micro-batches
    assert len({*seeds}) == len(seeds) == 8


def test_weights_depend_on_the_seed():
    first, again, other = (train(seed=seed)[0] for seed in (3, 3, 4))
    assert same(first, again)
    assert not same(first, other)


class Kill(BaseException):
    """Not caught by `except Exception`."""


@pytest.mark.parametrize(
    "changes", [{"bottleneck": "kl"}, {"bottleneck": "vq"}, {"adversary": {"weight": 0.5, "channels": 8}}], ids=str
)
def test_resumed_training_matches_uninterrupted_training(changes, tmp_path, monkeypatch):
    expected, curve = train(**changes)
    real, kills = Resume.after_step, [3, 7]

    def die_after(self, state, last=False):
        real(self, state, last)
        if state.step in kills:
            kills.remove(state.step)
            raise Kill

    monkeypatch.setattr(Resume, "after_step", die_after)
    for _ in range(2):
        with pytest.raises(Kill), Resume("autoencoder", {}, 0.0, tmp_path) as resume:
            train(**changes, resume=resume)
    with Resume("autoencoder", {}, 0.0, tmp_path) as resume:
        model, losses = train(**changes, resume=resume)
    assert kills == []
    assert same(model, expected)
    assert losses == curve


def test_adversary_is_weighted_and_learns(monkeypatch):
    """The discriminator's loss is 1 if it cannot tell reconstructions from images."""
    real, seen = module.discriminator_losses, []
    sizes = set()

    def noted(discriminator, *given):
        sizes.add(discriminator[0].out_channels)
        seen.append(real(discriminator, *given))
        return seen[-1]

    monkeypatch.setattr(module, "discriminator_losses", noted)
    with_it, losses = train(epochs=60.0, adversary={"weight": 0.2, "channels": 8})
    assert min(each.mean().item() for each in seen) < 0.5
    assert sizes == {8}
    assert all(map(isfinite, dict(losses).values()))
    models = [train(adversary={"weight": weight, "channels": 8})[0] for weight in (0.0, 0.2, 0.4)]
    assert not any(same(first, second) for first, second in pairwise(models))
    made = reconstructed(with_it, stripes().images, seed=0)
    assert (made.float() - stripes().images.float()).abs().mean() / 255 < 0.1  # a fifth of the error of grey


def test_discriminator_begins_with_weights_of_the_seed(monkeypatch):
    begun, real = [], module.Discriminator

    def new(*given):
        made = real(*given)
        begun.append(made[0].weight.detach().clone())
        return made

    monkeypatch.setattr(module, "Discriminator", new)
    for seed in (3, 3, 4):
        train(seed=seed, epochs=0.25, adversary={"weight": 0.2, "channels": 8})
    assert torch.equal(begun[0], begun[1])
    assert not torch.equal(begun[0], begun[2])


def test_factor_1_has_no_training():
    model, losses = train(factor=1, latent_channels=1, bottleneck="none")
    assert losses == []
    assert torch.equal(reconstructed(model, stripes().images, 0), stripes().images)


def test_divergence_raises_user_error():
    with pytest.raises(UserError, match="training diverged"):
        train(lr=1.0, warmup_steps=0, epochs=60.0, bottleneck="kl", kl={"weight": 1.0})


def test_error_is_mean_absolute_difference():
    images, made = torch.tensor([[[[1.0, -1.0]]], [[[0.0, 0.5]]]]), torch.tensor([[[[0.0, 1.0]]], [[[0.0, 0.5]]]])
    assert error(images, made).tolist() == [1.5, 0]


def test_unknown_bottleneck_is_rejected():
    with pytest.raises(ValueError, match="'vae' is not a bottleneck; allowed: kl, none, vq"):
        TrainAutoencoder.model_validate(VALUES | {"bottleneck": "vae"})
