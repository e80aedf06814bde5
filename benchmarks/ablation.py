"""Table 2 of Ho et al. 2020, extended: prediction target, loss weighting and variance.

    python -m benchmarks.ablation            # or: make ablation

Trains 16 cells with three seeds each on the small equal budget of recipes/ablation.yaml: 48 DVC experiments, about 90
minutes on two cores. It can be interrupted with Ctrl-C and resumed. With `--remote origin`, clones share the runs.
Samples are scored against the held-out split, and bits/dim are for the test split. Writes benchmarks/results/ablation/
and docs/results/ablation.md.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any, get_args

from benchmarks.core.experiments import Cell, Experiment, Metrics, Values, collect, reproduce, settings
from benchmarks.core.ledger import Ledger, Row, groups, latest, numbers
from benchmarks.core.options import add_work, parser
from benchmarks.core.report import figure, insert, real_images, summary
from ddpm import recipes
from ddpm.diffusion.posterior import Prediction
from ddpm.figures.canvas import save
from ddpm.run.stage import mistakes_in_one_line

STAGES = "train_unet", "sample_unet", "evaluate_unet", "bound"  # no other stage runs, so all cells share one classifier
WEIGHTINGS = "bound", "simple"
VARIANCES = "fixed_small", "learned"
LEDGER = Ledger(
    Path("benchmarks/results/ablation/ablation.csv"), ("settings", "prediction", "weighting", "variance", "seed")
)
DOC = Path("docs/results/ablation.md")
SCORE = "fid_classifier"
SHOWN = SCORE, "bits_per_dim", "eval_loss"


def main() -> None:
    options = parser(__doc__)
    add_work(options)
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    asked = options.parse_args()
    reproduce("train_classifier")
    recipe = recipes.load("ablation")
    about = settings(STAGES, recipe)
    cells = product(get_args(Prediction), WEIGHTINGS, VARIANCES, asked.seeds)
    try:
        wanted = [experiment(about, recipe, *cell) for cell in cells]
        collect(LEDGER, STAGES, wanted, measures, asked.jobs, sharing=asked.remote)
    finally:
        report()


def experiment(about: str, recipe: Values, prediction: str, weighting: str, variance: str, seed: int) -> Experiment:
    """One run of the table."""
    changes: dict[str, Any] = {
        "seed": seed,
        "train_unet": {
            "prediction": prediction,
            "weighting": weighting,
            "unet": {"learn_variance": variance == "learned"},
        },
        "sample": {"unet": {"ancestral": {"variance": variance}}},
        "bound": {"variances": [variance]},
    }
    cell = dict(zip(LEDGER.key, (about, prediction, weighting, variance, seed), strict=True))
    return Experiment(cell, recipes.merged(recipe, changes))


def measures(_: Cell, metrics: Metrics) -> Mapping[str, float]:
    """Every metric of the samples, the bound for the variance they were drawn with, and the held-out loss."""
    (bound,) = metrics["bound"].values()
    bits = {"bits_per_dim": bound["test"]["bits_per_dim"]}
    return {**metrics["evaluate_unet"], **bits, "eval_loss": metrics["train_unet"]["eval_loss"]}


def report() -> None:
    """Write the table and the figure of the available rows."""
    if rows := latest(LEDGER.rows(), of=(), agree=("settings",)):
        insert(DOC, markdown(rows))
        good = [row for row in rows if not row["failure"]]
        panels = {
            f"prediction: {prediction}": {
                variance: {loss: numbers(each, SCORE) for (loss,), each in groups(alike, "weighting")}
                for (variance,), alike in groups(mine, "variance")
            }
            for (prediction,), mine in groups(good, "prediction")
        }
        drawn = figure(
            "Table 2 of Ho et al. 2020, extended: prediction, loss and variance",
            "Frechet distance in a classifier's features between samples and the held-out split, after a small equal "
            "budget: lower is better. Means over the seeds that did not fail; bars: minimum to maximum.",
            "loss",
            SCORE,
            panels,
            {"real images": mean(numbers(good, f"{SCORE}_floor"))},
        )
        save(drawn, LEDGER.path.with_suffix(".png"))


def markdown(rows: Sequence[Row]) -> str:
    """A table with a line for each cell, followed by the runs that failed and why."""
    failures = [
        f"- {run['prediction']}, {run['weighting']}, {run['variance']}, seed {run['seed']}: {run['failure']}"
        for run in rows
        if run["failure"]
    ]
    good = [run for run in rows if not run["failure"]]
    about = f"Mean ± standard deviation over the seeds. Real images: {real_images(good, SHOWN[:1])}."
    failed = f"{len(failures)} of {len(rows)} runs failed.\n\n" + "\n".join(failures)
    return "\n\n".join((summary(good, ("prediction", "weighting", "variance"), SHOWN), about, failed))


if __name__ == "__main__":
    with mistakes_in_one_line("ablation"):
        main()
