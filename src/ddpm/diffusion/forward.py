"""The forward process q: adding noise step by step or directly (Ho et al. 2020, equations 2 and 4)."""

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
    """Equation 2, step by step: `num_steps` times x_t ~ N(sqrt(1 - beta_t) x_{t-1}, beta_t I).

    Args:
        x: x_0 in [-1, 1], an image or a batch.
        num_steps: t, from 0 to T.
        betas: beta_1..beta_T.
        generator: Random generator for the noise, or None for torch's global generator.

    Returns:
        x_t.

    Raises:
        IndexError: num_steps is out of range.
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
    """Equation 4: x_t ~ N(sqrt(alpha_bar_t) x_0, (1 - alpha_bar_t) I), the distribution of `q_eq2` in one step.

    Args:
        x: x_0 in [-1, 1], an image or a batch.
        num_steps: t, from 0 to T.
        betas: beta_1..beta_T.
        generator: Random generator for the noise, or None for torch's global generator.

    Returns:
        x_t.

    Raises:
        IndexError: num_steps is out of range.
    """
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
    """Noise each image to its own random timestep (Algorithm 1, lines 3 to 5, and equation 4).

    Args:
        img: x_0 in [-1, 1].
        noise_schedule: The noise schedule.
        max_steps: t is drawn from 1..max_steps, or from 1..T if this is None.
        generator: Random generator for t and the noise, or None for torch's global generator.
        step_sampling: How t is drawn, as in `draw_steps`.

    Returns:
        (num_steps, noise, noised): t of each image, the standard normal noise, and x_t.

    Raises:
        IndexError: max_steps is not in 1..T.
    """
    highest = len(noise_schedule) if max_steps is None else max_steps
    if not 1 <= highest <= len(noise_schedule):
        raise IndexError(f"max_steps is {max_steps}; this schedule has steps 1 to {len(noise_schedule)}")
    # On the generator's device, so that a CPU generator gives the same draws wherever the model runs.
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
    """Draw t for `n` images, each uniform on 1..max_steps.

    Args:
        n: Number of images.
        max_steps: The largest t.
        step_sampling: "uniform" draws independently. "stratified" draws evenly spaced t with one random offset,
            u_i = u_0 + i / n mod 1, which lowers the variance of the loss (Kingma et al. 2021).
        generator: Random generator, or None for torch's global generator.
        device: Device of the result, which must be the generator's.
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
    """x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps (equation 4, reparameterised).

    Args:
        img: x_0 in [-1, 1].
        noise: eps, standard normal.
        num_steps: t of each image, from 0 to T.
        noise_schedule: The noise schedule.
    """
    signal_scale, noise_scale = scales(num_steps, noise_schedule, img)
    return signal_scale * img + noise_scale * noise


def reconstruct(
    noisy_img: Float[Tensor, "b c h w"],
    noise: Float[Tensor, "b c h w"],
    num_steps: Int[Tensor, "b"],
    noise_schedule: NoiseSchedule,
) -> Float[Tensor, "b c h w"]:
    """Equation 4 solved for x_0: the inverse of `noise_img`, and equation 15 if the noise is predicted.

    Args:
        noisy_img: x_t.
        noise: eps, or its prediction.
        num_steps: t of each image, from 0 to T.
        noise_schedule: The noise schedule.

    Returns:
        x_0, not clamped.
    """
    signal_scale, noise_scale = scales(num_steps, noise_schedule, noisy_img)
    return (noisy_img - noise_scale * noise) / signal_scale


def scales(
    num_steps: Int[Tensor, "b"], noise_schedule: NoiseSchedule, img: Tensor
) -> tuple[Float[Tensor, "b 1 1 1"], Float[Tensor, "b 1 1 1"]]:
    """sqrt(alpha_bar_t) and sqrt(1 - alpha_bar_t), the factors of x_0 and of the noise in x_t.

    Args:
        num_steps: t of each image, from 0 to T.
        noise_schedule: The noise schedule.
        img: The factors have its dtype and device.
    """
    alpha_bar = noise_schedule.alpha_bar(num_steps).reshape(-1, 1, 1, 1)
    return alpha_bar.sqrt().to(img), (1 - alpha_bar).sqrt().to(img)


def _randn_like(x: Tensor, generator: torch.Generator | None) -> Tensor:
    device = x.device if generator is None else generator.device
    return torch.randn(x.shape, generator=generator, device=device, dtype=x.dtype).to(x.device)


def _check_steps(num_steps: int, betas: Tensor) -> None:
    if not 0 <= num_steps <= len(betas):
        raise IndexError(f"num_steps is {num_steps}; this schedule has steps 0 to {len(betas)}")
