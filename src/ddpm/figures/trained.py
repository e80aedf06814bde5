"""Inputs of the figures of a trained network, for topics `tiny` and `unet` and for door latent."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from annotated_types import Ge, Le
from jaxtyping import Float, Int, Shaped
from matplotlib.figure import Figure
from torch import Tensor

from ddpm.data.dataset import ImageDataset
from ddpm.diffusion.model import schedule_of
from ddpm.figures.losses import Losses, load_losses, losses_deps
from ddpm.figures.names import label_of, origin
from ddpm.figures.pictures import sample_grid, samples_by_class
from ddpm.figures.reports import Curve, Rows, as_pixels, read_curve, read_rows
from ddpm.networks.checkpoint import load_model
from ddpm.run.files import load_tensors
from ddpm.run.params import Section


class RenderModel(Section):
    """Sections `render_tiny` and `render_unet`, and `render` of door latent.

    n_moments: training steps in the figure of previews. grid_rows, grid_columns: size of the grid of samples.
    strip_steps: timesteps in the figure of trajectories.
    """

    n_moments: Annotated[int, Ge(1), Le(12)]
    grid_rows: Annotated[int, Ge(1), Le(32)]
    grid_columns: Annotated[int, Ge(1), Le(32)]
    strip_steps: Annotated[int, Ge(2), Le(40)]


@dataclass(frozen=True)
class Trained:
    """A trained network, its samples, and its losses. All images are pixels in [0, 1].

    Attributes:
        params: The topic's section.
        label: The network's name in titles: class, training steps and seed.
        origin: What its samples are drawn from, such as "from pure noise, given a class label".
        max_steps: T.
        previews: Outputs of `reconstruction_grid` at the training steps `preview_steps`.
        samples: Its samples.
        labels: Their classes, or None if they are not class-conditional.
        trajectories: The first samples at each of the timesteps `num_steps`.
        real: Images that it was not trained on.
        class_images: One such image of each class, by class name. Empty without classes.
        losses: Its losses by training step, and its training objective.
        loss_by_quartile: Rows of the training loss of each quarter of 1..T, by training step.
        loss_by_timestep: The held-out loss at each t.
    """

    params: RenderModel
    label: str
    origin: str
    max_steps: int
    previews: Float[Tensor, "k n c h2 w3"]
    preview_steps: Int[Tensor, "k"]
    samples: Float[Tensor, "n_samples c h w"]
    labels: Shaped[Tensor, "n_samples"] | None
    trajectories: Float[Tensor, "moments n_trajectories c h w"]
    num_steps: Int[Tensor, "moments"]
    real: Float[Tensor, "n_real c h w"]
    class_images: Mapping[str, Float[Tensor, "c h w"]]
    losses: Losses
    loss_by_quartile: Rows
    loss_by_timestep: Curve


def trained_deps(name: str) -> list[str]:
    """The files that `load_trained` reads."""
    return [
        *losses_deps(name),
        f"models/{name}_previews.safetensors",
        f"samples/{name}.safetensors",
        *(f"reports/train_{name}/{curve}.csv" for curve in ("loss_by_quartile", "loss_by_timestep")),
    ]


def load_trained(name: str, params: RenderModel, unseen: ImageDataset) -> Trained:
    """Read the outputs of stages train_NAME and sample_NAME.

    Args:
        name: "tiny", "unet" or "latent".
        params: The topic's section.
        unseen: Images that the network was not trained on.
    """
    model = load_model(Path(f"models/{name}.safetensors"))
    previews = load_tensors(Path(f"models/{name}_previews.safetensors"))
    sampled = load_tensors(Path(f"samples/{name}.safetensors"))
    reports = Path(f"reports/train_{name}")
    return Trained(
        params=params,
        label=label_of(model),
        origin=origin(model),
        max_steps=len(schedule_of(model)),
        previews=as_pixels(previews["images"]),
        preview_steps=previews["steps"],
        samples=as_pixels(sampled["samples"]),
        labels=sampled.get("labels"),
        trajectories=as_pixels(sampled["steps"]),
        num_steps=sampled["num_steps"],
        real=as_pixels(unseen.images[: params.grid_columns]),
        class_images=first_of_each_class(unseen),
        losses=load_losses(name),
        loss_by_quartile=read_rows(reports / "loss_by_quartile.csv"),
        loss_by_timestep=read_curve(reports / "loss_by_timestep.csv"),
    )


def draw_samples(trained: Trained) -> Figure:
    """Samples and real images: by class for a class-conditional network, else in a grid."""
    params = trained.params
    if trained.labels is None:
        return sample_grid(
            trained.samples, trained.real, trained.origin, trained.label, params.grid_rows, params.grid_columns
        )
    return samples_by_class(
        trained.samples, trained.labels, trained.class_images, trained.origin, trained.label, params.grid_columns
    )


def first_of_each_class(dataset: ImageDataset) -> dict[str, Float[Tensor, "c h w"]]:
    """The first image of each class, in [0, 1], or a black image if there is none."""
    black = torch.zeros(1, *dataset.img_shape)
    classes = (as_pixels(dataset.images[dataset.labels == i][:1]) for i in range(len(dataset.class_names)))
    return {name: torch.cat((images, black))[0] for name, images in zip(dataset.class_names, classes, strict=True)}
