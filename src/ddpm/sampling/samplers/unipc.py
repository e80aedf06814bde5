"""UniPC: a predictor-corrector method whose corrector reuses the evaluation of the next step (Zhao et al. 2023)."""

from collections.abc import Iterator, Sequence
from math import expm1, factorial, isinf

import torch
from jaxtyping import Float
from torch import Tensor

from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.sampling.denoiser import Denoiser
from ddpm.sampling.levels import levels
from ddpm.sampling.sampler import sampler

ORDER = 3
Point = tuple[float, Tensor]  # (lam, x0)


@sampler(__name__, min_steps=ORDER)
def unipc(
    denoise: Denoiser, x: Float[Tensor, "n c h w"], schedule: NoiseSchedule, order: int = ORDER
) -> Iterator[Float[Tensor, "n c h w"]]:
    """Yield x_{T-1}, ..., x_0 from x = x_T by UniPC with B_2(h) in x0-prediction, with one evaluation per step.

    The results of the predictor (UniP) are yielded, and the next step starts from the results of the corrector (UniC).
    The order is at most the number of estimates so far and the number of steps left.

    Args:
        denoise: The estimate of x_0.
        x: x_T.
        schedule: The schedule, of which every step is taken.
        order: The highest order.
    """
    at, n = levels(schedule), len(schedule)
    start, past = x, list[Point]()  # where the current step began, and estimates, newest first

    def step(x: Tensor, t: int, *newer: Point) -> Tensor:
        h = at.lam[t - 1] - at.lam[t]
        x0 = _mean_x0(past, h, *newer)
        return at.sigma[t - 1] / at.sigma[t] * x - at.alpha[t - 1] * expm1(-h) * x0

    for t in range(n, 0, -1):
        x0 = denoise(x, t)
        if past:
            x = step(start, t + 1, (at.lam[t], x0))  # UniC
        # An estimate from pure noise has infinite lam: it is only used in its own step.
        past = [(at.lam[t], x0), *(point for point in past if not isinf(point[0]))][: min(order, t)]
        start, x = x, step(x, t)  # UniP
        yield x


def _mean_x0(past: Sequence[Point], h: float, *newer: Point) -> Tensor:
    """The newest estimate plus weighted differences from it: the constant x_0 whose step of h in lam gives x_{t-1}."""
    (lam, x0), *older = past
    points = [*older, *newer]
    if not points:
        return x0
    r = [(at - lam) / h for at, _ in older] + [1.0] * len(newer)
    for rho, r_k, (_, estimate) in zip(_weights(r, h), r, points, strict=True):
        x0 = x0 + rho / r_k * (estimate - past[0][1])
    return x0


def _weights(r: list[float], h: float) -> list[float]:
    """The weights of differences at distances r (in units of h) for which polynomials in lam are integrated exactly.

    They are rho in the condition of theorem 3.1 with B(h) = exp(-h) - 1, or 1/2 for a single point, as the authors
    choose.
    """
    if len(r) == 1:
        return [0.5]
    powers = torch.tensor(r, dtype=torch.float64) ** torch.arange(len(r))[:, None]
    phi, moments = expm1(-h), []
    for k in range(1, len(r) + 1):
        phi = phi / -h - 1 / factorial(k)
        moments.append(factorial(k) * phi)
    return torch.linalg.solve(powers, torch.tensor(moments, dtype=torch.float64) / expm1(-h)).tolist()
