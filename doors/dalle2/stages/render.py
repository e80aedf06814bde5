"""Stage render: the figures."""

from ddpm.doors.render import render_stage
from ddpm.figures.dalle2 import TOPIC
from ddpm.run.stage import run

STAGES = render_stage(TOPIC)

if __name__ == "__main__":
    run(STAGES)
