"""The figure of reconstructions: each image above its reconstruction."""

import pytest
from figures.drawn import assert_shows, random_images, rows
from figures.made_up import stage_run

from ddpm.figures.latent import TOPIC, Latent
from ddpm.figures.topic import TOPICS

pytestmark = pytest.mark.usefixtures("outputs")


@pytest.mark.parametrize(("n", "n_columns", "n_rows"), [(7, 3, 2), (2, 3, 1)])
def test_reconstructions_are_below_their_originals(n, n_columns, n_rows):
    network = TOPICS["unet"].load(stage_run("render_unet"))
    own = network.params.model_copy(update={"grid_columns": n_columns, "grid_rows": 5})
    images, again = random_images(n, 1, 8, 8), random_images(n, 1, 8, 8, seed=1)
    object.__setattr__(network, "params", own)
    guided = random_images(4, 1, 8, 8).reshape(2, 2, 1, 1, 8, 8), ["a dress", "a bag"], [1.0, 4.0]
    figure = TOPIC.figures["reconstructions"].draw(Latent(network, images, again, *guided))
    width = min(n, n_columns)
    expected = []
    for first in range(0, n_rows * width, width):
        expected += [list(images[first : first + width]), list(again[first : first + width])]
    assert_shows(figure, expected)
    assert rows(figure) == ["original", "reconstructed"] * n_rows
