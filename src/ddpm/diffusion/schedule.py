"""Noise schedules: how much noise each of the steps 1..T adds (Ho et al. 2020, sections 2 and 4).

Everything here is float64 and is cast where it is used, since small values of alpha_bar lose precision in float32.
"""

from math import inf

import torch
from jaxtyping import Float64, Int
from torch import Tensor, nn


def linear_schedule(max_steps: int, min_noise: float = 0.0001, max_noise: float = 0.02) -> Float64[Tensor, "T"]:
    """The paper's forward variances, linear in t (Ho et al. 2020, section 4).

    Args:
        max_steps: T, at least 1.
        min_noise: beta_1.
        max_noise: beta_T.

    Returns:
        beta_1..beta_T.

    Raises:
        ValueError: max_steps is below 1, or not 0 < min_noise <= max_noise < 1.
    """
    _check_max_steps(max_steps, 1, "a noise schedule")
    if not 0 < min_noise <= max_noise < 1:
        raise ValueError(f"min_noise is {min_noise}, max_noise {max_noise}; need 0 < min_noise <= max_noise < 1")
    return torch.linspace(min_noise, max_noise, max_steps, dtype=torch.float64)


def rescaled_linear_schedule(max_steps: int) -> Float64[Tensor, "T"]:
    """The paper's schedule for any T: its betas times 1000 / T (as in the code of Nichol & Dhariwal 2021).

    The sum of the betas is the same as for T = 1000, so alpha_bar_T is at most 4.4e-5 and x_T is nearly pure noise.

    Args:
        max_steps: T, at least 21, since the last beta is 20 / T.

    Returns:
        beta_1..beta_T.

    Raises:
        ValueError: max_steps is below 21.
    """
    _check_max_steps(max_steps, 21, "the rescaled linear schedule")
    scale = 1000 / max_steps
    return linear_schedule(max_steps, 0.0001 * scale, 0.02 * scale)


def cosine_schedule(max_steps: int, s: float = 0.008, max_beta: float = 0.999) -> Float64[Tensor, "T"]:
    """The schedule in which alpha_bar follows a squared cosine (Nichol & Dhariwal 2021, equation 17).

    Args:
        max_steps: T, at least 1.
        s: Offset that keeps beta_1 from being too small, at least 0.
        max_beta: Upper limit of each beta, above 0 and at most 1.

    Returns:
        beta_1..beta_T.

    Raises:
        ValueError: max_steps, s or max_beta is out of range.
    """
    _check_max_steps(max_steps, 1, "a noise schedule")
    if not 0 <= s < inf or not 0 < max_beta <= 1:
        raise ValueError(f"s is {s}, max_beta {max_beta}; need 0 <= s < inf and 0 < max_beta <= 1")
    t = torch.arange(max_steps + 1, dtype=torch.float64) / max_steps
    f = torch.cos((t + s) / (1 + s) * torch.pi / 2) ** 2
    return (1 - f[1:] / f[:-1]).clamp(max=max_beta)


def rescale_zero_terminal_snr(betas: Float64[Tensor, "T"]) -> Float64[Tensor, "T"]:
    """Shift and scale sqrt(alpha_bar) so that x_T is pure noise (Lin et al. 2023, Algorithm 1).

    Args:
        betas: beta_1..beta_T, at least 2 steps.

    Returns:
        The new beta_1..beta_T: alpha_bar_1 is unchanged, alpha_bar_T is 0 and beta_T is 1.

    Raises:
        ValueError: There are fewer than 2 steps.
    """
    _check_max_steps(len(betas), 2, "a schedule with zero terminal SNR")
    signal = (1 - betas).cumprod(0).sqrt()
    signal = (signal - signal[-1]) * signal[0] / (signal[0] - signal[-1])
    alpha_bar = torch.cat((torch.ones_like(signal[:1]), signal**2))
    return 1 - alpha_bar[1:] / alpha_bar[:-1]


def linear_zero_snr_schedule(max_steps: int) -> Float64[Tensor, "T"]:
    """`linear_schedule` with zero terminal SNR.

    Raises:
        ValueError: max_steps is below 2.
    """
    return rescale_zero_terminal_snr(linear_schedule(max_steps))


