"""The figures show exactly the pixels and numbers given, say what they are, and are the same bytes on every run."""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy
import pytest
import torch
from drawn import assert_shows, points, random_images, signed
from matplotlib import rc_context, rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from ddpm.evaluation.features import CLASSES
from ddpm.figures import bound, curves, paper, pictures
from ddpm.figures.canvas import evenly_spaced, image_table, run_label, save
from ddpm.figures.pictures import plot_img

LABEL = run_label("U-Net", 1234, 42)
STEPS = (25, 50, 100, 200)
SAMPLERS = ("ancestral", "ddim", "dpmpp_2m", "dpmpp_3m", "unipc", "heun")
ERRORS = {
    schedule: {name: [(t, (200 + 20 * i) / t) for t in STEPS] for i, name in enumerate(SAMPLERS)}
    for schedule in ("linear", "rescaled_linear", "cosine")
}
NETWORK = ("cosine", 100, 9.0)
SHARES = {"samples": "0.11", "low": "0.09", "high": "0.13", "reference_seen": "0.1"}
CLASS_ROWS = [{"class": name, **SHARES} for name in CLASSES]
QUALITY = [
    {"num_steps": str(t), "fid_fashion_cnn": str(t / 10), "low": str(t / 12), "high": str(t / 9)} for t in (200, 50, 4)
]
QUARTILES = [
    {"step": str(step), **{f"train_loss_q{q}": str(0.001 * 5**q / step) for q in range(1, 5)}}
    for step in (25, 50, 1234)
]
RATES = [
    {"t": t, "distortion": 0.3 * t, "rate_fixed_small": 3 / (t + 1), "rate_fixed_large": 4 / (t + 1)} for t in range(51)
]
BOUND_ROWS = [
    {
        **{"denoiser": who, "schedule": schedule, "max_steps": steps, "variance": variance, "margin": 0.1},
        **{"L_0": 2.0, "L_between": 1.5, "L_T": 300 / steps**2},
    }
    for who, schedule, steps in [("tiny", "cosine", 100), *(("exact", name, t) for name in ERRORS for t in STEPS)]
    for variance in ("fixed_small", "fixed_large")
]
LAMBDAS = [0.0, 0.5, 1.0]


def in_words(rows: Iterable[Mapping[str, object]]) -> list[dict[str, str]]:
    """As they are read from a CSV file."""
    return [{key: str(value) for key, value in row.items()} for row in rows]


def make(name: str) -> Figure:
    """A small figure of each kind."""
    x = random_images(5, 3, 6, 4)
    steps = torch.tensor([30, 7, 200, 11, 1])
    curve = [(50, 0.9), (100, 0.5), (1000, 0.00005), (1234, 0.04)]
    makers: dict[str, Callable[[], Figure]] = {
        "gradients": lambda: pictures.gradients(x, 42),
        "normalization": lambda: pictures.normalization(x, 42),
        "forward_process": lambda: pictures.forward_process(x[0], x[:2], x[2:4], x[:2], [1, 1234], [0.99, 0.1], 42),
        "noising": lambda: pictures.noising(x, x, x, x, steps, 1234, 42),
        "untrained_prediction": lambda: pictures.untrained_prediction(x, x, x, steps, "v", LABEL),
        "training_previews": lambda: pictures.training_previews(
            random_images(6, 2, 1, 8, 12), torch.arange(6) * 1000, LABEL
        ),
        "sample_grid": lambda: pictures.sample_grid(x, x, LABEL),
        "samples_by_class": lambda: pictures.samples_by_class(
            random_images(30, 1, 7, 7), torch.arange(30) % 10, random_images(10, 1, 7, 7), CLASSES, LABEL
        ),
        "denoising": lambda: pictures.denoising(random_images(1001, 2, 1, 5, 5), torch.arange(1000, -1, -1), LABEL),
        "nearest_neighbours": lambda: pictures.nearest_neighbours(x, x, x, torch.rand(5), 2, LABEL),
        "x0_estimates": lambda: paper.x0_estimates(
            random_images(13, 2, 1, 7, 7), torch.arange(1000, 87, -76), 50, LABEL
        ),
        "shared_latents": lambda: paper.shared_latents(
            random_images(2, 3, 1, 7, 7), random_images(2, 3, 11, 1, 7, 7), torch.tensor([1000, 50, 7]), 50, LABEL
        ),
        "interpolation": lambda: paper.interpolation(
            random_images(6, 2, 1, 7, 7),
            random_images(6, 11, 1, 7, 7),
            torch.linspace(0, 1, 11).tolist(),
            100,
            50,
            LABEL,
        ),
        "coarse_to_fine": lambda: paper.coarse_to_fine(x[:2], x[None, :3], LAMBDAS, torch.tensor([1000]), 50, LABEL),
        "rate_distortion": lambda: bound.rate_distortion(in_words(RATES), 1000, LABEL),
        "bound_by_steps": lambda: bound.bound_by_steps(in_words(BOUND_ROWS), 0.799, LABEL),
        "x0_quality": lambda: curves.x0_quality(QUALITY, 0.04, 1024, 50, "test", "55b86d742046", LABEL),
        "class_histogram": lambda: curves.class_histogram(CLASS_ROWS, 1024, "test", LABEL),
        "loss_curves": lambda: curves.loss_curves(curve, curve, "v", LABEL),
        "loss_by_timestep": lambda: curves.loss_by_timestep(curve, "eps", LABEL),
        "loss_curves_of_the_bound": lambda: curves.loss_curves(curve, curve, "mean", LABEL, 0.01, "bound"),
        "loss_curves_of_x0": lambda: curves.loss_curves(curve, curve, "v", LABEL, 0.01, "x0"),
        "loss_curves_of_min_snr": lambda: curves.loss_curves(curve, curve, "v", LABEL, 0.01, "min_snr"),
        "loss_by_timestep_of_the_mean": lambda: curves.loss_by_timestep(curve, "mean", LABEL),
        "loss_by_quartile": lambda: curves.loss_by_quartile(QUARTILES, 1000, LABEL),
        "loss_curves_above_the_optimum": lambda: curves.loss_curves(curve, curve, "eps", LABEL, 0.01),
        "sampler_error": lambda: curves.sampler_error(ERRORS, 1.5, NETWORK, 2.5, LABEL),
    }
    return makers[name]()


