"""The doors' training stages: which images, captions, weights and params reach the training functions."""

from pathlib import Path

import pytest
import torch
from marked import (
    FIRST,
    SIZE,
    Calls,
    Weights,
    labels,
    numbers,
    read,
    read_x0,
    rows,
    seen,
    write_embeddings,
    write_images_and_captions,
)
from project import REPO
from workbench import greys, run, save_split

from ddpm.captions.vocabulary import LENGTH
from ddpm.conditioning.text import TextEncoder
from ddpm.data.holes import hole
from ddpm.run.files import load_tensors, save_tensors
from ddpm.run.resume.context import Resume
from ddpm.run.seeding import derive_seed, generator

DOORS = REPO / "doors"
CAPTIONED = [
    ("glide", "train_base"),
    ("glide", "train_inpaint"),
    ("dalle2", "train_prior"),
    ("dalle2", "train_decoder"),
]
CAPTIONED += [("imagen", "train_base")]
DIFFUSION = [*CAPTIONED, ("imagen", "train_super"), ("latent", "train_latent")]
RESUME = Resume("train", {}, 60.0, Path("nowhere"))  # only passed on
LATENT = 0.5  # added to the number of an image to make its latent


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A door's folder, with all that its training stages read."""
    (tmp_path / "doors/own").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "doors/own")
    write_images_and_captions()
    write_embeddings()
    torch.manual_seed(5)
    save_tensors(Path("models/text.safetensors"), **TextEncoder(64, 2, 4).state_dict())
    for split in ("train", "held_out"):
        small = greys(FIRST[split], len(numbers(split)), (1, 14, 14))
        save_split(split, small, torch.tensor(labels(numbers(split))), folder=".")
        latents = rows(numbers(split), 4 * 7 * 7).reshape(-1, 4, 7, 7) + LATENT
        save_tensors(Path(f"data/latents/{split}.safetensors"), latents=latents)


def trained(door, name, **changes):
    """What `fit` and `write_outputs` receive in a stage."""
    found = {}

    def fit(model, params, train, held_out, seed, compute, log, resume, decode=None):
        found.update(locals())
        return "history"

    found["given"], written = Calls(), Calls()
    stubs = dict.fromkeys(("load_model", "load_clip", "load_autoencoder"), Weights)
    stubs |= dict.fromkeys(("load_widened", "give_text"), found["given"]) | {"write_outputs": written}
    stage = run(name, {"n_eval": 5} | changes, 3, RESUME, DOORS / door, fit=fit, **stubs)
    return found | {"stage": stage, "written": written}


def words_of(name, found):
    """The captions in a conditioning."""
    before = SIZE if name == "train_decoder" else 0
    return found.cond[:, before : before + LENGTH]


def pictures_of(name, train, held_out):
    """The numbers of the images, or embeddings, to train on and to evaluate on."""
    return read(train.images), (read if name == "train_prior" else read_x0)(held_out.images)


@pytest.mark.parametrize(("door", "name"), DIFFUSION)
def test_fit_receives_own_params_seed_and_resume(door, name):
    found = trained(door, name, lr=0.0123)
    assert found["params"] is found["stage"].params
    assert found["params"].lr == 0.0123
    assert found["seed"] == derive_seed(3, name)
    assert found["resume"] is RESUME
    assert found["log"] is found["stage"].log
    assert found["compute"] is found["stage"].compute


@pytest.mark.parametrize(("door", "name"), DIFFUSION)
def test_outputs_are_of_fitted_model_and_evaluated_images(door, name):
    found = trained(door, name)
    [(stage, model, history, held_out)] = found["written"]
    assert stage.name == name
    assert model is found["model"]
    assert history == "history"
    assert held_out is found["held_out"]


@pytest.mark.parametrize(("door", "name"), CAPTIONED)
def test_images_and_captions_to_train_on_have_no_withheld_pair(door, name):
    found = trained(door, name)
    assert pictures_of(name, found["train"], found["held_out"])[0] == seen("train")
    assert read(words_of(name, found["train"])) == seen("train")


@pytest.mark.parametrize(("door", "name"), CAPTIONED)
@pytest.mark.parametrize("n_eval", [5, None])
def test_last_held_out_images_and_captions_are_evaluated(door, name, n_eval):
    found = trained(door, name, n_eval=n_eval)
    expected = numbers("held_out")[-(n_eval or 0) :]
    assert pictures_of(name, found["train"], found["held_out"])[1] == expected
    assert read(words_of(name, found["held_out"])) == expected


def test_inpainting_gets_images_around_holes_of_its_own():
    found = trained("glide", "train_inpaint")
    assert found["given"] == [(found["model"], found["given"][0][1])]
    assert found["given"][0][1].path == "models/base.safetensors"
    for split, first in (("train", seen("train")), ("held_out", numbers("held_out")[-5:])):
        known, masks = found[split].cond[:, LENGTH:].chunk(2, dim=1)
        for i, number in enumerate(first):
            missing = hole(28, 28, generator(derive_seed(3, "train_inpaint"), f"hole/{split}", i)).flatten()
            assert torch.equal(masks[i].bool(), missing)
            assert (known[i] == number * ~missing).all()


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_decoder_gets_the_embeddings_of_its_images(split):
    found = trained("dalle2", "train_decoder")
    assert read(found[split].cond[:, :SIZE]) == (seen(split) if split == "train" else numbers(split)[-5:])
    assert found["model"].conditioning.space == load_tensors(Path("data/embeddings/train.safetensors"))["space"]


