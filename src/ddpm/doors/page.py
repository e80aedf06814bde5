"""The page of a door: its figures, scores, claims and params in one HTML file, in the look of the main page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ddpm.figures.page import Picture, sections, template

HERE, SOURCE = Path(__file__).parent, Path("src/ddpm")
TEMPLATES = (SOURCE / "doors/page.html", SOURCE / "figures/style.html")  # from the top of the repository


def render(
    title: str,
    about: str,
    command: str,
    figures: Sequence[Picture],
    scores: Mapping[str, Mapping[str, Any]],
    claims: Sequence[Mapping[str, Any]],
    params: Mapping[str, Any],
    hashes: Mapping[str, str],
) -> str:
    """The page as HTML; the same arguments give the same text.

    Args:
        title: The system's name.
        about: What it is, in a few sentences.
        command: What makes the page.
        figures: In the order in which they are shown.
        scores: What `ddpm.evaluation.evaluate.as_report` returned, by what was judged: all against one reference.
        claims: As `benchmarks.claims` writes them: the claim and the result of each.
        params: All validated params, as plan/params.json has them.
        hashes: MD5 by path.
    """
    return template(HERE / "page.html").render(
        title=title,
        about=about,
        command=command,
        figures=figures,
        scores=scores,
        claims=claims,
        sections=dict(sections(params)),
        hashes=hashes,
    )
