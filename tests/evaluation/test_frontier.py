"""Frontiers with known areas, and known judges."""

import torch

from ddpm.captions.vocabulary import tokens
from ddpm.evaluation.classifier import Classifier, ClassifierConfig, describe
from ddpm.evaluation.estimate import Estimate
from ddpm.evaluation.frontier import Judges, dominated_area, judged, reference_features, summary, table, undominated
from ddpm.evaluation.metric import Described
from ddpm.run.seeding import generator


def test_dominated_area_of_staircase():
    assert dominated_area([(1.0, 0.5), (0.5, 1.0)]) == 0.75
    assert dominated_area([(1.0, 0.5), (0.5, 1.0), (0.5, 0.4)]) == 0.75  # a point within adds nothing
    assert dominated_area([(0.25, 0.5)]) == 0.125
    assert dominated_area([]) == 0


def test_undominated_excludes_points_worse_in_both():
    assert undominated([(0.5, 0.5), (0.9, 0.1)], [(0.6, 0.6)]) == 0.5
    assert undominated([(0.5, 0.5)], [(0.6, 0.5)]) == 1


def test_judged_returns_all_scores_with_intervals():
    torch.manual_seed(0)
    classifier = Classifier(ClassifierConfig(1, 10)).eval().requires_grad_(False)
    images = torch.randint(256, (40, 1, 28, 28), generator=generator(0, "x"), dtype=torch.uint8)
    reference = describe(classifier, images).features
    rows = tokens(["a dark dress"] * 40)
    judges = Judges(classifier, {"clip": lambda some, _: some.float().mean((1, 2, 3))}, reference, 5, 0)
    found = judged(images, rows, judges)
    assert list(found) == ["precision", "recall", "adherence", "clip"]
    assert (found["precision"].value, found["recall"].value) == (1, 1)  # the very same images
    assert all(0 <= found[name].low < found[name].high <= 1 for name in ("precision", "recall", "adherence"))
    assert abs(found["clip"].value - images.double().mean().item()) < 1e-4  # float32 sums of 784 levels


def test_precision_is_of_the_samples_and_recall_of_real_images(monkeypatch):
    def corners(_, images):
        return Described(images, images[:, 0, 0, :2].float(), torch.zeros(len(images), dtype=torch.long))

    monkeypatch.setattr("ddpm.evaluation.frontier.describe", corners)
    images = torch.randint(50, (80, 1, 28, 28), generator=generator(0, "x"), dtype=torch.uint8)
    images[40:] += 200  # the samples lack one of two kinds of real images
    judges = Judges(Classifier(ClassifierConfig(1, 10)), {}, corners(None, images).features, 5, 0)
    found = judged(images[:40], tokens(["a dark dress"] * 40), judges)
    assert (found["precision"].value, found["recall"].value) == (1, 0.5)


def test_reference_features_are_of_distinct_random_images():
    torch.manual_seed(0)
    classifier = Classifier(ClassifierConfig(1, 10)).eval().requires_grad_(False)
    images = torch.randint(256, (40, 1, 28, 28), generator=generator(0, "x"), dtype=torch.uint8)
    found, other = (reference_features(classifier, images, 10, seed) for seed in (0, 1))
    distances = (found[:, None] - describe(classifier, images).features).abs().amax(dim=2)
    nearest = distances.min(dim=1)
    assert nearest.values.max() < 1e-5  # batches of other sizes are rounded differently
    assert len(nearest.indices.unique()) == 10
    assert not torch.equal(found, other)


def test_table_and_summary_of_two_methods():
    def scores(recall, precision, clip):
        values = {"recall": recall, "precision": precision, "adherence": 0.5, "clip": clip}
        return {name: Estimate(value, value - 1, value + 1) for name, value in values.items()}

    free = {1.0: scores(0.9, 0.5, 0.1), 2.0: scores(0.5, 0.9, 0.3), 3.0: scores(0.4, 0.4, 0.2)}
    found = {"free": free, "CLIP": {1.0: scores(0.3, 0.3, 0.7)}}
    columns, rows = table(found)
    assert columns[:5] == ["method", "scale", "recall", "recall_low", "recall_high"]
    assert rows[1][:5] == ["free", 2.0, 0.5, -0.5, 1.5]
    metrics = summary({method: list(by_scale.values()) for method, by_scale in found.items()})
    assert abs(metrics["free/frontier"] - (0.9 * 0.5 + 0.5 * 0.4)) < 1e-12
    assert metrics["free/undominated"] == 1  # by the other method
    assert metrics["CLIP/undominated"] == 0
    assert (metrics["free/clip"], metrics["CLIP/clip"]) == (0.3, 0.7)
