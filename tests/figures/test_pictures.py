"""Pictures show exactly the given pixels, in the right rows and columns."""

import pytest
import torch
from figures.drawn import assert_legible, assert_shows, columns, note, random_images, rows

from ddpm.figures import pictures
from ddpm.figures.names import run_label
from ddpm.figures.pictures import plot_img

LABEL, ORIGIN = run_label("Unet", 1234, 42), "from pure noise, given a hint"


def test_previews_are_split_into_cells_at_evenly_spaced_steps() -> None:
    previews = random_images(7, 2, 3, 8, 15)
    figure = pictures.training_previews(previews, torch.arange(10, 80, 10), LABEL, n_moments=3)
    cells = [
        [previews[moment, i, :, y : y + 4, left : left + 5] for i in (0, 1) for left in (0, 5, 10)]
        for moment in (0, 3, 6)
        for y in (0, 4)
    ]
    assert_shows(figure, cells)
    assert rows(figure) == ["10: actual", "predicted", "40: actual", "predicted", "70: actual", "predicted"]


def test_sample_grid_starts_with_a_row_of_real_images() -> None:
    samples, real = random_images(9, 1, 4, 4), random_images(5, 1, 4, 4, seed=1)
    figure = pictures.sample_grid(samples, real, ORIGIN, LABEL, n_rows=2, n_columns=3)
    assert_shows(figure, [list(real[:3]), list(samples[:3]), list(samples[3:6])])
    assert figure.axes[0].get_xlabel().startswith("6 samples")
    assert ORIGIN in note(figure)


@pytest.mark.parametrize("n_columns", [4, 12])  # no row is longer than the rarest class allows
def test_samples_by_class_are_beside_a_real_image_of_the_class(n_columns: int) -> None:
    samples, real = random_images(7, 1, 4, 4), random_images(2, 1, 4, 4, seed=1)
    labels, classes = torch.tensor([1, 0, 0, 1, 1, 0, 1]), {"shirt": real[0], "shoe": real[1]}
    figure = pictures.samples_by_class(samples, labels, classes, ORIGIN, LABEL, n_columns)
    assert_shows(figure, [[real[0], *samples[[1, 2, 5]]], [real[1], *samples[[0, 3, 4]]]])
    assert rows(figure) == ["shirt", "shoe"]
    assert_legible(figure)
    assert ORIGIN in note(figure)


def test_denoising_has_a_row_per_sample_and_a_column_per_step() -> None:
    trajectories, num_steps = random_images(101, 2, 1, 4, 4), torch.arange(1000, -1, -10)
    assert_legible(pictures.denoising(trajectories, num_steps, ORIGIN, LABEL))
    figure = pictures.denoising(trajectories, num_steps, ORIGIN, LABEL, n_columns=5)
    assert_shows(figure, [[trajectories[i, k] for i in (0, 25, 50, 75, 100)] for k in (0, 1)])
    assert columns(figure) == ["1,000", "750", "500", "250", "0"]
    assert ORIGIN in note(figure)
    assert "100 steps" in note(figure)


@pytest.mark.parametrize("channels", [1, 3])
def test_plot_img_shows_one_image_with_its_title(channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("Agg")
    seen, open_before = [], plt.get_fignums()
    monkeypatch.setattr(plt, "show", lambda: seen.append(plt.gcf()))
    image = random_images(channels, 4, 6).requires_grad_()
    plot_img(image, "a title")
    plot_img(2 * image - 0.5)
    (first, second) = seen
    assert first.axes[0].get_title() == "a title"
    assert_shows(first, [[image.detach()]])
    assert_shows(second, [[(2 * image.detach() - 0.5).clamp(0, 1)]])
    assert first.axes[0].images[0].get_cmap().name == "gray"
    assert plt.get_fignums() == open_before


def test_plot_img_works_without_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("Agg")
    monkeypatch.delenv("DISPLAY", raising=False)
    plot_img(random_images(3, 4, 4))


@pytest.mark.parametrize("shape", [(2, 4, 4), (4, 4), (1, 3, 4, 4), (4, 4, 3), (3, 0, 4)])
def test_plot_img_rejects_tensors_that_are_not_one_image(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"1 or 3 channels, not \({', '.join(map(str, shape))}\)"):
        plot_img(torch.zeros(shape))
