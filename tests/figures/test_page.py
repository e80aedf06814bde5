"""The page shows all results, works offline, escapes its inputs, and steps through chains in a browser."""

import colorsys
import hashlib
import json
import re
import runpy
import shutil
import subprocess
from pathlib import Path

import numpy
import pytest
import torch
from figures.made_up import METRICS, PARAMS, stage_run, table_of
from matplotlib.figure import Figure
from page_reader import Page, decoded, rows_of, section
from PIL import Image
from project import REPO
from safetensors.torch import load_file

from ddpm.evaluation.metric import METRICS as RULERS
from ddpm.figures.canvas import DPI, save
from ddpm.figures.page import darkened, trajectory
from ddpm.figures.topic import TOPICS, topics_in_order
from ddpm.run.files import write_json

HOSTILE = """</script><script>alert(1)</script><img src=x onerror='alert("2")'>{{ 7 * 7 }}"""
FIGURES = [figure for topic in topics_in_order().values() for figure in topic.figures.values()]
FIGURES.sort(key=lambda figure: figure.name != "unet_samples")  # shown first on the page
STAGE = runpy.run_path(str(REPO / "stages/render_page.py"))["STAGES"]["render_page"]


def numbers(value) -> list:
    """The numbers and booleans in nested dicts and lists."""
    if isinstance(value, dict):
        return [leaf for inner in value.values() for leaf in numbers(inner)]
    if isinstance(value, list):
        return [leaf for inner in value for leaf in numbers(inner)]
    return [] if isinstance(value, str) else [value]


def build() -> str:
    """Run the stage and return the page."""
    STAGE.main(stage_run("render_page"))
    return Path("reports/index.html").read_text()


def change(path: str, **values: object) -> None:
    write_json(Path(path), table_of(Path(path)) | values)


def controls() -> dict:
    return table_of(Path("reports/controls/controls.json"))