SCHEDULES = {
    "linear": linear_schedule,
    "linear_zero_snr": linear_zero_snr_schedule,
    "rescaled_linear": rescaled_linear_schedule,
    "cosine": cosine_schedule,
}


class NoiseSchedule(nn.Module):
    """beta, alpha and alpha_bar by timestep, saved with the model that was trained on them.

    Timesteps run from 1 to T inclusive, as in Algorithm 1. `alpha_bar(0)` is 1, for an image without noise.

    Args:
        max_steps: T.
        device: Device of the buffers.
        betas: beta_1..beta_T, each in (0, 1), or None for `linear_schedule(max_steps)`. The last one may be 1 (zero
            terminal SNR). Then x_T is pure noise, and a prediction of the noise does not determine x_0.

    Raises:
        ValueError: The number of betas is not max_steps, or one is out of range.
    """

    betas: Float64[Tensor, "T"]
    alphas: Float64[Tensor, "T"]
    alpha_bars: Float64[Tensor, "T"]

    def __init__(
        self, max_steps: int, device: torch.device | str = "cpu", betas: Float64[Tensor, "T"] | None = None
    ) -> None:
        super().__init__()
        self.max_steps = max_steps
        betas = linear_schedule(max_steps) if betas is None else betas.to(torch.float64)
        if betas.shape != (max_steps,):
            raise ValueError(f"betas has shape {tuple(betas.shape)}; max_steps {max_steps} needs ({max_steps},)")
        if not ((betas > 0) & (betas <= 1)).all() or (betas[:-1] == 1).any():
            raise ValueError(
                f"betas lie in {betas.min().item():.3g}..{betas.max().item():.3g}; each must lie strictly "
                "between 0 and 1, only the last one may be 1"
            )
        alphas = 1 - betas
        self.register_buffer("betas", betas.to(device))
        self.register_buffer("alphas", alphas.to(device))
        self.register_buffer("alpha_bars", alphas.cumprod(0).to(device))

    @property
    def device(self) -> torch.device:
        return self.betas.device

    def beta(self, num_steps: int | Int[Tensor, "batch"]) -> Float64[Tensor, "batch"]:
        """beta_t, the variance of the noise that step t adds.

        Args:
            num_steps: t, from 1 to T, as an int tensor or as an int, which is treated as a batch of 1.

        Raises:
            IndexError: A timestep is out of range.
            TypeError: The tensor is not an int tensor.
        """
        return self.betas[self._steps(num_steps, lowest=1) - 1]

    def alpha(self, num_steps: int | Int[Tensor, "batch"]) -> Float64[Tensor, "batch"]:
        """alpha_t = 1 - beta_t, with the arguments of `beta`."""
        return self.alphas[self._steps(num_steps, lowest=1) - 1]

    def alpha_bar(self, num_steps: int | Int[Tensor, "batch"]) -> Float64[Tensor, "batch"]:
        """alpha_bar_t, the product of the first t alphas, with the arguments of `beta`. For t = 0 it is 1."""
        steps = self._steps(num_steps, lowest=0)
        return torch.where(steps == 0, 1.0, self.alpha_bars[(steps - 1).clamp(min=0)])

    def __len__(self) -> int:
        return self.max_steps

    def _steps(self, num_steps: int | Int[Tensor, "batch"], lowest: int) -> Int[Tensor, "batch"]:
        steps = torch.as_tensor(num_steps, device=self.device)
        if steps.is_floating_point() or steps.dtype == torch.bool:
            raise TypeError(f"num_steps has type {steps.dtype}; it must be an int or an int tensor")
        steps = steps.long().reshape(-1)
        if ((steps < lowest) | (steps > self.max_steps)).any():
            wrong = next(n for n in steps.tolist() if not lowest <= n <= self.max_steps)
            raise IndexError(f"num_steps is {wrong}; this schedule has steps {lowest} to {self.max_steps}")
        return steps


def _check_max_steps(max_steps: int, least: int, what: str) -> None:
    if max_steps < least:
        raise ValueError(f"max_steps is {max_steps}; {what} needs at least {least}")
