"""The interface of a network for training, sampling and evaluation."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ddpm.diffusion.posterior import Prediction
from ddpm.diffusion.schedule import NoiseSchedule


class DiffusionModel(nn.Module, ABC):
    """Base class of networks that predict the noise in x_t, or an equivalent (Ho et al. 2020, section 3.2).

    Attributes:
        img_shape: (channels, height, width) of its input and output.
        noise_schedule: The schedule that it was trained on, saved with the network, or None before training.
        prediction: What it predicts ("eps", "x0", "v" or "mean"). Training sets it.
        conditioning: Its conditioning besides x_t and t (`ddpm.conditioning`), or None for an unconditional network.
        takes_moves: Whether it takes the augmentation of training images as input (`ddpm.conditioning.moves`).
        config: A dataclass from which the network can be rebuilt. Only needed to save it.
        facts: Metadata of its file, such as training steps and seed. Empty if it was not loaded from a file.
    """

    img_shape: tuple[int, ...]
    noise_schedule: NoiseSchedule | None
    prediction: Prediction
    conditioning: Any
    takes_moves: bool = False
    config: Any
    facts: Mapping[str, Any]

    def __init__(self) -> None:
        super().__init__()
        self.noise_schedule, self.prediction, self.conditioning, self.facts = None, "eps", None, {}

    @abstractmethod
    def forward(self, images: Float[Tensor, "b c h w"], num_steps: Shaped[Tensor, "b"]) -> Float[Tensor, "b c h w"]:
        """Predict `self.prediction`.

        A conditional network takes a third argument, `cond`, as encoded by its `conditioning`.

        Args:
            images: x_t.
            num_steps: t of each image, from 1 to T.

        Returns:
            The prediction, of the shape of `images`.
        """

    def with_variance(
        self, images: Float[Tensor, "b c h w"], num_steps: Shaped[Tensor, "b"], *cond: Tensor
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"] | None]:
        """The output of `forward`, and v for `reverse_variance`, which is None if the variance is not learned."""
        return self(images, num_steps, *cond), None


def schedule_of(model: DiffusionModel) -> NoiseSchedule:
    """The schedule that `model` was trained on.

    Raises:
        ValueError: The model has none.
    """
    if model.noise_schedule is None:
        raise ValueError("the model has no noise_schedule; train it, or set the schedule that it was trained with")
    return model.noise_schedule


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Context manager that sets all modules to eval mode, and afterwards restores their previous modes."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
