"""What a decoder draws: noise shared between signals, the chosen signal, its cond, and sweeps."""

import pytest
import torch

from ddpm.captions.vocabulary import tokens
from ddpm.conditioning.sphere import on_sphere
from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.images import denormalize_img, to_uint8
from ddpm.networks.architectures.unet import Unet, UnetConfig
from ddpm.run.compute import Compute
from ddpm.run.resume.pieces import Pieces
from ddpm.run.seeding import derive_seed, global_stream
from ddpm.run.stage import StageRun
from ddpm.run.tracking.record import Run
from ddpm.sampling.decoder import SIGNALS, SampleDecoder, SweepDecoder, cond_of, draw_decoded, draw_scales
from ddpm.sampling.given import draw_given
from ddpm.sampling.sample import sample

SIZE = 6
DRAWING = {"batch_size": 4, "sampler": "ddim", "n_steps": 4, "spacing": "even", "clip_sample": True}
EMBEDDING = {"name": "embedding", "size": SIZE, "dropout": 0.1, "caption_dropout": 0.5}
CAPTION = {"name": "caption", "dropout": 0.2}


def network(conditioning):
    with global_stream(0, "init"):
        conditioning = conditioning | {"width": 8, "layers": 1, "heads": 2}
        config = UnetConfig((1, 4, 4), 8, (1,), 2, 10, heads=2, conditioning=conditioning, n_classes=10)
        model = Unet(config).eval()
    model.noise_schedule, model.prediction = NoiseSchedule(10), "x0"
    with torch.no_grad():  # at initialisation the head is too weak to show conditioning
        model.conv_out.weight.mul_(3)
    return model


def found(rows):
    """Output of stage sample_prior for some captions."""
    stream = torch.Generator().manual_seed(0)
    drawn, text = (on_sphere(torch.randn(len(rows), SIZE, generator=stream)) for _ in range(2))
    return {"tokens": rows, "prior": drawn, "text": text, "none": torch.zeros_like(text)}


PROMPTS = found(tokens(["a bag", "a pale boot", "trousers"])) | {
    "seen": torch.tensor([True, True, False]),
    "images": torch.arange(3),
}
FIGURES = {name: rows.unflatten(0, (2, 2)) for name, rows in found(tokens(["a dress"] * 2 + ["a boot"] * 2)).items()}


def stage_of(signal, **changes):
    params = SampleDecoder(**DRAWING | {"signal": signal, "guidance_scale": 2.0, "scales": [1.0, 2.0]} | changes)
    return StageRun("sample", params, 4, Compute(), Run())


def decoded(signal="prior", model=None, **changes):
    return draw_decoded(stage_of(signal, **changes), model or network(EMBEDDING), PROMPTS, FIGURES)


def test_signals_share_noise_and_change_the_image():
    drawn = decoded()
    assert drawn["by_signal"].shape == (2, len(SIGNALS), 2, 1, 4, 4)
    assert len(drawn["by_signal"].flatten(0, 2).unique(dim=0)) == 12
    alike = network(EMBEDDING)
    for linear in (alike.conditioning.to_tokens, alike.conditioning.project_embedding):
        torch.nn.init.zeros_(linear.weight)  # now embeddings have no effect: only noise and caption do
    by_signal = decoded(model=alike)["by_signal"]
    assert torch.equal(by_signal[:, 0], by_signal[:, 1])
    assert torch.equal(by_signal[:, 0], by_signal[:, 2])


@pytest.mark.parametrize("signal", SIGNALS)
def test_scales_share_noise_and_use_the_configured_signal(signal):
    model, stage, drawn = network(EMBEDDING), stage_of(signal), decoded(signal, scales=[1.0, 3.0])
    assert drawn["scales"].tolist() == [1, 3]
    cond, seed = cond_of(model, *(FIGURES[name].flatten(0, 1) for name in (signal, "tokens"))), stage.seed
    expected = [
        draw_given(model, cond, scale, stage.params, derive_seed(seed, "scales"), Compute(), Pieces(None))
        for scale in (1.0, 3.0)
    ]
    assert torch.equal(drawn["by_scale"].transpose(0, 1).flatten(1, 2), torch.stack(expected))
    assert not torch.equal(*expected)


