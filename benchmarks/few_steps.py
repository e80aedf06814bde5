"""How good are the trained U-Net's samples after few steps, with each sampler and each spacing of its steps?

    python -m benchmarks.few_steps                                              # two hours on two cores
    python -m benchmarks.few_steps --samplers unipc --spacings even --steps 5 --seeds 0 1 2

Each row is a DVC experiment of the stages sample_unet and evaluate_unet. Rows that are there for the same weights and
settings are not made again. Samples are scored against held-out images of the training split, for this is a search.
Writes reports/few_steps/ and docs/results/few_steps.md.
"""

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from statistics import mean
from typing import get_args

from benchmarks.core.experiments import Experiment, collect, settings
from benchmarks.core.ledger import Ledger, Row, groups, numbers
from benchmarks.core.options import count, parser
from benchmarks.core.report import figure, insert, spread, table
from ddpm import recipes
from ddpm.figures.canvas import save
from ddpm.networks.checkpoint import load_model
from ddpm.diffusion.model import schedule_of
from ddpm.run.stage import mistakes_in_one_line
from ddpm.sampling.sampler import SAMPLERS
from ddpm.sampling.spacing import Spacing

STAGES = "sample_unet", "evaluate_unet"
BASE = {"threads": 1, "evaluate_unet": {"reference": "held_out"}}
LEDGER = Ledger(
    Path("reports/few_steps/few_steps.csv"),
    ("settings", "n_samples", "seed", "clip_sample", "guidance_scale", "sampler", "spacing", "n_steps"),
)
