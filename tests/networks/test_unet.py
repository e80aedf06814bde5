"""The U-Net as a whole: parameter counts, shapes, and what depends on what."""

from dataclasses import replace

import pytest
import torch
from networks.unets import SMALL, build, noisy
from torch import nn

from ddpm.diffusion.model import DiffusionModel
from ddpm.networks.architectures.unet import Unet, UnetConfig
from ddpm.networks.blocks import AttentionBlock, ResidualBlock

CLUSTERS = {"name": "clusters", "n_clusters": 3, "dropout": 0.0}
COURSE = UnetConfig((1, 28, 28), channels=28, dim_mults=(1, 2, 4), groups=4, max_steps=200)


@pytest.mark.parametrize("patch_size", [1, 2, 4])
@pytest.mark.parametrize("dim_mults", [(1,), (2,), (1, 2), (2, 1), (1, 2, 4)])
@pytest.mark.parametrize("img_shape", [(1, 16, 16), (3, 16, 32)])
def test_output_has_the_shape_of_the_images(
    img_shape: tuple[int, ...], dim_mults: tuple[int, ...], patch_size: int
) -> None:
    config = UnetConfig(img_shape, channels=8, dim_mults=dim_mults, max_steps=50, patch_size=patch_size)
    model = build(config)
    images, num_steps = noisy(config, 2)
    assert isinstance(model, DiffusionModel)
    assert model.img_shape == img_shape
    assert model(images, num_steps).shape == images.shape


def test_memory_format_does_not_change_the_prediction() -> None:
    config = replace(SMALL, patch_size=2)
    model = build(config)
    images, num_steps = noisy(config, 2)
    expected = model(images, num_steps)
    model.to(memory_format=torch.channels_last)
    actual = model(images.to(memory_format=torch.channels_last), num_steps)
    assert (actual - expected).abs().max() < 1e-5  # float32 sums in another order, values of order 1


def conv(c_in: int, c_out: int, kernel: int) -> int:
    return c_in * c_out * kernel**2 + c_out


def linear(c_in: int, c_out: int) -> int:
    return c_in * c_out + c_out


def norm(c: int) -> int:
    return 2 * c


def residual(c_in: int, c_out: int) -> int:
    """Convolution, norm, step, convolution, norm, skip."""
    skip = conv(c_in, c_out, 1) if c_in != c_out else 0
    return conv(c_in, c_out, 3) + norm(c_out) + linear(112, c_out) + conv(c_out, c_out, 3) + norm(c_out) + skip


def attention(c: int) -> int:
    return norm(c) + linear(c, 3 * c) + linear(c, c)


def test_course_config_parameter_count_matches_its_layers() -> None:
    layers = [
        conv(1, 28, 7),
        linear(28, 112) + linear(112, 112),
        # Down: 28x28, 14x14, 7x7.
        residual(28, 28) + residual(28, 28) + attention(28) + conv(28, 28, 4),
        residual(28, 56) + residual(56, 56) + attention(56) + conv(56, 56, 4),
        residual(56, 112) + residual(112, 112) + attention(112),
        residual(112, 112) + attention(112) + residual(112, 112),
        # Up: the skip doubles the channels that come in.
        residual(224, 56) + residual(56, 56) + attention(56) + conv(56, 56, 4),
        residual(112, 28) + residual(28, 28) + attention(28) + conv(28, 28, 4),
        residual(28, 28) + conv(28, 1, 1),
    ]
    assert sum(p.numel() for p in build(COURSE).parameters()) == sum(layers)


def test_defaults_match_the_course() -> None:
    config = UnetConfig((1, 32, 32))
    assert (config.channels, config.dim_mults, config.groups, config.max_steps) == (128, (1, 2, 4, 8), 4, 1000)
    groups = [m.num_groups for m in Unet(replace(config, channels=8)).modules() if isinstance(m, nn.GroupNorm)]
    assert sorted(set(groups)) == [1, 4]
    assert groups.count(1) == 4 + 1 + 3  # attention at four levels down, in the middle, at three levels up


@pytest.mark.parametrize("patch_size", [1, 2])
@pytest.mark.parametrize("head_channels", [0, 8])
def test_empty_batch_gives_empty_output(patch_size: int, head_channels: int) -> None:
    model = Unet(replace(SMALL, patch_size=patch_size, head_channels=head_channels))
    images = torch.zeros(0, *SMALL.img_shape)
    assert model(images, torch.zeros(0, dtype=torch.int64)).shape == images.shape


