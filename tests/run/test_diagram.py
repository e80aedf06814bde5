"""The diagram of the stages: as few arrows as possible, in its place on a page."""

from hypothesis import given
from hypothesis import strategies as st

from ddpm.run.diagram import BEGIN, END, arrows, mermaid, with_diagram


@st.composite
def graphs(draw):
    """Stages that each depend on some earlier ones."""
    names = [f"s{i}" for i in range(draw(st.integers(1, 8)))]
    return {name: draw(st.sets(st.sampled_from(names[:i]))) if i else set() for i, name in enumerate(names)}


def reachable(after):
    """All (a, b) such that arrows lead from a to b."""
    pairs = {(a, b) for a, others in after.items() for b in others}
    while longer := {(a, d) for a, b in pairs for c, d in pairs if b == c} - pairs:
        pairs |= longer
    return pairs


@given(graphs())
def test_arrows_are_the_transitive_reduction(before):
    kept = arrows(before)
    wanted = reachable({a: {b for b in before if a in before[b]} for a in before})
    assert reachable(kept) == wanted
    for a, others in kept.items():
        for b in others:
            assert reachable(kept | {a: [c for c in others if c != b]}) != wanted


def test_mermaid_groups_arrows_by_source():
    before = {"data": set(), "train": {"data"}, "score": {"data"}, "page": {"data", "train", "score"}}
    assert mermaid(before) == (
        "```mermaid\ngraph LR\n    data --> train & score\n    train --> page\n    score --> page\n```\n"
    )


def test_mermaid_draws_a_stage_without_arrows():
    assert mermaid({"alone": set()}) == "```mermaid\ngraph LR\n    alone\n```\n"
    pair = {"data": set(), "alone": set(), "train": {"data"}}
    assert mermaid(pair) == "```mermaid\ngraph LR\n    data --> train\n    alone\n```\n"


def test_with_diagram_replaces_only_text_between_markers():
    page = f"# Title\n\n{BEGIN}old\n{END}\nText.\n"
    assert with_diagram(page, "new\n") == f"# Title\n\n{BEGIN}new\n{END}\nText.\n"
    for without in ("", "# Title\n", f"# Title\n{BEGIN}no end\n"):
        assert with_diagram(without, "new\n") == without
