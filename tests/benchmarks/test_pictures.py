"""The sample data sets match their documentation and can be loaded."""

import torch
from sklearn.datasets import load_digits

from benchmarks.pictures import clothes, digits
from ddpm.data.dataset import DATASETS
from ddpm.data.datasets.folder import FolderOptions
from ddpm.run.params import NoOptions


def test_digits_load_as_folder_with_classes(tmp_path):
    source = DATASETS["folder"].find(digits(tmp_path), FolderOptions())
    assert source.img_shape == (1, 8, 8)
    assert source.class_names == tuple("0123456789")
    train, test = source.load(None)
    assert len(train) + len(test) == 1797
    labels = torch.cat((train.labels, test.labels)).long()
    assert labels.bincount().tolist() == torch.from_numpy(load_digits().target).bincount().tolist()
    levels = torch.cat((train.images, test.images)).unique().tolist()
    assert levels == [int(level * 255 / 16) for level in range(17)]


def test_clothes_load_as_cropped_images_without_classes(tmp_path, fashion_mnist_raw):
    source = DATASETS["npz"].find(clothes(tmp_path, fashion_mnist_raw), NoOptions())
    assert (source.img_shape, source.class_names) == ((1, 27, 25), ())
    train, test = source.load(None)
    whole, _ = DATASETS["fashion_mnist"].load(fashion_mnist_raw)
    expected = {image[0, :27, 1:26].numpy().tobytes() for image in whole.images[:300]}
    assert {image.numpy().tobytes() for image in torch.cat((train.images, test.images))} == expected
    assert len(expected) == 300
