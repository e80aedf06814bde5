"""Training an autoencoder (Rombach et al. 2022, section 3.1): the error of pixels, and the bottleneck's penalty."""

from functools import partial
from itertools import islice
from math import ceil
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Le
from jaxtyping import Float
from pydantic import AfterValidator, model_validator
from torch import Tensor
from tqdm import tqdm

from ddpm.data.dataset import ImageDataset, to_x0_range
from ddpm.data.order import batches
from ddpm.latent.autoencoder import Autoencoder, AutoencoderConfig, Factor, encode_images
from ddpm.latent.bottleneck import BOTTLENECKS
from ddpm.registry import Registry
from ddpm.run.compute import Compute
from ddpm.run.params import Chooses, Count
from ddpm.run.progress import hidden
from ddpm.run.resume.context import Resume
from ddpm.run.resume.state import TrainingState
from ddpm.run.seeding import derive_seed, generator
from ddpm.training.divergence import diverged, is_diverged, loss_at
from ddpm.training.gradients import BatchGradient, check_micro_batches

N_SCALE = 2_048  # training images behind the scale of latents


class TrainAutoencoder(Chooses):
    """Section `train_autoencoder`."""

    factor: Factor
    latent_channels: Annotated[int, Ge(1), Le(64)]
    channels: Annotated[int, Ge(2), Le(512)]
    groups: Annotated[int, Ge(1), Le(256)]
    bottleneck: Annotated[str, AfterValidator(BOTTLENECKS.checked)]
    lr: Annotated[float, Gt(0), Le(1)]
    warmup_steps: Annotated[int, Ge(0), Le(10_000_000)]
    batch_size: Count
    micro_batches: Annotated[int, Ge(1), Le(1024)]
    epochs: Annotated[float, Gt(0), Le(100_000)]
    log_interval: Count

    @property
    def most_processes(self) -> int:
        """One a micro-batch."""
        return self.micro_batches

    @model_validator(mode="after")
    def _batch_can_be_cut(self) -> "TrainAutoencoder":
        check_micro_batches(self.micro_batches, self.batch_size)
        return self

    @classmethod
    def registries(cls) -> dict[str, Registry[Any]]:
        """Where the names come from."""
        return {"bottleneck": BOTTLENECKS}

    def config(self, img_shape: tuple[int, ...]) -> AutoencoderConfig:
        """The config for images of a shape; ValueError if there can be no such autoencoder."""
        own = {"name": self.bottleneck, **self.options("bottleneck").model_dump()}
        return AutoencoderConfig(img_shape, self.factor, self.latent_channels, self.channels, self.groups, own)


def fit_autoencoder(
    model: Autoencoder,
    params: TrainAutoencoder,
    train: ImageDataset,
    seed: int = 0,
    compute: Compute = Compute(),
    resume: Resume | None = None,
) -> list[tuple[int, float]]:
    """Train `model` in place by Adam, with a learning rate that rises and then falls to zero, both linearly.

    Args:
        model: A new autoencoder. One of factor 1 has nothing to learn.
        params: The hyper-parameters.
        train: 8-bit images.
        seed: All randomness comes from (seed, step).
        compute: The device and its precision.
        resume: Keeps the state on disk, so that an interrupted run goes on to the same bits.

    Returns:
        (step, mean loss since the row before) every `log_interval` steps and after the last one.

    Raises:
        UserError: Training diverged; `resume` keeps the state before that step.
    """
    model.to(compute.device).to(memory_format=torch.channels_last).train()
    if not list(model.parameters()):
        return []
    images = train.images.to(compute.device)
    per_epoch = ceil(len(images) / params.batch_size)
    total = max(1, round(params.epochs * per_epoch))
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    state = TrainingState({"model": model}, [optimizer])
    gradient = BatchGradient(model.parameters(), params.batch_size)
    if resume:
        resume.start(state)
    order = islice(batches(len(images), params.batch_size, seed, first=state.step), total - state.step)
    progress = tqdm(order, "train autoencoder", total, initial=state.step, disable=hidden())
    for step, chosen in enumerate(progress, start=state.step + 1):
        [group] = optimizer.param_groups
        group["lr"] = params.lr * min(step / (params.warmup_steps + 1), 1) * (1 - (step - 1) / total)
        x = to_x0_range(images[chosen.to(compute.device)])
        losses_of = partial(_losses_of_part, model, x, compute, derive_seed(seed, "noise", step))
        losses = gradient(len(chosen), params.micro_batches, losses_of)
        if is_diverged(value := losses.mean().item(), state.first_loss(value)):
            if resume:
                resume.save(state)
            raise diverged(loss_at(step, total, per_epoch, value), group["lr"], len(chosen))
        optimizer.step()
        state.step = step
        state.recent.append(value)
        if step % params.log_interval == 0 or step == total:
            state.train_loss.append((step, sum(state.recent) / len(state.recent)))
            state.recent.clear()
        if resume:
            resume.after_step(state, step == total)
    if not state.is_finite():  # no loss was taken after the last step
        raise diverged(f"the weights after step {total}, the last, are not finite", params.lr, params.batch_size)
    return state.train_loss


def _losses_of_part(
    model: Autoencoder, images: Float[Tensor, "b c h w"], compute: Compute, seed: int, k: int, part: slice
) -> Float[Tensor, " p"]:
    """The losses of micro-batch k, with noise of its own."""
    with compute.autocast():
        made, penalty = model(images[part], generator(seed, "micro-batch", k))
    return error(images[part], made.float()) + penalty


def error(images: Float[Tensor, "b c h w"], made: Float[Tensor, "b c h w"]) -> Float[Tensor, "b"]:
    """The mean absolute error of each image, as in the paper's code: squares would blur more."""
    return (images - made).abs().mean(dim=(1, 2, 3))


def set_scale(model: Autoencoder, train: ImageDataset, seed: int, compute: Compute = Compute()) -> None:
    """Set the scale by which latents of the first training images have variance 1."""
    latents = encode_images(model, train.images[:N_SCALE], seed, compute) / model.scale.cpu()
    model.scale.fill_(1 / latents.std(correction=0))
