"""The page holds what the pipeline made, needs no network, escapes what it is told, and walks chains in a browser."""

import hashlib
import json
import re
import runpy
import shutil
import subprocess
from base64 import b64decode
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image
from project import REPO, write_params
from ruamel.yaml import YAML
from safetensors.torch import load_file, save_file

from ddpm.run.params import load_params
from ddpm.errors import UserError
from ddpm.figures.page import TEMPLATE
from ddpm.run.stage import Stage
from ddpm.run.tracking.record import Run

HOSTILE = """</script><script>alert(1)</script><img src=x onerror='alert("2")'>{{ 7 * 7 }}"""
VOID = {"meta", "img", "input", "link", "br", "hr"}


class Page(HTMLParser):
    """Elements as (tag, attributes, text inside), in the order in which they open; fails on tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[list] = []
        self.open: list[list] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append([tag, dict(attrs), ""])
        if tag not in VOID:
            self.open.append(self.elements[-1])

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for element in self.open:
            element[2] += data

    def all(self, tag):
        return [(attributes, text) for name, attributes, text in self.elements if name == tag]


class Untracked(Run):
    def log_artifact(self, path: Path) -> None:
        assert path.is_file()


def decoded(uri: str) -> numpy.ndarray:
    return numpy.asarray(Image.open(BytesIO(b64decode(uri.partition(";base64,")[2]))))


def numbers(value) -> list:
    """The leaves of nested dicts and lists that are numbers or booleans."""
    if isinstance(value, dict):
        return [leaf for inner in value.values() for leaf in numbers(inner)]
    if isinstance(value, list):
        return [leaf for inner in value for leaf in numbers(inner)]
    return [] if isinstance(value, str) else [value]


def build(folder: Path) -> str:
    """Run the stage in `folder`, without tracking, and return what it wrote."""
    stage = Stage(load_params(), Untracked())
    runpy.run_path(str(REPO / "stages/render_page.py"))["main"](stage)
    return (folder / "reports/index.html").read_text()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Made-up outputs of all other stages, in the working folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(REPO / "params.yaml", tmp_path)
    draw = torch.Generator().manual_seed(0)
    declared = YAML(typ="safe").load(REPO / "dvc.yaml")["stages"]["render_page"]["deps"]
    for name in declared:
        if name.startswith(("data/", "models/")):
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_bytes(name.encode())
    for name, shape, moments in (("tiny", (3, 4, 5), 7), ("unet", (1, 28, 28), 5)):
        Path("samples").mkdir(exist_ok=True)
        steps = torch.randint(256, (moments, 2, *shape), dtype=torch.uint8, generator=draw)
        save_file({"steps": steps, "num_steps": 10 * torch.arange(moments).flip(0)}, f"samples/{name}.safetensors")
    Path("samples/paper.safetensors").write_bytes(b"only its hash is shown")

    def score(*keys):
        return {key: torch.rand((), generator=draw).item() for key in keys}

    trained = {"steps": 12_345, "parameters": 67_890}
    measures = ("corner_error", "samples_floor", "p_value", "distance")
    measures += "bound_fixed_small", "bound_fixed_small_margin", "bound_fixed_large", "bound_fixed_large_margin"
    losses = ("loss", "optimal_loss", "excess_loss", "excess_loss_standard_error", "excess_loss_relative")
    losses += ("excess_noise_loss_relative",)
    metrics = {
        "train_tiny": {**score("train_loss", "eval_loss"), **trained},
        "train_unet": {**score("train_loss", "eval_loss"), **trained},
        "train_classifier": {**score("test_accuracy", "train_loss"), "parameters": 4_321},
        "evaluate_tiny": {
            **score("optimal_eval_loss", "entropy", *losses),
            **score(*(f"{who}_{what}" for who in ("tiny", "exact") for what in measures)),
            "tiny_corners_uniform": False,
            "exact_corners_uniform": True,
        },
        "evaluate_unet": {
            "n_samples": 1024,
            "reference": "test",
            "extractor": "58f213f585c7",
            "extractor_inception": "6726825d0af5",
            **score("duplicate_threshold_pixel", "duplicate_threshold_fashion_cnn"),
            **{
                name: {kind: score("value", "low", "high") for kind in ("samples", "floor")}
                for name in (
                    *(f"{kind}_fashion_cnn" for kind in ("fid", "kid", "precision", "recall", "class_distance")),
                    *(f"duplicates_{space}" for space in ("pixel", "fashion_cnn")),
                    *("label_accuracy_fashion_cnn", "fid_inception"),  # only where they were asked for
                )
            },
        },
    }
    metrics["bound"] = {
        "n_images": 321,
        "stride": 7,
        "variances": {
            variance: {
                split: {"bits_per_dim": score("value", "low", "high"), **score("L_0", "L_between", "L_T")}
                for split in ("train", "test", "gap")
            }
            for variance in ("fixed_small", "learned")
        },
        "rate_distortion": [{"t": t, **score("rate", "distortion")} for t in (222, 111, 1)],
    }
    metrics["paper"] = {
        **{key: metrics["evaluate_unet"][key] for key in ("n_samples", "reference", "extractor")},
        "fid_fashion_cnn_floor": score("value", "low", "high"),
    }
    files = {"evaluate_unet": "scores.json", "paper": "x0_quality.json", "bound": "bound.json"}
    for name, values in metrics.items():
        Path(f"reports/{name}").mkdir(parents=True)
        file = files.get(name, "metrics.json")
        Path(f"reports/{name}/{file}").write_text(json.dumps(values))
    Path("reports/figures").mkdir()
    for name in re.findall(r'\{\{ figure\("(\w+)"', TEMPLATE.read_text()):
        pixels = torch.randint(256, (6, 8, 3), dtype=torch.uint8, generator=draw).numpy()
        Image.fromarray(pixels).convert("RGBA").save(f"reports/figures/{name}.png")
    return tmp_path


def test_the_page_needs_no_network_and_says_what_its_pictures_are(folder):
    text = build(folder)
    page = Page(text)
    assert not re.search(r"https?:|@import|url\(", text)
    for _, attributes, _ in page.elements:
        for name in ("src", "href", "srcset", "data", "action"):
            assert attributes.get(name, "#").startswith(("data:image/", "#"))
    assert all(attributes["alt"].strip() for attributes, _ in page.all("img"))
    ids = [attributes["id"] for _, attributes, _ in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [a["href"].removeprefix("#") for a, _ in page.all("a")] + [a["for"] for a, _ in page.all("label")]
    assert set(targets) <= set(ids)
    assert len(page.all("figcaption")) == len(page.all("figure"))


def test_every_figure_of_the_pipeline_is_there_pixel_by_pixel(folder):
    shown = [decoded(attributes["src"]) for attributes, _ in Page(build(folder)).all("img")]
    files = sorted(Path("reports/figures").iterdir())
    # The pipeline's own; tests/test_dvc_deps.py renders the page from what stage render_grids draws now.
    assert {path.name for path in (REPO / "reports/figures").glob("*.png")} <= {path.name for path in files}
    for path in files:
        pixels = numpy.asarray(Image.open(path).convert("RGB"))
        assert sum(image.shape == pixels.shape and (image == pixels).all() for image in shown) == 1


def test_a_figure_without_a_place_on_the_page_is_named(folder):
    Image.new("RGB", (3, 3), "red").save("reports/figures/newcomer.png")
    with pytest.raises(UserError, match=r"page\.html has no place for newcomer"):
        build(folder)


def test_every_number_of_the_metrics_is_there_and_no_other(folder):
    shown = [attributes["value"] for attributes, _ in Page(build(folder)).all("data")]
    expected = [leaf for path in Path("reports").glob("*/*.json") for leaf in numbers(json.loads(path.read_text()))]
    assert set(shown) == set(map(str, expected))


def test_a_number_stands_in_the_row_and_column_that_name_it(folder):
    rows = re.findall(r"<tr>.*?</tr>", build(folder), re.DOTALL)
    quality = json.loads(Path("reports/evaluate_unet/scores.json").read_text())
    for name, value in quality.items():
        if isinstance(value, dict):
            (row,) = [Page(row) for row in rows if f"<code>{name}</code></th>" in row]
            got = [float(attributes["value"]) for attributes, _ in row.all("data")]
            assert got == [value[kind][key] for kind in ("samples", "floor") for key in ("value", "low", "high")]
            assert [text for _, text in row.all("data")] == [f"{number:.4g}" for number in got]
    bound = json.loads(Path("reports/bound/bound.json").read_text())["variances"]
    for variance, splits in bound.items():
        for split, words in (("test", "test split"), ("train", "training split"), ("gap", "test less training split")):
            found = [Page(row) for row in rows if f"<code>{variance}</code>, {words}</th>" in row]
            whole, in_parts = ([a["value"] for a, _ in row.all("data")] for row in found)
            assert whole == [str(splits[split]["bits_per_dim"][key]) for key in ("value", "low", "high")]
            assert in_parts == [str(splits[split][part]) for part in ("L_T", "L_between", "L_0")]
    exact = json.loads(Path("reports/evaluate_tiny/metrics.json").read_text())
    (row,) = [Page(row) for row in rows if "do the corner colours pass it?" in row]
    assert [text for _, text in row.all("data")] == ["no", "yes"]
    (row,) = [Page(row) for row in rows if "to the nearest gradient" in row]
    assert [a["value"] for a, _ in row.all("data")] == [str(exact[f"{who}_distance"]) for who in ("tiny", "exact")]


def test_params_and_hashes_are_those_of_the_files(folder):
    cells = [
        [text for _, text in Page(row).all("code")] for row in re.findall(r"<tr>.*?</tr>", build(folder), re.DOTALL)
    ]
    pairs = [tuple(cell) for cell in cells if len(cell) == 2]
    params = YAML(typ="safe").load(Path("params.yaml"))
    sections = [params, *params.values(), *params["sample"].values()]
    leaves = [
        (key, value if isinstance(value, str) else json.dumps(value))
        for section in sections
        if isinstance(section, dict)
        for key, value in section.items()
        if not isinstance(value, dict)
    ]
    files = [path for part in ("data", "models", "samples", "reports") for path in Path(part).rglob("*.*")]
    digests = [
        (path.as_posix(), hashlib.md5(path.read_bytes()).hexdigest()) for path in files if path.name != "index.html"
    ]

    def without_point(pair):  # 10 in params.yaml is 10.0 where the stage reads a float
        return pair[0], re.sub(r"\.0\b", "", pair[1])

    assert sorted(map(without_point, pairs)) == sorted(map(without_point, leaves + digests))


def test_the_chains_are_those_of_the_samples(folder):
    walks = [a["data-chain"] for a, _ in Page(build(folder)).all("figure") if "data-chain" in a]
    for walk, name in zip(walks, ("tiny", "unet"), strict=True):
        chain, kept = json.loads(walk), load_file(f"samples/{name}.safetensors")
        assert chain["steps"] == kept["num_steps"].tolist()
        frames = torch.stack([torch.tensor(decoded(uri)) for uri in chain["frames"]])
        expected = kept["steps"][:, 0].permute(0, 2, 3, 1).squeeze(-1)
        assert torch.equal(frames, expected)


def test_hostile_words_stay_words(folder):
    before = [tag for tag, _, _ in Page(build(folder)).elements]
    write_params(folder, {"download_fashion_mnist": {"folder": HOSTILE}})
    page = Page(build(folder))
    assert [tag for tag, _, _ in page.elements] == before
    assert HOSTILE in [text for _, text in page.all("code")]


def test_the_same_input_gives_the_same_bytes(folder):
    first = build(folder)
    assert first == build(folder)
    assert str(folder) not in first


def test_the_slider_walks_the_chain_in_a_browser(folder):
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium on PATH")
    build(folder)
    page = folder / "reports/index.html"
    # A browser makes this event of the arrow keys and of a finger.
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
    assert shown == [chain["frames"][3] for chain in chains]
    assert [text for _, text in dom.all("output")] == [f"{chain['steps'][3]} noise steps left" for chain in chains]
    assert [a["aria-valuetext"] for a, _ in dom.all("input")] == [text for _, text in dom.all("output")]
