"""The page of a door: its figures, scores, claims and params in one HTML file, in the style of the main page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ddpm.figures.page import Picture, picture, sections, template
from ddpm.figures.reports import read_json
from ddpm.figures.topic import Topic
from ddpm.run.files import atomic_path, md5
from ddpm.run.plan import PLAN
from ddpm.run.stage import Stage, StageRun

PAGE, PARAMS = Path("reports/index.html"), PLAN / "params.json"
HERE, SOURCE = Path(__file__).parent, Path("src/ddpm")
TEMPLATES = (SOURCE / "doors/page.html", SOURCE / "figures/style.html")  # from the top of the repository


def page_stage(
    door: str, about: str, topic: Topic[Any], scores: Mapping[str, Path], adherence: Path | None = None
) -> dict[str, Stage]:
    """Stage page of a door, which writes reports/index.html.

    Args:
        door: The name of its folder.
        about: What the system is, in a few sentences.
        topic: Its figures.
        scores: Files with the output of `ddpm.evaluation.evaluate.as_report`, by what was evaluated.
        adherence: File with "adherence" of `ddpm.evaluation.captioned.evaluate_captioned`; None without captions.
    """
    claims = Path(f"../../benchmarks/results/claims/{door}.json")
    figures = [figure.path for figure in topic.figures.values()]
    shown = [*figures, *scores.values(), *filter(None, [adherence]), claims]

    def main(_: StageRun) -> None:
        page = render(
            topic.title,
            about,
            f"dvc repro doors/{door}/dvc.yaml",
            [picture(path) for path in figures],
            {name: read_json(path) for name, path in scores.items()},
            read_json(adherence) if adherence else {},
            read_json(claims)["claims"],
            read_json(PARAMS),
            {path.as_posix(): md5(path) for path in shown},
        )
        with atomic_path(PAGE) as temporary:
            temporary.write_text(page, encoding="utf-8")

    deps = [*(f"../../{path.as_posix()}" for path in TEMPLATES), PARAMS.as_posix(), *map(Path.as_posix, shown)]
    return {"page": Stage(main, general=(), deps=deps, outs=[PAGE.as_posix()])}


def render(
    title: str,
    about: str,
    command: str,
    figures: Sequence[Picture],
    scores: Mapping[str, Mapping[str, Any]],
    adherence: Mapping[str, Mapping[str, Any]],
    claims: Sequence[Mapping[str, Any]],
    params: Mapping[str, Any],
    hashes: Mapping[str, str],
) -> str:
    """The page as HTML; the same arguments give the same text.

    Args:
        title: The system's name.
        about: What it is, in a few sentences.
        command: The command that writes the page.
        figures: Its figures, in order.
        scores: Outputs of `ddpm.evaluation.evaluate.as_report`, by what was evaluated, with the same reference.
        adherence: Shares of images that match their captions, by group of captions and by attribute; may be empty.
        claims: As `benchmarks.claims` writes them: each with its "claim" and "result".
        params: All validated params, as in plan/params.json.
        hashes: MD5 by path.
    """
    return template(HERE / "page.html").render(
        title=title,
        about=about,
        command=command,
        figures=figures,
        scores=scores,
        adherence=adherence,
        claims=claims,
        sections=dict(sections(params)),
        hashes=hashes,
    )
