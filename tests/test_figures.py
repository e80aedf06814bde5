"""Every figure says what it is and has the same bytes on every run; curves show exactly the numbers given."""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy
import pytest
import torch
from drawn import points, random_images
from matplotlib import rc_context, rcParams
from matplotlib.figure import Figure

from ddpm.evaluation.classifier import CLASSES
from ddpm.figures import bound, curves, paper, pictures
from ddpm.figures.canvas import run_label, save

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
