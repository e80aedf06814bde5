"""Tables, markers and figures."""

import pytest

from benchmarks.core.report import BEGIN, END, figure, insert, real_images, spread, summary, table
from ddpm.errors import UserError


def test_table_is_markdown():
    assert table(("a", "b"), [("1", 2), ("3", 4)]) == "| a | b |\n| --- | --- |\n| 1 | 2 |\n| 3 | 4 |"


def test_spread_is_mean_and_standard_deviation():
    assert spread([]) == "-"
    assert spread([2.0]) == "2"
    assert spread([1.0, 2.0, 3.0]) == "2 ± 1"


def test_summary_has_a_line_per_group_and_dash_for_no_value():
    values = ({"name": "a", "fid": "1", "kid": ""}, {"name": "b", "fid": "5", "kid": "7"}, {"name": "a", "fid": "3"})
    assert summary(values, ("name",), ("fid", "kid")).splitlines()[2:] == [
        "| a | 2 | 2 ± 1.4 | - |",
        "| b | 1 | 5 | 7 |",
    ]


def test_real_images_use_the_newest_row():
    rows = [{"fid_floor": "1", "kid_floor": "2"}, {"fid_floor": "3", "kid_floor": ""}]
    assert real_images(rows, ("fid", "kid")) == "fid 3, kid 2"


def test_insert_replaces_text_between_markers(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    for text in ("first", "second\n\n| a |", "second\n\n| a |"):
        insert(page, text)
        assert page.read_text() == f"before\n{BEGIN}\n\n{text}\n\n{END}\nafter\n"


@pytest.mark.parametrize("text", ["no markers", f"{BEGIN} no end", f"no begin {END}"])
def test_insert_rejects_page_without_markers(tmp_path, text):
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(UserError, match="lacks"):
        insert(page, "result")
    assert page.read_text() == text


def test_figure_draws_means_ranges_and_reference_levels():
    panels = {"one": {"a": {1.0: [1.0, 3.0], 10.0: [4.0]}}, "two": {"a": {1.0: [5.0]}, "b": {10.0: [6.0]}}}
    drawn = figure("title", "note", "x", "y", panels, {"real images": 0.5})
    first, second = drawn.axes
    (line,) = [line for line in first.lines if line.get_marker() == "o"]
    assert line.get_xydata().tolist() == [[1.0, 2.0], [10.0, 4.0]]
    (bars,) = first.collections
    assert [segment[:, 1].tolist() for segment in bars.get_segments()] == [[1.0, 3.0], [4.0, 4.0]]
    assert len([line for line in second.lines if line.get_marker() == "o"]) == 2
    assert [line.get_ydata()[0] for line in first.lines if line.get_linestyle() == "--"] == [0.5]
    assert first.get_xscale() == first.get_yscale() == "log"
    assert [text.get_text() for text in drawn.legends[0].get_texts()] == ["real images: 0.500", "a", "b"]


def test_figure_accepts_categorical_x_values():
    drawn = figure("title", "note", "x", "y", {"one": {"a": {"bound": [1.0, 2.0], "simple": [3.0]}}})
    assert [label.get_text() for label in drawn.axes[0].get_xticklabels()] == ["bound", "simple"]