def test_samples_use_the_configured_signal():
    samples = {signal: decoded(signal)["samples"] for signal in SIGNALS}
    assert len(torch.cat(list(samples.values())).unique(dim=0)) == 9
    told = PROMPTS | {"prior": PROMPTS["text"]}
    params = SampleDecoder(**DRAWING | {"signal": "prior", "guidance_scale": 2.0, "scales": [1.0]})
    other = draw_decoded(StageRun("sample", params, 4, Compute(), Run()), network(EMBEDDING), told, FIGURES)
    assert torch.equal(other["samples"], samples["text"])


def drawn_as(model, found, signal, scale, stage, name):
    """The decoder's images of a signal, with the noise that the stage derives from `name`."""
    cond = cond_of(model, found[signal], found["tokens"])
    return draw_given(model, cond, scale, stage.params, derive_seed(stage.seed, name), Compute(), Pieces(None))


def test_samples_signals_and_film_are_guided():
    model, stage, drawn = network(EMBEDDING), stage_of("text"), decoded("text")
    assert torch.equal(drawn["samples"], drawn_as(model, PROMPTS, "text", 2.0, stage, "prompts"))
    shown = {name: rows.flatten(0, 1) for name, rows in FIGURES.items()}
    expected = drawn_as(model, shown, "prior", 2.0, stage, "signals")
    assert torch.equal(drawn["by_signal"][:, SIGNALS.index("prior")].flatten(0, 1), expected)
    first = {name: rows[:, 0] for name, rows in FIGURES.items()}  # of each caption
    assert torch.equal(drawn["steps"][-1], drawn_as(model, first, "text", 2.0, stage, "film"))
    assert torch.equal(drawn["filmed"], first["tokens"])
    assert not torch.equal(expected, drawn_as(model, shown, "prior", 1.0, stage, "signals"))


def test_cond_is_embedding_and_caption_or_caption_alone():
    model = network(EMBEDDING)
    cond = cond_of(model, PROMPTS["prior"], PROMPTS["tokens"])
    assert torch.equal(cond, torch.cat((PROMPTS["prior"], PROMPTS["tokens"].float()), dim=1))
    assert torch.equal(cond_of(network(CAPTION), PROMPTS["prior"], PROMPTS["tokens"]), PROMPTS["tokens"])
    images = sample(model, 3, cond=cond, generator=torch.Generator().manual_seed(0), n_steps=4, clip_sample=True)
    assert to_uint8(denormalize_img(images)).shape == (3, 1, 4, 4)  # and the public `sample` accepts it
    with pytest.raises(ValueError, match="embeddings have 5 numbers; this model takes 6"):
        cond_of(model, torch.zeros(3, 5), PROMPTS["tokens"])


def test_sweep_draws_every_signal_at_every_scale():
    values = {"n_samples": 24, "signals": ["none", "prior"], "scales": [1.0, 3.0], "n_halves": 2}
    stage = StageRun("sweep", SweepDecoder(**DRAWING | values), 4, Compute(), Run())
    many = found(tokens(["a bag", "a pale boot", "trousers"] * 10))
    model = network(EMBEDDING)
    drawn = list(draw_scales(stage, model, many))
    assert [each[:2] for each in drawn] == [("none", 1), ("none", 3), ("prior", 1), ("prior", 3)]
    for signal, scale, images in drawn:
        cond = cond_of(model, many[signal], many["tokens"])[:24]
        assert torch.equal(images, draw_given(model, cond, scale, stage.params, stage.seed, Compute(), Pieces(None)))
    assert len(torch.stack([images for *_, images in drawn]).unique(dim=0)) == 4
