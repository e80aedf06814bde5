"""The text encoder against torch's own transformer layer."""

import pytest
import torch
from torch import nn

from ddpm.captions.vocabulary import LENGTH, SIZE, tokens
from ddpm.conditioning.text import TextBlock, TextEncoder


def test_text_block_matches_torch_transformer_layer():
    torch.manual_seed(0)
    block, reference = TextBlock(16, heads=4), nn.TransformerEncoderLayer(16, 4, 64, 0, "gelu", 1e-5, True, True)
    reference.self_attn.in_proj_weight, reference.self_attn.in_proj_bias = block.project_in.parameters()
    reference.self_attn.out_proj, reference.norm1, reference.norm2 = block.project_out, block.norm1, block.norm2
    reference.linear1, reference.linear2 = block.mlp[0], block.mlp[2]
    x = torch.randn(3, 7, 16)
    assert (block(x) - reference(x)).abs().max() < 1e-5  # float32, values of order 1


def test_encoder_vectors_are_normed_and_depend_on_word_order():
    torch.manual_seed(0)
    encoder = TextEncoder(16, layers=2, heads=4)
    rows = tokens(["a dark dress", "a light dress", "dress dark a"])
    vectors = encoder(rows)
    assert vectors.shape == (3, LENGTH + 1, 16)
    assert torch.equal(encoder(rows[1:2])[0], encoder(rows[1:2].to(torch.int32))[0])
    for first, second in ((0, 1), (0, 2)):  # another word, another order
        assert not torch.allclose(vectors[first, -1], vectors[second, -1])
    # a LayerNorm without scale and shift: each vector has mean 0 and variance 1
    torch.testing.assert_close(vectors.square().mean(-1), torch.ones(3, LENGTH + 1), rtol=0, atol=1e-3)


def test_end_of_caption_has_a_vector_of_its_own():
    torch.manual_seed(0)
    encoder, rows = TextEncoder(16, layers=1, heads=4), tokens(["a dark dress"])
    vectors = encoder(rows)
    with torch.no_grad():
        encoder.words.weight[SIZE] += torch.arange(16)
    assert not torch.allclose(encoder(rows)[:, -1], vectors[:, -1])


def test_unknown_token_raises():
    with pytest.raises(IndexError, match=f"token {SIZE} is not a word"):
        TextEncoder(16, layers=1, heads=4)(torch.full((1, LENGTH), SIZE))
