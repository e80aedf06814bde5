"""Stage check: all of params.yaml, before any work, and which code and which named files decide a stage's result."""

from ddpm.check import check_stage
from ddpm.doors.dalle2 import RULES
from ddpm.doors.main_pipeline import MAIN
from ddpm.run.dvc import CHECK
from ddpm.run.stage import run

STAGES = {CHECK: check_stage(RULES, [MAIN])}

if __name__ == "__main__":
    run(STAGES)
