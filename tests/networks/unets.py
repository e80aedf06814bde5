"""A small U-Net and inputs for it."""

import torch
from torch import Tensor

from ddpm.networks.architectures.unet import Unet, UnetConfig

SMALL = UnetConfig((1, 8, 8), channels=8, dim_mults=(1, 2), max_steps=50)


def build(config: UnetConfig) -> Unet:
    torch.manual_seed(0)
    return Unet(config)


def noisy(config: UnetConfig, n: int) -> tuple[Tensor, Tensor]:
    stream = torch.Generator().manual_seed(1)
    images = torch.randn(n, *config.img_shape, generator=stream)
    return images, torch.randint(1, config.max_steps + 1, (n,), generator=stream)
