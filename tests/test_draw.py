"""`python -m ddpm.draw` writes the same samples as the library."""

import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm import NoiseSchedule, Unet, UnetConfig, denormalize_img, sample, save_model
from ddpm.captions.vocabulary import tokens
from ddpm.clip.embed import give_text, space_of
from ddpm.clip.model import Clip, ClipConfig, save_clip
from ddpm.draw import main
from ddpm.images import to_uint8
from ddpm.networks.architectures.prior import Prior, PriorConfig
from ddpm.run.seeding import global_stream
from ddpm.sampling.cascade import enlarge
from ddpm.sampling.prior import draw_embeddings


@pytest.fixture(params=[1, 3])
def model(request, tmp_path, monkeypatch):
    """A network for grey or colour images of 8x12 pixels, saved in the working folder."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    config = {"channels": 8, "dim_mults": (1, 2), "groups": 2, "heads": 1}
    model = Unet(UnetConfig(img_shape=(request.param, 8, 12), max_steps=10, **config))
    model.noise_schedule = NoiseSchedule(10)
    save_model(tmp_path / "a model.safetensors", model, {})
    return model.eval()


def draw(*words):
    command = [sys.executable, "-m", "ddpm.draw", "a model.safetensors", "some images", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_files_match_library_samples(model):
    done = draw("-n", "11", "--seed", "3", "--sampler", "unipc", "--n-steps", "4")
    assert (done.returncode, done.stderr) == (0, "")
    files = sorted(Path("some images").iterdir())
    assert [file.name for file in files] == [f"{i:02}.png" for i in range(11)]
    stream = torch.Generator().manual_seed(3)
    expected = to_uint8(
        denormalize_img(sample(model, 11, generator=stream, sampler="unipc", n_steps=4, clip_sample=True))
    )
    for file, pixels in zip(files, expected, strict=True):
        with Image.open(file) as image:
            found = np.asarray(image).reshape(8, 12, -1)
        assert np.abs(found.astype(int) - pixels.permute(1, 2, 0).numpy()).max() <= 1  # rounding differs by process


def enlarging(channels, max_steps=10):
    """A super-resolution network for `model`'s samples, saved in the working folder."""
    torch.manual_seed(1)
    conditioning = {"name": "low_resolution", "factor": 2, "max_level": 1.0, "dropout": 0.0}
    config = {"channels": 8, "dim_mults": (1, 2), "groups": 2, "heads": 1, "conditioning": conditioning}
    model = Unet(UnetConfig(img_shape=(channels, 16, 24), max_steps=max_steps, **config))
    model.noise_schedule = NoiseSchedule(max_steps)
    save_model(Path("enlarge.safetensors"), model, {})
    return model.eval()


@pytest.mark.parametrize("model", [1], indirect=True)
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("a model.safetensors",), "this model does not take low-resolution images; train one with conditioning low_"),
        (("colour.safetensors",), "low-resolution images have shape (1, 8, 12); this model takes (3, 8, 12)"),
        (("enlarge.safetensors", "--level", "1.5"), "level is 1.5; it must be in 0..1"),
        (("short.safetensors", "--n-steps", "10"), "n_steps is 10; it must be in 1..5"),
    ],
)
@pytest.mark.usefixtures("model")
def test_unusable_enlarging_is_rejected_before_sampling(words, said, monkeypatch, capsys):
    enlarging(3)
    Path("enlarge.safetensors").rename("colour.safetensors")
    enlarging(1, max_steps=5)
    Path("enlarge.safetensors").rename("short.safetensors")
    enlarging(1)
    monkeypatch.setattr("ddpm.draw.sample", None)  # not called
    line = refused(monkeypatch, capsys, "a model.safetensors", "some images", "--enlarge", *words)
    assert line.startswith(f"draw: enlarge: {said}")


@pytest.mark.parametrize("level", [0.0, 0.3])
@pytest.mark.parametrize("model", [1], indirect=True)
def test_enlarge_matches_library_upsampling(level, model, monkeypatch):
    large = enlarging(1)
    words = "--enlarge", "enlarge.safetensors", "--level", str(level)
    found = drawn(monkeypatch, "-n", "2", "--seed", "3", "--n-steps", "4", *words, model="a model.safetensors")
    low = sample(model, 2, generator=torch.Generator().manual_seed(3), n_steps=4, clip_sample=True)
    expected = enlarge(large, low, level, 3, n_steps=4, clip_sample=True)
    assert torch.equal(found, to_uint8(denormalize_img(expected))[:, 0])


