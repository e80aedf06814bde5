"""Stage evaluate_unet: which images are compared, and one-line errors before any work."""

import csv
import json
import logging
import re
from contextlib import chdir
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from workbench import CLASS_NAMES, noise, run, save_split

from ddpm.data.dataset import load_dataset
from ddpm.errors import UserError
from ddpm.evaluation import evaluate
from ddpm.evaluation.classifier import Classifier, ClassifierConfig, describe, load_classifier, save_classifier
from ddpm.evaluation.estimate import Estimate, Scores, estimate
from ddpm.evaluation.frechet import fid
from ddpm.evaluation.inception import WEIGHTS_SHA256
from ddpm.evaluation.metric import METRICS, frequencies
from ddpm.evaluation.neighbours import neighbours
from ddpm.run.seeding import generator, global_stream

SAMPLES, WEIGHTS = Path("samples/unet.safetensors"), Path("models/classifier.safetensors")
REPORTS = Path("reports/evaluate_unet")
FEW = {"n_samples": 258, "n_halves": 2, "epochs": 1}
SIZES = {"train": 300, "held_out": 280, "test": 290}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_inputs()


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """A folder in which the stage has run, its run and its log messages, made once for all tests that only read."""
    folder, said = tmp_path_factory.mktemp("scored"), []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.INFO)
    root.addHandler(handler)
    with chdir(folder):
        write_inputs()
        stage = run("evaluate_unet", FEW)
    root.removeHandler(handler)
    root.setLevel(level)
    return folder, stage, said


def write_inputs():
    """Splits and samples of noise, each from its own seed, and an untrained classifier with varied predictions."""
    for seed, (split, n) in enumerate(SIZES.items()):
        save_split(split, noise(seed, n), torch.randint(10, (n,), generator=generator(seed, "labels")).to(torch.uint8))
    SAMPLES.parent.mkdir()
    save_file({"samples": noise(9, 300)}, SAMPLES)
    with global_stream(0, "classifier"):
        model = Classifier(ClassifierConfig(1, 10)).eval()
    mean = describe(model, noise(8, 100)).features.mean(0)
    model.head.bias.data = -model.head.weight.data @ mean
    save_classifier(WEIGHTS, model)


def split(name):
    return load_dataset(Path(f"data/images/{name}.safetensors"))


@pytest.mark.parametrize(("reference", "floor"), [("test", "held_out"), ("held_out", "test")])
def test_samples_and_floor_are_compared_with_whole_reference(reference, floor):
    stage = run("evaluate_unet", FEW | {"reference": reference})
    model, extractor = load_classifier(WEIGHTS)
    chosen = torch.randperm(SIZES[floor], generator=generator(stage.seed, "floor"))[:258]
    target, samples, real = (
        describe(model, images).features
        for images in (split(reference).images, noise(9, 300)[:258], split(floor).images[chosen])
    )
    scores = json.loads((REPORTS / "scores.json").read_text())
    found = scores["metrics"]["fid_classifier"]
    for name, features in (("samples", samples), ("floor", real)):
        expected = estimate(partial(fid, target), features, FEW["n_halves"], stage.seed)
        assert found[name] == pytest.approx(asdict(expected), rel=1e-6)
    assert (scores["n_samples"], scores["reference"], scores["extractor"]) == (258, reference, extractor)
    metrics = json.loads((REPORTS / "metrics.json").read_text())
    assert metrics["fid_classifier"] == found["samples"]["value"]
    assert metrics["fid_classifier_floor"] == found["floor"]["value"]
    assert stage.log.metrics == {
        f"real/{name.removesuffix('_floor')}" if name.endswith("_floor") else f"samples/{name}": value
        for name, value in metrics.items()
        if not name.startswith("worst")
    }


def test_n_samples_null_uses_as_many_as_floor_images():
    run("evaluate_unet", FEW | {"n_samples": None})
    scores = json.loads((REPORTS / "scores.json").read_text())
    assert scores["n_samples"] == SIZES["held_out"] < 300


@pytest.mark.parametrize("reference", ["test", "held_out"])
def test_smallest_set_limits_the_number_of_samples(reference):
    with pytest.raises(UserError, match=r"n_samples is 281; there are 300 samples .* so it can be at most 280"):
        run("evaluate_unet", FEW | {"n_samples": 281, "reference": reference})


