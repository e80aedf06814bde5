"""The doors' stages that evaluate and report: which samples, images, captions and networks they compare."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from marked import FIRST, Calls, N, Weights, labels, numbers, read, read_x0, rows, write_images_and_captions
from matplotlib.figure import Figure
from project import REPO
from workbench import Log, declared, greys, run

from ddpm.captions.prompts import Prompts
from ddpm.captions.vocabulary import tokens
from ddpm.doors.render import render_stage
from ddpm.evaluation.estimate import Estimate
from ddpm.figures.topic import Entry, Topic
from ddpm.run.compute import Compute
from ddpm.run.files import load_tensors, save_tensors
from ddpm.run.seeding import derive_seed
from ddpm.run.stage import StageRun

DOORS = REPO / "doors"
CHOSEN = [4, 1, 7]  # indices of held-out images
SAID = ["a dress", "a bag", "a coat"]
PROMPTS = Prompts(tokens(SAID), torch.tensor([True, True, False]), torch.tensor(CHOSEN))
CLASSIFIER = "../../models/classifier.safetensors"


class Clip(Weights):
    """A CLIP whose functions return which CLIP it is."""

    likelihood = property(lambda self: ("likelihood", self.path))
    scores = property(lambda self: ("scores", self.path))


def described(classifier, images):
    return SimpleNamespace(features=images.flatten(1)[:, :1], classes=(classifier.path, read(images)))


STUBS = {"load_model": Weights, "load_clip": Clip, "load_classifier": lambda path: (Weights(path), "digest")}
STUBS |= {"choose_prompts": Calls(PROMPTS), "describe": described}
STUBS["reference_features"] = lambda classifier, real, n, seed: (classifier.path, read(real), n, seed)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A door's folder, with captioned images."""
    (tmp_path / "doors/own").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "doors/own")
    write_images_and_captions()


def score(value):
    return Estimate(value, value - 0.5, value + 0.5)


def scored(samples, *_):
    """Each measure is the first sample's number, or ten or twenty more."""
    number = float(read(samples)[0])
    return {"precision": score(number), "recall": score(number + 10), "adherence": score(number + 20)}


def check_judges(judges, stage):
    """Samples are compared with as many different test images."""
    assert (judges.classifier.path, judges.rounds, judges.seed) == (CLASSIFIER, 7, stage.seed)
    assert judges.reference == (CLASSIFIER, numbers("test"), 24, stage.seed)


def read_csv(path):
    with Path(path).open() as file:
        return list(csv.DictReader(file))


def test_glide_sweep_guides_by_clip_and_judges_by_both_clips():
    drawn = [("classifier-free", 1.0, greys(3, 3)), ("CLIP", 1.0, greys(5, 3)), ("CLIP", 2.0, greys(4, 3))]
    draw, judged = Calls(drawn), []

    def judge(samples, said, judges):
        judged.append((read(samples), said, judges))
        return scored(samples)

    changes = {"n_samples": 24, "n_halves": 7}
    stage = run("sweep", changes, 3, folder=DOORS / "glide", **STUBS | {"draw_sweep": draw, "judged": judge})
    [(given, model, likelihood, said)] = draw
    assert (given, model.path) == (stage, "models/base.safetensors")
    assert likelihood == ("likelihood", "models/clip.safetensors")
    assert torch.equal(said, PROMPTS.tokens)
    assert [samples for samples, _, _ in judged] == [[3, 4, 5], [5, 6, 7], [4, 5, 6]]
    for _, said, judges in judged:
        assert torch.equal(said, PROMPTS.tokens)
        assert judges.clips == {name: ("scores", f"models/{name}.safetensors") for name in ("clip", "judge")}
        check_judges(judges, stage)
    found = read_csv("reports/sweep/sweep.csv")
    assert [(row["method"], row["scale"], float(row["precision"])) for row in found] == [
        ("classifier-free", "1.0", 3),
        ("CLIP", "1.0", 5),
        ("CLIP", "2.0", 4),
    ]
    metrics = json.loads(Path("reports/sweep/metrics.json").read_text())
    assert (metrics["CLIP/adherence"], metrics["classifier-free/adherence"]) == (25, 23)
    assert stage.log.metrics == metrics


def test_decoder_sweep_compares_lowest_with_highest_scale():
    drawn = [(signal, scale, greys(first, 24)) for signal, scale, first in (("prior", 1.0, 9), ("prior", 4.0, 2))]
    draw, judged = Calls([*drawn, ("none", 1.0, greys(8, 24)), ("none", 4.0, greys(7, 24))]), []
    save_tensors(Path("samples/prompts.safetensors"), tokens=rows(numbers("held_out"), 12))

    def judge(samples, said, judges):
        judged.append((read(said), judges))
        return scored(samples)

    changes = {"n_samples": 24, "n_halves": 7, "scales": [1.0, 4.0]}
    stage = run("sweep", changes, 3, folder=DOORS / "dalle2", **STUBS | {"draw_scales": draw, "judged": judge})
    [(given, decoder, prompts)] = draw
    assert (given, decoder.path) == (stage, "models/decoder.safetensors")
    assert read(prompts["tokens"]) == numbers("held_out")
    for said, judges in judged:
        assert said == numbers("held_out")[:24]
        assert (judges.classifier.path, judges.clips, judges.rounds, judges.seed) == (CLASSIFIER, {}, 7, stage.seed)
        assert judges.reference == (CLASSIFIER, numbers("test"), 24, stage.seed)
    lost = {
        f"{signal}/lost_{name}": by for signal, by in (("prior", 7), ("none", 1)) for name in ("recall", "precision")
    }
    assert json.loads(Path("reports/sweep/metrics.json").read_text()) == stage.log.metrics == lost