DATA = ["gradients", "normalization"]
FORWARD = ["forward_process", "noising"]
MODEL = ["untrained_prediction", "training_previews", "sample_grid", "denoising", "loss_curves", "loss_by_timestep"]
MODEL += ["loss_curves_above_the_optimum", "sampler_error", "bound_by_steps", "loss_by_quartile"]
MODEL += ["loss_curves_of_the_bound", "loss_curves_of_x0", "loss_curves_of_min_snr", "loss_by_timestep_of_the_mean"]
MODEL += ["nearest_neighbours", "class_histogram", "samples_by_class"]
PAPER = ["x0_estimates", "shared_latents", "interpolation", "coarse_to_fine", "x0_quality", "rate_distortion"]


@pytest.mark.parametrize("name", DATA + FORWARD + MODEL + PAPER)
def test_a_figure_says_what_it_shows(name: str) -> None:
    figure = make(name)
    assert isinstance(figure, Figure)
    assert "seed 42" in figure.get_suptitle()
    if name in FORWARD:
        assert "1,234 steps" in figure.get_suptitle()
    if name in PAPER:
        assert re.match(r"Figures? \d", figure.get_suptitle())
        assert "of 50" in figure.texts[1].get_text().replace("\n", " ")
    if name in MODEL + PAPER:
        assert "U-Net after 1,234 training steps" in figure.get_suptitle()
    for axes in figure.axes:
        assert axes.get_xlabel()
        assert axes.get_ylabel()


@pytest.mark.parametrize("name", DATA + FORWARD + MODEL + PAPER)
def test_no_words_collide_or_leave_the_figure(name: str) -> None:
    figure = make(name)
    figure.draw_without_rendering()
    axes = figure.axes[0]
    (low, high), (bottom, top) = sorted(axes.get_xlim()), sorted(axes.get_ylim())
    labels = [axes.xaxis.label, axes.yaxis.label]
    labels += [text for text in axes.get_xticklabels() if low <= text.get_position()[0] <= high]  # others are hidden
    labels += [text for text in axes.get_yticklabels() if bottom <= text.get_position()[1] <= top]
    legends = [axes.get_legend(), *figure.legends]
    texts = [*figure.texts, *labels, *(text for legend in legends if legend for text in legend.get_texts())]
    texts = [text for text in texts if text.get_text().strip()]
    boxes = [text.get_window_extent() for text in texts]
    for i, box in enumerate(boxes):
        assert min(box.x0, box.y0) >= 0, texts[i]
        assert box.x1 <= figure.bbox.x1, texts[i]
        assert box.y1 <= figure.bbox.y1, texts[i]
        # Boxes may touch by a dot: they are rounded outwards.
        assert not any(box.padded(-1).overlaps(other.padded(-1)) for other in boxes[:i]), texts[i]


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
    assert f"answering 0 would score {signed(eps).square().mean():.2f}" in words
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


