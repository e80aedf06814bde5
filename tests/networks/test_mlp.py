"""The toy network is Linear, ReLU, Linear on pixels and timestep."""

import torch

from ddpm.networks.architectures.mlp import TinyDiffuser, TinyDiffuserConfig


def test_tiny_diffuser_is_a_two_layer_mlp():
    model = TinyDiffuser(TinyDiffuserConfig((3, 4, 5), 16, 100))
    assert sum(p.numel() for p in model.parameters()) == (61 * 16 + 16) + (16 * 60 + 60)
    images, num_steps = torch.randn(7, 3, 4, 5), torch.tensor([0, 1, 25, 50, 75, 99, 100])
    w1, b1, w2, b2 = (p.detach() for p in model.parameters())
    for i in range(7):
        h = w1 @ torch.cat((images[i].flatten(), num_steps[i : i + 1] / 100)) + b1
        expected = (w2 @ h.clamp(min=0) + b2).reshape(3, 4, 5)
        assert (model(images, num_steps)[i] - expected).abs().max() < 1e-5  # float32, values of order 1


def test_output_depends_on_timestep_which_may_be_a_float():
    model = TinyDiffuser(TinyDiffuserConfig((3, 4, 5), 16, 100))
    images = torch.zeros(2, 3, 4, 5)
    first, last = model(images, torch.tensor([1.0, 100.0]))
    assert (first - last).abs().max() > 1e-4


def test_tiny_diffuser_has_no_variance_or_conditioning():
    model = TinyDiffuser(TinyDiffuserConfig((3, 4, 5), 16, 100))
    assert model.with_variance(torch.zeros(1, 3, 4, 5), torch.tensor([1]))[1] is None
    assert model.conditioning is None
