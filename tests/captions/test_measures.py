"""Each measure on shapes with known brightness, contrast and size."""

import pytest
import torch

from ddpm.captions.measures import GROUND, arch, breadth, brightness, contrast, hem, stature

MEASURES = [arch, breadth, brightness, contrast, hem, stature]


def canvas():
    return torch.zeros(1, 20, 20)


def box(top=2, bottom=18, left=5, right=13, grey=0.6):
    image = canvas()
    image[:, top:bottom, left:right] = grey
    return image


@pytest.mark.parametrize("measure", MEASURES)
def test_empty_image_measures_zero(measure):
    assert measure(canvas()).tolist() == [0]
    assert measure(torch.full((1, 20, 20), GROUND)).tolist() == [0]


@pytest.mark.parametrize("measure", MEASURES)
def test_batch_matches_single_images(measure):
    images = torch.rand(6, 20, 20, generator=torch.Generator().manual_seed(0))
    alone = torch.cat([measure(image[None]) for image in images])
    torch.testing.assert_close(measure(images), alone, rtol=0, atol=1e-6)  # float32 sums of 400 numbers up to 1


def test_measures_of_plain_box():
    image = box()
    assert brightness(image).item() == pytest.approx(0.6)
    assert contrast(image).item() == 0
    assert breadth(image).item() == pytest.approx(8 / 16)
    assert stature(image).item() == pytest.approx(16 / 8)
    assert hem(image).item() == pytest.approx(8 / 20)
    assert arch(image).item() == 0


def test_contrast_is_mean_difference_of_neighbours():
    image = box()
    image[:, 2:18:2] *= 0.5  # rows of 0.3 and 0.6: each step down is 0.3, each step across 0
    inner_rows, inner_columns = 14, 6
    down, across = (inner_rows - 1) * inner_columns, inner_rows * (inner_columns - 1)
    assert contrast(image).item() == pytest.approx(0.3 * down / (down + across))


def test_hem_spans_hanging_sleeves():
    shirt, tee = box(left=7, right=13), box(left=7, right=13)
    shirt[:, 12:17, 3:5] = shirt[:, 12:17, 15:17] = 0.5  # hanging sleeves, apart from the body
    tee[:, 3:12, 3:17] = 0.5
    assert hem(shirt).item() == pytest.approx(14 / 20)
    assert hem(tee).item() == pytest.approx(6 / 20)


def test_arch_is_height_of_gap_under_the_shoe():
    shoe = canvas()
    shoe[:, 6:18] = 0.5
    shoe[:, 14:18, 7:14] = 0  # the middle is four rows above the heel
    assert arch(shoe).item() == pytest.approx(4 / 20)
    assert arch(shoe.roll(-5, 1)).item() == pytest.approx(4 / 20)  # wherever it stands