def test_label_and_guidance_match_library(tmp_path, monkeypatch):
    """Also the first class, 0, and ten images, whose names have one digit."""
    monkeypatch.chdir(tmp_path)
    config = {"conditioning": {"name": "labels", "dropout": 0.1}, "n_classes": 3, "heads": 1}
    with global_stream(0, "init"):
        model = Unet(UnetConfig((1, 8, 12), 8, (1, 2), 2, 10, **config))
        for parameter in model.parameters():
            parameter.data += 0.02 * torch.randn_like(parameter)  # no layer is zero
    model.noise_schedule = NoiseSchedule(10)
    save_model(Path("labels.safetensors"), model.eval(), {})
    words = "-n", "10", "--n-steps", "2", "--label", "0", "--guidance-scale", "3"
    found = drawn(monkeypatch, *words, model="labels.safetensors")
    chosen = {"labels": torch.zeros(10, dtype=torch.int64), "guidance_scale": 3.0, "n_steps": 2, "clip_sample": True}
    expected = sample(model, 10, generator=torch.Generator().manual_seed(0), **chosen)
    assert torch.equal(found, to_uint8(denormalize_img(expected))[:, 0])
    assert sorted(path.name for path in Path("some images").iterdir()) == [f"{i}.png" for i in range(10)]


def of_embeddings(seed=1):
    """A matching decoder, prior and CLIP, saved in the working folder."""
    text = {"size": 6, "width": 8, "layers": 1, "heads": 2, "dropout": 0.1}
    with global_stream(seed, "init"):
        clip = Clip(ClipConfig((1, 8, 12), max_steps=1, size=6, channels=8, groups=2, width=8, layers=1, heads=2))
        prior = Prior(PriorConfig((6, 1, 1), 10, 8, 1, 2, {"name": "clip_caption", **text}, n_classes=10))
        own = {"name": "embedding", "caption_dropout": 0.5, **text}
        config = {"channels": 8, "dim_mults": (1, 2), "groups": 2, "heads": 1, "max_steps": 10, "n_classes": 10}
        decoder = Unet(UnetConfig((1, 8, 12), conditioning=own, **config))
    give_text(clip, prior.conditioning)
    decoder.conditioning.space.copy_(space_of(clip))
    for name, model in {"decoder": decoder, "prior": prior}.items():
        model.noise_schedule = NoiseSchedule(10)
        save_model(Path(f"{name}.safetensors"), model, {})
    save_clip(Path("clip.safetensors"), clip)
    Image.fromarray(np.arange(0, 192, 2, dtype=np.uint8).reshape(8, 12)).save("shoe.png")
    return decoder.eval(), prior.eval(), clip.eval()


def drawn(monkeypatch, *words, model="decoder.safetensors"):
    """The pixels of the files that the command writes."""
    monkeypatch.setattr(sys, "argv", ["ddpm.draw", model, "some images", *words])
    main()
    files = sorted(Path("some images").iterdir())
    return torch.stack([torch.from_numpy(np.array(Image.open(file))) for file in files])


