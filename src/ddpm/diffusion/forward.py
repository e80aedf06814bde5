"""The forward process q: noise added to images, step by step or at once (Ho et al. 2020, equations 2 and 4)."""

from typing import Literal

import torch
from jaxtyping import Float, Float64, Int, Int64
from torch import Tensor

from ddpm.diffusion.schedule import NoiseSchedule

StepSampling = Literal["uniform", "stratified"]


def q_eq2(
    x: Float[Tensor, "*shape"],
    num_steps: int,
    betas: Float64[Tensor, "T"],
    generator: torch.Generator | None = None,
) -> Float[Tensor, "*shape"]:
    """Equation 2, literally: `num_steps` times x_t ~ N(sqrt(1 - beta_t) x_{t-1}, beta_t I).

    x: an image, or a batch, in [-1, 1]; num_steps: 0..T, IndexError outside; betas: the schedule.
    """
    _check_steps(num_steps, betas)
    for beta in betas[:num_steps].to(x):
        x = (1 - beta).sqrt() * x + beta.sqrt() * _randn_like(x, generator)
    return x


def q_eq4(
    x: Float[Tensor, "*shape"],
    num_steps: int,
    betas: Float64[Tensor, "T"],
    generator: torch.Generator | None = None,
) -> Float[Tensor, "*shape"]:
    """Equation 4: the same distribution as `q_eq2` in one go, x_t ~ N(sqrt(alpha_bar_t) x_0, (1 - alpha_bar_t) I)."""
    _check_steps(num_steps, betas)
    if num_steps == 0:
        return x
    alpha_bar = (1 - betas[:num_steps].double()).prod()
    return alpha_bar.sqrt().to(x) * x + (1 - alpha_bar).sqrt().to(x) * _randn_like(x, generator)


def noise_img(
    img: Float[Tensor, "b c h w"],
    noise_schedule: NoiseSchedule,
    max_steps: int | None = None,
    generator: torch.Generator | None = None,
    step_sampling: StepSampling = "uniform",
) -> tuple[Int[Tensor, "b"], Float[Tensor, "b c h w"], Float[Tensor, "b c h w"]]:
    """Noise each image by its own random number of steps (Algorithm 1, lines 3 to 5; equation 4).

    img: in [-1, 1]; max_steps: draw steps from 1..max_steps instead of 1..T; step_sampling: as in `draw_steps`.
    Returns (num_steps, noise, noised): the steps drawn, the standard Gaussian noise before scaling, the noised images.
    """
    highest = len(noise_schedule) if max_steps is None else max_steps
    if not 1 <= highest <= len(noise_schedule):
        raise IndexError(f"max_steps {max_steps} is out of range: this schedule has steps 1..{len(noise_schedule)}")
    # On the generator's own device, so that a CPU generator gives the same draws wherever the model runs.
    device = img.device if generator is None else generator.device
    num_steps = draw_steps(len(img), highest, step_sampling, generator, device).to(img.device)
    noise = _randn_like(img, generator)
    return num_steps, noise, add_noise(img, noise, num_steps, noise_schedule)


def draw_steps(
    n: int,
    max_steps: int,
    step_sampling: StepSampling = "uniform",
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> Int64[Tensor, "n"]:
    """`n` random numbers of steps, each uniform on 1..max_steps.

    step_sampling: "uniform", each on its own; or "stratified", one in each n-th part of the range, by one shift for all
    (Kingma et al. 2021: u_i = u_0 + i / n mod 1), so that the loss varies less from batch to batch.
    """
    if step_sampling == "uniform":
        return torch.randint(1, max_steps + 1, (n,), generator=generator, device=device)
    u = torch.rand((), generator=generator, device=device, dtype=torch.float64) + torch.arange(n, device=device) / n
    return 1 + (u % 1 * max_steps).long()


def add_noise(
    img: Float[Tensor, "b c h w"],
    noise: Float[Tensor, "b c h w"],
    num_steps: Int[Tensor, "b"],
    noise_schedule: NoiseSchedule,
) -> Float[Tensor, "b c h w"]:
    """x_t from x_0 and given noise: sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps (equation 4, reparameterised)."""
    signal_scale, noise_scale = scales(num_steps, noise_schedule, img)
    return signal_scale * img + noise_scale * noise


def reconstruct(
    noisy_img: Float[Tensor, "b c h w"],
    noise: Float[Tensor, "b c h w"],
    num_steps: Int[Tensor, "b"],
    noise_schedule: NoiseSchedule,
) -> Float[Tensor, "b c h w"]:
    """The image under the noise, equation 4 solved for x_0 (equation 15 when `noise` is a prediction).

    With the noise that `noise_img` returned this is its inverse. Not clamped.
    """
    signal_scale, noise_scale = scales(num_steps, noise_schedule, noisy_img)
    return (noisy_img - noise_scale * noise) / signal_scale


def scales(
    num_steps: Int[Tensor, "b"], noise_schedule: NoiseSchedule, img: Tensor
) -> tuple[Float[Tensor, "b 1 1 1"], Float[Tensor, "b 1 1 1"]]:
    """sqrt(alpha_bar) and sqrt(1 - alpha_bar): how much of the image and of the noise is in x_t, to multiply `img`."""
    alpha_bar = noise_schedule.alpha_bar(num_steps).reshape(-1, 1, 1, 1)
    return alpha_bar.sqrt().to(img), (1 - alpha_bar).sqrt().to(img)


def _randn_like(x: Tensor, generator: torch.Generator | None) -> Tensor:
    device = x.device if generator is None else generator.device
    return torch.randn(x.shape, generator=generator, device=device, dtype=x.dtype).to(x.device)


def _check_steps(num_steps: int, betas: Tensor) -> None:
    if not 0 <= num_steps <= len(betas):
        raise IndexError(f"num_steps {num_steps} is out of range: this schedule has steps 0..{len(betas)}")
