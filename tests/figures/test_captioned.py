"""Figures of captions: the position of each image."""

import json

import numpy
import torch
from PIL import Image

from ddpm.captions.attributes import VALUES
from ddpm.figures.canvas import save
from ddpm.figures.captioned import attribute_table, caption_grid


def means(figure, path):
    """The mean grey of each image in a figure, in reading order."""
    save(figure, path)
    with Image.open(path) as picture:
        boxes = json.loads(picture.info["Images"])
        grey = torch.from_numpy(numpy.array(picture.convert("L"))) / 255
    return [grey[top + 3 : bottom - 3, left + 3 : right - 3].mean().item() for left, top, right, bottom in boxes]


def flat(*greys):
    return torch.tensor(greys)[:, None, None, None].expand(-1, 1, 8, 8)


def test_attribute_table_has_a_row_of_images_per_value(tmp_path):
    values = torch.zeros(3, 6, dtype=torch.int64)
    values[0, 0], values[1, 0], values[2, 0] = 2, 1, 2  # light, dark, light
    found = means(attribute_table(flat(0.8, 0.4, 0.6), values, 2), tmp_path / "a.png")
    assert len(found) == 2 * len(VALUES)
    expected = [0.4, 0, 0.8, 0.6] + [0.0] * (len(found) - 4)
    assert all(abs(a - b) < 0.01 for a, b in zip(found, expected, strict=True))


def test_caption_grid_has_captions_as_rows_and_scales_as_columns(tmp_path):
    samples = (torch.arange(12) / 12).reshape(2, 3, 2, 1, 1, 1).expand(2, 3, 2, 1, 8, 8)
    found = means(caption_grid(samples, ["a dress", "a bag"], [1.0, 2.0, 4.0]), tmp_path / "a.png")
    assert all(abs(a - b / 12) < 0.01 for a, b in zip(found, range(12), strict=True))
