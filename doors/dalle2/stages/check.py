"""Stage check: validate params.yaml, and find which code and files determine the result of each stage."""

from ddpm.check import check_stage
from ddpm.doors.dalle2 import RULES
from ddpm.doors.main_pipeline import MAIN
from ddpm.run.dvc import CHECK
from ddpm.run.stage import run

STAGES = {CHECK: check_stage(RULES, [MAIN])}

if __name__ == "__main__":
    run(STAGES)
