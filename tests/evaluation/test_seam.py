"""The error at the seam, for a hole with a known number of neighbours."""

import pytest
import torch

from ddpm.evaluation.seam import seam_error


def test_seam_error_counts_hole_pixels_beside_known_ones_only():
    images = torch.zeros(3, 1, 9, 9, dtype=torch.uint8)
    holes = torch.zeros(3, 1, 9, 9, dtype=torch.bool)
    holes[:, :, 2:7, 2:7] = True
    filled = images.clone()
    filled[0, :, 3:6, 3:6] = 255  # deep in the hole
    filled[1, :, 2, 2:7] = 51  # a fifth of white, along one of four sides: 5 of the 16 pixels at the seam
    filled[2, :, 0] = 255  # known pixels
    assert seam_error(filled, images, holes).tolist() == pytest.approx([0, 5 / 16 / 5, 0])


def test_image_border_is_not_a_seam():
    images = torch.zeros(1, 1, 6, 6, dtype=torch.uint8)
    holes = torch.zeros(1, 1, 6, 6, dtype=torch.bool)
    holes[..., :3, :] = True
    filled = images.clone()
    filled[..., 0, :] = 255
    assert seam_error(filled, images, holes).tolist() == [0]
    filled[..., 2, :] = 255
    assert seam_error(filled, images, holes).tolist() == [1]
