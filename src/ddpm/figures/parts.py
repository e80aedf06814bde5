"""A block diagram of a system."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from ddpm.figures.canvas import BLUE, FAINT, GREY, INK, curve_axes


class Part(NamedTuple):
    """A node of the diagram.

    Attributes:
        x: Its column, from 0 on the left.
        y: Its row, from 0 at the top.
        learns: True for a trained network, False for data.
    """

    x: float
    y: float
    learns: bool = True


class Flow(NamedTuple):
    """An arrow from one node to another, and its label."""

    source: str
    target: str
    what: str = ""


def parts_diagram(title: str, note: str, parts: Mapping[str, Part], flows: Sequence[Flow]) -> Figure:
    """A block diagram: boxes for trained networks, plain text for data, and arrows between them.

    Args:
        title: The figure's title.
        note: Text under the title.
        parts: The nodes by name. A name may have several lines.
        flows: The arrows.
    """
    figure, axes = curve_axes(title, note, "", "")
    right, bottom = (max(place) + 0.5 for place in zip(*((part.x, part.y) for part in parts.values()), strict=True))
    axes.set(xlim=(-0.5, right), ylim=(bottom, -0.5))
    axes.axis("off")
    boxes = {
        name: axes.text(
            part.x,
            part.y,
            name,
            ha="center",
            va="center",
            linespacing=1.3,
            color=INK,
            bbox={"boxstyle": "round,pad=0.6", "fc": "white", "ec": BLUE if part.learns else "white", "lw": 1.5},
        )
        for name, part in parts.items()
    }
    for flow in flows:
        start, end = parts[flow.source], parts[flow.target]
        axes.annotate(
            "",
            (end.x, end.y),
            (start.x, start.y),
            arrowprops={
                "arrowstyle": "-|>",
                "color": GREY,
                "patchA": boxes[flow.source].get_bbox_patch(),
                "patchB": boxes[flow.target].get_bbox_patch(),
                "shrinkA": 2,
                "shrinkB": 2,
            },
        )
        middle = (start.x + end.x) / 2, (start.y + end.y) / 2
        under = {"fc": "white", "ec": "none", "pad": 1} if flow.what else None
        axes.text(*middle, flow.what, ha="center", va="center", fontsize=8, color=FAINT, bbox=under)
    return figure
