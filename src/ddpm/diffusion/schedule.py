"""The noise schedule: how much noise each of the steps 1..T adds (Ho et al. 2020, sections 2 and 4).

Everything here is float64 and cast where it is used: in float32, alpha_bar loses its last digits just where it
is small and matters.
"""

import torch
from jaxtyping import Float64, Int
from torch import Tensor, nn


def linear_schedule(max_steps: int, min_noise: float = 0.0001, max_noise: float = 0.02) -> Float64[Tensor, "T"]:
    """The paper's forward variances: beta_1..beta_T, evenly spaced from `min_noise` to `max_noise` (section 4).

    Raises ValueError unless max_steps >= 1 and 0 < min_noise <= max_noise < 1.
    """
    if max_steps < 1:
        raise ValueError(f"max_steps is {max_steps}; a schedule has at least 1 step")
    if not 0 < min_noise <= max_noise < 1:
        raise ValueError(f"min_noise is {min_noise}, max_noise {max_noise}; need 0 < min_noise <= max_noise < 1")
    return torch.linspace(min_noise, max_noise, max_steps, dtype=torch.float64)


def rescaled_linear_schedule(max_steps: int) -> Float64[Tensor, "T"]:
    """The paper's schedule compressed into any number of steps: betas times 1000 / T (Nichol & Dhariwal 2021).

    The total noise stays what it is at T = 1000 (alpha_bar_T about 4e-5), so that step T really is noise. It needs
    T > 20, below which the last beta would reach 1; ValueError says so.
    """
    scale = 1000 / max_steps if max_steps >= 1 else 0.0
    if not 0 < 0.02 * scale < 1:
        raise ValueError(f"max_steps is {max_steps}; the rescaled linear schedule needs at least 21 steps")
    return linear_schedule(max_steps, 0.0001 * scale, 0.02 * scale)


def cosine_schedule(max_steps: int, s: float = 0.008, max_beta: float = 0.999) -> Float64[Tensor, "T"]:
    """alpha_bar falls as cos^2 (Nichol & Dhariwal 2021, equation 17), each beta clipped to `max_beta`."""
    if max_steps < 1:
        raise ValueError(f"max_steps is {max_steps}; a schedule has at least 1 step")
    t = torch.arange(max_steps + 1, dtype=torch.float64) / max_steps
    f = torch.cos((t + s) / (1 + s) * torch.pi / 2) ** 2
    return (1 - f[1:] / f[:-1]).clamp(max=max_beta)


def rescale_zero_terminal_snr(betas: Float64[Tensor, "T"]) -> Float64[Tensor, "T"]:
    """The schedule whose sqrt(alpha_bar) is shifted and stretched so that none of the image is left at T.

    Algorithm 1 of Lin et al. 2023: alpha_bar_1 stays, alpha_bar_T becomes 0 and beta_T 1. ValueError below 2 steps.
    """
    if len(betas) < 2:
        raise ValueError(f"max_steps is {len(betas)}; a schedule that ends in zero SNR needs at least 2 steps")
    signal = (1 - betas).cumprod(0).sqrt()
    signal = (signal - signal[-1]) * signal[0] / (signal[0] - signal[-1])
    alpha_bar = torch.cat((torch.ones_like(signal[:1]), signal**2))
    return 1 - alpha_bar[1:] / alpha_bar[:-1]


def linear_zero_snr_schedule(max_steps: int) -> Float64[Tensor, "T"]:
    """`linear_schedule`, rescaled to end in pure noise at any length from 2 steps."""
    return rescale_zero_terminal_snr(linear_schedule(max_steps))


SCHEDULES = {
    "linear": linear_schedule,
    "linear_zero_snr": linear_zero_snr_schedule,
    "rescaled_linear": rescaled_linear_schedule,
    "cosine": cosine_schedule,
}


class NoiseSchedule(nn.Module):
    """beta, alpha and alpha_bar by number of steps, saved with the model that was trained on them.

    Steps count from 1 to T, both included, as in the paper's Algorithm 1; `alpha_bar(0)` is 1: no noise yet. Every
    look-up takes an int or an int tensor of shape (batch,) and returns float64 of shape (batch,), with batch 1 for
    an int, on the schedule's device. A step out of range raises IndexError.

    max_steps: T; device: where the tensors live; betas: (T,) in (0, 1), default `linear_schedule(T)`; a last beta
    of 1 leaves nothing of the image: zero terminal SNR, where a prediction of the noise says nothing of the image.
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
            raise ValueError("every beta must lie strictly between 0 and 1; only the last one may be 1")
        alphas = 1 - betas
        self.register_buffer("betas", betas.to(device))
        self.register_buffer("alphas", alphas.to(device))
        self.register_buffer("alpha_bars", alphas.cumprod(0).to(device))

    @property
    def device(self) -> torch.device:
        return self.betas.device

    def beta(self, num_steps: int | Int[Tensor, "batch"]) -> Float64[Tensor, "batch"]:
        """Variance that step `num_steps` adds; 1..T."""
        return self.betas[self._steps(num_steps, lowest=1) - 1]

    def alpha(self, num_steps: int | Int[Tensor, "batch"]) -> Float64[Tensor, "batch"]:
        """1 - beta; 1..T."""
        return self.alphas[self._steps(num_steps, lowest=1) - 1]

    def alpha_bar(self, num_steps: int | Int[Tensor, "batch"]) -> Float64[Tensor, "batch"]:
        """Product of the first `num_steps` alphas: the share of the image's variance still there; 0..T."""
        steps = self._steps(num_steps, lowest=0)
        return torch.where(steps == 0, 1.0, self.alpha_bars[(steps - 1).clamp(min=0)])

    def __len__(self) -> int:
        return self.max_steps

    def _steps(self, num_steps: int | Int[Tensor, "batch"], lowest: int) -> Int[Tensor, "batch"]:
        steps = torch.as_tensor(num_steps, device=self.device)
        if steps.is_floating_point() or steps.dtype == torch.bool:
            raise TypeError(f"num_steps must be an int or an int tensor, not {steps.dtype}")
        steps = steps.long().reshape(-1)
        if ((steps < lowest) | (steps > self.max_steps)).any():
            bad = [n for n in steps.tolist() if not lowest <= n <= self.max_steps]
            raise IndexError(f"num_steps {bad[0]} is out of range: this schedule has steps {lowest}..{self.max_steps}")
        return steps
