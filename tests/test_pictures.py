"""Figures of images show exactly the pixels given, each where its row and column say."""

from pathlib import Path

import numpy
import pytest
import torch
from drawn import assert_shows, random_images, signed
from matplotlib.axes import Axes
from PIL import Image

from ddpm.figures import pictures
from ddpm.figures.canvas import evenly_spaced, image_table, run_label, save
from ddpm.figures.pictures import plot_img

LABEL = run_label("U-Net", 1234, 42)


def test_gradients_are_in_reading_order() -> None:
    x = random_images(10, 3, 4, 4)
    assert_shows(pictures.gradients(x, 0), [list(x[:8]), list(x[8:])])


def test_normalized_row_is_clipped_and_denormalized_row_is_the_original(caplog: pytest.LogCaptureFixture) -> None:
    x = random_images(3, 3, 4, 4)
    clipped = torch.where(x < 0.5, torch.zeros(()), 2 * x - 1)
    assert_shows(pictures.normalization(x, 0), [list(x), list(clipped), list(x)])
    assert not caplog.records  # matplotlib would clip too, and complain


def test_forward_process_has_a_row_for_each_equation_between_image_and_noise() -> None:
    x = random_images(9, 3, 4, 4)
    figure = pictures.forward_process(
        signed(x[0]), signed(x[1:4]), signed(x[4:7]), signed(x[7:9]), [1, 10, 50], [0.81, 0.25, 0.01], 0
    )
    assert_shows(figure, [[x[0], x[1], x[2], x[3], x[7]], [x[0], x[4], x[5], x[6], x[8]]])
    headings = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert [heading.split("\n")[0] for heading in headings] == ["t = 0", "t = 1", "t = 10", "t = 50", "pure noise"]
    assert [heading[-5:] for heading in headings[1:4]] == ["0.900", "0.500", "0.100"]  # square roots


def test_noising_goes_from_fewest_steps_to_most_and_states_the_largest_error() -> None:
    x = random_images(12, 3, 4, 4).reshape(4, 3, 3, 4, 4)
    stages = [signed(stage) for stage in x]
    stages[3][2, 0, 1, 1] = stages[0][2, 0, 1, 1] + 1.5
    stages[3] = torch.where((stages[3] - stages[0]).abs() == 1.5, stages[3], stages[0])
    x0, eps, xt, reconstructed = stages
    figure = pictures.noising(x0, eps, xt, reconstructed, torch.tensor([70, 2, 9]), 100, 0)
    last = x[0].clone()
    last[2, 0, 1, 1] = min(1.0, x[0, 2, 0, 1, 1].item() + 0.75)
    order = [1, 2, 0]
    assert_shows(figure, [[stage[i] for i in order] for stage in (x[0], x[1], x[2], last)])
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["t = 2", "t = 9", "t = 70"]
    assert "max abs error 1.5e+00" in figure.get_suptitle()


def test_untrained_prediction_stands_under_the_noise_and_states_its_mean_squared_error() -> None:
    xt, eps = random_images(2, 1, 4, 4), random_images(2, 1, 4, 4, seed=1) / 2
    figure = pictures.untrained_prediction(
        signed(xt), signed(eps), signed(eps) + 0.5, torch.tensor([5, 3]), "eps", LABEL
    )
    assert_shows(figure, [[xt[1], xt[0]], [eps[1], eps[0]], [eps[1] + 0.25, eps[0] + 0.25]])
    words = figure.texts[1].get_text().replace("\n", " ")
    assert f"answering 0 (grey) would score {signed(eps).square().mean():.2f}" in words
    assert "Mean squared error 0.25" in words


def test_previews_are_cut_into_their_six_cells_at_the_first_last_and_evenly_spaced_moments() -> None:
    panels = random_images(7, 2, 3, 8, 15)
    figure = pictures.training_previews(panels, torch.arange(10, 80, 10), LABEL, n_moments=3)
    rows = [
        [panels[moment, i, :, y : y + 4, left : left + 5] for i in (0, 1) for left in (0, 5, 10)]
        for moment in (0, 3, 6)
        for y in (0, 4)
    ]
    assert_shows(figure, rows)
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == ["10: actual", "predicted", "40: actual", "predicted", "70: actual", "predicted"]


def test_samples_stand_under_one_row_of_real_images() -> None:
    samples, real = random_images(9, 1, 4, 4), random_images(5, 1, 4, 4, seed=1)
    figure = pictures.sample_grid(samples, real, LABEL, n_rows=2, n_columns=3)
    assert_shows(figure, [list(real[:3]), list(samples[:3]), list(samples[3:6])])
    assert figure.axes[0].get_xlabel().startswith("6 samples")


