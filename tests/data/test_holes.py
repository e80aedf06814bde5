"""Random holes: sizes, the share that covers the whole image, and dependence on the index only."""

import torch

from ddpm.data.holes import SIDES, WHOLE, holes


def test_holes_are_one_or_two_boxes_or_the_whole_image():
    found = holes(2000, (1, 20, 20), 0, "a")
    assert found.shape == (2000, 1, 20, 20)
    whole = found.flatten(1).all(1)
    # 2,000 draws: five standard errors
    assert abs(whole.double().mean() - WHOLE) < 5 * (WHOLE * (1 - WHOLE) / 2000) ** 0.5
    areas = found[~whole].flatten(1).sum(1)
    assert areas.min() >= (20 * SIDES[0]) ** 2
    assert areas.max() < 2 * (20 * SIDES[1]) ** 2
    rows, columns = found[~whole].any(3).sum((1, 2)), found[~whole].any(2).sum((1, 2))
    boxes = (rows * columns == areas).double().mean()  # one box, or one within another
    assert 0.45 < boxes < 0.65


def test_whole_0_never_masks_the_whole_image():
    assert not holes(500, (1, 20, 20), 0, "a", whole=0.0).flatten(1).all(1).any()


def test_boxes_have_the_proportions_of_the_image_and_reach_its_edges():
    found = holes(1000, (1, 12, 40), 0, "a", whole=0.0)
    assert found.any(3).sum((1, 2)).min() == 12 * SIDES[0]
    assert found.any(2).sum((1, 2)).min() == 40 * SIDES[0]
    assert found.any(0).all()


def test_hole_depends_only_on_its_index_and_stream():
    assert torch.equal(holes(9, (1, 8, 12), 3, "a")[:4], holes(4, (1, 8, 12), 3, "a"))
    assert not torch.equal(holes(9, (1, 8, 12), 3, "a"), holes(9, (1, 8, 12), 3, "b"))
    assert not torch.equal(holes(9, (1, 8, 12), 3, "a"), holes(9, (1, 8, 12), 4, "a"))
    assert holes(0, (1, 8, 12), 3, "a").shape == (0, 1, 8, 12)
