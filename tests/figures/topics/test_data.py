"""Topic data: toy data and noised gradients are under the right headings."""

from dataclasses import replace

import pytest
import torch
from figures.drawn import assert_shows, columns, random_images, signed
from figures.made_up import SECTIONS, SEED, TINY, stage_run
from safetensors.torch import load_file

from ddpm.diffusion.forward import q_eq2, q_eq4
from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.figures.topics import data
from ddpm.run.seeding import generator

pytestmark = pytest.mark.usefixtures("outputs")


@pytest.fixture
def inputs() -> data.Inputs:
    return data.load(stage_run("render_data"))


def test_gradients_are_the_first_held_out_images_in_order(inputs):
    held_out = load_file("data/gradients/held_out.safetensors")["images"]
    assert_shows(data.gradients(inputs), [list(held_out[:8]), list(held_out[8:10])])
    assert f"{TINY[1]} by {TINY[2]} pixels" in data.gradients(inputs).texts[1].get_text()


def test_each_equation_noises_the_first_image_at_each_step(inputs):
    stage = stage_run("render_data")
    betas, stream = NoiseSchedule(max(inputs.forward_steps)).betas, generator(stage.seed, "forward_process")
    for q, shown in ((q_eq2, inputs.eq2), (q_eq4, inputs.eq4)):
        for t, image in zip(inputs.forward_steps, shown, strict=True):
            assert torch.equal(image, q(inputs.x0[0], t, betas, stream))


def test_normalization_shows_original_clipped_and_restored_rows(inputs, caplog):
    x = random_images(3, 3, 4, 4)
    clipped = torch.where(x < 0.5, torch.zeros(()), 2 * x - 1)
    assert_shows(data.normalization(replace_images(inputs, x)), [list(x), list(clipped), list(x)])
    assert not caplog.records  # matplotlib would clip too, and complain


def replace_images(inputs: data.Inputs, pixels: torch.Tensor) -> data.Inputs:
    empty = {name: torch.zeros(0, *pixels.shape[1:]) for name in ("eq2", "eq4")}
    noise = torch.zeros(2, *pixels.shape[1:])
    x0, t = signed(pixels), torch.ones(len(pixels), dtype=torch.int64)
    return replace(
        inputs, pixels=pixels, x0=x0, **empty, pure_noise=noise, num_steps=t, eps=x0, xt=x0, reconstructed=x0
    )


def test_forward_process_has_a_row_per_equation(inputs):
    x = random_images(9, 3, 4, 4)
    made = replace_images(inputs, x[:1])
    made = replace(made, eq2=signed(x[1:4]), eq4=signed(x[4:7]), pure_noise=signed(x[7:9]))
    figure = data.forward_process(replace(made, forward_steps=[1, 10, 50], alpha_bars=[0.81, 0.25, 0.01]))
    assert_shows(figure, [[x[0], x[1], x[2], x[3], x[7]], [x[0], x[4], x[5], x[6], x[8]]])
    headings = columns(figure)
    assert [heading.split("\n")[0] for heading in headings] == ["t = 0", "t = 1", "t = 10", "t = 50", "pure noise"]
    assert [heading[-5:] for heading in headings[1:4]] == ["0.900", "0.500", "0.100"]  # square roots


def test_noising_is_sorted_by_step_and_states_max_error(inputs):
    x = random_images(12, 3, 4, 4).reshape(4, 3, 3, 4, 4)
    x0, eps, xt, back = (signed(images) for images in x)
    back = x0.clone()
    back[2, 0, 1, 1] += 1.5
    made = replace(replace_images(inputs, x[0]), eps=eps, xt=xt, reconstructed=back, max_steps=100)
    figure = data.noising(replace(made, num_steps=torch.tensor([70, 2, 9])))
    last = x[0].clone()
    last[2, 0, 1, 1] = min(1.0, x[0, 2, 0, 1, 1].item() + 0.75)
    assert_shows(figure, [[images[i] for i in (1, 2, 0)] for images in (x[0], x[1], x[2], last)])
    assert columns(figure) == ["t = 2", "t = 9", "t = 70"]
    assert "max abs error 1.5e+00, 100 steps" in figure.get_suptitle()


def test_loaded_inputs_have_the_stated_noise(inputs):
    params, schedule = SECTIONS["render_data"], NoiseSchedule(20)
    assert inputs.seed == SEED
    assert inputs.x0.shape == (params.n_noised, *params.forward_img_shape)
    assert inputs.max_steps == 20
    assert inputs.alpha_bars == schedule.alpha_bar(torch.tensor([1, 5, 20])).tolist()
    signal = schedule.alpha_bar(inputs.num_steps).float().reshape(-1, 1, 1, 1)
    assert torch.allclose(inputs.xt, signal.sqrt() * inputs.x0 + (1 - signal).sqrt() * inputs.eps, atol=1e-5)
    assert torch.allclose(inputs.reconstructed, inputs.x0, atol=1e-4)
    for noised in (inputs.eq2, inputs.eq4):
        # The remainder is noise of variance 1 - alpha_bar, up to five standard errors over all pixels.
        kept = torch.tensor(inputs.alpha_bars).float().reshape(-1, 1, 1, 1)
        noise = ((noised - kept.sqrt() * inputs.x0[0]) / (1 - kept).sqrt()).flatten()
        assert abs(noise.square().mean() - 1) < 5 * (2 / len(noise)) ** 0.5
    assert not torch.equal(inputs.eq2, inputs.eq4)
    assert not torch.equal(*inputs.pure_noise)
