"""What the training loop and the samplers ask of a network."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ddpm.diffusion.posterior import Prediction
from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.models.clusters import Clusters
from ddpm.seeding import generator


class DiffusionModel(nn.Module, ABC):
    """A network that is shown x_t and t and predicts the noise in it (Ho et al. 2020, section 3.2) or an equivalent.

    img_shape: (channels, height, width) of the images it takes and returns.
    noise_schedule: the schedule it was trained on; None until then, saved with it afterwards.
    prediction: what it predicts, of which all else follows: "eps", "x0", "v" or "mean"; training sets it.
    n_classes: of how many classes it must be told one for each image, by `labelled`; None: it takes no labels.
    clusters: the classes, where nobody said what they are.
    config: a dataclass from which the same network can be built; only a network that is saved needs one.
    """

    img_shape: tuple[int, ...]
    noise_schedule: NoiseSchedule | None
    prediction: Prediction = "eps"
    n_classes: int | None = None
    clusters: Clusters | None
    config: Any

    def __init__(self) -> None:
        super().__init__()
        self.clusters = None

    @abstractmethod
    def forward(self, images: Float[Tensor, "b c h w"], num_steps: Shaped[Tensor, "b"]) -> Float[Tensor, "b c h w"]:
        """images: x_t; num_steps: t, from 1 to T. Returns `self.prediction`."""

    def with_variance(
        self, images: Float[Tensor, "b c h w"], num_steps: Shaped[Tensor, "b"]
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"] | None]:
        """What `forward` returns, and v, as `reverse_variance` takes it; None of a network that learns no variance."""
        return self(images, num_steps), None


class Labelled(DiffusionModel):
    """A class-conditional network that has been told what its batch shows: to callers, a network without labels.

    guidance_scale: how far it goes from what it says untold towards what it says when told, 1 being just that
    (classifier-free guidance, Ho & Salimans 2022, equation 6, with w = guidance_scale - 1).
    """

    def __init__(self, model: DiffusionModel, labels: Shaped[Tensor, "b"], guidance_scale: float = 1.0) -> None:
        super().__init__()
        self.model: Any = model  # it takes one argument more than others
        self.labels, self.guidance_scale = labels, guidance_scale
        self.img_shape, self.noise_schedule = model.img_shape, model.noise_schedule
        self.prediction = model.prediction

    def forward(self, images: Float[Tensor, "b c h w"], num_steps: Shaped[Tensor, "b"]) -> Float[Tensor, "b c h w"]:
        return self.with_variance(images, num_steps)[0]

    def with_variance(
        self, images: Float[Tensor, "b c h w"], num_steps: Shaped[Tensor, "b"]
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"] | None]:
        labels = self.labels.to(images.device)
        told, v = self.model.with_variance(images, num_steps, labels)
        if self.guidance_scale == 1:
            return told, v
        untold, _ = self.model.with_variance(images, num_steps, torch.full_like(labels, self.model.n_classes))
        return untold + self.guidance_scale * (told - untold), v


def labelled(
    model: DiffusionModel,
    labels: Shaped[Tensor, "n"] | None,
    chosen: slice | Shaped[Tensor, "b"] = slice(None),
    guidance_scale: float = 1.0,
) -> DiffusionModel:
    """`model`, told that the images of its batches show the classes `labels[chosen]`, from 0 to n_classes - 1.

    guidance_scale: above 1, what being told changes is exaggerated (`Labelled`), at twice the work; only of a network
    that was trained with label_dropout.
    A model that takes no labels comes back as it is, and so does any where `labels` is None.
    """
    if model.n_classes is None or labels is None:
        return model
    return Labelled(model, labels[chosen], guidance_scale)


def labels_of(
    model: DiffusionModel, images: Float[Tensor, "n c h w"], classes: Shaped[Tensor, "n"]
) -> Shaped[Tensor, "n"] | None:
    """What `model` is to be told of images in [-1, 1] that show `classes`: that, their clusters, or None: nothing."""
    if model.n_classes is None:
        return None
    return classes if model.clusters is None else model.clusters.nearest(images).cpu()


def labels_to_draw(model: DiffusionModel, seed: int, indices: Iterable[int]) -> Shaped[Tensor, "n"] | None:
    """What `model` is to be told of new images: classes in turn, clusters by their shares, or None: nothing.

    Image i of `indices` is of the same class or cluster whichever are beside it.
    """
    if model.n_classes is None:
        return None
    if model.clusters is None:
        return torch.tensor([index % model.n_classes for index in indices])
    return torch.tensor([model.clusters.draw(generator(seed, "cluster", index)) for index in indices])


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put every module in eval mode, and each back into its own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
