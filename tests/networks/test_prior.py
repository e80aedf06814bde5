"""The network for vectors: its inputs, and that training finds the known optimum."""

import pytest
import torch

from ddpm.captions.vocabulary import tokens
from ddpm.diffusion.forward import add_noise
from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.networks.architectures.prior import Prior, PriorConfig
from ddpm.run.seeding import generator, global_stream
from ddpm.training.fit import fit
from ddpm.training.loop import Examples
from ddpm.training.params import Training

SIZE, STEPS = 4, 50
TEXT = {"name": "clip_caption", "size": SIZE, "width": 8, "layers": 1, "heads": 2, "dropout": 0.0}
PARAMS = Training(
    max_steps=STEPS,
    schedule="cosine",
    prediction="x0",
    weighting="simple",
    step_sampling="stratified",
    lr=0.01,
    muon_lr=0.02,
    lr_decay="linear",
    warmup_steps=10,
    max_grad_norm=None,
    adam_betas=[0.9, 0.99],
    ema_decay=0.99,
    flip=False,
    max_shift=0,
    batch_size=128,
    micro_batches=1,
    epochs=20,
    log_interval=100,
    img_log_interval=1000,
    n_images_to_log=1,
)


def prior(conditioning=None, **options):
    with global_stream(0, "init"):
        shape = {"width": 32, "layers": 1, "heads": 2} | options
        return Prior(PriorConfig((SIZE, 1, 1), STEPS, conditioning=conditioning, n_classes=10, **shape))


def test_prediction_is_read_from_the_last_token():
    model = prior().eval()
    with torch.no_grad():
        for linear in (model.blocks[0].project_out, model.blocks[0].mlp[2]):  # now tokens do not change in the blocks
            linear.weight.zero_()
            linear.bias.zero_()
        xt = torch.randn(3, SIZE, 1, 1, generator=generator(0, "x"))
        expected = model.project_out(torch.nn.functional.layer_norm(model.last, (32,)))
        torch.testing.assert_close(model(xt, torch.tensor([1, 9, 50])).flatten(1), expected.expand(3, SIZE))


def test_output_depends_on_vector_timestep_and_caption():
    model, rows = prior(TEXT).eval(), tokens(["a dark dress"] * 4 + ["a pale dress"])
    xt = torch.randn(1, SIZE, 1, 1, generator=generator(0, "x")).repeat(5, 1, 1, 1)
    xt[1] = -xt[1]
    num_steps = torch.tensor([10, 10, 20, 10, 10])
    torch.nn.init.zeros_(model.conditioning.project.weight)  # so that captions are seen only as tokens
    with torch.no_grad():
        found = model(xt, num_steps, rows)
    assert found.shape == (5, SIZE, 1, 1)
    torch.testing.assert_close(found[3], found[0])
    for other in (1, 2, 4):
        assert not torch.allclose(found[other], found[0], atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"img_shape": (1, 28, 28)}, r"img_shape is \(1, 28, 28\); network prior takes vectors, \(size, 1, 1\)"),
        ({"width": 33}, "width is 33; it must be a multiple of heads, 2"),
        ({"width": 9, "heads": 3}, r"width is 9; it must be a multiple of 2 \(sines and cosines\)"),
    ],
)
def test_config_rejects_invalid_shapes_and_widths(changes, message):
    with pytest.raises(ValueError, match=message):
        PriorConfig(**{"img_shape": (SIZE, 1, 1), "max_steps": 10, "width": 32, "heads": 2} | changes)


def test_forward_rejects_missing_or_unexpected_cond():
    xt, num_steps = torch.zeros(2, SIZE, 1, 1), torch.ones(2)
    with pytest.raises(ValueError, match="cond has 0 tensors; this network takes a cond"):
        prior(TEXT)(xt, num_steps)
    with pytest.raises(ValueError, match="cond has 1 tensors; this network takes no cond"):
        prior()(xt, num_steps, tokens(["a dress", "a bag"]))


def test_prior_learns_posterior_mean_of_gaussian_embeddings():
    """Embeddings of two captions are N(m, s^2 I) about two means: E[x_0 | x_t, caption] is known in closed form."""
    s, n = 0.4, 2048
    means = torch.tensor([[1.5, 0.0, -1.0, 0.5], [-0.5, 1.0, 0.0, -1.5]])
    kinds = torch.arange(n) % 2
    x0 = means[kinds] + s * torch.randn(n, SIZE, generator=generator(0, "x0"))
    rows = tokens(["a dark dress", "a pale boot"])
    model = prior(TEXT)
    fit(model, PARAMS, Examples(x0[:, :, None, None], rows[kinds]))

    schedule = NoiseSchedule(STEPS, betas=model.noise_schedule.betas)
    unseen = means[kinds] + s * torch.randn(n, SIZE, generator=generator(1, "x0"))
    num_steps = 1 + torch.arange(n) // 2 % STEPS
    noise = torch.randn(n, SIZE, 1, 1, generator=generator(2, "noise"))
    xt = add_noise(unseen[:, :, None, None], noise, num_steps, schedule)
    alpha_bar = schedule.alpha_bar(num_steps)[:, None]
    gain = s**2 * alpha_bar.sqrt() / (s**2 * alpha_bar + 1 - alpha_bar)
    optimum = means[kinds] + gain * (xt.flatten(1) - alpha_bar.sqrt() * means[kinds])
    with torch.no_grad():
        found = model.eval()(xt, num_steps, rows[kinds]).flatten(1)
    off = (found - optimum).square().mean().item()
    # An estimate from the caption alone, the mean, would have an error of more than a quarter of s^2.
    assert (means[kinds] - optimum).square().mean() > 0.25 * s**2
    assert off < 0.05 * s**2