def test_inpainting_compares_trained_and_replacing_network_on_same_holes(monkeypatch):
    filled = {"trained": greys(150, 3), "replaced": greys(160, 3)}
    fills = {name: Calls(images) for name, images in filled.items()}
    monkeypatch.setattr("ddpm.sampling.holes.fill_by_training", fills["trained"])
    monkeypatch.setattr("ddpm.sampling.holes.fill_by_replacing", fills["replaced"])
    adheres, seams, means = Calls("adherence"), Calls("seam"), Calls(score(0.25))
    stubs = {
        "adherence": adheres,
        "adherence_scores": Calls({"whole": score(0.75)}),
        "seam_error": seams,
        "mean": means,
    }
    stage = run("inpaint", {"n_halves": 7}, 3, folder=DOORS / "glide", **STUBS | stubs)
    originals = [numbers("held_out")[index] for index in CHOSEN]
    found = load_tensors(Path("samples/inpaint.safetensors"))
    assert (read(found["images"]), found["holes"].shape) == (originals, (3, 1, 28, 28))
    assert not found["holes"].flatten(1).all(1).any()  # something is left to see of each
    assert not torch.equal(found["holes"][0], found["holes"][1])
    assert torch.equal(found["tokens"], PROMPTS.tokens)
    for i, (name, model) in enumerate((("trained", "inpaint"), ("replaced", "base"))):
        [(given, network, x0, holes, said)] = fills[name]
        assert (given, network.path) == (stage, f"models/{model}.safetensors")
        assert (read_x0(x0), said) == (originals, PROMPTS.tokens)
        assert torch.equal(holes, found["holes"])
        assert torch.equal(found[name], filled[name])
        assert adheres[i] == (filled[name], SAID, (CLASSIFIER, read(filled[name])))
        drawn, real, holes = seams[i]
        assert (drawn, read(real), holes.sum()) == (filled[name], originals, found["holes"].sum())
        assert means[i] == ("seam", 7, stage.seed)
    metrics = {f"{name}/{key}": value for name in filled for key, value in (("seam_error", 0.25), ("whole", 0.75))}
    assert json.loads(Path("reports/inpaint/metrics.json").read_text()) == stage.log.metrics == metrics
    assert json.loads(Path("reports/inpaint/inpaint.json").read_text())["trained"]["whole"]["low"] == 0.25


def evaluated(door, changes=None):
    """The arguments of `evaluate_captioned`, in order, and the stage."""
    answer = {"adherence": {"a": 1}, "scores": {"s": 2}, "metrics": {"m": 3.0}}
    evaluate = Calls(answer)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ddpm.doors.evaluate.evaluate_captioned", evaluate)
        stage = run("evaluate", changes, 3, folder=DOORS / door)
    for name, value in answer.items():
        assert json.loads(Path(f"reports/evaluate/{name}.json").read_text()) == value
    assert stage.log.metrics == {"samples/m": 3.0}
    return evaluate[0], stage


@pytest.mark.parametrize("door", ["glide", "dalle2"])
def test_evaluation_is_of_samples_with_their_own_prompts(door):
    others = {"grid": greys(9, 2), "filmed": tokens(["a bag"])}
    save_tensors(Path("samples/captions.safetensors"), samples=greys(3, 3), **PROMPTS._asdict(), **others)
    (params, samples, prompts, splits, classifier, seed, compute), stage = evaluated(door)
    assert (params, seed, compute) == (stage.params, stage.seed, stage.compute)
    assert read(samples) == [3, 4, 5]
    assert prompts.keys() == set(Prompts._fields)
    assert all(torch.equal(prompts[name], values) for name, values in PROMPTS._asdict().items())
    assert classifier == Path(CLASSIFIER)
    assert {split: read(each.images) for split, each in splits.items()} == {split: numbers(split) for split in FIRST}
    assert all(each.labels.tolist() == labels(numbers(split)) for split, each in splits.items())


@pytest.mark.parametrize(("of", "first"), [("super", 3), ("base", 50)])
def test_cascade_is_evaluated_on_samples_of_the_chosen_model(of, first):
    save_tensors(Path("data/prompts.safetensors"), tokens=rows([*range(N)], 12), images=torch.arange(N))
    for name, start in (("super", 3), ("base", 50)):
        save_tensors(Path(f"samples/{name}.safetensors"), samples=greys(start, 7))
    (_, samples, prompts, *_), _ = evaluated("imagen", {"of": of})
    assert read(samples) == [*range(first, first + 7)]
    assert (read(prompts["tokens"]), prompts["images"].tolist()) == ([*range(7)], [*range(7)])


