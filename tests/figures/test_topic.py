"""The table of figures: captions and alt texts, and stages that read and write what they declare."""

from collections import Counter
from pathlib import Path

import pytest
from figures.drawn import assert_legible
from figures.made_up import SECTIONS, stage_run
from PIL import Image
from project import REPO

from ddpm.figures.topic import TOPICS, topics_in_order
from ddpm.run.plan import code_digests

FIGURES = {figure.name: (name, figure) for name, topic in TOPICS.items() for figure in topic.figures.values()}
DEPS = [(name, dep) for name, topic in TOPICS.items() for dep in topic.deps]


def test_figure_names_are_unique():
    names = Counter(figure for topic in TOPICS.values() for figure in topic.figures)
    assert max(names.values()) == 1


def test_every_topic_has_a_unique_place_on_the_page():
    assert sorted(topics_in_order()) == sorted(TOPICS)
    places = [topic.place for topic in topics_in_order().values()]
    assert places == sorted(set(places))


@pytest.mark.usefixtures("outputs")
@pytest.mark.parametrize("name", FIGURES)
def test_figures_have_caption_alt_text_title_and_axis_labels(name):
    topic, entry = FIGURES[name]
    inputs = TOPICS[topic].load(stage_run(f"render_{topic}"))
    assert entry.caption.format(inputs=inputs).endswith(".")
    assert entry.alt.format(inputs=inputs).strip()
    figure = entry.draw(inputs)
    assert "seed 42" in figure.get_suptitle()
    for axes in figure.axes:
        assert axes.get_xlabel()
        assert axes.get_ylabel()


@pytest.mark.usefixtures("outputs")
@pytest.mark.parametrize("name", FIGURES)
def test_texts_do_not_overlap_or_leave_the_figure(name):
    topic, entry = FIGURES[name]
    assert_legible(entry.draw(TOPICS[topic].load(stage_run(f"render_{topic}"))))


@pytest.mark.usefixtures("copied")
@pytest.mark.parametrize("name", TOPICS)
def test_stage_writes_its_figures_with_caption_and_alt_text(stages, name):
    stage, figures = stages[f"render_{name}"], TOPICS[name].figures.values()
    stage.main(stage_run(f"render_{name}"))
    assert stage.plots == [f"reports/figures/{figure.name}.png" for figure in figures]
    assert {str(path) for path in Path("reports/figures").iterdir()} == set(stage.plots)
    inputs = TOPICS[name].load(stage_run(f"render_{name}"))
    for figure in figures:
        with Image.open(figure.path) as image:
            words = figure.caption.format(inputs=inputs), figure.alt.format(inputs=inputs)
            assert (image.info["Caption"], image.info["Alt"]) == words


@pytest.mark.usefixtures("copied")
@pytest.mark.parametrize("name", ["data", "tiny"])  # the topics that draw random numbers
def test_stage_is_deterministic(stages, name):
    written = []
    for _ in range(2):
        stages[f"render_{name}"].main(stage_run(f"render_{name}"))
        written.append([figure.path.read_bytes() for figure in TOPICS[name].figures.values()])
    assert written[0] == written[1]


@pytest.mark.usefixtures("copied")
@pytest.mark.parametrize("name", TOPICS)
def test_topic_loads_from_declared_files_only(stages, name):
    declared = {Path(dep) for dep in stages[f"render_{name}"].deps}
    for path in [path for path in Path().rglob("*") if path.is_file()]:
        if path not in declared:
            path.unlink()
    TOPICS[name].load(stage_run(f"render_{name}"))


@pytest.mark.usefixtures("copied")
@pytest.mark.parametrize(("name", "dep"), DEPS)
def test_topic_needs_every_declared_file(name, dep):
    Path(dep).unlink()
    with pytest.raises(Exception, match=r"No such file|no such file"):
        TOPICS[name].load(stage_run(f"render_{name}"))


@pytest.mark.parametrize("name", TOPICS)
def test_stage_depends_on_code_of_its_own_topic_only(monkeypatch, stages, name):
    monkeypatch.chdir(REPO)
    stage = stages[f"render_{name}"]
    deciding = code_digests(Path("stages/render.py"), stage.entries)
    assert {module for module in deciding if module.startswith(f"{TOPICS.package}.")} == {TOPICS.module(name)}
    assert stage.section is (type(SECTIONS[f"render_{name}"]) if f"render_{name}" in SECTIONS else None)
