"""smalldiffusion as in its examples/fashion_mnist_unet.py, except batch size (1024 there) and sampler steps (20)."""

from collections import deque

import torch
from torch import Tensor

from benchmarks.core.peer import BATCH, EVALUATIONS, PEERS, Parts, copy_of
from ddpm.data.dataset import to_x0_range
from ddpm.images import denormalize_img


def build(img_shape: tuple[int, ...]) -> Parts:
    """Scaled Unet, eps-prediction, log-linear sigma, and its own sampler."""
    from accelerate import Accelerator
    from smalldiffusion import Scaled, ScheduleLogLinear, Unet, generate_train_sample, samples
    from torch_ema import ExponentialMovingAverage

    channels, _, size = img_shape
    schedule = ScheduleLogLinear(sigma_min=0.01, sigma_max=20, N=800)
    model = Scaled(Unet)(size, channels, channels, ch=64, ch_mult=(1, 1, 2), attn_resolutions=(14,)).train()
    average = copy_of(model)
    ema = ExponentialMovingAverage(model.parameters(), decay=0.999)
    ema.shadow_params = list(average.parameters())

    def loss(images: Tensor) -> Tensor:
        x0, sigma, eps, _ = generate_train_sample(to_x0_range(images), schedule)
        return model.get_loss(x0, sigma, eps)

    def update(step: int) -> None:
        ema.num_updates = step - 1
        ema.update(model.parameters())

    def draw() -> Tensor:
        sigmas, cpu = schedule.sample_sigmas(EVALUATIONS), Accelerator(cpu=True)
        chain = samples(average, sigmas, gam=1.6, batchsize=BATCH, accelerator=cpu)
        return denormalize_img(deque(chain, maxlen=1).pop())

    optimizer = torch.optim.AdamW(model.parameters(), lr=7e-4)
    return Parts(model, optimizer, loss, draw, average, average, update)


PEERS.register(__name__, build)
