"""Diagrams of the doors' parts: texts are legible, and arrows end at boxes."""

from itertools import combinations

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from ddpm.figures import glide, imagen, latent
from ddpm.figures.parts import Flow, Part, parts_diagram

DIAGRAMS = {
    "glide": glide.glide_parts,
    "imagen": imagen.imagen_parts,
    "latent": latent.latent_parts,
}


def boxes(figure):
    """Extents of the texts, in dots."""
    FigureCanvasAgg(figure).draw()
    [axes] = figure.axes
    return {text: (text.get_bbox_patch() or text).get_window_extent() for text in axes.texts if text.get_text()}


@pytest.mark.parametrize("door", DIAGRAMS)
def test_texts_do_not_overlap_or_leave_the_diagram(door):
    figure = DIAGRAMS[door](None)
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
