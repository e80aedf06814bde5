"""Non-leaking augmentation: a network conditioned on the moves of its images samples unmoved ones."""

import torch
from training.small import params

from ddpm.conditioning.moves import MovesEmbedding
from ddpm.networks.architectures.unet import Unet, UnetConfig
from ddpm.run.compute import Compute
from ddpm.run.seeding import generator, global_stream
from ddpm.training.loop import Examples, start_training, training_steps

SHAPE, T = (1, 8, 8), 20


def test_only_zero_moves_have_zero_embedding():
    with global_stream(0, "init"):
        embedding = MovesEmbedding(16)
    assert torch.equal(embedding(torch.zeros(2, 3)), torch.zeros(2, 16))
    assert (embedding(torch.eye(3)).norm(dim=1) > 0).all()


def estimate(tell_moves):
    """The estimate of x_0 from pure noise by a network trained on one image, shifted by up to a pixel."""
    with global_stream(0, "init"):
        config = UnetConfig(SHAPE, channels=16, dim_mults=(1, 2), max_steps=T, tell_moves=tell_moves)
        model = Unet(config)
    steps = {"max_steps": T, "lr": 5e-3, "batch_size": 32, "epochs": 100.0, "ema_decay": 0.9}
    own = params(schedule="cosine", prediction="x0", max_shift=1, **steps)
    state = start_training(model, own, Compute())
    for _ in training_steps(state, own, Examples(picture().expand(32, -1, -1, -1)), seed=0):
        pass
    noise = torch.randn(64, *SHAPE, generator=generator(0, "noise"))
    with torch.no_grad():
        return state.modules["average"].module.eval()(noise, torch.full((64,), T)).mean(0, keepdim=True)


def picture():
    """A white square on black that stays inside when shifted."""
    x = torch.full((1, *SHAPE), -1.0)
    x[..., 2:6, 2:5] = 1
    return x


def test_tell_moves_prevents_leaking_of_shifts():
    """At t = T, x_t is pure noise, so the best estimate is the mean of all images that may be drawn."""
    still = picture()
    shifted = torch.stack([still.roll((i, j), (2, 3)) for i in (-1, 0, 1) for j in (-1, 0, 1)]).mean(0)
    apart = (still - shifted).square().mean()  # 0.22, and a network's own error is much below a quarter of it
    for tell, near, far in ((True, still, shifted), (False, shifted, still)):
        found = estimate(tell)
        assert (found - near).square().mean() < apart / 4
        assert (found - far).square().mean() > apart / 2
