"""CLIP embeddings: unit vectors scaled to the noise, the prior's copy of the text encoder, the space's number."""

import torch

from ddpm.captions.vocabulary import tokens
from ddpm.clip.embed import embed_captions, embed_images, give_text, space_of
from ddpm.clip.model import BATCH, Clip, ClipConfig, load_clip, save_clip
from ddpm.conditioning.kinds.clip_caption import ClipCaption
from ddpm.run.seeding import generator, global_stream

SAID = tokens(["a dark dress", "a pale boot", "trousers"])


def clip(seed=0):
    with global_stream(seed, "init"):
        config = ClipConfig((1, 8, 8), max_steps=10, size=6, channels=8, groups=2, width=8, layers=1, heads=2)
        return Clip(config).eval().requires_grad_(False)


def test_image_embeddings_are_scaled_clip_vectors():
    model = clip()
    images = torch.randint(256, (BATCH + 2, 1, 8, 8), generator=generator(0, "x"), dtype=torch.uint8)
    found = embed_images(model, images)
    chosen = [0, BATCH - 1, BATCH, BATCH + 1]
    expected = model.of_images(images[chosen].float() / 127.5 - 1, torch.ones(4)) * 6**0.5
    torch.testing.assert_close(found[chosen], expected)


def test_prior_with_copied_text_encoder_matches_clip_embeddings():
    model = clip()
    conditioning = ClipCaption(
        img_shape=(6, 1, 1), n_classes=10, embedding_size=8, size=6, width=8, layers=1, heads=2, dropout=0.1
    )
    expected = model.of_captions(SAID) * 6**0.5
    assert not torch.allclose(conditioning.embed(SAID), expected)
    give_text(model, conditioning)
    torch.testing.assert_close(conditioning.embed(SAID), expected)
    torch.testing.assert_close(embed_captions(model, SAID), expected)
    assert conditioning.space == space_of(model)


def test_space_identifies_clip_and_survives_saving(tmp_path):
    first, second = clip(), clip(1)
    save_clip(tmp_path / "clip.safetensors", first)
    assert space_of(load_clip(tmp_path / "clip.safetensors")) == space_of(first)
    assert space_of(second) != space_of(first)
