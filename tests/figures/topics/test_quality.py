"""Topic quality: bars are the shares of the table, and neighbours are below their samples."""

import numpy
import pytest
from figures.drawn import assert_shows, columns, legend, note
from figures.made_up import CLASSES, SECTIONS, stage_run
from safetensors.torch import load_file

from ddpm.figures.topics import quality

pytestmark = pytest.mark.usefixtures("outputs")


@pytest.fixture
def inputs() -> quality.Inputs:
    return quality.load(stage_run("render_quality"))


def test_class_bars_show_shares_and_intervals(inputs):
    figure = quality.unet_classes(inputs)
    axes, rows = figure.axes[0], inputs.classes
    bars = {
        bar.get_label(): [patch.get_height() for patch in bar] for bar in axes.containers if bar.get_label()[0] != "_"
    }
    shares = {name: [float(row[name]) for row in rows] for name in ("samples", "reference_seen", "low", "high")}
    assert bars == {"samples": shares["samples"], "real images": shares["reference_seen"]}
    assert legend(figure) == ["samples", "real images"]
    (lines,) = axes.collections
    ends = [[y for _, y in segment] for segment in lines.get_segments()]
    assert numpy.allclose(ends, list(zip(shares["low"], shares["high"], strict=True)))
    assert [text.get_text() for text in axes.get_xticklabels()] == list(CLASSES)
    assert "888 samples" in note(figure)
    assert "the test split" in note(figure)


def test_neighbours_are_below_their_samples(inputs):
    samples = load_file("samples/unet.safetensors")["samples"] / 255
    train = load_file("data/images/train.safetensors")["images"] / 255
    # The first two, and the three of the lowest closeness. Sample i has the neighbours 11 + i and 3 + i.
    shown = [0, 1, 3, 7, 6]
    assert SECTIONS["render_quality"].n_columns == len(shown)
    figure = quality.unet_neighbours(inputs)
    assert_shows(figure, [[samples[i] for i in shown], [train[11 + i] for i in shown], [train[3 + i] for i in shown]])
    assert columns(figure) == ["0.90", "0.80", "0.10", "0.20", "0.30"]
    assert figure.axes[0].get_xlabel() == "the first 2 samples, then the 3 closest to a training image"
