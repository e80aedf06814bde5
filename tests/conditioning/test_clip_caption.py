"""Captions encoded by CLIP: which weights are trained, and the text embedding among the tokens."""

import torch

from ddpm.captions.vocabulary import LENGTH, tokens
from ddpm.conditioning.kinds.clip_caption import ClipCaption
from ddpm.run.seeding import global_stream

ROWS = tokens(["a dark dress", "a pale boot", "trousers"])


def clip_caption():
    with global_stream(0, "init"):
        options = {"size": 6, "width": 16, "layers": 1, "heads": 2, "dropout": 0.0}
        return ClipCaption(img_shape=(6, 1, 1), n_classes=10, embedding_size=8, **options)


def test_clip_weights_are_frozen():
    conditioning = clip_caption()
    given = conditioning(ROWS)
    (given.embedding.sum() + given.tokens.square().sum()).backward()
    learning = {name.partition(".")[0] for name, weight in conditioning.named_parameters() if weight.grad is not None}
    assert learning == {"norm", "project", "to_token"}
    own = (*conditioning.encoder.parameters(), *conditioning.project_text.parameters())
    assert not any(weight.requires_grad for weight in own)


def test_last_token_is_the_text_embedding():
    conditioning = clip_caption().eval()
    given = conditioning(ROWS)
    assert given.tokens.shape == (3, LENGTH + 2, 16)
    last = conditioning.encoder(ROWS)[:, -1]
    direction = last @ conditioning.project_text.weight.T + conditioning.project_text.bias
    text = 6**0.5 * direction / direction.norm(dim=1, keepdim=True)
    torch.testing.assert_close(conditioning.embed(ROWS), text)
    torch.testing.assert_close(given.tokens[:, -1], conditioning.to_token(text))
    torch.testing.assert_close(given.tokens[:, :-1], conditioning.norm(conditioning.encoder(ROWS)))
