"""Stage check: validate params.yaml, and find which code and files determine the result of each stage."""

from ddpm.check import check_stage
from ddpm.rules import RULES
from ddpm.run.dvc import CHECK
from ddpm.run.stage import run
from ddpm.training.init import FOLDER

STAGES = {CHECK: check_stage(RULES, [FOLDER])}

if __name__ == "__main__":
    run(STAGES)
