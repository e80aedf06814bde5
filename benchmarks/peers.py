"""The peers: public diffusion projects, each with the network, the loss and the sampler that its own examples use.

All train on the same 8-bit images in the same order; the random flips of two examples are left out for everyone, since
FashionMNIST has left and right. Batches are 128 (the examples' 16 to 1024 are meant for GPUs), the learning rates
constant.
"""

import io
import sys
from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from contextlib import redirect_stderr
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from typing import ClassVar

import torch
import torch.nn.functional as F
from contenders import DRAW_BATCH, EVALUATIONS, Contender, Draw
from torch import Tensor, nn
from tqdm import tqdm
from watch import Watch

from ddpm.data.order import batches
from ddpm.errors import UserError
from ddpm.images import denormalize_img, from_uint8, normalize_img, to_uint8
from ddpm.run.resume.state import TrainingState
from ddpm.run.seeding import global_stream

PACKAGES = ".benchmark/peers"  # where `make peers` puts them
SIZE = 28


@dataclass(frozen=True)
class Parts:
    """A peer, built.

    loss: of 8-bit images, with fresh noise from torch's global state. clip: most that the gradient's norm may be.
    average: the network to sample from; averaging: the module that holds it with all that its `update`, which is given
    the number of the step, needs to know. draw: floats in [0, 1], from torch's global state.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    loss: Callable[[Tensor], Tensor]
    clip: float | None
    average: nn.Module
    averaging: nn.Module
    update: Callable[[int], None]
    draw: Callable[[], Tensor]


class Peer(Contender):
    package: str
    described: ClassVar[dict[str, str]]
    batch_size = 128
    planned = False

    def __init__(self, threads: int) -> None:
        """Raises UserError where the package is not there."""
        if PACKAGES not in sys.path:
            sys.path.append(PACKAGES)
        try:
            self.settings = {"project": f"{self.package} {version(self.package)}", **self.described}
        except PackageNotFoundError:
            raise UserError(f"{self.package} is not installed; run `make peers`, or leave it out by --only") from None
        self.name, self._threads = self.package, threads

    @abstractmethod
    def build(self) -> Parts: ...

    def train(self, images: Tensor, n_steps: int, seed: int, watch: Watch) -> Draw:
        self._as_at_home()
        with global_stream(seed, "init"):
            parts = self.build()
        state = TrainingState({"model": parts.model, "average": parts.averaging}, [parts.optimizer])
        watch.start(state)
        ahead = islice(batches(len(images), self.batch_size, seed, first=state.step), n_steps - state.step)
        progress = tqdm(ahead, self.name, n_steps, initial=state.step, disable=None)
        for step, chosen in enumerate(progress, start=state.step + 1):
            with global_stream(seed, "step", step):
                loss = parts.loss(images[chosen])
            if not loss.isfinite():
                raise UserError(f"{self.name}: training diverged at step {step} of {n_steps}")
            parts.optimizer.zero_grad()
            loss.backward()
            if parts.clip is not None:
                nn.utils.clip_grad_norm_(parts.model.parameters(), parts.clip)
            parts.optimizer.step()
            parts.update(step)
            progress.set_postfix(loss=f"{loss.item():.4f}")
            state.step = step
            watch.after_step(state, last=step == n_steps)
        parts.average.eval()
        return partial(self._draw, parts)

    def _draw(self, parts: Parts, number: int, seed: int) -> Tensor:
        self._as_at_home()
        with global_stream(seed, "sample", number), torch.no_grad(), redirect_stderr(io.StringIO()):  # its own bars
            return to_uint8(parts.draw())

    def _as_at_home(self) -> None:
        """This project's deterministic kernels are its own choice, and cost time."""
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(self._threads)


class Diffusers(Peer):
    """Network, schedule, optimiser and rate of Hugging Face's diffusion course for 28x28 grey images (units 1 and 2).

    EMA and clipping as in examples/unconditional_image_generation/train_unconditional.py.
    """

    package = "diffusers"
    described: ClassVar = {
        "network": "UNet2DModel (32, 64, 64), 2 layers a block, attention at 14 and 7",
        "objective": "eps, squaredcos_cap_v2, T = 1000",
        "optimiser": "Adam 0.001, batch 128, clip 1",
        "average of weights": "EMAModel, warm-up power 0.75",
        "sampler": f"DDIMPipeline, {EVALUATIONS} steps",
    }

    def build(self) -> Parts:
        from diffusers import DDIMPipeline, DDPMScheduler, UNet2DModel
        from diffusers.training_utils import EMAModel

        down, up = ("DownBlock2D", *2 * ["AttnDownBlock2D"]), (*2 * ["AttnUpBlock2D"], "UpBlock2D")
        model = UNet2DModel(
            sample_size=SIZE,
            in_channels=1,
            out_channels=1,
            layers_per_block=2,
            block_out_channels=(32, 64, 64),
            down_block_types=down,
            up_block_types=up,
        ).train()
        scheduler = DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2")
        average = _copy(model)
        ema = EMAModel(model.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)
        ema.shadow_params = list(average.parameters())

        def loss(images: Tensor) -> Tensor:
            x0 = normalize_img(from_uint8(images))
            noise = torch.randn_like(x0)
            t = torch.randint(0, scheduler.config.num_train_timesteps, (len(x0),))
            return F.mse_loss(model(scheduler.add_noise(x0, noise, t), t).sample, noise)

        def update(step: int) -> None:
            ema.optimization_step = step - 1
            ema.step(model.parameters())

        def draw() -> Tensor:
            pipeline = DDIMPipeline(average, scheduler)
            pipeline.set_progress_bar_config(disable=True)
            images = pipeline(DRAW_BATCH, num_inference_steps=EVALUATIONS, output_type="np").images
            return torch.from_numpy(images).permute(0, 3, 1, 2)

        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        return Parts(model, optimizer, loss, 1.0, average, average, update, draw)


