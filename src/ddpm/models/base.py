"""What the training loop and the samplers ask of a network."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ddpm.diffusion.posterior import Prediction
from ddpm.diffusion.schedule import NoiseSchedule


class DiffusionModel(nn.Module, ABC):
    """A network that is shown x_t and t and predicts the noise in it (Ho et al. 2020, section 3.2) or an equivalent.

    img_shape: (channels, height, width) of the images it takes and returns.
    noise_schedule: the schedule it was trained on; None until then, saved with it afterwards.
    prediction: what it predicts, of which all else follows: "eps", "x0", "v" or "mean"; training sets it.
    config: a dataclass from which the same network can be built; only a network that is saved needs one.
    """

    img_shape: tuple[int, ...]
    noise_schedule: NoiseSchedule | None
    prediction: Prediction = "eps"
    config: Any

    @abstractmethod
    def forward(self, images: Float[Tensor, "b c h w"], num_steps: Shaped[Tensor, "b"]) -> Float[Tensor, "b c h w"]:
        """images: x_t; num_steps: t, from 1 to T. Returns `self.prediction`."""

    def with_variance(
        self, images: Float[Tensor, "b c h w"], num_steps: Shaped[Tensor, "b"]
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"] | None]:
        """What `forward` returns, and v, as `reverse_variance` takes it; None of a network that learns no variance."""
        return self(images, num_steps), None


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
