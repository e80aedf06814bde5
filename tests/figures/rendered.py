"""Stage render_page: its page, and the reports that it reads, in the working folder."""

import runpy
from pathlib import Path

from figures.made_up import stage_run, table_of
from project import REPO

from ddpm.run.files import write_json

STAGE = runpy.run_path(str(REPO / "stages/render_page.py"))["STAGES"]["render_page"]


def build() -> str:
    """Run the stage and return the page."""
    STAGE.main(stage_run("render_page"))
    return Path("reports/index.html").read_text()


def change(path: str, **values: object) -> None:
    write_json(Path(path), table_of(Path(path)) | values)


def controls() -> dict:
    return table_of(Path("reports/controls/controls.json"))
