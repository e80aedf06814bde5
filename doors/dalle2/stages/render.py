"""Stage render: the figures."""

from ddpm.figures.dalle2 import TOPIC
from ddpm.run.stage import Stage, StageRun, run


def main(stage: StageRun) -> None:
    inputs = TOPIC.load(stage)
    for figure in TOPIC.figures.values():
        figure.render(inputs)


STAGES = {
    "render": Stage(
        main,
        section=TOPIC.section,
        general=(),
        deps=TOPIC.deps,
        plots=[str(figure.path) for figure in TOPIC.figures.values()],
    )
}

if __name__ == "__main__":
    run(STAGES)
