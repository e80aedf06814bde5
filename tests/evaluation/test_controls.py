"""Controls: each has its defect, and the metrics that claim to detect it do so, on real images."""

import re
from dataclasses import replace

import pytest
import torch
from project import REPO
from scored import scores

from ddpm.data.dataset import DATASETS, ImageDataset
from ddpm.evaluation.classifier import N_FEATURES, Classifier, ClassifierConfig
from ddpm.evaluation.controls import CONTROLS, DEFECTS, ControlsParams, applicable, judge, missed
from ddpm.evaluation.metric import METRICS, Comparison, Described
from ddpm.evaluation.patches import pyramid

N = 384
CHEAP = [name for name in METRICS if name.startswith("patches")]
TRAINED = [("auc_8_bit", "ground", 1024), ("auc_16_levels", "half_detail", N), ("auc_high_pass", "grid", N)]


@pytest.fixture(scope="module")
def splits(fashion_mnist_raw):
    train, test = DATASETS["fashion_mnist"].load(fashion_mnist_raw)
    return {"train": train[:20_000], "held_out": train[-2000:], "test": test[:2000]}


@pytest.fixture(scope="module")
def controls(splits):
    return {name: control(splits["held_out"], splits["train"], 0, N) for name, control in CONTROLS.items()}


def test_each_control_has_its_defect(splits, controls):
    real = controls["real"].int()
    unseen, train = ({bytes(image) for image in splits[name].images.numpy()} for name in ("held_out", "train"))
    assert {bytes(image) for image in controls["real"].numpy()} <= unseen
    assert {bytes(image) for image in controls["copies"].numpy()} <= train
    assert controls["ground"].min() == 2
    assert torch.equal((controls["ground"].int() - real).clamp(min=0), (2 - real).clamp(min=0))
    overlay = controls["grid"].int() - real
    assert (overlay[..., 1::2, :] == 0).all()
    assert (overlay[..., ::2, ::2][real[..., ::2, ::2] < 254] == 2).all()
    detail = [pyramid(controls[name])[0].std() for name in ("real", "half_detail", "blurred")]
    assert 0.4 < detail[1] / detail[0] < 0.8
    assert detail[2] < 0.9 * detail[0]
    assert (controls["darker"].int() - 0.9 * real).abs().max() <= 0.51
    added = (controls["noisy"].int() - real)[(real > 100) & (real < 156)] / 255  # no clipping within 4 sd
    assert added.std().item() == pytest.approx(0.1, rel=0.05)  # of at least 10,000 pixels: 1 %
    assert abs(added.mean().item()) < 0.004
    means = controls["cluster_means"]
    assert len({bytes(image) for image in means.numpy()} & train) < N // 2  # but for clusters of one
    labels = splits["held_out"].labels
    of = {bytes(image): int(label) for image, label in zip(splits["held_out"].images.numpy(), labels, strict=True)}
    shares = [sum(of[bytes(image)] == 0 for image in controls[name].numpy()) / N for name in ("real", "class_missing")]
    assert shares[0] > 0.06
    assert shares[1] < 0.03
    many = splits["train"]
    n_missing = len(many) - len(CONTROLS["class_missing"](many, many, 0, len(many)))
    assert n_missing / (many.labels == 0).sum().item() == pytest.approx(0.9, abs=0.03)  # of 2,000: 4 standard errors


@pytest.mark.parametrize(("n_train", "most"), [(300, 6), (80, 2)])
def test_cluster_means_of_few_images_are_not_copies(n_train, most, splits):
    few = splits["train"][:n_train]
    means = CONTROLS["cluster_means"](splits["held_out"], few, 0, 50).flatten(1).unique(dim=0)
    assert 2 <= len(means) <= most
    nearest = torch.cdist(means.float(), few.images.flatten(1).float()).min(dim=1).values
    assert nearest.min() > 500  # a copy is at 0, and a mean of 50 images lacks their individual details