def test_each_quartile_has_its_curve_and_empty_cells_are_left_out() -> None:
    rows = [
        {"step": "2", "train_loss_q1": "0.1", "train_loss_q2": "", "train_loss_q3": "0.3", "train_loss_q4": "0.4"},
        {"step": "4", "train_loss_q1": "0.01", "train_loss_q2": "", "train_loss_q3": "", "train_loss_q4": "0.04"},
    ]
    axes = curves.loss_by_quartile(rows, 50, LABEL).axes[0]
    assert [points(line) for line in axes.lines] == [[(2, 0.1), (4, 0.01)], [(2, 0.3)], [(2, 0.4), (4, 0.04)]]
    words = [text.get_text() for text in axes.get_legend().get_texts()]
    assert words == ["t = 1 to 13: 0.01", "t = 26 to 38: 0.3", "t = 39 to 50: 0.04"]  # (t - 1) / 50 in quarters


def test_curves_are_the_numbers_given_on_a_log_scale() -> None:
    train, evaluation = [(50, 0.9), (100, 0.3), (150, 0.25)], [(100, 0.4), (150, 0.2)]
    axes = curves.loss_curves(train, evaluation, "eps", LABEL).axes[0]
    assert [points(line) for line in axes.lines[:2]] == [train, evaluation]
    assert axes.get_yscale() == "log"
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        "training: 0.2500 at the end",
        "evaluation: 0.2000 at the end",
    ]
    by_timestep = [(1, 0.8), (2, 0.4), (3, 0.3)]
    axes = curves.loss_by_timestep(by_timestep, "eps", LABEL).axes[0]
    assert points(axes.lines[0]) == by_timestep
    assert axes.get_yscale() == "log"


def test_the_least_possible_loss_and_the_sampler_error_are_the_numbers_given() -> None:
    losses, optimal = [(1, 0.8), (2, 0.4)], [(1, 0.7), (2, 0.1)]
    axes = curves.loss_by_timestep(losses, "eps", LABEL, optimal).axes[0]
    assert [points(line) for line in axes.lines[:2]] == [losses, optimal]
    axes = curves.loss_curves(losses, losses, "v", LABEL, 0.05).axes[0]
    assert [y for _, y in points(axes.lines[2])] == [0.05, 0.05]
    figure = curves.sampler_error(ERRORS, 1.5, NETWORK, 2.5, LABEL)
    for axes, curve_by_sampler in zip(figure.axes, ERRORS.values(), strict=True):
        assert [points(line) for line in axes.lines[:6]] == list(curve_by_sampler.values())
        assert [y for _, y in points(axes.lines[-1])] == [1.5, 1.5]
    assert [len(axes.lines) for axes in figure.axes] == [7, 7, 8]
    assert points(figure.axes[2].lines[6]) == [(100, 9.0)]


def test_the_same_figure_gives_the_same_bytes_whatever_the_users_matplotlibrc(tmp_path: Path) -> None:
    for name in ("loss_curves", "sample_grid"):
        save(make(name), tmp_path / "one.png")
        with rc_context(
            {"font.size": 30, "axes.facecolor": "red", "savefig.dpi": 40, "image.interpolation": "bicubic"}
        ):
            save(make(name), tmp_path / "two.png")
        assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
        assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")


def test_drawing_leaves_matplotlibs_settings_alone(tmp_path: Path) -> None:
    before = dict(rcParams)
    save(make("denoising"), tmp_path / "figure.png")
    assert dict(rcParams) == before


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


def test_class_bars_are_the_shares_and_their_lines_the_interval() -> None:
    axes = curves.class_histogram(CLASS_ROWS, 1024, "test", LABEL).axes[0]
    bars = {
        bar.get_label(): [patch.get_height() for patch in bar] for bar in axes.containers if bar.get_label()[0] != "_"
    }
    assert bars == {"samples": [0.11] * 10, "real images": [0.1] * 10}
    (lines,) = axes.collections
    ends = [[y for _, y in segment] for segment in lines.get_segments()]
    assert numpy.allclose(ends, [[0.09, 0.13]] * 10)
    assert [text.get_text() for text in axes.get_xticklabels()] == list(CLASSES)
