"""The registry of figures: a topic is a file in `topics/` and registers its figures with a decorator."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from matplotlib.figure import Figure

from ddpm.figures.canvas import save, styled
from ddpm.registry import Registry
from ddpm.run.params import Section
from ddpm.run.stage import StageRun

TOPICS: Registry["Topic[Any]"] = Registry("ddpm.figures.topics", "topic of figures")
FOLDER = Path("reports/figures")
Inputs = TypeVar("Inputs")


@dataclass(frozen=True)
class Entry(Generic[Inputs]):
    """A registered figure.

    Attributes:
        name: The name of the function and of the file.
        caption: What the figure shows and what it means. May refer to inputs, as in "{inputs.label}".
        alt: Alternative text: what can be seen in the figure. May refer to inputs too.
        draw: Draws the figure from the inputs of its topic.
    """

    name: str
    caption: str
    alt: str
    draw: Callable[[Inputs], Figure]

    @property
    def path(self) -> Path:
        """The file that the figure is written to."""
        return FOLDER / f"{self.name}.png"

    def render(self, inputs: Inputs) -> None:
        """Draw the figure and write it, with its caption and alternative text."""
        save(self.draw(inputs), self.path, self.caption.format(inputs=inputs), self.alt.format(inputs=inputs))


@dataclass(frozen=True)
class Topic(Generic[Inputs]):
    """Figures that one stage draws from the same inputs.

    Attributes:
        title: The heading of its section of the page.
        place: Its position on the page, by which topics are sorted.
        deps: The files that `load` reads.
        load: Reads the inputs, given the running stage.
        section: The class of its section in params.yaml, `render_TOPIC`, or None if it needs no params.
        figures: Its figures by name, in order.
    """

    title: str
    place: int
    deps: Sequence[str]
    load: Callable[[StageRun], Inputs]
    section: type[Section] | None = None
    figures: dict[str, Entry[Inputs]] = field(default_factory=dict)

    def figure(self, *, caption: str, alt: str) -> Callable[[Callable[[Inputs], Figure]], Callable[[Inputs], Figure]]:
        """Decorator: register a function as a figure, with its caption and alternative text (see `Entry`)."""

        def add(draw: Callable[[Inputs], Figure]) -> Callable[[Inputs], Figure]:
            name, drawn = draw.__name__, styled(draw)
            self.figures[name] = Entry(name, caption, alt, drawn)
            return drawn

        return add


def topics_in_order() -> Mapping[str, Topic[Any]]:
    """The topics by name, in their order on the page."""
    return dict(sorted(TOPICS.items(), key=lambda item: item[1].place))
