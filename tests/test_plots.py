"""The page of `dvc plots`: its scripts are local, and an offline browser draws every curve."""

import html
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image
from project import REPO

from ddpm.figures.canvas import DPI, WIDTH
from ddpm.figures.page import CSS_DPI

VEGA = Path(sys.prefix) / "vega.js"  # by `make setup`
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium, which shows whether curves are drawn")
MEASURE = "onload = () => document.title = JSON.stringify([...document.images].map(image => image.width))"
PLOTS = """
plots:
  - losses: {x: step, y: {a.csv: loss, b.csv: loss}}
  - a.csv: {x: step, y: loss}
  - figure.png
"""


class Scripts(HTMLParser):
    """Sources of a page's scripts: those that run, and those in a template, which are unused."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.unused: list[str] = []
        self.in_template = False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.in_template |= tag == "template"
        if tag == "script" and (source := dict(attrs).get("src")):
            (self.unused if self.in_template else self.sources).append(source)

    def handle_endtag(self, tag):
        self.in_template &= tag != "template"


def write_curve(path: Path, *losses: int) -> None:
    path.write_text("step,loss\n" + "".join(f"{step},{loss}\n" for step, loss in enumerate(losses)))


@pytest.fixture(scope="module")
def page(tmp_path_factory, stage_environment) -> Path:
    """The page of a project with this one's settings: two curves and a figure, now and in the last commit."""
    folder = tmp_path_factory.mktemp("project")

    def run(*command: str) -> None:
        subprocess.run(command, cwd=folder, env=stage_environment, capture_output=True, check=True)

    run("git", "init", "-q")
    run("dvc", "init", "-q")
    for name in ("config", "plots.html"):
        shutil.copy(REPO / ".dvc" / name, folder / ".dvc")
    (folder / ".venv").mkdir()
    shutil.copy(VEGA, folder / ".venv")
    (folder / "dvc.yaml").write_text(PLOTS)
    write_curve(folder / "a.csv", 4, 3, 2)
    write_curve(folder / "b.csv", 4, 4, 3)
    Image.new("RGB", (WIDTH, 60)).save(folder / "figure.png")
    run("git", "add", "-A")
    run("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "first")
    write_curve(folder / "a.csv", 3, 2, 1)
    write_curve(folder / "b.csv", 2, 2, 2)
    run("dvc", "plots", "diff", "HEAD")
    return folder / "dvc_plots/index.html"


def shown(page: Path, profile: Path, width: int = 1280) -> str:
    """The page's elements after an offline browser has run its scripts."""
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND"]
    options = [f"--user-data-dir={profile}", f"--window-size={width},900", "--virtual-time-budget=10000", "--dump-dom"]
    done = subprocess.run([*command, *options, page.as_uri()], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout


def test_page_loads_only_local_scripts(page):
    scripts = Scripts(page.read_text())
    assert scripts.sources == ["../.venv/vega.js"]
    assert "window.vegaEmbed=" in (page.parent / scripts.sources[0]).read_text(encoding="utf-8")
    assert {urlsplit(source).scheme for source in scripts.unused} == {"https"}


@needs_browser
def test_offline_browser_draws_curves_of_both_commits(page, tmp_path):
    elements = shown(page, tmp_path)
    plots = re.findall(r'<div id="\w+" class="vega-embed.*?</svg>', elements, re.DOTALL)
    assert len(plots) == page.read_text().count("vegaEmbed('#") == 2
    for plot, curves in zip(plots, (4, 2), strict=True):  # of two files and of one, in two commits
        assert {"workspace", "HEAD"} <= set(re.findall(r"<text[^>]*>([^<]*)</text>", plot))
        lines = set(re.findall(r'aria-roledescription="line mark"[^>]* d="([^"]*)"', plot))  # each twice: smoothed too
        assert len(lines) == curves
        assert all(line.count("L") == 2 for line in lines)  # through three points


@needs_browser
@pytest.mark.parametrize(("window", "width"), [(1280, WIDTH * CSS_DPI // DPI), (500, 500 - 64)])
def test_figure_width_matches_the_report_and_fits_the_window(page, tmp_path, window, width):
    measured = page.with_name("measured.html")
    measured.write_text(page.read_text().replace("</body>", f"<script>{MEASURE}</script></body>"))
    title = re.search("<title>(.*)</title>", shown(measured, tmp_path, window))
    assert json.loads(html.unescape(title[1])) == [width, width]


@needs_browser
def test_copied_page_falls_back_to_remote_scripts(page, tmp_path):
    copy = tmp_path / "index.html"
    shutil.copy(page, copy)
    scripts = Scripts(shown(copy, tmp_path / "profile"))
    assert scripts.sources[1:] == scripts.unused != []
