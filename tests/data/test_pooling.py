"""Images at a lower resolution, against NumPy."""

import numpy as np
import pytest
import torch

from ddpm.data.dataset import ImageDataset
from ddpm.data.pooling import pooled, pooled_dataset, pooled_shape
from ddpm.run.seeding import generator


def pixels(*shape):
    return torch.randint(256, shape, generator=generator(0, "pixels"), dtype=torch.uint8)


@pytest.mark.parametrize(("factor", "size"), [(1, (6, 12)), (2, (3, 6)), (3, (2, 4)), (6, (1, 2))])
def test_pooled_pixel_is_mean_of_its_block(factor, size):
    images = pixels(5, 3, 6, 12)
    blocks = images.numpy().astype(float).reshape(5, 3, size[0], factor, size[1], factor)
    expected = blocks.mean((3, 5))
    assert pooled_shape((3, 6, 12), factor) == (3, *size)
    found = pooled_dataset(ImageDataset(images, torch.arange(5), tuple("abcde")), factor)
    assert found.img_shape == (3, *size)
    assert np.abs(found.images.numpy() - expected).max() <= 0.5 + 1e-4  # rounded to 8 bits
    assert (found.labels.tolist(), found.class_names) == ([0, 1, 2, 3, 4], tuple("abcde"))
    exact = pooled(torch.from_numpy(images.numpy() / 127.5 - 1), factor)
    assert np.abs(exact.numpy() - (expected / 127.5 - 1)).max() < 1e-12


def test_pooled_requires_factor_that_divides_the_image():
    with pytest.raises(ValueError, match="factor is 4; it must divide the images' height and width, 6 and 12"):
        pooled(torch.zeros(1, 1, 6, 12), 4)