def test_prior_draws_embeddings_from_the_caption(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    decoder, prior, _ = of_embeddings()
    found = drawn(
        monkeypatch, "-n", "2", "--seed", "3", "--n-steps", "4", "--caption", "a boot", "--prior", "prior.safetensors"
    )
    rows = tokens(["a boot"] * 2)
    embeddings = draw_embeddings(prior, rows, seed=3, n_steps=4)
    cond = decoder.conditioning.of_embeddings(embeddings, rows)
    stream = torch.Generator().manual_seed(3)
    expected = sample(decoder, 2, generator=stream, cond=cond, n_steps=4, clip_sample=True)
    assert torch.equal(found, to_uint8(denormalize_img(expected))[:, 0])


def test_like_uses_clip_embedding_of_the_picture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    decoder, _, clip = of_embeddings()
    found = drawn(
        monkeypatch, "-n", "2", "--seed", "3", "--n-steps", "4", "--like", "shoe.png", "--clip", "clip.safetensors"
    )
    picture = torch.arange(0, 192, 2).reshape(1, 1, 8, 12) / 127.5 - 1
    embedding = clip.of_images(picture, torch.ones(1)).detach() * 6**0.5
    cond = torch.cat((embedding, torch.zeros(1, 12)), dim=1).repeat(2, 1)
    stream = torch.Generator().manual_seed(3)
    expected = sample(decoder, 2, generator=stream, cond=cond, n_steps=4, clip_sample=True)
    assert (found.int() - to_uint8(denormalize_img(expected))[:, 0].int()).abs().max() <= 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--prior", "prior.safetensors"), "draw: prior is given; it needs a caption"),
        (("--prior", "decoder.safetensors", "--caption", "a boot"), "draw: the prior does not sample embeddings"),
        (("--prior", "prior.safetensors", "--caption", "a bootle"), "unknown word 'bootle'"),
        (
            ("--prior", "other.safetensors", "--caption", "a boot"),
            "draw: the embeddings of the prior are not those",
        ),
        (
            ("--label", "3", "--prior", "prior.safetensors", "--caption", "a boot"),
            "draw: label is given; it cannot be combined with prior or like",
        ),
        (
            ("--guidance-scale", "0.5", "--prior", "none.safetensors", "--caption", "a boot"),
            "draw: guidance_scale is 0.5",
        ),
        (("--like", "shoe.png"), "draw: like and clip must be given together"),
        (("--clip", "clip.safetensors"), "draw: like and clip must be given together"),
        (
            ("--like", "shoe.png", "--clip", "clip.safetensors", "--caption", "a boot"),
            "it cannot be combined with a caption",
        ),
        (
            ("--like", "wide.png", "--clip", "clip.safetensors"),
            "draw: wide.png: it has 24x8 pixels; this network",
        ),
        (("--like", "shoe.png", "--clip", "prior.safetensors"), "draw: prior.safetensors: not a CLIP"),
        (("--like", "shoe.png", "--clip", "another.safetensors"), "draw: the embeddings of CLIP are not those"),
    ],
)
def test_invalid_embedding_options_are_rejected(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    of_embeddings(2)
    Path("prior.safetensors").rename("other.safetensors")
    Path("clip.safetensors").rename("another.safetensors")
    of_embeddings()
    Image.new("L", (24, 8)).save("wide.png")
    with pytest.raises(SystemExit) as ended:
        drawn(monkeypatch, "-n", "1", "--n-steps", "2", *words)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    assert not Path("some images").exists()


def refused(monkeypatch, capsys, *words):
    """The one-line error of the command."""
    monkeypatch.setattr(sys, "argv", ["ddpm.draw", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    return line


def test_models_that_do_not_generate_images_are_rejected(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    of_embeddings()
    line = refused(monkeypatch, capsys, "prior.safetensors", "some images", "--n-steps", "2")
    assert line.startswith("draw: prior.safetensors: it generates latents or embeddings with 6 channels")
    assert not Path("some images").exists()


@pytest.mark.parametrize("model", [1], indirect=True)
@pytest.mark.usefixtures("model")
def test_unwritable_folder_is_rejected_before_sampling(monkeypatch, capsys):
    Path("file").write_text("kept")
    monkeypatch.setattr("ddpm.draw.sample", None)
    assert (
        refused(monkeypatch, capsys, "a model.safetensors", "file") == "draw: file: it is not a folder; name a folder"
    )
    line = refused(monkeypatch, capsys, "a model.safetensors", "file/images")
    assert line == f"draw: file/images: {Path('file').absolute()} is not a folder; name a folder"
    assert Path("file").read_text() == "kept"
    monkeypatch.setattr("ddpm.output.os.access", lambda *_: False)  # root may write anywhere
    assert "is not writable; name another folder" in refused(monkeypatch, capsys, "a model.safetensors", "new")


@pytest.mark.parametrize("model", [1], indirect=True)
@pytest.mark.usefixtures("model")
def test_failed_write_keeps_existing_files(monkeypatch, capsys):
    words = "a model.safetensors", "some images", "-n", "2", "--n-steps", "2", "--seed"
    monkeypatch.setattr(sys, "argv", ["ddpm.draw", *words, "0"])
    main()
    before = {path.name: path.read_bytes() for path in Path("some images").iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50, hard))
    try:
        line = refused(monkeypatch, capsys, *words, "1")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert line.startswith("draw: some images/0.png: cannot be written (File too large)")
    assert {path.name: path.read_bytes() for path in Path("some images").iterdir()} == before


@pytest.mark.parametrize("model", [1], indirect=True)
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--prior", "a model.safetensors", "--caption", "a boot"), "draw: the prior does not sample embeddings"),
        (("-n", "-1"), "draw: n is -1; it must be from 1 to 1000000"),
        (("-n", "0"), "draw: n is 0; it must be from 1 to 1000000"),
        (("-n", "9" * 19), f"draw: n is {'9' * 19}; it must be from 1 to 1000000"),
        (("--seed", "-1"), "draw: seed is -1; it must be from 0 to"),
        (("--seed", "9" * 19), f"draw: seed is {'9' * 19}; it must be from 0 to {2**63 - 1}"),
        (("--label", "9" * 19), f"draw: label is {'9' * 19}; it must be from 0 to 10000"),
        (("--level", "0.5"), "draw: level is given; it applies only with enlarge, which must"),
        (("--n-steps", "11"), "draw: n_steps is 11; it must be in 1..10"),
        (("--label", "3"), "draw: labels is given; this model is unconditional"),
        (("--caption", "a dark dress"), "draw: captions is given; this model is unconditional"),
        (("--sampler", "euler"), "invalid choice: 'euler'"),
    ],
)
@pytest.mark.usefixtures("model")
def test_invalid_options_are_rejected(words, said, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["ddpm.draw", "a model.safetensors", "some images", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    assert not Path("some images").exists()