def test_samples_of_a_class_stand_beside_a_real_image_of_it() -> None:
    samples, real, labels = (
        random_images(7, 1, 4, 4),
        random_images(2, 1, 4, 4, seed=1),
        torch.tensor([1, 0, 0, 1, 1, 0, 1]),
    )
    figure = pictures.samples_by_class(samples, labels, real, ["shirt", "shoe"], LABEL, n_columns=4)
    assert_shows(figure, [[real[0], *samples[[1, 2, 5]]], [real[1], *samples[[0, 3, 4]]]])
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["shirt", "shoe"]
    # No row is longer than the rarest class allows.
    figure = pictures.samples_by_class(samples, labels, real, ["shirt", "shoe"], LABEL, n_columns=12)
    assert_shows(figure, [[real[0], *samples[[1, 2, 5]]], [real[1], *samples[[0, 3, 4]]]])


def test_denoising_has_a_row_a_sample_and_names_the_noise_steps_left() -> None:
    chain, num_steps = random_images(101, 2, 1, 4, 4), torch.arange(1000, -1, -10)
    figure = pictures.denoising(chain, num_steps, LABEL, n_columns=5)
    assert_shows(figure, [[chain[i, k] for i in (0, 25, 50, 75, 100)] for k in (0, 1)])
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["1,000", "750", "500", "250", "0"]


@pytest.mark.parametrize(("count", "n"), [(2, 2), (7, 7), (101, 20), (1001, 21), (5, 4)])
def test_evenly_spaced_picks_both_ends_and_what_is_nearest_to_even(count: int, n: int) -> None:
    picked = evenly_spaced(count, n).tolist()
    assert len(picked) == n
    assert (picked[0], picked[-1]) == (0, count - 1)
    assert all(abs(index - i * (count - 1) / (n - 1)) <= 0.5 for i, index in enumerate(picked))


def test_evenly_spaced_picks_all_where_there_are_too_few() -> None:
    assert evenly_spaced(3, 9).tolist() == [0, 1, 2]
    assert evenly_spaced(1, 9).tolist() == [0]


def test_a_pixel_is_a_square_of_a_whole_number_of_dots(tmp_path: Path) -> None:
    """Read back from the written file: the image, enlarged by repetition, is found at its place."""
    pixels = (random_images(2, 3, 5, 7) * 255).round() / 255
    figure = image_table(pixels, 2, title="t", note="n", xlabel="x", ylabel="y")
    save(figure, tmp_path / "table.png")
    with Image.open(tmp_path / "table.png") as file:
        written = torch.tensor(numpy.asarray(file.convert("RGB"))).long().permute(2, 0, 1)
    axes: Axes = figure.axes[0]
    box = axes.get_window_extent()
    for image, expected in zip(axes.images, pixels, strict=True):
        left, right, bottom, top = (round(edge) for edge in image.get_extent())
        scale = (right - left) // 7
        assert (right - left, bottom - top) == (7 * scale, 5 * scale)
        x, y = round(box.x0) + left, written.shape[1] - round(box.y1) + top
        enlarged = (expected * 255).round().long().repeat_interleave(scale, 1).repeat_interleave(scale, 2)
        assert (written[:, y : y + 5 * scale, x : x + 7 * scale] - enlarged).abs().max() <= 1  # matplotlib rounds down


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


def test_plot_img_does_not_fail_without_a_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("Agg")
    monkeypatch.delenv("DISPLAY", raising=False)
    plot_img(random_images(3, 4, 4))


@pytest.mark.parametrize("shape", [(2, 4, 4), (4, 4), (1, 3, 4, 4), (4, 4, 3), (3, 0, 4)])
def test_plot_img_rejects_what_is_not_one_image(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"1 or 3 channels, not \({', '.join(map(str, shape))}\)"):
        plot_img(torch.zeros(shape))


def test_neighbours_stand_under_their_samples() -> None:
    x = random_images(12, 1, 4, 4)
    figure = pictures.nearest_neighbours(x[:4], x[4:8], x[8:], torch.tensor([0.9, 0.8, 0.123, 0.2]), 2, LABEL)
    assert_shows(figure, [list(x[:4]), list(x[4:8]), list(x[8:])])
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["0.90", "0.80", "0.12", "0.20"]
