"""Training of an autoencoder (Rombach et al. 2022, section 3.1).

Its loss is the pixel error, the bottleneck's penalty and, if chosen, an adversarial loss. Unlike in the paper, there is
no perceptual loss, since it needs a pretrained network.
"""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Le
from jaxtyping import Float, Int64
from pydantic import AfterValidator, model_validator
from torch import Tensor, nn

from ddpm.data.dataset import ImageDataset, to_x0_range
from ddpm.latent.adversary import AdversaryOptions, Discriminator, adversarial_losses, discriminator_losses
from ddpm.latent.autoencoder import Autoencoder, AutoencoderConfig, Factor, encode_images
from ddpm.latent.bottleneck import BOTTLENECKS
from ddpm.registry import Registry
from ddpm.run.compute import Compute
from ddpm.run.params import Chooses, Count
from ddpm.run.resume.context import Resume
from ddpm.run.resume.state import TrainingState
from ddpm.run.seeding import derive_seed, generator, global_stream
from ddpm.training.gradients import BatchGradient, check_micro_batches
from ddpm.training.optimizers import lr_factor
from ddpm.training.steps import take_steps

N_SCALE = 2_048  # training images from which the scale of latents is estimated


class TrainAutoencoder(Chooses):
    """Section `train_autoencoder`."""

    factor: Factor
    latent_channels: Annotated[int, Ge(1), Le(64)]
    channels: Annotated[int, Ge(2), Le(512)]
    groups: Annotated[int, Ge(1), Le(256)]
    bottleneck: Annotated[str, AfterValidator(BOTTLENECKS.checked)]
    adversary: AdversaryOptions = AdversaryOptions()
    lr: Annotated[float, Gt(0), Le(1)]
    warmup_steps: Annotated[int, Ge(0), Le(10_000_000)]
    batch_size: Count
    micro_batches: Annotated[int, Ge(1), Le(1024)]
    epochs: Annotated[float, Gt(0), Le(100_000)]
    log_interval: Count

    @property
    def most_processes(self) -> int:
        """At most one process per micro-batch."""
        return self.micro_batches

    @model_validator(mode="after")
    def _batch_can_be_cut(self) -> "TrainAutoencoder":
        check_micro_batches(self.micro_batches, self.batch_size)
        return self

    @classmethod
    def registries(cls) -> dict[str, Registry[Any]]:
        """The registry of the bottlenecks."""
        return {"bottleneck": BOTTLENECKS}

    def config(self, img_shape: tuple[int, ...]) -> AutoencoderConfig:
        """The config for images of this shape.

        Raises:
            ValueError: The autoencoder cannot be built.
        """
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
    """Train `model` in place by Adam, with linear learning-rate warm-up and decay to 0.

    A discriminator, if there is one, is trained in the same steps. Its gradients are computed last, since the
    autoencoder's backward pass also adds to them.

    Args:
        model: A new autoencoder. With factor 1 there is nothing to train.
        params: The hyper-parameters.
        train: 8-bit images.
        seed: Seed of all randomness, together with the step.
        compute: Device and precision.
        resume: Saves the state to disk, so that an interrupted run resumes with bit-identical results.

    Returns:
        (step, mean loss since the previous row) every `log_interval` steps and after the last one. Empty with factor 1.

    Raises:
        UserError: Training diverged. `resume` keeps the state before that step.
    """
    model.to(compute.device).to(memory_format=torch.channels_last).train()
    if not list(model.parameters()):
        return []
    images = train.images.to(compute.device)
    trained: dict[str, nn.Module] = {"model": model}
    discriminator = None
    if weight := params.adversary.weight:
        with global_stream(seed, "discriminator"):
            discriminator = trained["discriminator"] = Discriminator(train.img_shape[0], params.adversary.channels)
        discriminator.to(compute.device).to(memory_format=torch.channels_last)
    gradients = {name: BatchGradient(module.parameters(), params.batch_size) for name, module in trained.items()}

    def lr(done: int, total: int) -> float:
        return params.lr * lr_factor(done, total, params.warmup_steps)

    def loss_of(step: int, chosen: Int64[Tensor, "b"]) -> float:
        x, noise = to_x0_range(images[chosen.to(compute.device)]), derive_seed(seed, "noise", step)
        reconstructions = dict[int, Tensor]()

        def losses_of(k: int, part: slice) -> Float[Tensor, " p"]:
            """The autoencoder's losses in micro-batch k, whose noise is seeded by k."""
            with compute.autocast():
                made, penalty = model(x[part], generator(noise, "micro-batch", k))
            errors = error(x[part], made.float())
            if discriminator is None:
                return errors + penalty
            reconstructions[k] = made.detach()
            with compute.autocast():
                return errors + penalty + weight * adversarial_losses(discriminator, made, errors, model.last)

        loss = gradients["model"](len(chosen), params.micro_batches, losses_of).mean().item()
        if discriminator is not None:
            losses_of_pairs = partial(_losses_of_pairs, discriminator, x, reconstructions, compute)
            gradients["discriminator"](len(chosen), params.micro_batches, losses_of_pairs)
        return loss

    parameters = [parameter for module in trained.values() for parameter in module.parameters()]
    state = TrainingState(trained, [torch.optim.Adam(parameters, fused=True)])
    return take_steps("train autoencoder", state, len(images), params, lr, loss_of, seed, resume, params.log_interval)


def _losses_of_pairs(
    discriminator: Discriminator,
    images: Float[Tensor, "b c h w"],
    reconstructions: Mapping[int, Float[Tensor, "_ c h w"]],
    compute: Compute,
    k: int,
    part: slice,
) -> Float[Tensor, " p"]:
    """The discriminator's losses in micro-batch k."""
    with compute.autocast():
        return discriminator_losses(discriminator, images[part], reconstructions[k])


def error(images: Float[Tensor, "b c h w"], made: Float[Tensor, "b c h w"]) -> Float[Tensor, "b"]:
    """The mean absolute error of each image, as in the paper's code. Squared errors blur more."""
    return (images - made).abs().mean(dim=(1, 2, 3))


def set_scale(model: Autoencoder, train: ImageDataset, seed: int, compute: Compute = Compute()) -> None:
    """Set the scale so that latents of the first training images have variance 1.

    Args:
        model: The autoencoder, which is modified in place.
        train: Training images.
        seed: Seed of the noise of the latents.
        compute: Device and precision.
    """
    latents = encode_images(model, train.images[:N_SCALE], seed, compute) / model.scale.cpu()
    model.scale.fill_(1 / latents.std(correction=0))
