"""The numbers on the page: all of the reports, in the rows and sections that they belong to."""

import json
import re
from pathlib import Path

import pytest
from figures.made_up import METRICS, table_of
from figures.rendered import build, controls
from page_reader import Page, rows_of, section
from PIL import Image

from ddpm.evaluation.metric import METRICS as RULERS
from ddpm.run.files import write_json

pytestmark = pytest.mark.usefixtures("page_inputs")


def numbers(value) -> list:
    """The numbers and booleans in nested dicts and lists."""
    if isinstance(value, dict):
        return [leaf for inner in value.values() for leaf in numbers(inner)]
    if isinstance(value, list):
        return [leaf for inner in value for leaf in numbers(inner)]
    return [] if isinstance(value, str) else [value]


def test_page_shows_exactly_the_numbers_of_the_reports():
    """But for controls: no intervals, and no scores that neither detect nor miss a control."""
    shown = [attributes["value"] for attributes, _ in Page(build()).all("data")]
    reports = [table_of(path) for path in Path("reports").glob("*/*.json")]
    hidden = set[str]()
    for found in (found for control in controls().values() for found in control["metrics"].values()):
        unseen = ("low", "high") if found["seen"] or found["must"] else ("low", "high", "value", "floor")
        hidden |= {str(found[key]) for key in unseen}
    assert set(shown) == {str(leaf) for report in reports for leaf in numbers(report)} - hidden


def test_metric_rows_show_value_floor_direction_and_sensitivity():
    rows, scores = rows_of(section(build(), "quality")), table_of(Path("reports/evaluate_unet/scores.json"))
    for name, better in METRICS.items():
        (row,) = [Page(row) for row in rows if f"<code>{name}</code><br>" in row]
        got = [float(attributes["value"]) for attributes, _ in row.all("data")]
        found = scores["metrics"][name]
        assert got == [found[kind][key] for kind in ("samples", "floor") for key in ("value", "low", "high")]
        assert [text for _, text in row.all("data")] == [f"{number:.4g}" for number in got]
        assert [text for _, text in row.all("td")][2:] == [better]
        assert [text for _, text in row.all("span")] == [f"what {name} sees"]
    for name in set(scores) - {"metrics"}:
        (row,) = [Page(row) for row in rows if f"<code>{name}</code></th>" in row]
        shown = [a["value"] for a, _ in row.all("data")] or [text for _, text in row.all("code")][1:]
        assert shown == [str(scores[name])]


def test_quality_section_starts_with_worst_view_of_samples_and_of_real_images():
    scores = table_of(Path("reports/evaluate_unet/scores.json"))
    worst = scores["metrics"]["auc_two"]["samples"], scores["metrics"]["auc_one"]["floor"]
    first = [float(a["value"]) for a, _ in Page(section(build(), "quality")).all("data")][:6]
    assert first == [found[key] for found in worst for key in ("value", "low", "high")]


def test_header_shows_samples_headline_metrics_and_commands():
    scores = table_of(Path("reports/evaluate_unet/scores.json"))
    template = scores["metrics"].pop("newcomer")
    names = ["recall_classifier", "duplicates_pixel", "fid_classifier", "coverage_classifier"]  # last: not shown
    scores["metrics"] |= {name: json.loads(json.dumps(template)) for name in names}
    for i, name in enumerate(scores["metrics"]):
        scores["metrics"][name]["samples"]["value"] = 100.5 + i
        scores["metrics"][name]["floor"]["value"] = 200.5 + i
    write_json(Path("reports/evaluate_unet/scores.json"), scores)
    (header,) = re.findall(r"<header>.*?</header>", build(), re.DOTALL)
    page = Page(header)
    assert [text for _, text in page.all("dt")] == [scores["headline"], *sorted(names[:3], key=list(RULERS).index)]
    for name, block in zip(
        [text for _, text in page.all("dt")], re.findall(r"<dt>.*?</div>", header, re.DOTALL), strict=True
    ):
        found = re.findall(r'value="([^"]+)"', block)
        assert found == [str(scores["metrics"][name][kind]["value"]) for kind in ("samples", "floor")]
    with Image.open("reports/figures/unet_samples.png") as image:
        assert [a["alt"] for a, _ in page.all("img")] == [image.info["Alt"]]
    assert [line.split("#")[0].strip() for line in page.all("pre")[0][1].splitlines()] == ["make repro", "make ui"]


def test_control_rows_show_value_and_floor_of_metrics_that_detect_or_miss_it():
    (row,) = [Page(row) for row in rows_of(section(build(), "quality")) if "<code>grey</code>" in row]
    found = controls()["grey"]["metrics"]
    cells = {name: f"{name} {found[name]['value']:.4g} ({found[name]['floor']:.4g})" for name in found}
    detected = f"{cells['auc_one']}, {cells['newcomer']}"
    assert [" ".join(text.split()) for _, text in row.all("td")] == [detected, cells["auc_two"]]
    assert [text for _, text in row.all("span")] == ["all grey"]


def test_table_cells_match_their_row_and_column_headings():
    rows = rows_of(build())
    bound = table_of(Path("reports/bound/bound.json"))["variances"]
    for variance, splits in bound.items():
        for split, words in (("test", "test split"), ("train", "training split"), ("gap", "test minus training split")):
            (row,) = [Page(row) for row in rows if f"<code>{variance}</code>, {words}</th>" in row]
            found = splits[split]
            expected = [found["bits_per_dim"][key] for key in ("value", "low", "high")]
            expected += [found[part] for part in ("L_T", "L_between", "L_0")]
            assert [a["value"] for a, _ in row.all("data")] == list(map(str, expected))
    (table,) = [text for _, text in Page(section(build(), "paper")).all("caption") if text.startswith("Table 4")]
    assert table.endswith("with variance learned.")  # the first of params
    exact = table_of(Path("reports/evaluate_tiny/metrics.json"))
    (row,) = [Page(row) for row in rows if "does the model pass it?" in row]
    assert [text for _, text in row.all("data")] == ["no", "yes"]
    (row,) = [Page(row) for row in rows if "to the nearest gradient" in row]
    assert [a["value"] for a, _ in row.all("data")] == [str(exact[f"{who}_distance"]) for who in ("tiny", "exact")]


def test_training_metrics_are_in_the_section_of_their_network():
    page = build()
    for name in ("tiny", "unet"):
        found = table_of(Path(f"reports/train_{name}/metrics.json"))
        shown = [attributes["value"] for attributes, _ in Page(section(page, name)).all("data")]
        assert shown == [str(found[key]) for key in ("steps", "train_loss", "eval_loss", "parameters")]
