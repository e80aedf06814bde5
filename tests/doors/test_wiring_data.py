"""The doors' data stages: the images of each split, and what is computed from them, go to the files of that split."""

from pathlib import Path

import pytest
import torch
from marked import FIRST, Calls, Weights, labels, numbers, read, rows, seen, write_images_and_captions
from matplotlib.figure import Figure
from project import REPO
from workbench import run

from ddpm.captions.split import CaptionedSplit
from ddpm.data.dataset import load_dataset
from ddpm.run.files import load_tensors

DOORS = REPO / "doors"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A door's folder, with captioned images."""
    (tmp_path / "doors/own").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "doors/own")
    write_images_and_captions()


def test_captions_are_of_the_images_of_their_split():
    withheld, draw, counted = [["dark", "wide"]], Calls(Figure()), Calls({})

    def caption_split(dataset, pairs):
        assert pairs == [("dark", "wide")]
        assert dataset.labels.tolist() == labels(read(dataset.images))
        tokens = rows(read(dataset.images), 12)
        return CaptionedSplit(tokens, tokens[:, :6] + 1, tokens[:, 0] > 0)

    stubs = {"caption_split": caption_split, "attribute_table": draw, "save": Calls(), "summary": counted}
    run("captions", {"withheld": withheld, "n_shown": 5}, folder=DOORS / "captions", **stubs)
    for split in FIRST:
        assert read(load_tensors(Path(f"data/{split}.safetensors"))["tokens"]) == numbers(split)
    [(images, values, n_columns)] = draw
    assert (read(images * 255), read(values - 1), n_columns) == (numbers("train"), numbers("train"), 5)
    [(captions,)] = counted
    assert {split: read(each.tokens) for split, each in captions.items()} == {split: numbers(split) for split in FIRST}


def test_clip_embeds_seen_training_images_and_all_held_out_ones():
    space = Calls(torch.tensor(7))

    def embed_images(clip, images):
        assert clip.path == "models/clip.safetensors"
        return rows(read(images), 4)

    run("embed", folder=DOORS / "dalle2", load_clip=Weights, embed_images=embed_images, space_of=space)
    for split, of in (("train", seen("train")), ("held_out", numbers("held_out"))):
        found = load_tensors(Path(f"data/embeddings/{split}.safetensors"))
        assert (read(found["embeddings"]), found["space"].item()) == (of, 7)
    assert {clip.path for (clip,) in space} == {"models/clip.safetensors"}


@pytest.mark.parametrize(("factor", "side"), [(2, 14), (4, 7)])
def test_images_are_shrunk_by_factor_with_their_labels(factor, side):
    run("shrink", {"factor": factor}, folder=DOORS / "imagen")
    for split in ("train", "held_out"):
        found = load_dataset(Path(f"data/{split}.safetensors"))
        assert (read(found.images), found.labels.tolist()) == (numbers(split), labels(numbers(split)))
        assert found.img_shape == (1, side, side)


def test_all_images_are_encoded_by_the_autoencoder():
    def encode_images(model, images, *given):
        assert model.path == "models/autoencoder.safetensors"
        used.append(given)
        return rows(read(images), 4)

    used = []
    stage = run("encode", folder=DOORS / "latent", load_autoencoder=Weights, encode_images=encode_images)
    for split in ("train", "held_out"):
        assert read(load_tensors(Path(f"data/latents/{split}.safetensors"))["latents"]) == numbers(split)
    assert used == [(stage.seed, stage.compute)] * 2
