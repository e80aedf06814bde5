"""Notes on a data set: each appears when its cause is present, and not on FashionMNIST."""

import torch

from ddpm.data.dataset import DATASETS, ImageDataset
from ddpm.data.findings import findings

N = 2000


def images(seed, n=N, size=(1, 8, 8)):
    return torch.randint(0, 256, (n, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def notes(labels=None, names=(), **splits):
    made = {"train": images(0), "held_out": images(1, 400), "test": images(2, 400)} | splits
    labels = labels or {}
    return findings({name: ImageDataset(found, labels.get(name), names) for name, found in made.items()})["notes"]


def test_fashion_mnist_has_no_notes(fashion_mnist_raw):
    train, test = DATASETS["fashion_mnist"].load(fashion_mnist_raw)
    assert findings({"train": train[:55_000], "held_out": train[55_000:], "test": test})["notes"] == []


def test_copies_are_reported_from_one_per_cent():
    train, test = images(0), images(2, 400)
    train[:19], test[:3] = train[100:119], train[200:203]
    assert notes(train=train, test=test) == notes()
    train[19], test[3] = train[119], train[203]
    assert notes(train=train, test=test, held_out=train[:400])[:3] == [
        "20 of 2,000 training images are copies of others.",
        "400 of 400 held-out images are also training images: their scores are too good.",
        "4 of 400 test images are also training images: their scores are too good.",
    ]


def test_large_images_are_reported():
    slow = "Images of 50x40 pixels: training on a CPU is slow."
    assert slow in notes(**{name: images(0, 30, (1, 40, 50)) for name in ("train", "held_out", "test")})
    assert not any("CPU" in note for note in notes(**{name: images(0, 30, (1, 48, 48)) for name in ("train", "test")}))


def test_classes_without_training_images_are_named():
    labels = {"train": torch.arange(N) % 2, "held_out": torch.arange(400) % 3, "test": torch.arange(400) % 4}
    found = notes(labels, ("a", "b", "c", "d"))
    assert found[-1] == "Classes without training images: c, d."
    assert notes(labels | {"test": torch.arange(400) % 3}, ("a", "b", "c"))[-1].endswith("training images: c.")


def test_unbalanced_classes_are_reported():
    labels = {"train": (torch.arange(N) % 20 == 0).long(), "held_out": torch.zeros(400).long()}
    told = "Classes are unbalanced: a has 2,300 images, b 100. Samples of an unconditional network follow the same"
    assert notes(labels, ("a", "b"))[0].startswith(told)
    labels["train"][:1000] = 1
    assert notes(labels, ("a", "b")) == []


def test_few_images_and_ten_times_larger_classes_are_reported():
    assert notes(train=images(0, 1000), test=images(2, 250)) == notes()
    few = notes(train=images(0, 999), test=images(2, 249))
    assert [note.split(":")[0] for note in few[:2]] == ["Only 999 training images", "Scores rest on 249 test images"]
    for n_small, reported in ((200, False), (199, True)):
        found = notes({"train": (torch.arange(2200) < n_small).long()}, ("a", "b"), train=images(0, 2200))
        assert any(note.startswith("Classes are unbalanced") for note in found) == reported


def test_report_counts_images_and_digests_every_image_and_label():
    def report(**changes):
        made = {name: (images(i, n), torch.arange(n) % 2) for i, (name, n) in enumerate(sizes.items())} | changes
        return findings({name: ImageDataset(*pair, ("a", "b")) for name, pair in made.items()})

    sizes = {"train": 30, "held_out": 20, "test": 10}
    found = report()
    assert (found["images"], found["classes"]) == (sizes, {"a": 30, "b": 30})
    changed = [{name: (images(i, n), 1 - torch.arange(n) % 2)} for i, (name, n) in enumerate(sizes.items())]
    changed += [{name: (255 - images(i, n), torch.arange(n) % 2)} for i, (name, n) in enumerate(sizes.items())]
    assert report()["digest"] == found["digest"]
    assert len({found["digest"], *(report(**change)["digest"] for change in changed)}) == 7
