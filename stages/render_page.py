"""Stage render_page: reports/index.html, what all other stages made on one page."""

import json
from pathlib import Path

from ddpm.figures.page import chain, picture, render
from ddpm.run.files import atomic_path, load_tensors, md5
from ddpm.run.stage import Stage, run_stage

GENERAL = ("seed", "device", "precision", "threads")
SECTIONS = (
    "generate_gradients",
    "download_fashion_mnist",
    "train_tiny",
    "train_unet",
    "train_classifier",
    "evaluate_tiny",
    "evaluate_unet",
    "bound",
    "paper",
    "render_grids",
)
MODELS = ("tiny", "unet")
MEASURED = ("train_tiny", "train_unet", "train_classifier", "evaluate_tiny", "evaluate_unet")
FIGURES = Path("reports/figures")
PAGE = Path("reports/index.html")


def main(stage: Stage) -> None:
    metrics = {name: Path(f"reports/{name}/metrics.json") for name in MEASURED}
    metrics["evaluate_unet"] = Path("reports/evaluate_unet/scores.json")  # with the intervals
    metrics["bound"] = Path("reports/bound/bound.json")
    metrics["paper"] = Path("reports/paper/x0_quality.json")
    samples = {name: Path(f"samples/{name}.safetensors") for name in MODELS}
    figures = sorted(FIGURES.glob("*.png"))
    files = (
        *(Path(f"data/gradients/{split}.safetensors") for split in ("train", "eval")),
        *(Path(f"data/fashion_mnist/{split}.safetensors") for split in ("train", "test")),
        *(Path(f"models/{name}.safetensors") for name in (*MODELS, "classifier")),
        *samples.values(),
        Path("samples/paper.safetensors"),
        *metrics.values(),
        *figures,
    )
    chains = {}
    for name, path in samples.items():
        tensors = load_tensors(path)
        chains[name] = chain(tensors["steps"][:, 0], tensors["num_steps"])
    page = render(
        {path.stem: picture(path) for path in figures},
        chains,
        {name: json.loads(path.read_text()) for name, path in metrics.items()},
        {
            "for all stages": {key: getattr(stage.params, key) for key in GENERAL},
            **{name: getattr(stage.params, name).model_dump() for name in SECTIONS},
            **{f"sample.{name}": getattr(stage.params.sample, name).model_dump() for name in MODELS},
        },
        {path.as_posix(): md5(path) for path in files},
    )
    with atomic_path(PAGE) as temporary:
        temporary.write_text(page, encoding="utf-8")
    stage.run.log_artifact(PAGE)


if __name__ == "__main__":
    run_stage("render_page", main, reads=(*GENERAL, *SECTIONS, "sample"))
