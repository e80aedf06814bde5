"""Stage render_page: reports/index.html, the results of all other stages on one page."""

from pathlib import Path

from ddpm.evaluation.metric import METRICS as RULERS
from ddpm.evaluation.two_sample import HEADLINE
from ddpm.figures.page import TEMPLATES, Chapter, Opening, picture, render, trajectory
from ddpm.figures.reports import read_json
from ddpm.figures.topic import TOPICS, topics_in_order
from ddpm.run.files import atomic_path, load_tensors, md5
from ddpm.run.plan import PLAN
from ddpm.run.stage import Stage, StageRun, run

TOP = Path(__file__).parents[1]
PAGE = Path("reports/index.html")
PARAMS = PLAN / "params.json"
SAMPLES = {name: Path(f"samples/{name}.safetensors") for name in ("tiny", "unet")}
METRICS = {
    "prepare_data": Path("reports/prepare_data/data.json"),
    **{name: Path(f"reports/{name}/metrics.json") for name in ("train_tiny", "train_unet", "train_classifier")},
    **{name: Path(f"reports/{name}/metrics.json") for name in ("study_samplers", "evaluate_tiny")},
    "evaluate_unet": Path("reports/evaluate_unet/scores.json"),
    "controls": Path("reports/controls/controls.json"),
    "bound": Path("reports/bound/bound.json"),
    "paper": Path("reports/paper/x0_quality.json"),
}
DOORS = sorted(path.relative_to(TOP) for path in TOP.glob("doors/*/claims.yaml"))  # these have pages of their own
FIRST = "unet_samples"  # the figure with which the page opens
CHAPTERS = topics_in_order()
FIGURES = [figure.path for topic in CHAPTERS.values() for figure in topic.figures.values()]
READ = [Path(dep) for topic in CHAPTERS.values() for dep in topic.deps]
SHOWN = sorted({*FIGURES, *READ, *SAMPLES.values(), *METRICS.values()})


def main(_: StageRun) -> None:
    sampled = {name: load_tensors(path) for name, path in SAMPLES.items()}
    pictures = {path.stem: picture(path) for path in FIGURES}
    beside = [
        name for name, ruler in RULERS.items() if ruler.headline not in ("", HEADLINE)
    ]  # the page names the worst
    opening = Opening(pictures.pop(FIRST), beside)
    page = render(
        opening,
        {n: Chapter(t.title, [pictures[f] for f in t.figures if f in pictures]) for n, t in CHAPTERS.items()},
        {name: trajectory(t["steps"][:, 0], t["estimates"][:, 0], t["num_steps"]) for name, t in sampled.items()},
        {name: read_json(path) for name, path in METRICS.items()},
        read_json(PARAMS),
        {path.as_posix(): md5(path) for path in SHOWN},
        [path.parts[1] for path in DOORS],
    )
    with atomic_path(PAGE) as temporary:
        temporary.write_text(page, encoding="utf-8")


DEPS = [*map(str, TEMPLATES), *map(str, DOORS), str(PARAMS), *map(str, SHOWN)]
ENTRIES = [*map(TOPICS.module, TOPICS), *map(RULERS.module, RULERS)]
STAGES = {"render_page": Stage(main, general=(), deps=DEPS, entries=ENTRIES, outs=[str(PAGE)])}

if __name__ == "__main__":
    run(STAGES)
