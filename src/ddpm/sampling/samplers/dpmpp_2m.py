"""DPM-Solver++(2M): multistep, order 2 (Lu et al. 2022)."""

from collections.abc import Iterator

from jaxtyping import Float
from torch import Tensor

from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.sampling.denoiser import Denoiser
from ddpm.sampling.dpm_solver import dpm_solver
from ddpm.sampling.sampler import sampler


@sampler(__name__, min_steps=2)
def dpmpp_2m(
    denoise: Denoiser, x: Float[Tensor, "n c h w"], schedule: NoiseSchedule
) -> Iterator[Float[Tensor, "n c h w"]]:
    """Yield x_{T-1}, ..., x_0 from x = x_T, with one evaluation per step."""
    return dpm_solver(denoise, x, schedule, order=2)
