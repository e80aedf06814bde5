"""Stage check: all of params.yaml, before any work, and which code and which named files decide a stage's result."""

from ddpm.check import check_stage
from ddpm.rules import RULES
from ddpm.run.dvc import CHECK
from ddpm.run.stage import run
from ddpm.training.init import FOLDER

STAGES = {CHECK: check_stage(RULES, [FOLDER])}

if __name__ == "__main__":
    run(STAGES)
