"""The page shows all results, works offline, escapes its inputs, and steps through chains in a browser."""

import colorsys
import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy
import pytest
import torch
from figures.made_up import PARAMS, table_of
from figures.rendered import STAGE, build, change
from page_reader import Page, decoded, rows_of
from PIL import Image
from project import REPO
from safetensors.torch import load_file

from ddpm.evaluation.metric import METRICS as RULERS
from ddpm.figures.page import darkened, trajectory
from ddpm.figures.topic import TOPICS, topics_in_order

HOSTILE = """</script><script>alert(1)</script><img src=x onerror='alert("2")'>{{ 7 * 7 }}"""
FIGURES = [figure for topic in topics_in_order().values() for figure in topic.figures.values()]
FIGURES.sort(key=lambda figure: figure.name != "unet_samples")  # shown first on the page
pytestmark = pytest.mark.usefixtures("page_inputs")


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


def test_page_is_deterministic_and_contains_no_local_path(page_inputs):
    first = build()
    assert first == build()
    assert str(page_inputs) not in first


def test_stage_depends_on_all_topics_metrics_and_templates():
    topics, rulers = ({registry.module(name) for name in registry} for registry in (TOPICS, RULERS))
    assert set(STAGE.entries) == topics | rulers
    templates = {dep for dep in STAGE.deps if dep.startswith("src/")}
    assert templates == {str(path.relative_to(REPO)) for path in REPO.glob("src/ddpm/figures/**/*.html")}


def test_slider_steps_through_chain_in_browser(page_inputs):
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium on PATH")
    build()
    page = page_inputs / "reports/index.html"
    # Browsers send this event for arrow keys and touch.
    drive = """<script>
    for (const slider of document.querySelectorAll("input")) {
      slider.value = 3;
      slider.dispatchEvent(new Event("input"));
    }
    </script></body>"""
    driven = page_inputs / "driven.html"
    driven.write_text(page.read_text().replace("</body>", drive))
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={page_inputs / 'profile'}"]
    done = subprocess.run([*command, "--dump-dom", driven.as_uri()], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    dom = Page(done.stdout)
    chains = [json.loads(a["data-chain"]) for a, _ in dom.all("figure") if "data-chain" in a]
    shown = [attributes["src"] for attributes, _ in dom.all("img") if attributes.get("class") == "pixels"]
    assert shown == [uris[3] for chain in chains for uris in chain["shown"]]
    assert [text for _, text in dom.all("output")] == [f"{chain['steps'][3]} noise steps left" for chain in chains]
    assert [a["aria-valuetext"] for a, _ in dom.all("input")] == [text for _, text in dom.all("output")]