class DenoisingDiffusionPytorch(Peer):
    """lucidrains' package with its own defaults, and its Trainer's optimiser, EMA and clipping.

    dim is 32 instead of the README's 64 for 128x128, dim_mults one shorter, for 28 halves twice.
    """

    package = "denoising-diffusion-pytorch"
    described: ClassVar = {
        "network": "Unet dim 32, (1, 2, 4), flash attention",
        "objective": "v, sigmoid, T = 1000",
        "optimiser": "Adam 0.001, betas (0.9, 0.99), batch 128, clip 1",
        "average of weights": "EMA 0.995, every 10 steps",
        "sampler": f"DDIM, {EVALUATIONS} steps",
    }

    def build(self) -> Parts:
        from denoising_diffusion_pytorch import GaussianDiffusion, Unet
        from ema_pytorch import EMA

        net = Unet(dim=32, dim_mults=(1, 2, 4), channels=1, flash_attn=True)
        model = GaussianDiffusion(net, image_size=SIZE, timesteps=1000, sampling_timesteps=EVALUATIONS).train()
        ema = EMA(model, beta=0.995, update_every=10, include_online_model=False)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, betas=(0.9, 0.99))
        average = ema.ema_model
        return Parts(
            model,
            optimizer,
            loss=lambda images: model(from_uint8(images)),
            clip=1.0,
            average=average,
            averaging=ema,
            update=lambda _: ema.update(),
            draw=lambda: average.sample(DRAW_BATCH),
        )


class Smalldiffusion(Peer):
    """As in its examples/fashion_mnist_unet.py, but for batch (1024 there) and steps of the sampler (20 there)."""

    package = "smalldiffusion"
    described: ClassVar = {
        "network": "Scaled Unet ch 64, (1, 1, 2), attention at 14, dropout 0.1",
        "objective": "eps, log-linear sigma from 0.01 to 20, N = 800",
        "optimiser": "AdamW 0.0007, batch 128",
        "average of weights": "torch-ema 0.999, with its warm-up",
        "sampler": f"its own, gam 1.6, {EVALUATIONS} steps",
    }

    def build(self) -> Parts:
        from accelerate import Accelerator
        from smalldiffusion import Scaled, ScheduleLogLinear, Unet, generate_train_sample, samples
        from torch_ema import ExponentialMovingAverage

        schedule = ScheduleLogLinear(sigma_min=0.01, sigma_max=20, N=800)
        model = Scaled(Unet)(SIZE, 1, 1, ch=64, ch_mult=(1, 1, 2), attn_resolutions=(14,)).train()
        average = _copy(model)
        ema = ExponentialMovingAverage(model.parameters(), decay=0.999)
        ema.shadow_params = list(average.parameters())

        def loss(images: Tensor) -> Tensor:
            x0, sigma, eps, _ = generate_train_sample(normalize_img(from_uint8(images)), schedule)
            return model.get_loss(x0, sigma, eps)

        def update(step: int) -> None:
            ema.num_updates = step - 1
            ema.update(model.parameters())

        def draw() -> Tensor:
            sigmas, cpu = schedule.sample_sigmas(EVALUATIONS), Accelerator(cpu=True)
            chain = samples(average, sigmas, gam=1.6, batchsize=DRAW_BATCH, accelerator=cpu)
            return denormalize_img(deque(chain, maxlen=1).pop())

        optimizer = torch.optim.AdamW(model.parameters(), lr=7e-4)
        return Parts(model, optimizer, loss, None, average, average, update, draw)


PEERS: dict[str, type[Peer]] = {peer.package: peer for peer in (Diffusers, DenoisingDiffusionPytorch, Smalldiffusion)}


def _copy(model: nn.Module) -> nn.Module:
    """A second network whose parameters an EMA can hold as its own."""
    return deepcopy(model).requires_grad_(False)
