"""Comparison of a model of gradient images with the exact denoiser, on the same images, timesteps and noise."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt
from operator import mul
from statistics import fmean
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le, Lt
from jaxtyping import Float
from torch import Tensor

from ddpm.conditioning.guidance import encode_cond
from ddpm.data.dataset import ImageDataset
from ddpm.diffusion.model import DiffusionModel, schedule_of
from ddpm.diffusion.posterior import eps_error
from ddpm.exact.denoiser import ExactDenoiser
from ddpm.exact.quality import corner_error_floor, measure
from ddpm.run.compute import Compute
from ddpm.run.params import Count, Section
from ddpm.run.seeding import generator
from ddpm.training.evaluate import loss_by_timestep, simple_loss
from ddpm.training.loop import Examples


class EvaluateTiny(Section):
    """Section `evaluate_tiny`: the tiny model against the exact denoiser.

    Attributes:
        n_eval_per_step: Held-out images per point of the losses by timestep.
        n_samples: Number of samples of the exact denoiser.
        n_bound: Held-out images per variational bound.
        level: Significance level of the test that corner colours are uniform.
    """

    n_eval_per_step: Count
    n_samples: Annotated[int, Ge(1), Le(100_000)]
    n_bound: Annotated[int, Ge(2), Le(10_000)]
    level: Annotated[float, Gt(0), Lt(1)]


@dataclass(frozen=True)
class Comparison:
    """The losses of a model and of the exact denoiser, on the same images, timesteps and noise.

    Attributes:
        losses: Losses of the model at t = 1..T.
        optimal: Losses of the exact denoiser at t = 1..T.
        eval_loss: Loss of the model, with timesteps spread evenly over the held-out images.
        optimal_eval_loss: The same loss of the exact denoiser.
        eps_errors: Squared error of the noise estimate, divided by that of the prediction, at t = 1..T.
    """

    losses: list[float]
    optimal: list[float]
    eval_loss: float
    optimal_eval_loss: float
    eps_errors: list[float]

    @property
    def metrics(self) -> dict[str, float]:
        """The losses averaged over t, and the excess loss of the model.

        The standard error is von Neumann's, computed from differences between adjacent timesteps, whose noise is
        independent.
        A `noise_loss` is L_simple (equation 14), whatever the model predicts.
        """
        noise_loss, optimal_noise_loss = (
            fmean(map(mul, self.eps_errors, by_t)) for by_t in (self.losses, self.optimal)
        )
        excess = [loss - least for loss, least in zip(self.losses, self.optimal, strict=True)]
        variance = fmean((after - before) ** 2 / 2 for before, after in pairwise(excess)) if len(excess) > 1 else 0.0
        return {
            "eval_loss": self.eval_loss,
            "optimal_eval_loss": self.optimal_eval_loss,
            "loss": fmean(self.losses),
            "optimal_loss": fmean(self.optimal),
            "excess_loss": fmean(excess),
            "excess_loss_standard_error": sqrt(variance / len(excess)),
            "excess_loss_relative": fmean(excess) / fmean(self.optimal),
            "noise_loss": noise_loss,
            "optimal_noise_loss": optimal_noise_loss,
            "excess_noise_loss_relative": noise_loss / optimal_noise_loss - 1,
        }


def compare(
    model: DiffusionModel, gradients: ImageDataset, n_images: int, seed: int, compute: Compute = Compute()
) -> Comparison:
    """Compute the losses of a model and of the exact denoiser on its schedule.

    Args:
        model: A trained model of gradient images.
        gradients: Held-out images.
        n_images: Images per point of the losses by timestep.
        seed: Seed of the noise. With the seed of the stage that trained the model, `eval_loss` is the one it reported.
        compute: Device and precision.
    """
    schedule, x0 = schedule_of(model), gradients.x0
    exact = ExactDenoiser(model.img_shape, schedule, model.prediction)
    both = (model, Examples(x0, encode_cond(model, x0, gradients.labels))), (exact, Examples(x0))
    losses, optimal = (loss_by_timestep(who, held_out, n_images, seed, compute) for who, held_out in both)
    eval_loss, optimal_eval_loss = (simple_loss(who, held_out, seed, compute) for who, held_out in both)
    timesteps = torch.arange(1, len(schedule) + 1, device=schedule.device)
    eps_errors = eps_error(model.prediction, timesteps, schedule).flatten().tolist()
    return Comparison(losses, optimal, eval_loss, optimal_eval_loss, eps_errors)


def quality_metrics(samples: Mapping[str, Float[Tensor, "_ c h w"]], level: float, seed: int) -> dict[str, float]:
    """The quality of samples, with the corner error of equally many images of the data as the chance level.

    Args:
        samples: Images in [-1, 1] by the name of their model, which is the prefix of each metric's name.
        level: Significance level of the test that corner colours are uniform.
        seed: Seed of the images of the data.
    """
    metrics: dict[str, float] = {}
    for name, images in samples.items():
        quality = measure(images)
        metrics |= {f"{name}_{key}": value for key, value in vars(quality).items()}
        metrics[f"{name}_corners_uniform"] = quality.p_value >= level
        floor = corner_error_floor(len(images) * images.shape[1], generator(seed, "floor"))
        metrics[f"{name}_samples_floor"] = floor
    return metrics
