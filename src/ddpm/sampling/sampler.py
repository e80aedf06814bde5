"""The registry of samplers. Each is a file in `samplers/` with a generator function.

A sampler is called as `steps(denoise, x, schedule)` and yields x_{T-1}, ..., x_0, one for each step of the schedule.
Sampling in fewer steps uses a shorter schedule (`ddpm.sampling.spacing`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from jaxtyping import Float
from torch import Tensor

from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.registry import Registry
from ddpm.run.params import NoOptions, Section
from ddpm.sampling.denoiser import Denoiser

Noise: TypeAlias = Callable[[], Float[Tensor, "n c h w"]]  # fresh standard normal noise at each call


@dataclass(frozen=True)
class Sampler:
    """A sampler that params.yaml can name.

    Attributes:
        steps: The generator function, called with a denoiser, x_T, a schedule, `noise` if `stochastic`, and its options
            as keywords.
        Options: The class of its options.
        stochastic: Whether it takes `noise`.
        min_steps: The minimum number of steps.
        evaluations: Number of network evaluations for n steps, without guidance.
    """

    steps: Callable[..., Iterator[Tensor]]
    Options: type[Section] = NoOptions
    stochastic: bool = False
    min_steps: int = 1
    evaluations: Callable[[int], int] = lambda n_steps: n_steps

    def walk(
        self, denoise: Denoiser, x: Float[Tensor, "n c h w"], schedule: NoiseSchedule, noise: Noise, options: Section
    ) -> Iterator[Float[Tensor, "n c h w"]]:
        """Yield x_{T-1}, ..., x_0 from x = x_T.

        Args:
            denoise: The estimate of x_0 from (x_t, t).
            x: x_T.
            schedule: The schedule, of which every step is taken.
            noise: Returns standard normal noise of the shape of x. Called only if the sampler is stochastic.
            options: An instance of `Options`.
        """
        fresh = {"noise": noise} if self.stochastic else {}
        return self.steps(denoise, x, schedule, **fresh, **options.model_dump())


SAMPLERS: Registry[Sampler] = Registry("ddpm.sampling.samplers", "sampler")


def sampler(module: str, **facts: Any) -> Callable[[Callable[..., Iterator[Tensor]]], Callable[..., Iterator[Tensor]]]:
    """Decorator: make a generator function the sampler of the file `module` (its `__name__`).

    Args:
        module: The file.
        facts: Attributes of `Sampler`.
    """

    def register(steps: Callable[..., Iterator[Tensor]]) -> Callable[..., Iterator[Tensor]]:
        SAMPLERS.register(module, Sampler(steps, **facts))
        return steps

    return register
