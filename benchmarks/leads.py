"""What each choice in the default contributes: one setting changed at a time, equal training time, three seeds.

    python -m benchmarks.leads              # half a minute of training each
    python -m benchmarks.leads rate         # only measure training speeds, on an idle machine
    python -m benchmarks.leads run --minutes 2 --only min_snr "no first_skip"
    python -m benchmarks.leads report       # only write the table of the available rows

Each row is a DVC experiment. benchmarks/core/rates.py defines what a minute is. Samples are scored against the held-out
split, because the results are used to choose parameters. Writes benchmarks/results/leads/ and docs/results/leads.md.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scipy.stats import ttest_ind

from benchmarks.core.ledger import Ledger, Row, groups, numbers
from benchmarks.core.options import add_work, positive
from benchmarks.core.race import KEY, current, race
from benchmarks.core.rates import Ours, Rates, rate_options
from benchmarks.core.report import insert, real_images, spread, table
from ddpm import recipes
from ddpm.run.stage import mistakes_in_one_line

BASE = {"processes": 1, "evaluate_unet": {"reference": "held_out"}}
LEDGER, RATES = (
    Ledger(Path("benchmarks/results/leads/leads.csv"), KEY),
    Rates(Path("benchmarks/results/leads/rates.csv")),
)
DOC = Path("docs/results/leads.md")
SCORE = "worst_auc"
DEFAULT = "the default"
TRAINING: dict[str, dict[str, Any]] = {
    "Adam for all weights": {"muon_lr": None},
    "constant learning rate": {"lr_decay": "none"},
    "raw weights": {"ema_decay": 0.0},
    "batch 64": {"batch_size": 64},
    "no head": {"unet": {"head_channels": 0}},
    "a convolution more": {"unet": {"head_convs": 3}},
    "full resolution": {"unet": {"patch_size": 1, "head_channels": 0}},
    "no first_skip": {"unet": {"first_skip": False}},
    "attention at 14 too": {"unet": {"max_attention_size": None}},
    "48 channels": {"unet": {"channels": 48}},
    "x0": {"prediction": "x0"},
    "loss of x0": {"weighting": "x0"},
    "eps, rescaled linear": {"prediction": "eps", "schedule": "rescaled_linear"},
    "rescaled linear": {"schedule": "rescaled_linear"},
    "min_snr": {"weighting": "min_snr"},
    "uniform": {"step_sampling": "uniform"},
    "dropout 0.1": {"unet": {"dropout": 0.1}},
}
LEADS: dict[str, dict[str, Any]] = {
    DEFAULT: {},
    "50 steps": {"sample": {"unet": {"n_steps": 50}}},
    "dpmpp_2m, 25 steps": {"sample": {"unet": {"sampler": "dpmpp_2m", "n_steps": 25}}},
    **{name: {"train_unet": changes} for name, changes in TRAINING.items()},
}


def main() -> None:
    parser = rate_options(__doc__, list(LEADS))
    parser.add_argument("--minutes", type=positive, nargs="+", default=[0.5], help="minutes of training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add_work(parser)
    asked = parser.parse_args()
    try:
        if asked.phase != "report":
            ours = [Ours(name, changes) for name, changes in LEADS.items() if name in {DEFAULT, *asked.only}]
            race(asked, LEDGER, RATES, ours, dict.fromkeys(LEADS, asked.seeds), BASE)
    finally:
        report()


def report() -> None:
    """Write the table of the available rows, without those of leads that no longer exist."""
    if rows := [row for row in current(LEDGER) if row["contender"] in LEADS]:
        speeds = {row["contender"]: 1 / float(row["seconds_per_image"]) for row in RATES.rows()}
        insert(DOC, markdown(rows, speeds))


def markdown(rows: Sequence[Row], speeds: Mapping[str, float]) -> str:
    """A line for each training time and lead: speed, scores, and whether it differs from the default."""
    shown = SCORE, "auc_16_levels", "auc_high_pass", "fid_classifier", "recall_classifier"
    lines = []
    for (minutes,), alike in groups(sorted(rows, key=lambda row: float(row["minutes"])), "minutes"):
        found = {name: numbers(runs, SCORE) for (name,), runs in groups(alike, "contender")}
        for (name,), runs in groups(sorted(alike, key=lambda row: list(LEADS).index(row["contender"])), "contender"):
            score = spread(found[name]) + verdict(found[name], found.get(DEFAULT, [])) * (name != DEFAULT)
            beside = (spread(numbers(runs, column)) for column in shown[1:])
            words = ", ".join(recipes.overrides(LEADS[name])[1::2])
            lines.append((minutes, name, words, f"{speeds[name]:.0f}", score, *beside))
    about = "Mean ± standard deviation over the seeds; better or worse: Welch's |t| is above 3. Real images: "
    about += f"{real_images(rows, shown)}."
    return f"{table(('minutes', 'lead', 'as parameters', 'images/s', *shown), lines)}\n\n{about}"


def verdict(scores: Sequence[float], default: Sequence[float]) -> str:
    """Better, worse or neither, by Welch's t with |t| > 3, or "" if either has fewer than two seeds."""
    if min(len(scores), len(default)) < 2:
        return ""
    t = ttest_ind(scores, default, equal_var=False).statistic
    return " (no clear difference)" if abs(t) < 3 else " (better)" if t < 0 else " (worse)"


if __name__ == "__main__":
    with mistakes_in_one_line("leads"):
        main()
