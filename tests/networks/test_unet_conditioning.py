"""The conditioning of a U-Net: labels, tokens and images."""

from dataclasses import replace

import pytest
import torch
from networks.unets import SMALL, build, noisy

from ddpm.networks.blocks import AttentionBlock

CAPTION = {"name": "caption", "width": 8, "layers": 1, "heads": 2, "dropout": 0.0}
LABELS = {"name": "labels", "dropout": 0.0}
CLUSTERS = {"name": "clusters", "n_clusters": 3, "dropout": 0.0}


def test_labels_do_not_change_other_initial_weights() -> None:
    plain, conditional = build(SMALL).state_dict(), build(replace(SMALL, conditioning=LABELS, n_classes=3)).state_dict()
    assert conditional.keys() - plain.keys() == {"conditioning.embedding.weight"}
    assert all(torch.equal(value, conditional[key]) for key, value in plain.items())


def test_zero_moves_do_not_change_weights_or_predictions() -> None:
    plain, told = build(SMALL), build(replace(SMALL, tell_moves=True))
    assert all(torch.equal(value, told.state_dict()[key]) for key, value in plain.state_dict().items())
    images, num_steps = noisy(SMALL, 3)
    expected = plain(images, num_steps)
    assert torch.equal(told(images, num_steps), expected)
    assert torch.equal(told.with_variance(images, num_steps, moves=torch.zeros(3, 3))[0], expected)
    moved = told.with_variance(images, num_steps, moves=torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 0, -0.5]]))[0]
    assert [torch.equal(*pair) for pair in zip(moved, expected, strict=True)] == [True, False, False]


@pytest.mark.parametrize("attention", ["joint", "cross"])
def test_tokens_do_not_change_other_initial_weights(attention: str) -> None:
    plain, conditional = (
        build(SMALL).state_dict(),
        build(replace(SMALL, conditioning=CAPTION | {"attention": attention}, n_classes=3)).state_dict(),
    )
    assert all(torch.equal(value, conditional[key]) for key, value in plain.items())
    own = {key for key in conditional.keys() - plain.keys() if not key.startswith("conditioning.")}
    blocks = {key.removesuffix("project_out.bias") for key in plain if "attention.project_out.bias" in key}
    layers = ["project_tokens"]
    if attention == "cross":
        layers = [f"cross.{name}" for name in ("norm", "project_pixels", "project_tokens", "project_out")]
    assert own == {f"{block}{layer}.{kind}" for block in blocks for layer in layers for kind in ("weight", "bias")}


@pytest.mark.parametrize("kind", ["joint", "cross"])
def test_every_attention_block_sees_the_tokens(kind: str) -> None:
    conditional = build(replace(SMALL, conditioning=CAPTION | {"attention": kind}, n_classes=3))
    images, num_steps = noisy(SMALL, 2)
    cond, seen = conditional.conditioning.draw(0, [0, 1]), []
    tokens = conditional.conditioning(cond).tokens
    for block in conditional.modules():
        if isinstance(block, AttentionBlock):
            seeing = block if kind == "joint" else block.cross
            seeing.project_tokens.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    conditional(images, num_steps, cond)
    assert len(seen) == sum(isinstance(block, AttentionBlock) for block in conditional.modules())
    assert all(torch.equal(found, tokens) for found in seen)


def test_label_embedding_is_added_to_step_embedding() -> None:
    conditional, plain = build(replace(SMALL, conditioning=LABELS, n_classes=3)), build(SMALL)
    images, num_steps = noisy(SMALL, 4)
    labels = torch.tensor([2, 0, 1, 2], dtype=torch.uint8)  # as in the data set
    found = conditional(images, num_steps, labels)
    bias = plain.step[3].bias.data.clone()
    for i, label in enumerate(labels.tolist()):
        plain.step[3].bias.data = bias + conditional.conditioning.embedding.weight.data[label]
        alone = plain(images[i : i + 1], num_steps[i : i + 1])
        assert (found[i] - alone[0]).abs().max() < 1e-5  # float32 sums in another order, values of order 1
    assert (conditional(images, num_steps, labels.flip(0)) - found).abs().max() > 1e-3


@pytest.mark.parametrize("patch_size", [1, 2])
def test_cluster_mean_is_concatenated_with_the_image(patch_size: int) -> None:
    """The same as an unconditional U-Net with one more input channel."""
    conditional = build(replace(SMALL, conditioning=CLUSTERS, patch_size=patch_size))
    images, num_steps = noisy(SMALL, 4)
    means = torch.randn(3, 1, 8, 8)
    conditional.conditioning.means.copy_(means)
    found = conditional(images, num_steps, torch.tensor([2, 0, 1, 3]))
    plain = build(replace(SMALL, img_shape=(2, 8, 8), patch_size=patch_size))
    own = {key: value for key, value in conditional.state_dict().items() if not key.startswith("conditioning")}
    for key in ("conv_out.weight", "conv_out.bias"):  # of a second, unused channel
        own[key] = torch.cat((own[key], torch.zeros_like(own[key])))
    plain.load_state_dict(own)
    shown = torch.cat((means[[2, 0, 1]], torch.zeros(1, 1, 8, 8)))
    expected = plain(torch.cat((images, shown), dim=1), num_steps)[:, :1]
    assert (found - expected).abs().max() < 1e-5  # float32 in another blocking
    with pytest.raises(IndexError):
        conditional(images, num_steps, torch.tensor([0, 1, 2, 4]))


def test_forward_rejects_missing_unexpected_or_invalid_cond() -> None:
    conditional, plain = build(replace(SMALL, conditioning=LABELS, n_classes=3)), build(SMALL)
    images, num_steps = noisy(SMALL, 2)
    with pytest.raises(ValueError, match="cond has 0 tensors; this network takes a cond"):
        conditional(images, num_steps)
    with pytest.raises(ValueError, match="cond has 1 tensors; this network takes no cond"):
        plain(images, num_steps, torch.tensor([0, 1]))
    with pytest.raises(IndexError):
        conditional(images, num_steps, torch.tensor([0, 4]))
