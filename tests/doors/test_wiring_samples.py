"""The doors' sampling stages: which captions, weights, images and params reach the samplers, and what is written."""

from pathlib import Path

import pytest
import torch
from marked import (
    SIZE,
    Calls,
    Weights,
    labels,
    numbers,
    read,
    read_x0,
    rows,
    write_embeddings,
    write_images_and_captions,
)
from project import REPO
from workbench import greys, run

from ddpm.captions.differences import Difference
from ddpm.captions.prompts import Prompts
from ddpm.captions.vocabulary import LENGTH
from ddpm.run.files import load_tensors, save_tensors
from ddpm.run.seeding import derive_seed

DOORS = REPO / "doors"
HELD_OUT = numbers("held_out")
CHOSEN = [4, 1, 7, 20]  # indices of held-out images
OF_CHOSEN = [HELD_OUT[index] for index in CHOSEN]
PROMPTS = Prompts(rows(OF_CHOSEN, LENGTH), torch.tensor([True, True, False, False]), torch.tensor(CHOSEN))
MODEL = "models/latent.safetensors"
STUBS = {"load_model": Weights, "load_clip": Weights, "load_classifier": lambda path: (Weights(path), "digest")}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A door's folder, with captioned images and their embeddings."""
    (tmp_path / "doors/own").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "doors/own")
    write_images_and_captions()
    write_embeddings()


def at_work(door, name, changes=None, **stubs):
    return run(name, changes, 3, folder=DOORS / door, **STUBS | stubs)


class Stop(Exception):
    """Ends a stage once its prompts are chosen."""


@pytest.mark.parametrize(
    ("door", "name", "changes", "counts"),
    [
        ("glide", "sample", {"n_seen": 7, "n_withheld": 5}, (7, 5)),
        ("dalle2", "sample_prior", {"n_seen": 7, "n_withheld": 5}, (7, 5)),
        ("imagen", "prompt", {"n_seen": 7, "n_withheld": 5}, (7, 5)),
        ("glide", "inpaint", {"n_samples": 11}, (11, 0)),
        ("glide", "sweep", {"n_samples": 25}, (25, 0)),
        ("dalle2", "vary", {"n_images": 13}, (13, 0)),
    ],
)
def test_prompts_are_of_held_out_images(door, name, changes, counts):
    def choose_prompts(split, of, n_seen, n_withheld, seed):
        assert read(split.tokens) == HELD_OUT
        assert of.tolist() == labels(HELD_OUT)
        assert (n_seen, n_withheld) == counts
        assert seed == derive_seed(3, name)
        raise Stop

    with pytest.raises(Stop):
        at_work(door, name, changes, choose_prompts=choose_prompts, Varied=Calls())


def test_prompts_are_written_with_their_images():
    at_work("imagen", "prompt", choose_prompts=Calls(PROMPTS))
    found = load_tensors(Path("data/prompts.safetensors"))
    assert found.keys() == set(Prompts._fields)
    assert all(torch.equal(found[name], values) for name, values in PROMPTS._asdict().items())


def test_captions_are_drawn_by_the_base_model():
    draw = Calls({"samples": greys(9, 4)})
    stage = at_work("glide", "sample", choose_prompts=Calls(PROMPTS), draw_prompts=draw)
    [(given, model, prompts)] = draw
    assert (given, model.path, prompts) == (stage, "models/base.safetensors", PROMPTS)
    assert read(load_tensors(Path("samples/captions.safetensors"))["samples"]) == [9, 10, 11, 12]


def test_prior_draws_embeddings_of_prompts_and_of_figures():
    draw = Calls(({"prior": rows([8], SIZE)}, {"prior": rows([9], SIZE)}))
    stage = at_work("dalle2", "sample_prior", choose_prompts=Calls(PROMPTS), draw_signals=draw)
    [(given, prior, prompts)] = draw
    assert (given, prior.path, prompts) == (stage, "models/prior.safetensors", PROMPTS)
    for name, number in (("prompts", 8), ("figures", 9)):
        assert read(load_tensors(Path(f"samples/{name}.safetensors"))["prior"]) == [number]