def test_inception_needs_samples_for_half_a_covariance():
    params = {"n_halves": 2, "duplicate_quantile": 0.1, "epochs": 1, "reference": "test", "inception_weights": "a"}
    assert evaluate.EvaluateUnet(**params, n_samples=4098)
    assert evaluate.EvaluateUnet(**params | {"inception_weights": None}, n_samples=4097)
    with pytest.raises(ValueError, match="n_samples is 4097; with inception_weights it must be at least 4098"):
        evaluate.EvaluateUnet(**params, n_samples=4097)


def test_few_samples_omit_frechet_distances():
    run("evaluate_unet", FEW | {"n_samples": 24})
    found = json.loads((REPORTS / "scores.json").read_text())["metrics"]
    assert METRICS.keys() - found.keys() == {"fid_classifier", "fid_inception", "label_accuracy_classifier"}


def test_headline_is_worst_view_of_samples_and_floor_worst_view_of_real_images():
    """Which may be different views: the floor is the same statistic of real images."""
    values = {"auc_8_bit": (0.7, 0.45), "auc_16_levels": (0.6, 0.55), "auc_high_pass": (0.65, 0.5)}
    values["kid_classifier"] = (0.9, 0.9)  # no two-sample test
    scores = {name: Scores(*(Estimate(value, 0.0, 1.0) for value in pair)) for name, pair in values.items()}
    metrics = evaluate.as_metrics(scores)
    assert (metrics["worst_auc"], metrics["worst_auc_floor"]) == (0.7, 0.55)
    assert (metrics["auc_8_bit_floor"], metrics["auc_16_levels"]) == (0.45, 0.6)


def test_report_names_the_worst_view_of_samples_and_of_real_images(scored, monkeypatch):
    monkeypatch.chdir(scored[0])
    scores, metrics = (json.loads((REPORTS / f"{name}.json").read_text()) for name in ("scores", "metrics"))
    for side, key, named in (("samples", "worst_auc", "headline"), ("floor", "worst_auc_floor", "headline_real")):
        found = {name: each[side]["value"] for name, each in scores["metrics"].items() if name.startswith("auc_")}
        assert len(found) == 3
        assert found[scores[named]] == max(found.values()) == metrics[key]


def test_every_applicable_metric_is_written_with_direction(scored, monkeypatch):
    monkeypatch.chdir(scored[0])
    metrics = json.loads((REPORTS / "scores.json").read_text())["metrics"]
    assert metrics.keys() == METRICS.keys() - {"fid_inception", "label_accuracy_classifier"}
    assert all((found["better"], found["sees"]) == (METRICS[n].better, METRICS[n].sees) for n, found in metrics.items())


def test_copies_of_training_images_are_found():
    copied = noise(9, 300)
    copied[:40] = split("train").images[torch.arange(40) * 7]
    save_file({"samples": copied}, SAMPLES)
    run("evaluate_unet", FEW)
    with (REPORTS / "neighbours_pixel.csv").open() as file:
        rows = [line.split(",") for line in file.read().splitlines()[1:]]
    assert [int(row[0]) for row in rows[:40]] == [7 * i for i in range(40)]
    assert all(float(row[1]) == 0 for row in rows[:40])
    nearest = neighbours(*(images.flatten(1) / 255 for images in (copied[:258], split("train").images)))
    assert [float(row[1]) for row in rows] == pytest.approx(nearest.distance.tolist(), rel=1e-4)
    rate = json.loads((REPORTS / "metrics.json").read_text())["duplicates_pixel"]
    assert rate == pytest.approx(40 / 258, abs=0.02)  # a few more by chance: 1 % of the reference are duplicates


def test_duplicate_threshold_is_quantile_of_the_reference():
    run("evaluate_unet", FEW | {"duplicate_quantile": 0.5})
    scores = json.loads((REPORTS / "scores.json").read_text())
    seen = [describe(load_classifier(WEIGHTS)[0], split(name).images) for name in ("test", "train")]
    for name, space in (("pixel", "pixels"), ("classifier", "features")):
        median = neighbours(*(getattr(each, space) for each in seen)).closeness.median().item()
        assert scores[f"duplicate_threshold_{name}"] == pytest.approx(median, rel=1e-3)
    assert scores["metrics"]["duplicates_pixel"]["floor"]["value"] == pytest.approx(0.5, abs=0.17)  # 4 standard errors