@pytest.mark.parametrize(("patch_size", "first_skip"), [(1, False), (2, False), (2, True)])
def test_gradient_reaches_every_parameter(patch_size: int, first_skip: bool) -> None:
    config = replace(SMALL, patch_size=patch_size, first_skip=first_skip)
    model = build(config)
    images, num_steps = noisy(config, 4)
    model(images, num_steps).square().mean().backward()
    unreached = [k for k, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert unreached == []


@pytest.mark.parametrize("dim_mults", [(1,), (2,), (2, 1), (1, 2, 4)])
def test_first_skip_bypasses_the_lower_levels(dim_mults: tuple[int, ...]) -> None:
    for first_skip in (False, True):
        model = build(replace(SMALL, dim_mults=dim_mults, first_skip=first_skip))
        images, num_steps = noisy(SMALL, 2)
        assert model(images, num_steps).shape == images.shape
        for below in model.upsample[-1:] if len(dim_mults) > 1 else [model.middle2]:
            below.register_forward_hook(lambda _module, _inputs, output: torch.zeros_like(output))
        difference = (model(images, num_steps) - model(images + 1, num_steps)).abs().max()
        assert (difference > 1e-3) == first_skip  # cut off from below, only the skip passes the image


def test_dropout_is_active_in_training_only() -> None:
    block, seen = ResidualBlock(4, 8, 6, 2, dropout=0.25), []
    block.block2.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x, step = torch.randn(64, 4, 8, 8), torch.randn(64, 6)
    block(x, step)
    block.eval()(x, step)
    dropped, whole = seen
    kept = dropped != 0
    n = kept.numel()
    assert abs(kept.float().mean() - 0.75) < 4.5 * (0.25 * 0.75 / n) ** 0.5
    assert (dropped[kept] - whole[kept] / 0.75).abs().max() < 1e-5  # the same mean
    blocks = [m for m in Unet(replace(SMALL, dropout=0.25)).modules() if isinstance(m, ResidualBlock)]
    assert {block.dropout.p for block in blocks} == {0.25}


@pytest.mark.parametrize("patch_size", [1, 2])
def test_learned_variance_has_its_own_output_weights(patch_size: int) -> None:
    config = replace(SMALL, patch_size=patch_size, img_shape=(3, 8, 8))
    plain, varied = build(config), build(replace(config, learn_variance=True))
    shared = {key: value for key, value in varied.state_dict().items() if "conv_out" not in key}
    n = 3 * patch_size**2
    weights = {key: value[:n] for key, value in varied.state_dict().items() if "conv_out" in key}
    plain.load_state_dict(shared | weights)
    images, num_steps = noisy(config, 2)
    predicted, v = varied.with_variance(images, num_steps)
    assert v is not None
    assert predicted.shape == v.shape == images.shape
    assert torch.equal(varied(images, num_steps), predicted)
    assert (plain(images, num_steps) - predicted).abs().max() < 1e-5  # float32 in another blocking
    assert plain.with_variance(images, num_steps)[1] is None
    with torch.no_grad():
        for parameter in varied.conv_out.parameters():
            parameter[n:] = 0.5 if parameter.ndim == 1 else 0
    _, v = varied.with_variance(images, num_steps)
    assert v is not None
    assert (v == 0.75).all()  # -1 stands for beta_tilde, 1 for beta


def test_prediction_depends_on_timestep() -> None:
    model = build(SMALL)
    image, _ = noisy(SMALL, 1)
    early, late = model(image.expand(2, -1, -1, -1), torch.tensor([1, 50]))
    assert (early - late).abs().max() > 1e-2


def test_prediction_does_not_depend_on_the_batch() -> None:
    model = build(SMALL)
    images, num_steps = noisy(SMALL, 5)
    alone = torch.cat([model(x[None], t[None]) for x, t in zip(images, num_steps, strict=True)])
    assert (model(images, num_steps) - alone).abs().max() < 1e-5  # float32 sums in another order, values of order 1


def test_train_and_eval_mode_agree_without_dropout() -> None:
    model = build(SMALL)
    images, num_steps = noisy(SMALL, 2)
    assert torch.equal(model.train()(images, num_steps), model.eval()(images, num_steps))


def test_attention_is_limited_by_max_attention_size() -> None:
    config = UnetConfig((1, 28, 28), channels=8, dim_mults=(1, 2, 4), max_attention_size=14)
    model = build(config)
    sizes = []
    for module in model.modules():
        if isinstance(module, AttentionBlock):
            module.register_forward_hook(lambda _module, _args, out: sizes.append(out.shape[-1]))
    model(*noisy(config, 1))
    assert sizes == [14, 7, 7, 7, 14]  # two levels down, the middle, two levels up, and none at 28


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"img_shape": (1, 3, 28)}, "image size is 3x28.*at least 4"),
        ({"img_shape": (1, 32, 3)}, "image size is 32x3.*at least 4"),
        ({"img_shape": (1, 3, 28), "dim_mults": (1, 2), "patch_size": 4}, "patch_size 4.*at least 4"),
        ({"img_shape": (1, 0, 8)}, "img_shape.1 is 0; [^\n]*1$"),
        ({"channels": 30}, "channels is 30.*groups, 4"),
        ({"channels": 28, "heads": 8}, "channels is 28.*heads, 8"),
        ({"channels": 9, "groups": 3, "heads": 3}, "channels is 9.*sines and cosines"),
        ({"img_shape": (1, 8, 8), "groups": 32}, "groups is 32; where maps end as 1x1, it must be below channels"),
        ({"channels": 1024}, "channels x dim_mults is 1024 x 8; at most 2048 are allowed"),
    ],
)
def test_unet_rejects_invalid_configs(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Unet(replace(UnetConfig((1, 32, 32), channels=32), **change))


@pytest.mark.parametrize("step", [-1, 51])
def test_timestep_out_of_range_raises(step: int) -> None:
    images, _ = noisy(SMALL, 1)
    with pytest.raises(IndexError):
        build(SMALL)(images, torch.tensor([step]))


HEADED = replace(SMALL, patch_size=2, head_channels=6, head_convs=2)


def test_head_parameter_count_matches_its_layers() -> None:
    plain, headed = build(replace(SMALL, patch_size=2)), build(HEADED)
    head = conv(6 + 1, 6, 3) + linear(32, 2 * 6) + conv(6, 6, 3) + conv(6, 1, 3)
    unfolded = conv(8, 6 * 4, 1) - conv(8, 1 * 4, 1)
    count = [sum(parameter.numel() for parameter in model.parameters()) for model in (plain, headed)]
    assert count[1] - count[0] == head + unfolded


def test_head_sees_neighbouring_pixels_and_the_timestep() -> None:
    """The other maps of the network are zero, so all dependence is through the head."""
    model = build(HEADED)
    nn.init.zeros_(model.conv_out.weight)
    nn.init.zeros_(model.conv_out.bias)
    images, num_steps = noisy(HEADED, 2)
    images.requires_grad_()
    # Three 3x3 convolutions: pixel (4, 4) depends on those at most 3 away, and on each of them by itself.
    (gradient,) = torch.autograd.grad(model(images, num_steps)[0, 0, 4, 4], images)
    reached = gradient[0, 0].abs() > 0
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[1:8, 1:8] = True
    assert torch.equal(reached, expected)
    assert gradient[1].abs().max() == 0
    other = model(images, (num_steps + 7) % 50)
    assert not torch.allclose(other, model(images, num_steps), atol=1e-6)


def test_head_predicts_learned_variance() -> None:
    model = build(replace(HEADED, img_shape=(3, 8, 8), learn_variance=True))
    images, num_steps = noisy(replace(HEADED, img_shape=(3, 8, 8)), 2)
    predicted, v = model.with_variance(images, num_steps)
    assert v is not None
    assert predicted.shape == v.shape == images.shape
    assert abs(v.mean() - 0.5) < 0.3  # about 1/2 before training


def test_head_does_not_see_conditioning_image() -> None:
    """It sees x_t only: a cluster's mean reaches the pixels through the U-Net."""
    model = build(replace(HEADED, conditioning=CLUSTERS))
    assert model.conditioning is not None
    nn.init.normal_(model.conditioning.means)
    images, num_steps = noisy(HEADED, 2)
    clusters = torch.zeros(2, dtype=torch.long), torch.ones(2, dtype=torch.long)
    first, second = (model(images, num_steps, cond) for cond in clusters)
    assert not torch.allclose(first, second)
    nn.init.zeros_(model.conv_out.weight)  # nothing but the head is left
    first, second = (model(images, num_steps, cond) for cond in clusters)
    assert torch.equal(first, second)


@pytest.mark.parametrize("shape", [(1, 7, 10), (3, 9, 9), (2, 4, 5)])
def test_indivisible_sizes_are_padded_and_cropped(shape):
    """As if the user had padded the images."""
    options = {"channels": 8, "dim_mults": (1, 2), "patch_size": 2, "head_channels": 4, "max_steps": 10}
    rows, columns = -shape[1] % 4, -shape[2] % 4
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Unet(UnetConfig(shape, **options)).eval()
        whole = Unet(UnetConfig((shape[0], shape[1] + rows, shape[2] + columns), **options)).eval()
        whole.load_state_dict(model.state_dict())
        images, t = torch.randn(3, *shape), torch.tensor([1, 5, 10])
    found = model(images, t)
    expected = whole(torch.nn.functional.pad(images, (0, columns, 0, rows)), t)[..., : shape[1], : shape[2]]
    assert found.shape == images.shape
    assert torch.allclose(found, expected, atol=1e-6)
