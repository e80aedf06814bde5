"""Stages train_clip and train_judge: a CLIP on noised images that guides, and another one that only judges."""

from ddpm.doors.clip import clip_stages
from ddpm.run.stage import run

STAGES = clip_stages("clip", "judge")

if __name__ == "__main__":
    run(STAGES)