@pytest.mark.parametrize(
    ("labels", "inapplicable"),
    [
        (torch.arange(100) % 2, set()),
        (torch.arange(100).clamp(max=1), set()),
        ((torch.arange(100) < 23).long(), {"class_missing"}),  # too few others
        (torch.ones(100).long(), {"class_missing"}),
        (None, {"class_missing"}),
    ],
)
def test_controls_without_their_defect_are_left_out(labels, inapplicable, splits):
    images = splits["held_out"].images[:100]
    assert CONTROLS.keys() - applicable(ImageDataset(images, labels)) == inapplicable
    assert CONTROLS.keys() - applicable(ImageDataset(255 - images // 2, labels)) == inapplicable | {"ground"}


def comparison(splits, images) -> Comparison:
    """Zero features, for metrics that look at pixels."""

    def described(images):
        return Described(images, torch.zeros(len(images), 2), torch.zeros(len(images), dtype=torch.long))

    real = splits["held_out"].images[-N:]
    sets = (described(images) for images in (images, real, splits["test"].images, splits["train"].images))
    return Comparison(*sets, 10, 10, 0.01, epochs=8, seed=0)


@pytest.mark.parametrize("name", CHEAP)
def test_patch_metrics_detect_claimed_controls_but_not_real(name, splits, controls):
    metric = METRICS[name]
    for control in ("real", *metric.catches):
        found = scores(metric, comparison(splits, controls[control]))
        assert metric.tells(found.samples, found.floor) == (control in metric.catches), control


@pytest.mark.parametrize(("name", "control", "n"), TRAINED)
def test_auc_metrics_detect_claimed_controls(name, control, n, splits):
    metric = METRICS[name]
    assert control in metric.catches
    c = comparison(splits, CONTROLS[control](splits["held_out"], splits["train"], 0, n))
    found = metric.score(c, c.samples)
    assert found.low > 0.6  # real images: 0.5, with a standard error of 0.02


def test_every_defective_control_is_claimed_by_a_metric():
    caught = {control for metric in METRICS.values() for control in metric.catches}
    assert caught == CONTROLS.keys() - {"real"}


def test_docs_list_the_metrics_that_catch_each_control():
    text = (REPO / "docs/evaluation.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| (`[^|]+`) \|$", text, re.MULTILINE)
    found = {name: (defect, re.findall(r"`(\w+)`", cell)) for name, defect, cell in rows if name in CONTROLS}
    assert found == {
        control: (DEFECTS[control], [name for name, metric in METRICS.items() if control in metric.catches])
        for control in CONTROLS.keys() - {"real"}
    }


def test_every_metric_but_two_claims_a_control():
    needs_more = {"fid_inception", "label_accuracy_classifier"}  # weights, and requested classes
    assert {name for name, metric in METRICS.items() if not metric.catches} == needs_more


def test_report_lists_seen_and_missed_controls(splits, monkeypatch):
    def describe(_, images, labels=None):
        return Described(images, torch.zeros(len(images), N_FEATURES), torch.zeros(len(images)).long(), labels)

    def scored(comparison, images):
        found.append((comparison, images, METRICS["patches_fine"].function(comparison, images)))
        return found[-1][2]

    found = []
    monkeypatch.setattr("ddpm.evaluation.controls.describe", describe)
    fine = replace(METRICS["patches_fine"], function=scored, catches=("half_detail", "blurred"))
    blind = replace(METRICS["patches_coarse"], catches=("grid",))
    monkeypatch.setattr("ddpm.evaluation.controls.METRICS", {"fine": fine, "blind": blind})
    params = ControlsParams(n_images=400, n_train=300, n_halves=5, duplicate_quantile=0.02, epochs=3)
    report = judge(params, splits, Classifier(ClassifierConfig(1, 10)), seed=0)
    assert report.keys() == CONTROLS.keys()
    assert report["blurred"]["metrics"]["fine"]["seen"]
    assert not report["real"]["metrics"]["fine"]["seen"]
    assert report["blurred"]["metrics"]["fine"]["must"]
    assert missed(report) == ["blind: grid"]
    assert report["copies"]["defect"] == "training images"

    (base, real, floor), *others = found
    assert (base.n_classes, base.n_halves, base.duplicate_quantile, base.epochs, base.seed) == (10, 5, 0.02, 3, 0)
    assert torch.equal(base.reference.images, splits["test"].images)
    assert torch.equal(base.train.images, splits["train"].images[:300])  # and no control has more images
    assert {len(images.images) for _, images, _ in found} == {300}
    unseen = {bytes(image) for image in splits["held_out"].images.numpy()}
    assert {bytes(image) for image in real.images.numpy()} <= unseen
    assert len(others) == 3  # real images, half_detail and blurred
    assert {bytes(image) for image in others[0][1].images.numpy()} <= unseen
    assert not torch.equal(others[0][1].images, real.images)
    assert all(report[name]["metrics"]["fine"]["floor"] == floor.value for name in ("real", "half_detail", "blurred"))
