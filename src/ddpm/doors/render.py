"""Stage render of a door, which draws its figures."""

from collections.abc import Sequence
from typing import Any

from ddpm.figures.topic import Topic
from ddpm.run.stage import Stage, StageRun


def render_stage(topic: Topic[Any], key: str = "", general: Sequence[str] = ()) -> dict[str, Stage]:
    """The stage that draws all figures of a topic.

    Args:
        topic: The door's figures.
        key: The section of params.yaml that they depend on, or `render` if empty.
        general: The general params that they depend on.
    """

    def main(stage: StageRun) -> None:
        inputs = topic.load(stage)
        for figure in topic.figures.values():
            figure.render(inputs)

    plots = [str(figure.path) for figure in topic.figures.values()]
    return {"render": Stage(main, section=topic.section, key=key, general=tuple(general), deps=topic.deps, plots=plots)}
