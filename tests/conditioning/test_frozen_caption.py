"""A frozen text encoder: which weights are trained and which stay fixed."""

import torch

from ddpm.captions.vocabulary import LENGTH, tokens
from ddpm.conditioning.kinds.frozen_caption import FrozenCaption

ROWS = tokens(["a dark dress", "a pale boot", "trousers"])


def frozen():
    torch.manual_seed(0)
    return FrozenCaption((1, 28, 28), 10, 8, width=16, layers=1, heads=2, dropout=0.0)


def test_encoder_is_frozen_and_other_weights_are_trained():
    conditioning = frozen()
    given = conditioning(ROWS)
    (given.embedding.sum() + given.tokens.square().sum()).backward()
    learning = {name for name, weight in conditioning.named_parameters() if weight.grad is not None}
    assert learning == {"norm.weight", "norm.bias", "project.weight", "project.bias"}
    assert not any(weight.requires_grad for weight in conditioning.encoder.parameters())


def test_tokens_are_normed_and_embedding_is_their_projected_mean():
    conditioning = frozen()
    conditioning.norm.weight.data[:] = 3.0
    conditioning.norm.bias.data[:] = 0.5
    given = conditioning.eval()(ROWS)
    assert given.tokens.shape == (3, LENGTH + 1, 16)
    # The encoder ends in a LayerNorm whose scale is 1, so that another one changes nothing but scale and shift.
    torch.testing.assert_close(given.tokens, 3 * conditioning.encoder(ROWS) + 0.5, rtol=0, atol=1e-3)
    torch.testing.assert_close(given.embedding, conditioning.project(given.tokens.mean(1)))
