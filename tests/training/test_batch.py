"""A batch of Algorithm 1: its losses, its parts, and the inputs of the network."""

import pytest
import torch
from training.small import Scale, Watching, images, params, tiny, train, weights

from ddpm.data.augmentation import augmented
from ddpm.data.order import batches
from ddpm.diffusion.consistency import consistency_loss
from ddpm.diffusion.forward import add_noise, noise_img
from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.run.seeding import generator
from ddpm.training import loop
from ddpm.training.loop import losses_of_batch, noised_batch


def test_batch_losses_use_noise_of_each_image():
    # w = 0 predicts no noise: the loss of an image is the mean square of its noise.
    model, x0 = Scale(0.0), images(6, shape=(1, 2, 2))
    model.noise_schedule = NoiseSchedule(50)
    batch = noised_batch(x0, None, model.noise_schedule, params(), generator(0, "noise"))
    t, eps, xt = noise_img(x0, model.noise_schedule, generator=generator(0, "noise"))
    assert torch.equal(batch.num_steps, t)
    assert torch.equal(batch.xt, add_noise(x0, eps, t, model.noise_schedule))
    assert torch.equal(batch.xt, xt)
    for part in (slice(0, 6), slice(2, 5)):
        losses = losses_of_batch(model, batch.part(part), params())
        assert (losses - eps[part].square().mean((1, 2, 3))).abs().max() < 1e-6


def test_consistency_loss_receives_training_progress(monkeypatch):
    told = []

    def recorded(predict, prediction, x0, eps, xt, num_steps, schedule, progress):
        told.append((prediction, progress))
        assert torch.equal(xt, add_noise(x0, eps, num_steps, schedule))
        return consistency_loss(predict, prediction, x0, eps, xt, num_steps, schedule, progress)

    monkeypatch.setattr(loop, "consistency_loss", recorded)
    own = params(prediction="x0", weighting="consistency", batch_size=8, micro_batches=2)
    steps, state = train(Scale(0.5), own, images(20, shape=(1, 2, 2)))
    assert told == [("x0", step / 6) for step in range(6) for _ in range(2)]
    assert weights(state.modules["model"]).item() != 0.5
    assert len(steps) == 6


def test_batch_part_keeps_its_conditioning():
    batch = noised_batch(images(6), torch.arange(6), NoiseSchedule(50), params(), generator(0, "noise"))
    assert batch.part(slice(2, 5)).cond.tolist() == [2, 3, 4]


class Moved(Watching):
    """Receives the moves of its images, and records them."""

    takes_moves = True

    def with_variance(self, images, num_steps, moves):
        self.told = [*getattr(self, "told", []), moves]
        return self(images, num_steps), None


def test_network_receives_augmentation_of_its_own_images():
    # With T = 1 of the linear schedule the noise has a standard deviation of 0.01. The left half is black.
    model, halves = Moved(), torch.tensor([-1.0, -1, 1, 1]).expand(20, 1, 4, 4)
    train(model, params(max_steps=1, flip=True, max_shift=1, micro_batches=2), halves)
    told = torch.cat(model.told)
    for row, (mirrored, _, across) in zip(torch.cat([xt for xt, _ in model.seen])[:, 0, 0], told, strict=True):
        bright = 2 + across if mirrored else 2 - across  # columns, if the image moves to the right
        assert (row > 0).sum() == bright
    assert len(told.unique(dim=0)) > 10  # of 18
    train(Watching(), params(flip=True), halves)  # others are not


@pytest.mark.parametrize(("flip", "max_shift"), [(True, 0), (False, 1), (True, 2)])
def test_images_are_moved_and_noised_by_streams_of_their_own(flip, max_shift):
    data, model, schedule = images(20, shape=(1, 4, 4)), Watching(), NoiseSchedule(50)
    train(model, params(flip=flip, max_shift=max_shift), data, seed=5)
    for step, (chosen, (xt, _)) in enumerate(zip(batches(20, 8, 5), model.seen, strict=False), start=1):
        moved, _ = augmented(data[chosen], flip, max_shift, generator(5, "augmentation", step))
        *_, expected = noise_img(moved, schedule, generator=generator(5, "noise", step))
        assert torch.equal(xt, expected)
    assert len(model.seen) == 6


@pytest.mark.parametrize("micro_batches", [2, 4])
def test_micro_batches_match_whole_batch(micro_batches):
    """Adam's first steps are of size lr even where rounding flips a gradient's sign, so losses are compared."""
    losses = [
        [step.loss for step in train(tiny(), params(micro_batches=n), images(24), 1)[0]] for n in (1, micro_batches)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