def test_decoder_of_captions_gets_no_embeddings():
    found = trained("dalle2", "train_decoder", conditioning="caption")
    assert read(found["train"].cond) == seen("train")
    assert read(found["held_out"].cond) == numbers("held_out")[-5:]


def test_prior_gets_text_encoder_of_clip_and_previews_strips():
    found = trained("dalle2", "train_prior")
    [(clip, conditioning)] = found["given"]
    assert clip.path == "models/clip.safetensors"
    assert conditioning is found["model"].conditioning
    assert found["model"].img_shape == (SIZE, 1, 1)
    assert found["decode"](torch.zeros(2, SIZE, 1, 1)).shape == (2, 1, 8, SIZE)


def test_base_model_of_cascade_gets_pretrained_text_encoder():
    found = trained("imagen", "train_base")
    own, weights = found["model"].conditioning.encoder.state_dict(), load_tensors(Path("models/text.safetensors"))
    assert own.keys() == weights.keys()
    assert all(torch.equal(own[name], weights[name]) for name in own)
    assert found["model"].img_shape == (1, 14, 14)


def test_base_model_of_cascade_gets_captions_as_its_conditioning_reads_them(monkeypatch):
    monkeypatch.setattr("ddpm.conditioning.captioned.cond_of_rows", lambda _, said: said + 1000)
    found = trained("imagen", "train_base")
    assert read(found["train"].cond) == [1000 + number for number in seen("train")]
    assert read(found["held_out"].cond) == [1000 + number for number in numbers("held_out")[-5:]]


def test_super_resolution_gets_all_images_and_their_pooled_versions():
    found = trained("imagen", "train_super")
    for split, of in (("train", numbers("train")), ("held_out", numbers("held_out")[-5:])):
        pictures = read(found[split].images) if split == "train" else read_x0(found[split].images)
        assert pictures == read_x0(found[split].cond[:, :1]) == of
        assert found[split].cond.shape[2:] == (14, 14)


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_latents_are_of_their_split_with_its_labels(split):
    found = trained("latent", "train_latent", conditioning="labels")
    of = numbers(split) if split == "train" else numbers(split)[-5:]
    assert read(found[split].images - LATENT) == of
    assert found[split].cond.tolist() == labels(of)


def test_latents_are_decoded_by_the_autoencoder_that_encoded_them():
    decode = trained("latent", "train_latent")["decode"]
    assert decode.func.__name__ == "decode_latents"
    assert [each.path for each in decode.args] == ["models/autoencoder.safetensors"]


@pytest.mark.parametrize(("door", "name"), [("glide", "clip"), ("glide", "judge"), ("dalle2", "clip")])
def test_clips_are_trained_without_withheld_pairs(door, name):
    fit, save = Calls([(7, 0.5)]), Calls()
    stage = run(f"train_{name}", {"lr": 0.0123}, 3, RESUME, DOORS / door, fit_clip=fit, save_clip=save)
    [(model, params, train, seed, compute, resume)] = fit
    assert read(train.images) == read(train.cond) == seen("train")
    assert (params, seed, compute, resume) == (stage.params, derive_seed(3, f"train_{name}"), stage.compute, RESUME)
    assert params.lr == 0.0123
    assert save == [(Path(f"models/{name}.safetensors"), model)]
    assert stage.log.steps == {7: {"train/loss": 0.5}}
    assert Path(f"reports/train_{name}/loss.csv").read_text().splitlines()[1] == "7,0.5"


def test_text_encoder_learns_from_seen_captions_and_is_tested_on_held_out_ones():
    fit, guess = Calls([(7, 0.5)]), Calls(0.25)
    stage = run("train_text", {"lr": 0.0123}, 3, RESUME, DOORS / "imagen", fit_masked_words=fit, guessed=guess)
    [(model, params, train, seed, compute, resume)] = fit
    assert read(train) == seen("train")
    assert (params, seed, compute, resume) == (stage.params, stage.seed, stage.compute, RESUME)
    [(judged, held_out, seed)] = guess
    assert judged is model
    assert read(held_out) == numbers("held_out")
    assert seed == stage.seed
    saved = load_tensors(Path("models/text.safetensors"))
    assert all(torch.equal(saved[name], weight) for name, weight in model.encoder.state_dict().items())
    assert stage.log.metrics == {"train_loss": 0.5, "guessed": 0.25}


def test_autoencoder_learns_from_training_images_and_reconstructs_held_out_ones():
    fit, scale, again = Calls([(7, 0.5)]), Calls(), Calls(greys(FIRST["held_out"] + 51, len(numbers("held_out"))))
    stubs = {"fit_autoencoder": fit, "set_scale": scale, "reconstructed": again}
    stage = run("train_autoencoder", {"lr": 0.0123}, 3, RESUME, DOORS / "latent", **stubs)
    [(model, params, train, *others)] = fit
    assert (params.lr, others) == (0.0123, [stage.seed, stage.compute, RESUME])
    assert read(train.images) == numbers("train")
    assert [(each[0], read(each[1].images)) for each in scale] == [(model, numbers("train"))]
    assert [(each[0], read(each[1])) for each in again] == [(model, numbers("held_out"))]
    assert stage.log.metrics["autoencoder/held_out_error"] == pytest.approx(51 / 255)
