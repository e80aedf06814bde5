"""Image embeddings as conditioning: the input of the decoder, and dropping in training."""

import pytest
import torch

from ddpm.captions.vocabulary import LENGTH, tokens
from ddpm.conditioning.kinds.embedding import TOKENS, Embedding
from ddpm.conditioning.sphere import on_sphere
from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.networks.architectures.unet import Unet, UnetConfig
from ddpm.run.seeding import global_stream

ROWS = tokens(["a dark dress", "a pale boot", "trousers"])
SIZE = 6
OPTIONS = {"size": SIZE, "width": 8, "layers": 1, "heads": 2, "dropout": 0.1, "caption_dropout": 0.5}


def embedding():
    with global_stream(0, "init"):
        return Embedding(img_shape=(1, 8, 8), n_classes=10, embedding_size=16, **OPTIONS)


def vectors(n=3, seed=0):
    return on_sphere(torch.randn(n, SIZE, generator=torch.Generator().manual_seed(seed)))


def test_embedding_is_added_to_step_and_prepended_as_tokens():
    conditioning = embedding().eval()
    given = conditioning(conditioning.of_embeddings(vectors(), ROWS))
    words = conditioning.encoder(ROWS)
    assert given.tokens.shape == (3, TOKENS + LENGTH + 1, 8)
    assert torch.equal(given.tokens[:, TOKENS:], words)
    own = vectors() @ conditioning.to_tokens.weight.T + conditioning.to_tokens.bias
    torch.testing.assert_close(given.tokens[:, :TOKENS].flatten(1), own)
    added = vectors() @ conditioning.project_embedding.weight.T + conditioning.project_embedding.bias
    torch.testing.assert_close(given.embedding, conditioning.project(words[:, -1]) + added)


def test_embeddings_and_captions_are_dropped_independently():
    conditioning = embedding().train()
    cond = conditioning.of_embeddings(vectors(1).expand(20_000, -1), ROWS[:1].expand(20_000, -1))
    with global_stream(0, "dropout"):
        left = conditioning.dropped(cond)
    no_embedding, no_caption = (left[:, :SIZE] == 0).all(1), (left[:, SIZE:] == 0).all(1)
    for found, share in ((no_embedding, 0.1), (no_caption, 0.5), (no_embedding & no_caption, 0.05)):
        # One seed in two million is more than five standard errors off.
        assert abs(found.double().mean() - share) <= 5 * (share * (1 - share) / 20_000) ** 0.5
    assert torch.equal(left[~no_embedding, :SIZE], cond[~no_embedding, :SIZE])
    assert torch.equal(left[~no_caption, SIZE:], cond[~no_caption, SIZE:])
    assert conditioning.dropout == 0.05  # of both at once, for guidance


def test_dropping_everything_equals_unconditional_prediction():
    shape = {"channels": 8, "dim_mults": (1,), "groups": 2, "max_steps": 10, "heads": 2, "n_classes": 10}
    with global_stream(0, "init"):
        model = Unet(UnetConfig((1, 8, 8), conditioning={"name": "embedding", **OPTIONS}, **shape)).eval()
    model.noise_schedule = NoiseSchedule(10)
    xt, num_steps = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([1, 5, 10])
    cond = model.conditioning.of_embeddings(vectors(), ROWS)
    nothing = model.conditioning.of_embeddings(torch.zeros(3, SIZE))
    assert torch.equal(model.conditioning.null(cond), nothing)
    model.conditioning.shares = (1.0, 1.0)
    with torch.no_grad():
        unconditional, conditional = model(xt, num_steps, nothing), model(xt, num_steps, cond)
        dropped = model.train()(xt, num_steps, cond)
    assert torch.equal(dropped, unconditional)
    assert not torch.allclose(conditional, unconditional)


def test_captions_and_labels_have_zero_embeddings():
    conditioning = embedding()
    said = conditioning.of_captions(["trousers"])
    for cond in (said, conditioning.draw(0, [3]), conditioning.of_labels(torch.tensor([4]))):
        assert (cond[:, :SIZE] == 0).all()
    assert torch.equal(said, conditioning.of_embeddings(torch.zeros(1, SIZE), ROWS[2:]))
    assert conditioning.labels(conditioning.of_embeddings(vectors(), ROWS)).tolist() == [3, 9, 1]


def test_invalid_embeddings_are_rejected():
    conditioning = embedding()
    cond = conditioning.of_embeddings(vectors(), ROWS)
    conditioning.check(cond)
    with pytest.raises(ValueError, match="embeddings have 7 numbers; this model takes 6"):
        conditioning.of_embeddings(torch.zeros(3, 7))
    for wrong in (cond * 1.01, cond / cond.norm(dim=1, keepdim=True), torch.full_like(cond, torch.nan)):
        with pytest.raises(ValueError, match=r"cond has embeddings of length .*; allowed: 0 \(none\) and 2\.449"):
            conditioning.check(torch.cat((wrong[:, :SIZE], cond[:, SIZE:]), dim=1))
    with pytest.raises(ValueError, match="not whole numbers"):
        conditioning.check(torch.cat((cond[:, :SIZE], cond[:, SIZE:] + 0.5), dim=1))


def test_mix_slerps_embeddings_and_takes_the_nearer_caption():
    conditioning, ends = embedding(), vectors(2)
    cond = conditioning.of_embeddings(ends, ROWS[:2])
    mixed = conditioning.mix(cond[:1], cond[1:], torch.tensor([0.25, 0.75]))
    torch.testing.assert_close(mixed[:, :SIZE].norm(dim=1), ends.norm(dim=1))
    angle = torch.acos(torch.cosine_similarity(ends[:1], ends[1:])).item()
    found = torch.acos(torch.cosine_similarity(mixed[:, :SIZE], ends[:1].expand(2, -1)))
    torch.testing.assert_close(found, torch.tensor([0.25, 0.75]) * angle)
    assert torch.equal(mixed[:, SIZE:], ROWS[:2].float())
