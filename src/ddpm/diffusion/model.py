"""What training, sampling and evaluation need of a network."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ddpm.diffusion.posterior import Prediction
from ddpm.diffusion.schedule import NoiseSchedule


class DiffusionModel(nn.Module, ABC):
    """A network that predicts the noise in x_t, or an equivalent, from x_t and t (Ho et al. 2020, section 3.2).

    Attributes:
        img_shape: (channels, height, width) of the images that it takes and returns.
        noise_schedule: The schedule that it was trained on; None before training. It is saved with the network.
        prediction: What it predicts; training sets it.
        conditioning: What it is given beside x_t and t (`ddpm.conditioning`); None for an unconditional network.
        takes_moves: Whether it can be told how a training image was moved (`ddpm.conditioning.moves`).
        config: A dataclass from which the same network can be built. Only a network that is saved needs one.
        facts: What its file says about it, such as training steps and seed; empty if it was not loaded.
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

        A conditional network takes a third argument, `cond`, as its `conditioning` encodes it.

        Args:
            images: x_t.
            num_steps: t of each image, from 1 to T.
        """

    def with_variance(
        self, images: Float[Tensor, "b c h w"], num_steps: Shaped[Tensor, "b"], *cond: Tensor
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"] | None]:
        """What `forward` returns, and v for `reverse_variance`, which is None if the network learns no variance."""
        return self(images, num_steps, *cond), None


def schedule_of(model: DiffusionModel) -> NoiseSchedule:
    """The schedule that `model` was trained on.

    Raises:
        ValueError: It has none.
    """
    if model.noise_schedule is None:
        raise ValueError("the model has no noise_schedule; train it, or set the schedule it was trained on")
    return model.noise_schedule


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
