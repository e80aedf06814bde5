"""Diagrams of the doors' parts: texts are legible, and arrows end at boxes."""

from importlib import import_module
from itertools import combinations
from pkgutil import iter_modules

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from ddpm import figures
from ddpm.figures.parts import Flow, Part, parts_diagram

MODULES = [import_module(f"ddpm.figures.{module.name}") for module in iter_modules(figures.__path__)]
FIGURES = [entry for module in MODULES if hasattr(module, "TOPIC") for entry in module.TOPIC.figures.values()]
DIAGRAMS = {entry.name: entry.draw for entry in FIGURES if entry.name.endswith("_parts")}


def boxes(figure):
    """Extents of the texts, in dots."""
    FigureCanvasAgg(figure).draw()
    [axes] = figure.axes
    return {text: (text.get_bbox_patch() or text).get_window_extent() for text in axes.texts if text.get_text()}


@pytest.mark.parametrize("name", DIAGRAMS)
def test_texts_do_not_overlap_or_leave_the_diagram(name):
    figure = DIAGRAMS[name](None)
    found = boxes(figure)
    assert len(found) > 5
    for (one, its), (other, theirs) in combinations(found.items(), 2):
        assert not its.overlaps(theirs), (one.get_text(), other.get_text())
    for text, box in found.items():
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1, text.get_text()
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1, text.get_text()


def test_parts_are_placed_by_column_and_row_from_upper_left():
    parts = {"a": Part(0, 0, learns=False), "b": Part(1, 0), "c": Part(1, 1)}
    found = {text.get_text(): box for text, box in boxes(parts_diagram("T", "N", parts, [Flow("a", "b", "x")])).items()}
    assert found["a"].x1 < found["x"].x0 < found["x"].x1 < found["b"].x0
    assert found["c"].y1 < found["b"].y0


def test_arrow_to_unknown_part_raises():
    with pytest.raises(KeyError, match="nowhere"):
        parts_diagram("T", "N", {"a": Part(0, 0)}, [Flow("a", "nowhere")])