def test_class_histogram_matches_samples_and_reference(scored, monkeypatch):
    monkeypatch.chdir(scored[0])
    model, _ = load_classifier(WEIGHTS)
    with (REPORTS / "class_histogram.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == list(CLASS_NAMES)
    shown = {column: [float(row[column]) for row in rows] for column in rows[0] if column != "class"}
    assert len(set(map(tuple, shown.values()))) == len(shown)  # the columns all differ
    assert all(float(row["low"]) < float(row["samples"]) < float(row["high"]) for row in rows)
    for column, classes in (
        ("samples", describe(model, noise(9, 300)[:258]).classes),
        ("reference_seen", describe(model, split("test").images).classes),
        ("reference_labels", split("test").labels),
    ):
        assert shown[column] == pytest.approx(frequencies(classes, 10).tolist())


def test_label_accuracy_uses_requested_classes():
    model, _ = load_classifier(WEIGHTS)
    asked = describe(model, noise(9, 300)).classes
    asked[:100] = (asked[:100] + 1) % 10  # misses
    save_file({"samples": noise(9, 300), "labels": asked}, SAMPLES)
    stage = run("evaluate_unet", FEW)
    found = json.loads((REPORTS / "scores.json").read_text())["metrics"]["label_accuracy_classifier"]
    assert found["samples"]["value"] == pytest.approx(158 / 258)
    chosen = torch.randperm(SIZES["held_out"], generator=generator(stage.seed, "floor"))[:258]
    real = split("held_out")[chosen]
    assert found["floor"]["value"] == pytest.approx(
        (describe(model, real.images).classes == real.labels).double().mean().item()
    )


def test_inception_fid_uses_inception_features(monkeypatch):
    seen = []

    def describe_inception(network, images, compute):  # noqa: ARG001
        seen.append(images[:, 0, 5, :4].float())  # 4 pixels for features
        return seen[-1]

    monkeypatch.setattr(evaluate, "LEAST_INCEPTION_SAMPLES", 10)
    monkeypatch.setattr(evaluate, "load_inception", lambda _: torch.nn.Identity())
    monkeypatch.setattr(evaluate, "describe_inception", describe_inception)
    run("evaluate_unet", FEW | {"inception_weights": "there.pth"})
    scores = json.loads((REPORTS / "scores.json").read_text())
    samples, floor, reference = seen
    assert [len(images) for images in seen] == [258, 258, 290]
    found = scores["metrics"]["fid_inception"]
    assert found["samples"]["value"] == pytest.approx(fid(reference, samples))
    assert found["floor"]["value"] == pytest.approx(fid(reference, floor))
    assert scores["extractor_inception"] == WEIGHTS_SHA256[:12]


def test_missing_inception_weights_are_rejected_before_any_work(monkeypatch):
    monkeypatch.setattr(evaluate, "LEAST_INCEPTION_SAMPLES", 10)
    with pytest.raises(UserError, match=r"inception_weights is .*gone.pth: No such file or directory; use the"):
        run("evaluate_unet", FEW | {"inception_weights": "gone.pth"})
    assert not REPORTS.exists()


def test_every_score_is_logged_with_its_settings(scored, monkeypatch):
    folder, stage, said = scored
    monkeypatch.chdir(folder)
    scores = json.loads((REPORTS / "scores.json").read_text())
    for name in scores["metrics"]:
        [line] = [line for line in said if line.startswith(f"{name}: ")]
        number = r"(-?[\d.e+-]+|nan) \[\S+, \S+\]"
        assert re.fullmatch(rf"{name}: {number}, floor {number}", line)
    facts = {"n_samples": "258", "reference": "test", "extractor": scores["extractor"]}
    assert said[-1] == ", ".join(f"{name} {fact}" for name, fact in facts.items())
    assert stage.log.tags == facts


def fewer_samples():
    save_file({"samples": noise(9, 200)}, SAMPLES)


def other_shape():
    save_file({"samples": noise(9, 258, (3, 4, 5))}, SAMPLES)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (fewer_samples, "params.yaml: evaluate_unet.n_samples is 258; there are 200 samples"),
        (other_shape, "the samples have shape (3, 4, 5); the data set has (1, 28, 28)"),
        (SAMPLES.unlink, f"{SAMPLES}: no such file; run `dvc repro` to make it"),
        (WEIGHTS.unlink, f"{WEIGHTS}: no such file; run `dvc repro` to make it"),
        (lambda: save_file({"weight": torch.zeros(3)}, WEIGHTS), f"{WEIGHTS}: not a classifier of this version"),
    ],
)
def test_invalid_inputs_are_rejected_in_one_line(break_it, message):
    break_it()
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        run("evaluate_unet", FEW)
    assert "\n" not in str(caught.value)
    assert not REPORTS.exists()
