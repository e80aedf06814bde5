"""The U-Net's parts against closed forms and torch's own attention."""

import math

import pytest
import torch
from torch import Tensor, nn

from ddpm.networks.blocks import AttentionBlock, GroupNorm, ResidualBlock, Stack, StepEmbedding, attention


def test_step_embedding_matches_closed_form() -> None:
    embedded = StepEmbedding(max_steps=200, channels=6)(torch.tensor([0, 1, 77, 200]))
    for row, t in zip(embedded, [0, 1, 77, 200], strict=True):
        angles = [t / 10_000 ** (i / 3) for i in range(3)]
        expected = torch.tensor([math.sin(a) for a in angles] + [math.cos(a) for a in angles])
        assert (row - expected).abs().max() < 1e-7  # one rounding to float32 of values up to 1


def test_attention_block_matches_torch_multihead_attention() -> None:
    torch.manual_seed(0)
    block, reference = AttentionBlock(8, heads=2), nn.MultiheadAttention(8, 2, batch_first=True)
    reference.in_proj_weight, reference.in_proj_bias = block.project_in.weight, block.project_in.bias
    reference.out_proj = block.project_out
    x = torch.randn(2, 8, 3, 5)
    # GroupNorm of one group is LayerNorm over channels and pixels together.
    pixels = nn.functional.layer_norm(x, x.shape[1:]).flatten(2).transpose(1, 2)
    attended = reference(pixels, pixels, pixels)[0].transpose(1, 2).reshape(x.shape)
    assert (block(x) - (x + attended)).abs().max() < 1e-5  # float32, values of order 1


def test_joint_attention_to_tokens_matches_torch() -> None:
    torch.manual_seed(0)
    block, reference = AttentionBlock(8, heads=2), nn.MultiheadAttention(8, 2, batch_first=True)
    block.see_tokens(8)
    reference.in_proj_weight, reference.in_proj_bias = block.project_in.weight, block.project_in.bias
    reference.out_proj = block.project_out
    block.project_tokens.weight, block.project_tokens.bias = (
        nn.Parameter(own[8:]) for own in block.project_in.parameters()
    )
    x, tokens = torch.randn(2, 8, 3, 5), torch.randn(2, 4, 8)
    pixels = nn.functional.layer_norm(x, x.shape[1:]).flatten(2).transpose(1, 2)
    seen = torch.cat((tokens, pixels), dim=1)
    attended = reference(pixels, seen, seen)[0].transpose(1, 2).reshape(x.shape)
    assert (block(x, tokens) - (x + attended)).abs().max() < 1e-5  # float32, values of order 1
    assert (block(x, tokens) - block(x)).abs().max() > 0.01


def test_cross_attention_after_self_attention_matches_torch() -> None:
    torch.manual_seed(0)
    block = AttentionBlock(8, heads=2)
    x, tokens = torch.randn(2, 8, 3, 5), torch.randn(2, 4, 6)
    after_self_attention = block(x)
    block.see_tokens(6, cross=True)
    reference = nn.MultiheadAttention(8, 2, kdim=6, vdim=6, batch_first=True)
    reference.q_proj_weight = block.cross.project_pixels.weight
    reference.k_proj_weight, reference.v_proj_weight = map(nn.Parameter, block.cross.project_tokens.weight.chunk(2))
    in_proj_bias = torch.cat((block.cross.project_pixels.bias, block.cross.project_tokens.bias))
    reference.in_proj_bias, reference.out_proj = nn.Parameter(in_proj_bias), block.cross.project_out
    pixels = nn.functional.layer_norm(after_self_attention, x.shape[1:]).flatten(2).transpose(1, 2)
    attended = reference(pixels, tokens, tokens)[0].transpose(1, 2).reshape(x.shape)
    assert (block(x, tokens) - (after_self_attention + attended)).abs().max() < 1e-5  # float32, values of order 1
    assert torch.equal(block(x), after_self_attention)  # without tokens there is nothing to attend to


def test_norm_and_attention_use_float32_under_bf16_autocast() -> None:
    torch.manual_seed(0)
    x = (3 + torch.randn(2, 8, 5, 5)).bfloat16()
    q, k, v = torch.randn(3, 2, 4, 25, 8).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        normed, attended = GroupNorm(2, 8)(x), attention(q, k, v)
    groups = x.double().reshape(2, 2, -1)
    centred = groups - groups.mean(dim=2, keepdim=True)
    exact = (centred / (centred.square().mean(dim=2, keepdim=True) + 1e-5).sqrt()).reshape(x.shape)
    weights = (q.double() @ k.double().mT / 8**0.5).softmax(dim=-1)
    # float32 rounds at 1e-7 of values up to 4, while bf16 would at 4e-3
    for found, expected in ((normed, exact), (attended, weights @ v.double())):
        assert found.dtype == torch.float32
        assert (found - expected).abs().max() < 1e-5


def test_residual_block_adds_step_between_convolutions() -> None:
    torch.manual_seed(0)
    block = ResidualBlock(4, 8, step_channels=16, groups=2)
    x, step = torch.randn(2, 4, 6, 6), torch.randn(2, 16)
    functional = nn.functional

    def half(h: Tensor, layers: nn.Sequential) -> Tensor:
        h = functional.conv2d(h, layers[0].weight, layers[0].bias, padding=1).reshape(2, 2, -1)
        h = (h - h.mean(2, keepdim=True)) / (h.var(2, unbiased=False, keepdim=True) + 1e-5).sqrt()
        h = h.reshape(2, 8, 6, 6)
        return h * h.sigmoid()

    shift = functional.linear(step * step.sigmoid(), block.step[1].weight, block.step[1].bias)
    skip = torch.einsum("oi,bihw->bohw", block.skip.weight[:, :, 0, 0], x) + block.skip.bias[:, None, None]
    expected = half(half(x, block.block1) + shift[:, :, None, None], block.block2) + skip
    assert (block(x, step) - expected).abs().max() < 1e-5  # float32, values of order 1


@pytest.mark.parametrize("step", [-1, 201])
def test_step_embedding_rejects_out_of_range_timesteps(step: int) -> None:
    with pytest.raises(IndexError):
        StepEmbedding(max_steps=200, channels=6)(torch.tensor([step]))


def test_stack_is_two_residual_blocks_and_attention() -> None:
    torch.manual_seed(0)
    stack = Stack(4, 8, step_channels=16, groups=2, heads=2)
    x, step = torch.randn(2, 4, 6, 6), torch.randn(2, 16)
    assert isinstance(stack.attention, AttentionBlock)
    assert torch.equal(stack(x, step), stack.attention(stack.residual2(stack.residual1(x, step), step)))
    plain = Stack(4, 8, step_channels=16, groups=2, heads=None)
    assert torch.equal(plain(x, step), plain.residual2(plain.residual1(x, step), step))
