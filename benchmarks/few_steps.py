"""Quality of the trained U-Net's samples in few steps, for each sampler and spacing.

    python -m benchmarks.few_steps                                            # every sampler and spacing
    python -m benchmarks.few_steps --samplers unipc --evaluations 5 10 --seeds 0 1 2
    python -m benchmarks.few_steps --guidance-scale 1

Each row is a DVC experiment of the stages sample_unet and evaluate_unet. Rows that exist for the same weights and
settings are not computed again. Samples are scored against the held-out split, because the results are used to choose a
sampler. Writes benchmarks/results/few_steps/ and docs/results/few_steps.md.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.core.experiments import Experiment, collect, params_with, settings
from benchmarks.core.ledger import Ledger, Row, groups, latest, numbers
from benchmarks.core.options import add_work, count, parser
from benchmarks.core.report import figure, insert, real_images, summary
from ddpm import recipes
from ddpm.figures.canvas import save
from ddpm.run.stage import mistakes_in_one_line
from ddpm.sampling.sampler import SAMPLERS
from ddpm.sampling.spacing import SPACINGS

STAGES = "sample_unet", "evaluate_unet"
BASE: dict[str, Any] = {
    "processes": 1,  # each experiment on one core
    "sample": {"unet": {"n_trajectories": 1}},
    "evaluate_unet": {"reference": "held_out"},
}
LEDGER = Ledger(
    Path("benchmarks/results/few_steps/few_steps.csv"),
    ("settings", "guidance_scale", "sampler", "spacing", "n_steps", "seed"),
)
DOC = Path("docs/results/few_steps.md")
SCORE = "worst_auc"
SHOWN = SCORE, "fid_classifier", "recall_classifier"


def main() -> None:
    params = params_with({})
    options = parser(__doc__)
    options.add_argument("--samplers", nargs="+", choices=list(SAMPLERS), default=list(SAMPLERS))
    options.add_argument("--spacings", nargs="+", choices=list(SPACINGS), default=list(SPACINGS))
    options.add_argument("--evaluations", type=count, nargs="+", default=[5, 10, 20, 50, 200], help="per image")
    options.add_argument("--guidance-scale", type=float, default=params.sample.unet.guidance_scale)
    options.add_argument("--seeds", type=int, nargs="+", default=[0])
    add_work(options)
    asked = options.parse_args()
    cells = runs(asked.samplers, asked.spacings, asked.evaluations, params.train_unet.max_steps)
    about = settings(STAGES, recipes.merged(BASE, {"seed": 0, "sample": {"unet": dict.fromkeys(LEDGER.key[1:5])}}))
    wanted = [experiment(about, asked.guidance_scale, *cell, seed) for cell, seed in product(cells, asked.seeds)]
    try:
        collect(LEDGER, STAGES, wanted, lambda _, metrics: metrics["evaluate_unet"], asked.jobs, sharing=asked.remote)
    finally:
        report()


def runs(
    samplers: Sequence[str], spacings: Sequence[str], evaluations: Sequence[int], max_steps: int
) -> Iterator[tuple[str, str, int]]:
    """(sampler, spacing, n_steps), cheapest first: the most steps that each number of evaluations allows.

    With all steps, every spacing is the same.
    """
    for most, name in product(sorted(evaluations), samplers):
        entry = SAMPLERS[name]
        allowed = [n for n in range(entry.min_steps, max_steps + 1) if entry.evaluations(n) <= most]
        if allowed:
            yield from ((name, spacing, allowed[-1]) for spacing in spacings[: 1 if allowed[-1] == max_steps else None])


def experiment(about: str, guidance_scale: float, sampler: str, spacing: str, n_steps: int, seed: int) -> Experiment:
    """One set of samples."""
    cell = dict(zip(LEDGER.key, (about, guidance_scale, sampler, spacing, n_steps, seed), strict=True))
    chosen = {"guidance_scale": guidance_scale, "sampler": sampler, "spacing": spacing, "n_steps": n_steps}
    changes = recipes.merged(BASE, {"seed": seed, "sample": {"unet": chosen}})
    return Experiment({**cell, "evaluations": SAMPLERS[sampler].evaluations(n_steps)}, changes)


def report() -> None:
    """Write the tables and the figure of the available rows."""
    if rows := latest(LEDGER.rows(), of=(), agree=("settings",)):
        insert(DOC, markdown(rows))
        scale, mine = next(groups(rows, "guidance_scale"))
        drawn = figure(
            "Quality of the U-Net in few steps",
            "Two-sample test between samples and the held-out split: AUC in the worst view, lower is better. Means "
            f"over sets of noise; bars: minimum to maximum. Guidance scale {scale[0]}.",
            "network evaluations",
            SCORE,
            {
                f"spacing: {spacing}": {
                    sampler: {int(n): numbers(each, SCORE) for (n,), each in groups(line, "evaluations")}
                    for (sampler,), line in groups(ordered(alike), "sampler")
                }
                for (spacing,), alike in groups(mine, "spacing")
            },
            {"real images": numbers(rows, f"{SCORE}_floor")[-1]},
        )
        save(drawn, LEDGER.path.with_suffix(".png"))


def ordered(rows: Sequence[Row]) -> list[Row]:
    """The rows by sampler, spacing and evaluations."""
    return sorted(rows, key=lambda row: (row["sampler"], row["spacing"], int(row["evaluations"])))


def markdown(rows: Sequence[Row]) -> str:
    """A table for each guidance scale, with a line for each sampler, spacing and number of steps."""
    parts = [
        f"Guidance scale {scale}:\n\n{summary(ordered(mine), ('sampler', 'spacing', 'n_steps', 'evaluations'), SHOWN)}"
        for (scale,), mine in groups(rows, "guidance_scale")
    ]
    about = f"Mean ± standard deviation over sets of noise. Real images: {real_images(rows, SHOWN)}."
    return "\n\n".join((*parts, about))


if __name__ == "__main__":
    with mistakes_in_one_line("few_steps"):
        main()