def test_decoder_draws_prompts_and_figures():
    for name, number in (("prompts", 8), ("figures", 9)):
        save_tensors(Path(f"samples/{name}.safetensors"), prior=rows([number], SIZE))
    draw = Calls({"samples": greys(9, 1)})
    stage = at_work("dalle2", "sample", draw_decoded=draw)
    [(given, decoder, prompts, figures)] = draw
    assert (given, decoder.path) == (stage, "models/decoder.safetensors")
    assert (read(prompts["prior"]), read(figures["prior"])) == ([8], [9])
    assert read(load_tensors(Path("samples/captions.safetensors"))["samples"]) == [9]


def test_base_model_of_cascade_draws_first_prompts():
    save_tensors(Path("data/prompts.safetensors"), tokens=rows(OF_CHOSEN, LENGTH))
    draw = Calls({"samples": greys(9, 3)})
    of_rows = Calls("conditioning of captions")
    changes = {"n_samples": 3, "n_trajectories": 2}
    stage = at_work("imagen", "sample_base", changes, draw_samples=draw, cond_of_rows=of_rows)
    [(conditioning, said)] = of_rows
    assert (conditioning, read(said)) == (Weights.conditioning, OF_CHOSEN[:3])
    [(given, model, cond)] = draw
    assert (given, model.path, cond) == (stage, "models/base.safetensors", "conditioning of captions")
    found = load_tensors(Path("samples/base.safetensors"))
    assert (read(found["samples"]), read(found["filmed"])) == ([9, 10, 11], OF_CHOSEN[:2])


def test_super_resolution_upsamples_first_samples_noised_to_level():
    save_tensors(Path("samples/base.safetensors"), samples=greys(9, 4, (1, 14, 14)))
    draw, noised = Calls({"samples": greys(20, 3)}), Calls("noised samples")
    changes = {"n_samples": 3, "n_trajectories": 2, "level": 0.375}
    stage = at_work("imagen", "sample_super", changes, draw_samples=draw, noised=noised)
    [(of, low, level, seed)] = noised
    assert (of.path, level, seed) == ("models/super.safetensors", 0.375, stage.seed)
    assert read_x0(low) == [9, 10, 11]
    [(given, model, cond)] = draw
    assert (given, model.path, cond) == (stage, "models/super.safetensors", "noised samples")
    assert read(load_tensors(Path("samples/super.safetensors"))["samples"]) == [20, 21, 22]


def test_guided_samples_are_of_base_then_super_resolution_model():
    draw = Calls({"samples": greys(9, 2)})
    stage = at_work("imagen", "guide", draw_guided=draw)
    [(given, base, model)] = draw
    assert (given, base.path, model.path) == (stage, "models/base.safetensors", "models/super.safetensors")
    assert read(load_tensors(Path("samples/guide.safetensors"))["samples"]) == [9, 10]


def test_latents_are_drawn_for_captions_of_first_held_out_images():
    encode, draw = Calls(rows(HELD_OUT[:5], LENGTH)), Calls()

    def draw_samples(stage, model, decode, cond):
        draw(stage, model, decode, cond)
        return {"samples": greys(9, 5), "cond": cond}

    changes = {"n_samples": 5, "n_trajectories": 2}
    stubs = {"encode_cond": encode, "draw_samples": draw_samples, "load_autoencoder": Weights, "ReadsCaptions": str}
    stage = at_work("latent", "sample_latent", changes, **stubs)
    [(of, images, classes)] = encode
    assert (of.path, read_x0(images), classes.tolist()) == (MODEL, HELD_OUT[:5], labels(HELD_OUT[:5]))
    [(given, model, decode, cond)] = draw
    assert (given, model.path, read(cond)) == (stage, MODEL, HELD_OUT[:5])
    assert decode.args[0].path == "models/autoencoder.safetensors"
    found = load_tensors(Path("samples/latent.safetensors"))
    read_back = [read(found[name]) for name in ("samples", "tokens", "filmed")]
    assert read_back == [[9, 10, 11, 12, 13], HELD_OUT[:5], HELD_OUT[:2]]


def test_guided_latents_have_each_caption_at_each_scale():
    scales = []

    def draw_given(model, cond, scale, _, seed, *__, decode):
        scales.append((model.path, decode.args[0].path, scale, seed))
        return (cond[:, :1, None, None] + 10 * len(scales)).to(torch.uint8).expand(-1, 1, 28, 28)

    said = rows([1, 2], LENGTH)
    grid = {"captions": ["a dress", "a bag"], "scales": [1.0, 4.0], "n": 3}
    stubs = {"tokens": Calls(said), "cond_of_rows": lambda _, found: found, "draw_given": draw_given}
    stage = at_work("latent", "guide", {"grid": grid}, load_autoencoder=Weights, **stubs)
    assert scales == [(MODEL, "models/autoencoder.safetensors", scale, stage.seed) for scale in (1.0, 4.0)]
    found = load_tensors(Path("samples/guide.safetensors"))
    assert found["scales"].tolist() == [1.0, 4.0]
    assert read(found["tokens"]) == [1, 2]
    assert found["samples"][..., 0, 0, 0].tolist() == [[[11] * 3, [21] * 3], [[12] * 3, [22] * 3]]


