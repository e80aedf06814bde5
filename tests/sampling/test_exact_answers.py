"""Every sampler driven by the exact denoiser of the gradients: its samples must be gradients of uniform colours."""

from collections import deque
from functools import partial

import pytest
import torch

from ddpm.diffusion.schedule import SCHEDULES, NoiseSchedule
from ddpm.exact.denoiser import ExactDenoiser
from ddpm.exact.quality import corner_error_floor, measure
from ddpm.run.seeding import generator
from ddpm.sampling.sampler import SAMPLERS

SHAPE = (3, 4, 5)
LEVEL = 1e-4  # of the chi-square test, per chain: some 20 correct chains seldom fail, whatever the seed
FRESH = {"ancestral": {"variance": "fixed_small"}, "ddim": {"eta": 0.0}}
SOLVERS = [name for name, sampler in SAMPLERS.items() if not sampler.stochastic]


def drawn(name, max_steps=50, n=128, off_by=0, noise_scale=1.0, schedule_name="cosine"):
    """Quality of n images by all steps of a schedule. `off_by` is added to the t passed to the denoiser."""
    schedule = NoiseSchedule(max_steps, betas=SCHEDULES[schedule_name](max_steps))
    model = ExactDenoiser(SHAPE, schedule)
    model.prediction = "x0"
    noise = partial(torch.randn, n, *SHAPE, dtype=torch.float64, generator=generator(0, "exact answers"))
    start = noise()

    def denoise(x, t):
        return model(x, torch.full((n,), min(max(t + off_by, 1), max_steps)))

    options = FRESH.get(name, {})
    if SAMPLERS[name].stochastic:
        options = options | {"noise": lambda: noise_scale * noise()}
    return measure(deque(SAMPLERS[name].steps(denoise, start, schedule, **options), maxlen=1).pop())


@pytest.mark.parametrize("name", SAMPLERS)
def test_sampler_reproduces_data_distribution(name):
    quality = drawn(name)
    assert quality.p_value > LEVEL
    # The last estimate is a mean of gradients, at most half a level from the nearest: 1 / 255 in [-1, 1].
    assert quality.distance < 1 / 255
    # The floor is the mean of int |B|, B a Brownian bridge, which is 0.31. Its tail falls as exp(-6 x^2), since int B
    # has variance 1/12: four times the mean is exceeded once in 10,000 draws.
    assert quality.corner_error < 4 * corner_error_floor(3 * 128, generator(0, "floor"))


@pytest.mark.parametrize("name", SAMPLERS)
def test_zero_terminal_snr_fixes_linear_schedule(name):
    # At T = 50 the linear schedule keeps 0.77 of the image's strength at its last step, so pure noise is a wrong start.
    assert drawn(name, n=512, schedule_name="linear").p_value < LEVEL
    mended = drawn(name, schedule_name="linear_zero_snr")
    assert mended.p_value > LEVEL
    assert mended.distance < 1 / 255


@pytest.mark.parametrize("scale", [0.0, 0.7, 1.4])
def test_missing_or_misscaled_noise_is_detected(scale):
    # Chi-square grows as n. With 1,024 images it was 238 to 328 in four draws at scale 1.4. At LEVEL it is 59.
    assert drawn("ancestral", n=1024, noise_scale=scale).p_value < LEVEL


# With 50 steps, an error of one is too small to detect. With 8, so many images also show the solver's own error, so
# a wrong chain is compared with the right one from the same noise.
@pytest.mark.parametrize("name", SOLVERS)
def test_off_by_one_timestep_is_detected(name):
    early, right, late = (drawn(name, 8, 1536, off_by).p_value for off_by in (-1, 0, 1))
    print(name, early, right, late)
    if right < LEVEL:
        pytest.skip("a first-order solver's own error in 8 steps hides that of a wrong timestep")
    assert max(early, late) < LEVEL * right