def test_latent_samples_are_judged_with_their_captions_and_reconstructions_with_unseen_images():
    of = numbers("held_out")[:3]
    save_tensors(Path("samples/latent.safetensors"), samples=greys(3, 3), tokens=PROMPTS.tokens, labels=torch.ones(3))
    compared, judged = [], Calls({"samples": "adherence", "floor": "adherence"})

    def compare(_, images, splits, classifier, seed, __):
        compared.append((read(images["samples"]), {name: read(split.images) for name, split in splits.items()}))
        assert (classifier, seed) == (Path(CLASSIFIER), derive_seed(3, "evaluate"))
        return compared[-1][0], {}

    stubs = {
        "load_autoencoder": Weights,
        "reconstructed": lambda _, images, *__: images + 1,
        "caption_adherence": judged,
        "adherence_scores": Calls({"whole": score(0.75)}),
        "compare": compare,
        "all_scores": lambda comparison: comparison,
        "as_report": lambda scores, *_: {"of": scores},
        "as_metrics": lambda scores: {"first": float(scores[0])},
    }
    stage = run("evaluate", {"reference": "test"}, 3, folder=DOORS / "latent", **STUBS | stubs)
    again = [number + 1 for number in of]
    whole = {split: numbers(split) for split in FIRST}
    assert compared == [([3, 4, 5], whole), (again, whole)]
    [(sets, said, classifier)] = judged
    assert ({name: read(images) for name, images in sets.items()}, said) == ({"samples": [3, 4, 5], "floor": of}, SAID)
    assert classifier == Path(CLASSIFIER)
    metrics = {"reconstruction_error": pytest.approx(1 / 255), "samples/adherence": 0.75, "floor/adherence": 0.75}
    metrics |= {"samples/first": 3.0, "reconstructions/first": again[0]}
    assert json.loads(Path("reports/evaluate/metrics.json").read_text()) == metrics
    assert stage.log.metrics == metrics
    reports = {name: json.loads(Path(f"reports/evaluate/{name}.json").read_text()) for name in ("samples", "adherence")}
    assert reports["samples"] == {"of": [3, 4, 5]}
    assert {name: shares["whole"]["value"] for name, shares in reports["adherence"].items()} == {
        "samples": 0.75,
        "floor": 0.75,
    }
    found = load_tensors(Path("samples/reconstructions.safetensors"))
    assert (read(found["images"]), read(found["samples"])) == (of, again)


def test_render_draws_each_figure_from_what_is_loaded():
    drawn = []

    def figure(name):
        def draw(inputs):
            drawn.append((name, inputs))
            return Figure()

        return Entry(name, "Of {inputs.name}.", "Nothing", draw)

    topic = Topic("Toy", 0, ["data/a.csv"], lambda stage: stage, None, {name: figure(name) for name in ("one", "two")})
    stage, at_work = render_stage(topic)["render"], StageRun("render", None, 0, Compute(), Log())
    stage.main(at_work)
    assert drawn == [("one", at_work), ("two", at_work)]
    assert [str(path) for path in stage.outputs] == ["reports/figures/one.png", "reports/figures/two.png"]
    assert all(path.is_file() for path in stage.outputs)
    assert stage.deps == ["data/a.csv"]


@pytest.mark.parametrize(
    ("door", "films"),
    [
        ("glide", {"Base model": "captions"}),
        ("dalle2", {"Decoder": "captions"}),
        ("imagen", {"Base model": "base", "Super-resolution model": "super"}),
    ],
)
def test_page_shows_own_films_figures_scores_and_claims(door, films):
    stubs = dict.fromkeys(("load_film", "picture", "md5"), str)
    stubs["read_json"] = lambda path: {"claims": f"claims of {path}", "file": str(path)}
    page = Calls("the page")
    run("page", folder=DOORS / door, render=page, **stubs)
    [(_, _, command, shown, figures, scores, adherence, claims, params, hashes)] = page
    assert command == f"dvc repro doors/{door}/dvc.yaml"
    assert shown == {name: f"samples/{file}.safetensors" for name, file in films.items()}
    assert figures == list(declared("render", DOORS / door)[0].plots)
    assert {name: each["file"] for name, each in scores.items()} == {"samples": "reports/evaluate/scores.json"}
    assert adherence["file"] == "reports/evaluate/adherence.json"
    assert claims == f"claims of ../../benchmarks/results/claims/{door}.json"
    assert params["file"] == "plan/params.json"
    files = {*shown.values(), *figures, "reports/evaluate/scores.json", adherence["file"], claims.split()[-1]}
    assert hashes == {path: path for path in files}
    assert Path("reports/index.html").read_text() == "the page"