def test_variations_are_of_prompted_images_and_judged_against_others():
    of_decoder, scores, others = Calls(), Calls({"spread": 0.5}), Calls(torch.tensor([[2, 3]] * 4))

    class Varied:
        variations, between = Calls(greys(50, 4)), Calls(greys(60, 4))

        def __init__(self, *given):
            of_decoder(*given)

    stubs = {"Varied": Varied, "variation_scores": scores, "others_of_class": others}
    changes = {"n_images": 4, "n_pairs": 1, "n_each": 2}
    stage = at_work("dalle2", "vary", changes, choose_prompts=Calls(PROMPTS), **stubs)
    [(given, decoder)] = of_decoder
    assert (given, decoder.path) == (stage, "models/decoder.safetensors")
    assert [read(vectors) for (vectors,) in Varied.variations] == [OF_CHOSEN]
    assert [[read(end) for end in ends] for ends in Varied.between] == [[OF_CHOSEN[:1], OF_CHOSEN[1:2]]]
    [(of, images, n_each, seed)] = others
    assert (of.tolist(), images.tolist(), n_each, seed) == (labels(HELD_OUT), CHOSEN, 2, stage.seed)
    [(classifier, made, real, tokens)] = scores
    assert classifier.path == "../../models/classifier.safetensors"
    assert (read(made), read(tokens)) == ([50, 51, 52, 53], OF_CHOSEN)
    assert [read(each) for each in real] == [HELD_OUT[2:4]] * 4
    found = load_tensors(Path("samples/vary.safetensors"))
    assert {name: read(images) for name, images in found.items()} == {
        "originals": OF_CHOSEN,
        "variations": [50, 51, 52, 53],
        "between": [60, 61, 62, 63],
    }
    assert stage.log.metrics == {"spread": 0.5}


def test_edits_go_from_captions_before_to_captions_after():
    of_decoder, edits, scores = Calls(), [], Calls({"shown": 0.5})

    class Varied:
        def __init__(self, *given):
            of_decoder(*given)

        def edits(self, *given):
            edits.append(given)
            return torch.stack([greys(50, 2), greys(60, 2)], dim=1)

    choose = Calls(Difference(torch.tensor([4, 1]), rows([11, 12], LENGTH), rows([21, 22], LENGTH)))
    texts = []

    def embed_captions(clip, said):
        texts.append(clip.path)
        return said + 100

    changes = {"n_images": 2, "differences": [["dark", "light"]], "shares": [0.0, 0.5]}
    stubs = {"choose_difference": choose, "embed_captions": embed_captions, "edit_scores": scores}
    stage = at_work("dalle2", "edit", changes, Varied=Varied, **stubs)
    [(given, decoder)] = of_decoder
    assert (given, decoder.path) == (stage, "models/decoder.safetensors")
    [(split, of, *others)] = choose
    assert (read(split.tokens), of.tolist()) == (HELD_OUT, labels(HELD_OUT))
    assert others == ["dark", "light", 2, stage.seed]
    [(name, embeddings, before, after)] = edits
    assert (name, read(embeddings)) == ("dark to light", OF_CHOSEN[:2])
    assert (read(before), read(after), texts) == ([111, 112], [121, 122], ["models/clip.safetensors"] * 2)
    found = load_tensors(Path("samples/edit.safetensors"))
    assert found["shares"].tolist() == [0.0, 0.5]
    assert read(found["dark to light/of"]) == OF_CHOSEN[:2]
    for first, (classifier, made, items, value) in zip((50, 60), scores, strict=True):
        assert classifier.path == "../../models/classifier.safetensors"
        assert (read(made), items.tolist(), value) == ([first, first + 1], labels(OF_CHOSEN[:2]), "light")
    assert stage.log.metrics == {"dark to light/0/shown": 0.5, "dark to light/0.5/shown": 0.5}