@pytest.fixture(scope="module")
def with_figures(made_up, tmp_path_factory) -> Path:
    """Made-up outputs of all other stages; figures have captions, but few pixels."""
    folder = tmp_path_factory.mktemp("with_figures")
    shutil.copytree(made_up, folder, dirs_exist_ok=True)
    draw = numpy.random.default_rng(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, topic in TOPICS.items():
            inputs = topic.load(stage_run(f"render_{name}"))
            for entry in topic.figures.values():
                figure = Figure(figsize=(8 / DPI, 6 / DPI), dpi=DPI)
                figure.figimage(draw.integers(256, size=(6, 8, 3), dtype=numpy.uint8))
                save(figure, entry.path, entry.caption.format(inputs=inputs), entry.alt.format(inputs=inputs))
    return folder


@pytest.fixture(autouse=True)
def folder(with_figures, tmp_path, monkeypatch) -> Path:
    """A copy in the working folder, which tests may change."""
    shutil.copytree(with_figures, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_page_links_to_every_door_with_a_page():
    links = [a["href"] for a, _ in Page(build()).all("a") if a["href"].startswith("..")]
    pages = [door / "reports/index.html" for door in sorted(REPO.glob("doors/*")) if (door / "stages/page.py").exists()]
    assert [(REPO / "reports" / link).resolve() for link in links] == pages
    assert len(links) >= 3


def test_page_works_offline_and_has_alt_texts_and_valid_links():
    text = build()
    page = Page(text)
    assert not re.search(r"https?:|@import|url\(", text)
    for _, attributes, _ in page.elements:
        for name in ("src", "href", "srcset", "data", "action"):
            assert attributes.get(name, "#").startswith(("data:image/", "#", "../doors/"))
    assert all(attributes["alt"].strip() for attributes, _ in page.all("img"))
    ids = [attributes["id"] for _, attributes, _ in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [a["href"] for a, _ in page.all("a")]
    targets = [link.removeprefix("#") for link in links if link[0] == "#"] + [a["for"] for a, _ in page.all("label")]
    assert set(targets) <= set(ids)
    assert len(page.all("figcaption")) == len(page.all("figure"))


def test_page_embeds_every_figure_with_caption_and_alt_text():
    shown = [(a["alt"], decoded(a["src"])) for a, _ in Page(build()).all("img") if a.get("class") != "pixels"]
    captions = [text for _, text in Page(build()).all("figcaption") if "noise steps left" not in text]
    assert len(shown) == len(captions) == len(FIGURES)
    for figure, (alt, pixels), caption in zip(FIGURES, shown, captions, strict=True):
        with Image.open(figure.path) as image:
            assert (image.info["Alt"], image.info["Caption"]) == (alt, caption)
            assert numpy.array_equal(numpy.asarray(image.convert("RGB")), pixels)


def test_darkened_figure_keeps_hues_and_embedded_images():
    """Lightness is inverted, as computed with the standard library's colorsys."""
    draw = numpy.random.default_rng(0)
    figure = Image.fromarray(draw.integers(256, size=(6, 8, 3), dtype=numpy.uint8))
    dark, light = (numpy.asarray(each) for each in (darkened(figure, [[2, 1, 5, 4]]), figure))
    ground = numpy.array([0x17, 0x1B, 0x22]) / 255
    for (y, x), _ in numpy.ndenumerate(light[..., 0]):
        if 1 <= y < 4 and 2 <= x < 5:
            assert (dark[y, x] == light[y, x]).all()
            continue
        hue, lightness, saturation = colorsys.rgb_to_hls(*light[y, x] / 255)
        turned = numpy.array(colorsys.hls_to_rgb(hue, 1 - lightness, saturation))
        assert abs(dark[y, x] - 255 * (ground + (1 - ground) * turned)).max() <= 0.5 + 1e-9
    white = Image.new("RGB", (1, 1), "white")
    assert darkened(white, []).getpixel((0, 0)) == (0x17, 0x1B, 0x22)


def test_trajectory_frames_are_evenly_spaced():
    t = torch.tensor([100, 99, 97, 50, 3, 2, 1, 0])
    images = torch.arange(8, dtype=torch.uint8).reshape(8, 1, 1, 1)
    chain = trajectory(images, images + 100, t)
    assert chain.num_steps == [100, 97, 50, 3, 0]  # nearest to 100, 86, 71, 57, 43, 29, 14, 0
    assert [decoded(uri).item() for uri in chain.frames] == [0, 2, 3, 4, 7]
    assert [decoded(uri).item() for uri in chain.estimates] == [100, 102, 103, 104, 107]
    assert trajectory(images, images, torch.arange(70, -1, -10)).num_steps == list(range(70, -1, -10))


def test_every_topic_has_a_heading_and_a_link():
    page, titles = Page(build()), [topic.title for topic in topics_in_order().values()]
    assert [text for _, text in page.all("h2")][: len(titles)] == titles
    assert [text for _, text in page.all("a")][: len(titles)] == titles


def test_sample_captions_state_the_conditioning():
    captions = [text for _, text in Page(build()).all("figcaption")]
    for network, words in (("gradients", "not cherry-picked"), ("images", "given the mean of a cluster")):
        start = f"Samples from pure noise, {words}"
        assert any(caption.startswith(start) and network in caption for caption in captions)


def test_page_shows_exactly_the_numbers_of_the_reports():
    """But for controls: no intervals, and no scores that neither detect nor miss a control."""
    shown = [attributes["value"] for attributes, _ in Page(build()).all("data")]
    reports = [table_of(path) for path in Path("reports").glob("*/*.json")]
    scores = [found for control in controls().values() for found in control["metrics"].values()]
    hidden = {str(found[end]) for found in scores for end in ("low", "high")}
    hidden |= {str(found[key]) for found in scores if not (found["seen"] or found["must"]) for key in ("value", "floor")}
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


def test_page_lists_params_and_hashes_of_all_inputs():
    text = build()
    cells = [[text for _, text in Page(row).all("code")] for row in rows_of(text)]
    pairs = [tuple(cell) for cell in cells if len(cell) == 2]
    titles = [text for attributes, text in Page(text).all("caption") if text in PARAMS or "." in text or "all" in text]
    assert {"for all stages", "data", "sample.tiny", "sample.tiny.ancestral", "sample.unet"} <= set(titles)
    leaves = [("seed", "42"), ("device", "auto"), ("name", "winter_clothes"), ("path", "null"), ("n_held_out", "9")]
    leaves += [("n_samples", "6"), ("variance", "fixed_small"), ("n_samples", "12")]
    leaves += [("variances", '["learned", "fixed_small"]')]
    read = {Path(dep) for dep in STAGE.deps if not dep.startswith(("src/", "plan/", "doors/"))}
    written = {path for part in ("data", "models", "samples", "reports") for path in Path(part).rglob("*.*")}
    assert read == written - {Path("reports/index.html")}
    digests = [(path.as_posix(), hashlib.md5(path.read_bytes()).hexdigest()) for path in read]
    scores = table_of(Path("reports/evaluate_unet/scores.json"))
    facts = [(name, value) for name, value in scores.items() if isinstance(value, str)]
    assert sorted(pairs) == sorted(leaves + digests + facts)


def test_page_names_the_data_set():
    text = build()
    assert "trained on the images of\n<code>winter_clothes</code>" in text
    assert "fashion" not in text.lower()


def test_trajectories_match_sample_files():
    walks = [a["data-chain"] for a, _ in Page(build()).all("figure") if "data-chain" in a]
    for walk, name in zip(walks, ("tiny", "unet"), strict=True):
        chain, kept = json.loads(walk), load_file(f"samples/{name}.safetensors")
        assert chain["steps"] == kept["num_steps"].tolist()
        for uris, what in zip(chain["shown"], ("steps", "estimates"), strict=True):
            frames = torch.stack([torch.tensor(decoded(uri)) for uri in uris])
            assert torch.equal(frames, kept[what][:, 0].permute(0, 2, 3, 1).squeeze(-1))


def test_html_in_inputs_is_escaped():
    change("plan/params.json", data={**PARAMS["data"], "path": "pictures"})
    before = [tag for tag, _, _ in Page(build()).elements]
    change("plan/params.json", data={**PARAMS["data"], "name": HOSTILE, "path": HOSTILE})
    change("reports/evaluate_unet/scores.json", extractor=HOSTILE)
    page = Page(build())
    assert [tag for tag, _, _ in page.elements] == before
    assert [text for _, text in page.all("code")].count(HOSTILE) == 6  # name thrice, path twice, extractor


def test_page_is_deterministic_and_contains_no_local_path(folder):
    first = build()
    assert first == build()
    assert str(folder) not in first


def test_stage_depends_on_all_topics_metrics_and_templates():
    topics, rulers = ({registry.module(name) for name in registry} for registry in (TOPICS, RULERS))
    assert set(STAGE.entries) == topics | rulers
    templates = {dep for dep in STAGE.deps if dep.startswith("src/")}
    assert templates == {str(path.relative_to(REPO)) for path in REPO.glob("src/ddpm/figures/**/*.html")}


def test_slider_steps_through_chain_in_browser(folder):
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium on PATH")
    build()
    page = folder / "reports/index.html"
    # Browsers send this event for arrow keys and touch.
    drive = """<script>
    for (const slider of document.querySelectorAll("input")) {
      slider.value = 3;
      slider.dispatchEvent(new Event("input"));
    }
    </script></body>"""
    driven = folder / "driven.html"
    driven.write_text(page.read_text().replace("</body>", drive))
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    done = subprocess.run([*command, "--dump-dom", driven.as_uri()], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    dom = Page(done.stdout)
    chains = [json.loads(a["data-chain"]) for a, _ in dom.all("figure") if "data-chain" in a]
    shown = [attributes["src"] for attributes, _ in dom.all("img") if attributes.get("class") == "pixels"]
    assert shown == [uris[3] for chain in chains for uris in chain["shown"]]
    assert [text for _, text in dom.all("output")] == [f"{chain['steps'][3]} noise steps left" for chain in chains]
    assert [a["aria-valuetext"] for a, _ in dom.all("input")] == [text for _, text in dom.all("output")]
