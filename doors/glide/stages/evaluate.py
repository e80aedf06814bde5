"""Stage evaluate: sample quality, and how well samples match their captions."""

from ddpm.doors.evaluate import evaluate_stage
from ddpm.run.stage import run

STAGES = evaluate_stage()

if __name__ == "__main__":
    run(STAGES)
