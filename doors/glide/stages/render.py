"""Stage render: the figures."""

from ddpm.doors.render import render_stage
from ddpm.figures.glide import TOPIC
from ddpm.run.stage import run

STAGES = render_stage(TOPIC, key="sample")

if __name__ == "__main__":
    run(STAGES)
