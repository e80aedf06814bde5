"""Stage page: reports/index.html, what all other stages made on one page."""

from pathlib import Path

from ddpm.doors.page import TEMPLATES, render
from ddpm.figures.dalle2 import TOPIC
from ddpm.figures.page import picture
from ddpm.figures.reports import read_json
from ddpm.run.files import atomic_path, md5
from ddpm.run.plan import PLAN
from ddpm.run.stage import Stage, StageRun, run

PAGE, PARAMS = Path("reports/index.html"), PLAN / "params.json"
ABOUT = (
    "A CLIP gives images and captions embeddings in one space. A prior draws an image embedding of a caption, and a "
    "decoder draws images of embeddings: of captions, and variations of images (Ramesh et al. 2022)."
)
COMMAND = "dvc repro doors/dalle2/dvc.yaml"
FIGURES = [figure.path for figure in TOPIC.figures.values()]
SCORES = {"samples": Path("reports/evaluate/scores.json")}
CLAIMS = Path("../../benchmarks/results/claims/dalle2.json")
SHOWN = [*FIGURES, *SCORES.values(), CLAIMS]


def main(_: StageRun) -> None:
    page = render(
        TOPIC.title,
        ABOUT,
        COMMAND,
        [picture(path) for path in FIGURES],
        {name: read_json(path) for name, path in SCORES.items()},
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
