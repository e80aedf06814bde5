"""CLIP: unit vectors, the score and its gradient, and model files."""

from math import e

import pytest
import torch
import torch.nn.functional as F

from ddpm.captions.vocabulary import tokens
from ddpm.clip.model import Clip, ClipConfig, load_clip, save_clip
from ddpm.data.dataset import to_x0_range
from ddpm.errors import UserError
from ddpm.run.seeding import generator, global_stream

CONFIG = ClipConfig((1, 9, 8), max_steps=10, size=6, channels=8, groups=2, width=8, layers=1, heads=2)
SAID = tokens(["a dark dress", "a pale boot", "trousers"])


def clip():
    with global_stream(0, "init"):
        return Clip(CONFIG).eval().requires_grad_(False)


def noised():
    return torch.randn(3, 1, 9, 8, generator=generator(0, "x")), torch.tensor([1, 5, 10])


def test_embeddings_are_unit_vectors_and_depend_on_step():
    model, (xt, num_steps) = clip(), noised()
    for vectors in (model.of_images(xt, num_steps), model.of_captions(SAID)):
        assert vectors.shape == (3, 6)
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3), rtol=0, atol=1e-6)
    assert not torch.allclose(model.of_images(xt, num_steps), model.of_images(xt, num_steps.flip(0)))  # depends on t


def test_likelihood_gradient_matches_finite_differences():
    model, (xt, num_steps) = clip(), noised()
    x = xt.clone().requires_grad_()
    [found] = torch.autograd.grad(model.likelihood(SAID)(x, num_steps).sum(), x)
    assert found.abs().max() > 0
    step = 1e-2 * found / found.norm()
    with torch.no_grad():  # central differences along the gradient itself
        up, down = (model.likelihood(SAID)(xt + sign * step, num_steps).sum() for sign in (1, -1))
    # float32: the sum is exact to 1e-6, so its difference over 0.02 to about 1e-4
    assert ((up - down) / 0.02 - found.norm()).abs() < 0.02 * found.norm() + 1e-3


def test_likelihood_is_scaled_similarity():
    model, (xt, num_steps) = clip(), noised()
    similarity = F.cosine_similarity(model.of_images(xt, num_steps), model.of_captions(SAID))
    torch.testing.assert_close(model.likelihood(SAID)(xt, num_steps), e**2 * similarity)  # log_scale begins at 2


def test_scores_use_the_first_step():
    model = clip()
    images = torch.randint(256, (3, 1, 9, 8), generator=generator(0, "x"), dtype=torch.uint8)
    vectors = model.of_images(to_x0_range(images), torch.ones(3))
    torch.testing.assert_close(model.scores(images, SAID), (vectors * model.of_captions(SAID)).sum(1))


def test_save_load_round_trip_and_truncated_file(tmp_path):
    path, model = tmp_path / "clip.safetensors", clip()
    save_clip(path, model)
    again = load_clip(path)
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in again.state_dict().items())
    assert again.config == CONFIG
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"clip\.safetensors"):
        load_clip(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": 9, "groups": 2}, "channels is 9; it must be a multiple of groups, 2"),
        ({"width": 9}, "width is 9; it must be a multiple of heads, 2"),
        ({"channels": 9, "groups": 3}, "channels is 9; it must be even"),
    ],
)
def test_config_rejects_invalid_values(changes, message):
    with pytest.raises(ValueError, match=message):
        ClipConfig(**{**CONFIG.__dict__, **changes})
