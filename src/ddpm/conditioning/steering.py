"""Guidance by the gradient of a log-likelihood log p(y | x_t) (Dhariwal & Nichol 2021, Algorithm 2).

With a classifier this is classifier guidance. With a CLIP that was trained on noised images it is CLIP guidance (GLIDE,
Nichol et al. 2021, section 2.3).
"""

from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from ddpm.diffusion.forward import scales
from ddpm.diffusion.model import DiffusionModel, schedule_of
from ddpm.diffusion.posterior import target, to_eps, to_x0

# (x_t, t) -> log p(y | x_t) of each image, up to a constant
LogLikelihood: TypeAlias = Callable[[Float[Tensor, "b c h w"], Shaped[Tensor, "b"]], Float[Tensor, " b"]]


class Steered(DiffusionModel):
    """A network with the score of p(x_t) p(y | x_t)^s.

    Args:
        model: A network with its conditioning bound.
        log_likelihood: log p(y | x_t) of the batch that it will be called with.
        scale: s. With 0 the network is unchanged.
    """

    def __init__(self, model: DiffusionModel, log_likelihood: LogLikelihood, scale: float) -> None:
        super().__init__()
        self.model, self.log_likelihood, self.scale = model, log_likelihood, scale
        self.img_shape, self.noise_schedule = model.img_shape, model.noise_schedule
        self.prediction = model.prediction

    def forward(self, images: Float[Tensor, "b c h w"], num_steps: Shaped[Tensor, "b"]) -> Float[Tensor, "b c h w"]:
        return self.with_variance(images, num_steps)[0]

    def with_variance(
        self, images: Float[Tensor, "b c h w"], num_steps: Shaped[Tensor, "b"], *_: Tensor
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"] | None]:
        predicted, v = self.model.with_variance(images, num_steps)
        schedule = schedule_of(self)
        with torch.enable_grad():
            xt = images.detach().requires_grad_()
            [gradient] = torch.autograd.grad(self.log_likelihood(xt, num_steps).sum(), xt)
        signal, noise = scales(num_steps, schedule, images)
        known = self.prediction, predicted.to(images), images, num_steps, schedule
        eps = to_eps(*known) - self.scale * noise * gradient
        x0 = to_x0(*known) + self.scale * noise**2 / signal * gradient
        return target(self.prediction, x0, eps, num_steps, schedule), v
