"""What each lead of the default recipe is worth: one thing changed, the same two minutes, three seeds.

    python benchmarks/leads.py          # everything; or piece by piece:
    python benchmarks/leads.py rate     # how fast each trains, on a quiet machine
    python benchmarks/leads.py run --only "no first_skip"
    python benchmarks/leads.py report   # the table of the rows that are there

How minutes are counted, and what is kept: race.py. This is a search, so samples are held against held-out images of the
training split; the test split only stands for a perfect model. Writes reports/leads/ and the table in docs/recipes.md.
"""

import argparse
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from contenders import own
from race import Evaluator, Images, Race, Row, alone, checked, common_arguments, splits
from report import header, insert, line, spread

from ddpm import recipes
from ddpm.run.params import load_params
from ddpm.errors import UserError

REPORTS, DOC = Path("reports/leads"), Path("docs/recipes.md")
DEFAULT = "the default"
TRAINING = {
    "Adam for all weights": {"muon_lr": None},
    "no decay of the rate": {"lr_decay": "none"},
    "no average of weights": {"ema_decay": 0.0},
    "batch 128": {"batch_size": 128},
    "full resolution": {"patch_size": 1},
    "no first_skip": {"first_skip": False},
    "attention at 14 too": {"max_attention_size": None},
    "48 channels": {"channels": 48},
    "v": {"prediction": "v"},
    "v, loss of x0": {"prediction": "v", "weighting": "x0"},
    "eps, rescaled linear": {"prediction": "eps", "schedule": "rescaled_linear"},
    "rescaled linear": {"schedule": "rescaled_linear"},
    "min_snr": {"weighting": "min_snr"},
    "stratified": {"step_sampling": "stratified"},
    "dropout 0.1": {"dropout": 0.1},
    "100 clusters": {"n_clusters": 100},
    "300 clusters": {"n_clusters": 300},
}
NO_GUIDANCE = {"sample": {"unet": {"guidance_scale": 1.0}}}
LEADS: dict[str, dict[str, Any]] = {
    DEFAULT: {},
    "no guidance": NO_GUIDANCE,
    "no clusters": {"train_unet": {"labels": "none"}, **NO_GUIDANCE},
    **{name: {"train_unet": changes} for name, changes in TRAINING.items()},
}


def arguments() -> argparse.Namespace:
    parser = common_arguments(__doc__, tuple(LEADS))
    parser.add_argument("--minutes", type=float, nargs="+", default=[2.0], help="of training")
    return checked(parser)


def work(options: argparse.Namespace) -> None:
    wanted = (name for name in LEADS if name in {DEFAULT, *options.only})
    race = Race(REPORTS, {name: own(name, LEADS[name], f"lead {name!r}") for name in wanted})
    if options.phase == "report":
        return report(race, options.n_samples)
    params = load_params()
    train, unseen, test = splits(params.train_unet.n_train)
    if not race.rated(options, train):
        return None
    images = Images(train, real=test, reference=unseen)
    evaluator = Evaluator(images.reference, params.threads)
    for _ in race.run(images, evaluator, options.minutes, lambda _: options.seeds or (0, 1, 2), options.n_samples):
        report(race, options.n_samples)
    return report(race, options.n_samples)


def report(race: Race, n_samples: int) -> None:
    floor, rows = race.rows(n_samples)
    rates = race.all_rates()
    insert(DOC, table(rows, floor, {name: rate["seconds_per_image"] for name, rate in rates["contenders"].items()}))


def table(rows: Sequence[Row], floor: Row, seconds_per_image: dict[str, float]) -> str:
    """A line a lead and number of minutes, in Markdown: speed, distance and what that is in the default's spread."""

    def scores(name: str, budget: float, column: str = "fid_fashion_cnn") -> list[float]:
        mine = [row for row in rows if row["contender"] == name and float(row["minutes"]) == budget]
        return [float(row[column]) for row in mine]

    lines = [*header("minutes", "lead", "as parameters", "images/s", "distance", "precision", "recall")]
    for budget, (name, changed) in product(sorted({float(row["minutes"]) for row in rows}), LEADS.items()):
        if found := scores(name, budget):
            words = ", ".join(recipes.overrides(changed)[1::2]) or "-"
            distance = spread(found) + verdict(found, scores(DEFAULT, budget)) * (name != DEFAULT)
            beside = (f"{mean(scores(name, budget, column)):.0%}" for column in ("precision", "recall"))
            lines.append(line(f"{budget:g}", name, words, f"{1 / seconds_per_image[name]:.0f}", distance, *beside))
    real = [f"{float(floor[column]):.0%}" for column in ("precision", "recall")]
    lines += [
        "",
        f"{floor['n_samples']} samples, drawn as `sample.unet` says, against held-out images (extractor "
        f"{floor['extractor']}); real images: {float(floor['fid_fashion_cnn']):.3f}, {' and '.join(real)}. Mean ± "
        "standard deviation of seeds; better or worse where Welch's |t| is above 3.",
    ]
    return "\n".join(lines)


def verdict(scores: Sequence[float], default: Sequence[float]) -> str:
    """Better, worse or neither, by Welch's t with |t| > 3; nothing where either has fewer than two seeds."""
    if min(len(scores), len(default)) < 2:
        return ""
    error = (stdev(scores) ** 2 / len(scores) + stdev(default) ** 2 / len(default)) ** 0.5
    t = (mean(scores) - mean(default)) / error
    return " (the same)" if abs(t) < 3 else " (better)" if t < 0 else " (worse)"


if __name__ == "__main__":
    try:
        alone(work, arguments())
    except UserError as error:
        sys.exit(f"leads: {error}")
    except KeyboardInterrupt:
        sys.exit("leads: stopped; run it again to go on")
