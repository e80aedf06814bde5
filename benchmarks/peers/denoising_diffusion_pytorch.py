"""lucidrains' package with its own defaults, and the optimiser, EMA and clipping of its Trainer.

`dim` is 32 instead of the README's 64 for 128x128, and `dim_mults` is one shorter, as 28 can only be halved twice.
"""

import torch

from benchmarks.core.peer import BATCH, EVALUATIONS, PEERS, Parts
from ddpm.images import from_uint8


def build(img_shape: tuple[int, ...]) -> Parts:
    """Unet with three levels and flash attention, v-prediction, sigmoid schedule, and DDIM."""
    from denoising_diffusion_pytorch import GaussianDiffusion, Unet
    from ema_pytorch import EMA

    network = Unet(dim=32, dim_mults=(1, 2, 4), channels=img_shape[0], flash_attn=True)
    model = GaussianDiffusion(network, image_size=img_shape[-1], timesteps=1000, sampling_timesteps=EVALUATIONS).train()
    ema = EMA(model, beta=0.995, update_every=10, include_online_model=False)
    return Parts(
        model,
        torch.optim.Adam(model.parameters(), lr=1e-3, betas=(0.9, 0.99)),
        loss=lambda images: model(from_uint8(images)),
        draw=lambda: ema.ema_model.sample(BATCH),
        average=ema.ema_model,
        averaging=ema,
        update=lambda _: ema.update(),
        clip=1.0,
    )


PEERS.register(__name__, build)
