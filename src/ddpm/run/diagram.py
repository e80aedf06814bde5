"""The pipeline's diagram in README and docs: a mermaid graph, which GitHub renders, between two comments."""

from collections.abc import Collection, Mapping
from functools import cache

BEGIN, END = "<!-- diagram, written by `make deps` -->\n", "<!-- end of diagram -->\n"


def arrows(before: Mapping[str, Collection[str]]) -> dict[str, list[str]]:
    """The transitive reduction of an acyclic graph, which leaves out redundant arrows.

    Args:
        before: For each stage, the stages whose outputs it reads.

    Returns:
        For each stage, the stages that its arrows point to.
    """

    @cache
    def ancestors(stage: str) -> frozenset[str]:
        return frozenset(before[stage]).union(*(ancestors(other) for other in before[stage]))

    kept = {
        stage: [other for other in others if not any(other in ancestors(between) for between in others)]
        for stage, others in before.items()
    }
    return {stage: [later for later in before if stage in kept[later]] for stage in before}


def mermaid(before: Mapping[str, Collection[str]]) -> str:
    """A left-to-right graph as a fenced block of Markdown, with one line for the arrows from each stage.

    A stage without any arrows has a line of its own.
    """
    lines = [
        f"    {stage} --> {' & '.join(after)}" if after else f"    {stage}"
        for stage, after in arrows(before).items()
        if after or not before[stage]
    ]
    return "\n".join(["```mermaid", "graph LR", *lines, "```", ""])


def with_diagram(page: str, diagram: str) -> str:
    """A page of Markdown with an updated diagram, if it has one."""
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    return f"{head}{begin}{diagram}{end}{tail}" if end else page
