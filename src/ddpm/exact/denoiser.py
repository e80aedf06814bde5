"""The exact denoiser of gradient images: the Bayes-optimal predictor, whose loss is the minimum for any network.

A channel of a gradient image is a u + b g with u = 1 - g. a and b are independent and uniform on 0..254. So the
posterior of (a, b) given x_t (equation 4) is a sum over 255 x 255 pairs, and E[x0 | x_t] follows from its two means.
"""

from math import ceil

import torch
from jaxtyping import Float, Float64, Shaped
from torch import Tensor, linalg

from ddpm.data.gradients import LEVELS, diagonal_position, nearest_corners
from ddpm.diffusion.model import DiffusionModel
from ddpm.diffusion.posterior import Prediction, target, to_eps
from ddpm.diffusion.schedule import NoiseSchedule

REACH = 9.0  # range of the sum over a and b, in standard deviations, as exp(-REACH^2 / 2) is below float64's epsilon


class ExactDenoiser(DiffusionModel):
    """E[eps | x_t], or of another prediction, when x_0 is a gradient image. It has no weights and computes in float64.

    Args:
        img_shape: (channels, height, width).
        noise_schedule: The noise schedule, whose device is used.
        prediction: What it predicts. At zero terminal SNR, "x0" is still exact, but "eps" is not.

    Raises:
        ValueError: A channel has fewer than 2 pixels.
    """

    noise_schedule: NoiseSchedule
    g: Float64[Tensor, "h w"]

    def __init__(
        self, img_shape: tuple[int, ...], noise_schedule: NoiseSchedule, prediction: Prediction = "eps"
    ) -> None:
        super().__init__()
        _, height, width = img_shape
        if height * width < 2:
            raise ValueError(f"img_shape is {img_shape}; a gradient has at least 2 pixels")
        self.img_shape = tuple(img_shape)
        self.noise_schedule, self.prediction = noise_schedule, prediction
        self.register_buffer("g", diagonal_position(height, width, torch.float64).to(noise_schedule.device))

    def forward(self, images: Float[Tensor, "b c h w"], num_steps: Shaped[Tensor, "b"]) -> Float64[Tensor, "b c h w"]:
        xt = images.double()
        x0 = torch.empty_like(xt)
        for t in num_steps.unique().tolist():
            chosen = num_steps == t
            x0[chosen] = self._x0(xt[chosen], self.noise_schedule.alpha_bar(t).item())
        eps = to_eps("x0", x0, xt, num_steps, self.noise_schedule)
        return target(self.prediction, x0, eps, num_steps, self.noise_schedule)

    def _x0(self, xt: Float64[Tensor, "b c h w"], alpha_bar: float) -> Float64[Tensor, "b c h w"]:
        """E[x0 | x_t]: x_t / sqrt(alpha_bar), in levels, is a u + b g with noise of precision tau at each pixel."""
        if alpha_bar == 0:  # zero terminal SNR: x_t says nothing about x_0, so the result is the mean of the data
            return torch.full_like(xt, (LEVELS - 1) / LEVELS - 1)
        pixels = (xt / alpha_bar**0.5 + 1) / 2
        tau = (2 / LEVELS) ** 2 * alpha_bar / (1 - alpha_bar)
        a, b = self._posterior_means(pixels, tau)
        return (a[..., None, None] * (1 - self.g) + b[..., None, None] * self.g) * 2 / LEVELS - 1

    def _posterior_means(
        self, pixels: Float64[Tensor, "b c h w"], tau: float
    ) -> tuple[Float64[Tensor, "b c"], Float64[Tensor, "b c"]]:
        """E[a | x_t] and E[b | x_t], summed over a square of pairs around the posterior's mode.

        At i and j levels from the middle of the square, p is up to a constant p_a(i) p_b(j) exp(-tau <u, g> i j): a
        product of vector, matrix and vector, where the matrix is the same for every image.
        """
        u, g = 1 - self.g, self.g
        uu, ug, gg = (u * u).sum().item(), (u * g).sum().item(), (g * g).sum().item()
        precision = tau * min(uu - ug**2 / gg, gg - ug**2 / uu)  # of a or b if the other one is unknown
        half = min(ceil(REACH / precision**0.5), LEVELS // 2)
        if half == LEVELS // 2:
            middle = torch.full((*pixels.shape[:2], 2), half, device=pixels.device)  # the square holds all pairs
        else:
            middle = nearest_corners(pixels).clamp(half, LEVELS - 1 - half)
        offset = torch.arange(-half, half + 1, dtype=torch.float64, device=pixels.device)

        rest = LEVELS * pixels - middle[..., :1, None] * u - middle[..., 1:, None] * g
        p_a, p_b = (
            (tau * (rest * side).sum((-2, -1))[..., None] * offset - tau * norm / 2 * offset**2).softmax(-1)
            for side, norm in ((u, uu), (g, gg))
        )
        # The weight of the mode cannot underflow: its logarithm is at least that of the matrix's least entry over its
        # largest, -2 tau <u, g> half^2, about -250, less 2 log 255 for the two softmax sums.
        matrix = (-tau * ug * (offset[:, None] * offset + half**2)).exp()
        weight, a_weight = p_a @ matrix, (p_a * offset) @ matrix
        total = linalg.vecdot(weight, p_b)
        a, b = linalg.vecdot(a_weight, p_b) / total, (weight * p_b) @ offset / total
        return middle[..., 0] + a, middle[..., 1] + b
