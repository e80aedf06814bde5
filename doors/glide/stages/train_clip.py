"""Stages train_clip and train_judge: a CLIP on noised images for guidance, and another one for evaluation."""

from ddpm.doors.clip import clip_stages
from ddpm.run.stage import run

STAGES = clip_stages("clip", "judge")

if __name__ == "__main__":
    run(STAGES)
