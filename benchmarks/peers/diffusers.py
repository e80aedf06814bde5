"""Hugging Face's diffusion course for 28x28 grey images (units 1 and 2): network, schedule, optimiser and rate.

EMA and clipping as in examples/unconditional_image_generation/train_unconditional.py.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.core.peer import BATCH, EVALUATIONS, PEERS, Parts, copy_of
from ddpm.data.dataset import to_x0_range


def build(img_shape: tuple[int, ...]) -> Parts:
    """UNet2DModel (32, 64, 64) with attention at half the size and below, and DDIM."""
    from diffusers import DDIMPipeline, DDPMScheduler, UNet2DModel
    from diffusers.training_utils import EMAModel

    model: Any = UNet2DModel(
        sample_size=img_shape[-1],
        in_channels=img_shape[0],
        out_channels=img_shape[0],
        layers_per_block=2,
        block_out_channels=(32, 64, 64),
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    )
    model.train()
    scheduler: Any = DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2")
    average = copy_of(model)
    ema = EMAModel(model.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)
    ema.shadow_params = list(average.parameters())

    def loss(images: Tensor) -> Tensor:
        x0 = to_x0_range(images)
        noise = torch.randn_like(x0)
        t = torch.randint(0, scheduler.config.num_train_timesteps, (len(x0),))
        return F.mse_loss(model(scheduler.add_noise(x0, noise, t), t).sample, noise)

    def update(step: int) -> None:
        ema.optimization_step = step - 1
        ema.step(model.parameters())

    def draw() -> Tensor:
        pipeline: Any = DDIMPipeline(average, scheduler)
        pipeline.set_progress_bar_config(disable=True)
        images = pipeline(BATCH, num_inference_steps=EVALUATIONS, output_type="np").images
        return torch.from_numpy(images).permute(0, 3, 1, 2)

    return Parts(model, torch.optim.Adam(model.parameters(), lr=1e-3), loss, draw, average, average, update, clip=1.0)


PEERS.register(__name__, build)
