"""Stages render_TOPIC: the figures of each topic, from the outputs of the other stages."""

from ddpm.figures.topic import TOPICS
from ddpm.run.stage import Stage, StageRun, run

PREFIX = "render_"


def main(stage: StageRun) -> None:
    topic = TOPICS[stage.name.removeprefix(PREFIX)]
    inputs = topic.load(stage)
    for figure in topic.figures.values():
        figure.render(inputs)


STAGES = {
    f"{PREFIX}{name}": Stage(
        main,
        section=topic.section,
        general=("seed",),
        deps=topic.deps,
        entries=[TOPICS.module(name)],
        plots=[str(figure.path) for figure in topic.figures.values()],
    )
    for name, topic in TOPICS.items()
}

if __name__ == "__main__":
    run(STAGES)
