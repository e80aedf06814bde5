"""Captions are true, partial, and depend only on the image."""

import torch

from ddpm.captions.attributes import measured
from ddpm.captions.describe import SAID, described, meaning_of
from ddpm.captions.grammar import parse


def some_images(n):
    stream = torch.Generator().manual_seed(0)
    width, grey = torch.randint(4, 14, (n,), generator=stream), torch.randint(40, 256, (n,), generator=stream)
    inside = (torch.arange(28) - 13.5).abs() < width[:, None]
    images = (inside[:, None] * grey[:, None, None]).expand(n, 28, 28)[:, None].to(torch.uint8).contiguous()
    return images, torch.randint(10, (n,), generator=stream)


def test_captions_state_random_subset_of_measured_values():
    images, items = some_images(600)
    found, values = described(images, items)
    assert torch.equal(values, measured(images, items))
    said = there = 0
    for caption, item, row in zip(found, items.tolist(), values, strict=True):
        meaning, all_of_it = parse(caption), meaning_of(item, row)
        assert meaning.item == item
        assert set(meaning.values) <= set(all_of_it.values)
        said, there = said + len(meaning.values), there + len(all_of_it.values)
    # Each of some 1,200 values is stated or not, and few images have both equal values and equal captions.
    assert abs(said / there - SAID) < 5 * (SAID * (1 - SAID) / there) ** 0.5
    assert len(set(found)) > 100


def test_caption_depends_on_its_image_only():
    images, items = some_images(20)
    found, _ = described(images, items)
    assert described(images[7:8], items[7:8])[0] == found[7:8]
