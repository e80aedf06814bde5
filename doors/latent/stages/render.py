"""Stage render: the figures."""

from ddpm.doors.render import render_stage
from ddpm.figures.latent import TOPIC
from ddpm.run.stage import run

STAGES = render_stage(TOPIC, general=("seed",))

if __name__ == "__main__":
    run(STAGES)
