"""The page of a door: its figures, scores, claims and params in one HTML file, in the style of the main page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddpm.captions.vocabulary import captions
from ddpm.figures.page import Picture, Trajectory, picture, sections, template, trajectory
from ddpm.figures.reports import read_json
from ddpm.figures.topic import Topic
from ddpm.run.files import atomic_path, load_tensors, md5
from ddpm.run.plan import PLAN
from ddpm.run.stage import Stage, StageRun

PAGE, PARAMS = Path("reports/index.html"), PLAN / "params.json"
HERE, SOURCE = Path(__file__).parent, Path("src/ddpm")
TEMPLATES = [SOURCE / name for name in ("doors/page.html", "figures/macros.html", "figures/style.html")]


@dataclass(frozen=True)
class Film:
    """Samples step by step, side by side on the page.

    Attributes:
        chains: One per sample, all at the same timesteps.
        captions: The captions of the samples. Empty if they have none.
    """

    chains: list[Trajectory]
    captions: list[str]


def load_film(path: Path) -> Film:
    """Read steps, estimates, num_steps and, if there are captions, their token IDs `filmed` from a file of samples."""
    drawn = load_tensors(path)
    pairs = zip(drawn["steps"].unbind(1), drawn["estimates"].unbind(1), strict=True)
    chains = [trajectory(steps, estimates, drawn["num_steps"]) for steps, estimates in pairs]
    return Film(chains, captions(drawn["filmed"]) if "filmed" in drawn else [])


def page_stage(
    door: str,
    about: str,
    topic: Topic[Any],
    films: Mapping[str, Path],
    scores: Mapping[str, Path],
    adherence: Path | None = None,
) -> dict[str, Stage]:
    """Stage page of a door, which writes reports/index.html.

    Args:
        door: The name of its folder.
        about: What the system is, in a few sentences.
        topic: Its figures.
        films: Files that `load_film` reads, by the model that drew the samples.
        scores: Files with the output of `ddpm.evaluation.evaluate.as_report`, by what was evaluated.
        adherence: File with shares of images that match their captions, by group, as returned by
            `ddpm.evaluation.captioned.as_values`. None without captions.
    """
    claims = Path(f"../../benchmarks/results/claims/{door}.json")
    figures = [figure.path for figure in topic.figures.values()]
    shown = [*figures, *films.values(), *scores.values(), *filter(None, [adherence]), claims]

    def main(_: StageRun) -> None:
        page = render(
            topic.title,
            about,
            f"dvc repro doors/{door}/dvc.yaml",
            {name: load_film(path) for name, path in films.items()},
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
    films: Mapping[str, Film],
    figures: Sequence[Picture],
    scores: Mapping[str, Mapping[str, Any]],
    adherence: Mapping[str, Mapping[str, Any]],
    claims: Sequence[Mapping[str, Any]],
    params: Mapping[str, Any],
    hashes: Mapping[str, str],
) -> str:
    """The page as HTML. The same arguments give the same text.

    Args:
        title: The system's name.
        about: What it is, in a few sentences.
        command: The command that writes the page.
        films: Samples step by step, by the model that drew them.
        figures: Its figures, in order.
        scores: Outputs of `ddpm.evaluation.evaluate.as_report`, by what was evaluated, with the same reference.
        adherence: Shares of images that match their captions, by group of captions and by attribute. May be empty.
        claims: The output of `benchmarks.claims`, each with its "claim" and "result".
        params: All validated params, as in plan/params.json.
        hashes: MD5 by path.
    """
    return template(HERE / "page.html").render(
        title=title,
        about=about,
        command=command,
        films=films,
        figures=figures,
        scores=scores,
        adherence=adherence,
        claims=claims,
        sections=dict(sections(params)),
        hashes=hashes,
    )
