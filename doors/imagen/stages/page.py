"""Stage page: reports/index.html, what all other stages made on one page."""

from pathlib import Path

from ddpm.doors.page import TEMPLATES, render
from ddpm.figures.imagen import TOPIC
from ddpm.figures.page import picture
from ddpm.figures.reports import read_json
from ddpm.run.files import atomic_path, md5
from ddpm.run.plan import PLAN
from ddpm.run.stage import Stage, StageRun, run

PAGE, PARAMS = Path("reports/index.html"), PLAN / "params.json"
ABOUT = (
    "A text encoder learns from text alone and stays as it is; a base model draws small images of captions, and a "
    "super-resolution model enlarges them (Saharia et al. 2022)."
)
COMMAND = "dvc repro doors/imagen/dvc.yaml"
FIGURES = [figure.path for figure in TOPIC.figures.values()]
SCORES, CLAIMS = Path("reports/evaluate/scores.json"), Path("../../benchmarks/results/claims/imagen.json")
SHOWN = [*FIGURES, SCORES, CLAIMS]


def main(_: StageRun) -> None:
    page = render(
        TOPIC.title,
        ABOUT,
        COMMAND,
        [picture(path) for path in FIGURES],
        {"samples": read_json(SCORES)},
        read_json(CLAIMS)["claims"],
        read_json(PARAMS),
        {path.as_posix(): md5(path) for path in SHOWN},
    )
    with atomic_path(PAGE) as temporary:
        temporary.write_text(page, encoding="utf-8")


DEPS = [*(f"../../{path.as_posix()}" for path in TEMPLATES), PARAMS.as_posix(), *map(Path.as_posix, SHOWN)]
STAGES = {"page": Stage(main, general=(), deps=DEPS, outs=[PAGE.as_posix()])}

if __name__ == "__main__":
    run(STAGES)
