"""Topics tiny and unet: each figure shows the right file, and states how samples were drawn."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from figures.drawn import assert_shows, columns, legend, note, points, random_images, rows, signed
from figures.made_up import CLASSES, MAX_STEPS, SECTIONS, SEED, STEP, TINY, UNET, stage_run, table_of, write_outputs
from safetensors.torch import load_file

from ddpm.data.dataset import ImageDataset
from ddpm.figures.topic import TOPICS
from ddpm.figures.topics import tiny, unet
from ddpm.figures.trained import first_of_each_class
from ddpm.networks.checkpoint import load_model

pytestmark = pytest.mark.usefixtures("outputs")


NAMES = "tiny", "unet"


def drawn(name: str, figure: str):
    topic = TOPICS[name]
    return topic.figures[f"{name}_{figure}"].draw(topic.load(stage_run(f"render_{name}")))


def curve(path: str) -> list[tuple[float, float]]:
    with Path(path).open(newline="") as file:
        return [(float(x), float(y)) for x, y in list(csv.reader(file))[1:]]


def pixels(path: str, name: str) -> torch.Tensor:
    return load_file(path)[name] / 255


@pytest.mark.parametrize("name", NAMES)
def test_loss_curves_match_reports(name):
    axes = drawn(name, "loss").axes[0]
    lines = [points(line) for line in axes.lines]
    assert lines[:2] == [curve(f"reports/train_{name}/{file}.csv") for file in ("loss", "eval_loss")]
    words = legend(drawn(name, "loss"))
    assert [word.split(":")[0] for word in words[:2]] == ["training", "evaluation"]
    if name == "tiny":
        least = table_of(Path("reports/evaluate_tiny/metrics.json"))["optimal_eval_loss"]
        assert [y for _, y in lines[2]] == [least, least]
    assert len(lines) == (3 if name == "tiny" else 2)


@pytest.mark.parametrize("name", NAMES)
def test_losses_by_timestep_match_reports(name):
    lines = [points(line) for line in drawn(name, "loss_by_timestep").axes[0].lines]
    expected = [curve(f"reports/train_{name}/loss_by_timestep.csv")]
    if name == "tiny":
        expected.append(curve("reports/evaluate_tiny/optimal_loss_by_timestep.csv"))
    assert lines == expected


@pytest.mark.parametrize("name", NAMES)
def test_losses_by_quartile_match_reports(name):
    figure = drawn(name, "loss_by_quartile")
    with Path(f"reports/train_{name}/loss_by_quartile.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    expected = [[(float(row["step"]), float(row[f"train_loss_q{q}"])) for row in rows] for q in (1, 2, 3, 4)]
    assert [points(line) for line in figure.axes[0].lines] == expected
    assert legend(figure)[-1].startswith(f"t = {MAX_STEPS[name] * 3 // 4 + 1} to {MAX_STEPS[name]}:")


@pytest.mark.parametrize(("name", "shape", "moments"), [("tiny", TINY, (0, 4)), ("unet", UNET, (0, 2, 4))])
def test_previews_show_the_chosen_steps(name, shape, moments):
    previews = pixels(f"models/{name}_previews.safetensors", "images")
    _, h, w = shape
    cells = [
        [previews[k, i, :, y : y + h, x : x + w] for i in (0, 1) for x in (0, w, 2 * w)]
        for k in moments
        for y in (0, h)
    ]
    assert_shows(drawn(name, "previews"), cells)


@pytest.mark.parametrize("name", NAMES)
def test_samples_are_below_images_not_used_in_training(name):
    params = SECTIONS[f"render_{name}"]
    made = pixels(f"samples/{name}.safetensors", "samples")[: params.grid_rows * params.grid_columns]
    if name == "tiny":
        real = load_file("data/gradients/held_out.safetensors")["images"]
    else:
        real = pixels("data/images/test.safetensors", "images")
    expected = [list(row) for row in (real[: params.grid_columns], *made.split(params.grid_columns))]
    assert_shows(drawn(name, "samples"), expected)


@pytest.mark.parametrize(("name", "moments"), [("tiny", (0, 2, 3, 5)), ("unet", (0, 2, 5))])
def test_trajectories_run_from_noise_to_image(name, moments):
    steps = pixels(f"samples/{name}.safetensors", "steps")
    figure = drawn(name, "denoising")
    assert_shows(figure, [[steps[moment, k] for moment in moments] for k in (0, 1)])
    assert columns(figure) == [str(10 - 2 * moment) for moment in moments]


@pytest.mark.parametrize("name", NAMES)
def test_titles_state_network_training_steps_and_seed(name):
    topic = TOPICS[name]
    inputs = topic.load(stage_run(f"render_{name}"))
    for figure in topic.figures.values():
        step = "0" if figure.name == "tiny_untrained" else f"{STEP:,}"
        kind = {"tiny": "TinyDiffuser", "unet": "Unet"}[name]
        assert f"{kind} after {step} training steps, seed {SEED}" in figure.draw(inputs).get_suptitle()


@pytest.mark.parametrize(
    ("conditioning", "origin"),
    [
        (None, "from pure noise"),
        ("clusters", "from pure noise, given the mean of a cluster of training images"),
        ("labels", "from pure noise, given a class label"),
    ],
)
def test_captions_and_notes_state_the_conditioning(tmp_path, monkeypatch, conditioning, origin):
    monkeypatch.chdir(tmp_path)
    write_outputs(tmp_path, conditioning)
    inputs = unet.load(stage_run("render_unet"))
    for name in ("unet_samples", "unet_denoising"):
        entry = TOPICS["unet"].figures[name]
        ends = (f"{origin}, not cherry-picked", f"{origin}:")
        assert any(end in entry.caption.format(inputs=inputs) for end in ends)
        assert any(end in note(entry.draw(inputs)) for end in ends)
    paper = TOPICS["paper"]
    made = paper.load(stage_run("render_paper"))
    assert made.origin == origin
    assert origin in paper.figures["paper_06_14"].caption.format(inputs=made)


def test_labelled_samples_are_grouped_by_class(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_outputs(tmp_path, "labels", labelled=True)
    made, test = load_file("samples/unet.safetensors"), load_file("data/images/test.safetensors")
    figure = unet.unet_samples(unet.load(stage_run("render_unet")))
    real = [(test["images"] / 255)[test["labels"] == i][0] for i in range(3)]
    n_each = SECTIONS["render_unet"].grid_columns - 1
    expected = [[real[i], *(made["samples"] / 255)[made["labels"] == i][:n_each]] for i in range(3)]
    assert_shows(figure, expected)
    assert rows(figure) == list(CLASSES)


def test_first_of_each_class_is_black_for_empty_classes():
    images, labels = random_images(3, 1, 2, 2), torch.tensor([2, 0, 2], dtype=torch.uint8)
    found = first_of_each_class(ImageDataset(images, labels, CLASSES))
    assert list(found) == list(CLASSES)
    expected = images[1], torch.zeros(1, 2, 2), images[0]
    assert all(torch.equal(image, other) for image, other in zip(found.values(), expected, strict=True))


def test_untrained_prediction_is_below_its_target_with_error():
    inputs = tiny.load(stage_run("render_tiny"))
    xt, wanted = random_images(2, 3, 4, 5), random_images(2, 3, 4, 5, seed=1) / 2
    untrained = replace(
        inputs.untrained,
        xt=signed(xt),
        wanted=signed(wanted),
        predicted=signed(wanted) + 0.5,
        num_steps=torch.tensor([5, 3]),
    )
    figure = tiny.tiny_untrained(replace(inputs, untrained=untrained))
    assert_shows(figure, [[xt[1], xt[0]], [wanted[1], wanted[0]], [wanted[1] + 0.25, wanted[0] + 0.25]])
    assert f"always predicting 0 (grey) would score {signed(wanted).square().mean():.2f}" in note(figure)
    assert "Mean squared error 0.25" in note(figure)


def test_untrained_network_differs_and_sees_held_out_images():
    found = tiny.load(stage_run("render_tiny")).untrained
    held_out = load_file("data/gradients/held_out.safetensors")["images"][: len(found.xt)]
    assert len(found.xt) == SECTIONS["render_tiny"].n_noised
    assert found.label == f"TinyDiffuser after 0 training steps, seed {SEED}"  # of params.yaml
    assert torch.allclose(found.wanted, signed(held_out))  # the made-up network predicts x0
    with torch.no_grad():
        assert not torch.allclose(found.predicted, load_model("models/tiny.safetensors")(found.xt, found.num_steps))
