"""Stage train_clip: train a CLIP, a joint embedding of images and captions."""

from ddpm.doors.clip import clip_stages
from ddpm.run.stage import run

STAGES = clip_stages("clip")

if __name__ == "__main__":
    run(STAGES)
