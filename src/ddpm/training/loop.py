"""Algorithm 1 (Ho et al. 2020), one optimiser step at a time."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from math import ceil
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ddpm.conditioning.guidance import given
from ddpm.data.augmentation import augmented
from ddpm.data.dataset import to_x0_range
from ddpm.data.order import batches
from ddpm.diffusion.consistency import consistency_loss
from ddpm.diffusion.forward import noise_img
from ddpm.diffusion.loss import training_loss
from ddpm.diffusion.model import DiffusionModel, schedule_of
from ddpm.diffusion.schedule import SCHEDULES, NoiseSchedule
from ddpm.errors import UserError
from ddpm.run.compute import Compute
from ddpm.run.resume.state import TrainingState
from ddpm.run.seeding import derive_seed, generator, global_stream
from ddpm.training.divergence import diverged, is_diverged, loss_at
from ddpm.training.gradients import BatchGradient
from ddpm.training.optimizers import lr_factor, make_optimizers, set_lr
from ddpm.training.params import Training
from ddpm.training.quartiles import tally
from ddpm.training.steps import total_steps

Tensors = tuple[Tensor, ...] | list[Tensor]


class Examples(NamedTuple):
    """Images for training or evaluation, 8-bit or floats in [-1, 1], and their conditioning, if any."""

    images: Shaped[Tensor, "n c h w"]
    cond: Shaped[Tensor, "n *rest"] | None = None


class Batch(NamedTuple):
    """A noised batch.

    Attributes:
        x0: Images in [-1, 1].
        num_steps: t of each image, from 1 to T.
        eps: The noise.
        xt: x_t.
        cond: The conditioning of each image, or None for an unconditional network.
        moves: How each image was flipped and shifted, or None if the network is not conditioned on it.
    """

    x0: Float[Tensor, "b c h w"]
    num_steps: Int[Tensor, "b"]
    eps: Float[Tensor, "b c h w"]
    xt: Float[Tensor, "b c h w"]
    cond: Shaped[Tensor, "b *rest"] | None
    moves: Float[Tensor, "b moves"] | None = None

    def part(self, chosen: slice) -> "Batch":
        """Some of the images."""
        cond = None if self.cond is None else self.cond[chosen]
        moves = None if self.moves is None else self.moves[chosen]
        return Batch(self.x0[chosen], self.num_steps[chosen], self.eps[chosen], self.xt[chosen], cond, moves)


class Step(NamedTuple):
    """The results of one step of Algorithm 1.

    Attributes:
        number: The number of the step, from 1.
        total: Steps of the whole run.
        lr: The learning rate.
        loss: The mean loss of the batch.
        tally: Loss by quarter of the timesteps, as returned by `quartiles.tally`.
    """

    number: int
    total: int
    lr: float
    loss: float
    tally: list[float]

    @property
    def last(self) -> bool:
        """Whether this is the last step."""
        return self.number == self.total


def start_training(model: DiffusionModel, params: Training, compute: Compute) -> TrainingState:
    """Set the noise schedule and prediction of `model`, move it to the device, and create optimisers and EMA weights.

    Raises:
        UserError: Prediction "mean" in bf16, which cannot represent the difference between x_t and its posterior mean.
    """
    if params.prediction == "mean" and compute.precision == "bf16":
        raise UserError("params.yaml: prediction is mean, which bf16 is too coarse for; precision must be fp32")
    model.noise_schedule = NoiseSchedule(params.max_steps, betas=SCHEDULES[params.schedule](params.max_steps))
    model.prediction = params.prediction
    model.to(compute.device).to(memory_format=torch.channels_last).train()
    # With decay 0 the average equals the weights, so training without EMA needs no code of its own.
    ema = AveragedModel(model, multi_avg_fn=ema_with_warmup(params.ema_decay), use_buffers=False)
    return TrainingState({"model": model, "average": ema}, make_optimizers(model, params))


def ema_with_warmup(decay: float) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    """An update of EMA weights whose decay after n steps is the smaller of `decay` and (1 + n) / (10 + n).

    The time constant of the average, 1 / (1 - decay) steps, is then at most about a tenth of the steps so far, which
    suits runs of any length.
    """

    def update(averaged: Tensors, weights: Tensors, n: Tensor | int) -> None:
        get_ema_multi_avg_fn(min(decay, (1 + int(n)) / (10 + int(n))))(averaged, weights, n)

    return update


def training_steps(
    state: TrainingState, params: Training, examples: Examples, seed: int = 0, compute: Compute = Compute()
) -> Iterator[Step]:
    """Take the remaining training steps of `state`, yielding after each.

    All randomness depends on (seed, step) only, so a resumed run takes the same steps as an uninterrupted one.

    Args:
        state: The state from `start_training` or a resumed run. It holds the networks and is updated in place.
        params: The hyper-parameters.
        examples: The training images.
        seed: Seed of the order of images, augmentation, timesteps, noise and dropout.
        compute: Device and precision.

    Raises:
        UserError: The loss is not finite or more than `DIVERGED` times the first one (recorded by `fit.record_loss`).
            `state` is then as before the step. Also raised if the final weights are not finite.
    """
    model, ema = state.modules["model"], state.modules["average"]
    assert isinstance(model, DiffusionModel)
    assert isinstance(ema, AveragedModel)
    images, schedule = examples.images.to(compute.device), schedule_of(model)
    total, per_epoch = total_steps(len(images), params), ceil(len(images) / params.batch_size)
    remaining = islice(batches(len(images), params.batch_size, seed, first=state.step), total - state.step)
    gradient = BatchGradient(model.parameters(), params.batch_size)
    for number, chosen in enumerate(remaining, start=state.step + 1):
        factor = lr_factor(number - 1, total, params.warmup_steps, params.lr_decay)
        set_lr(state.optimizers, factor)
        x0, moves = images[chosen.to(compute.device)], None
        if params.flip or params.max_shift:
            x0, moves = augmented(x0, params.flip, params.max_shift, generator(seed, "augmentation", number))
        x0 = to_x0_range(x0) if x0.dtype == torch.uint8 else x0
        cond = None if examples.cond is None else examples.cond[chosen]
        batch = noised_batch(x0, cond, schedule, params, generator(seed, "noise", number))
        batch = batch._replace(moves=moves if model.takes_moves else None)
        dropout, progress = derive_seed(seed, "dropout", number), (number - 1) / total
        losses_of = partial(_losses_of_part, model, batch, params, compute, progress, dropout)
        losses = gradient(len(chosen), params.micro_batches, losses_of)
        # One transfer per step: the only synchronisation with the device.
        numbers = torch.hstack((losses.mean(), tally(losses, batch.num_steps, len(schedule)))).tolist()
        if is_diverged(numbers[0], state.first_loss(numbers[0])):
            raise diverged(loss_at(number, total, per_epoch, numbers[0]), params.lr * factor, len(chosen))
        if params.max_grad_norm is not None:
            clip_grad_norm_(model.parameters(), params.max_grad_norm)
        for optimizer in state.optimizers:
            optimizer.step()
        ema.update_parameters(model)
        state.step = number
        yield Step(number, total, params.lr * factor, numbers[0], numbers[1:])
    if not state.is_finite():  # no loss was computed after the last step
        raise diverged(f"the weights after step {total}, the last, are not finite", params.lr, params.batch_size)


def noised_batch(
    x0: Float[Tensor, "b c h w"],
    cond: Shaped[Tensor, "b *rest"] | None,
    schedule: NoiseSchedule,
    params: Training,
    stream: torch.Generator,
) -> Batch:
    """Draw timesteps and noise for a batch, and noise it (Algorithm 1, lines 3 to 5).

    Args:
        x0: Images in [-1, 1].
        cond: Their conditioning, or None for an unconditional network.
        schedule: The noise schedule.
        params: The hyper-parameters.
        stream: Random generator of timesteps and noise.
    """
    num_steps, eps, xt = noise_img(x0, schedule, generator=stream, step_sampling=params.step_sampling)
    return Batch(x0, num_steps, eps, xt, cond)


def losses_of_batch(
    model: DiffusionModel, batch: Batch, params: Training, compute: Compute = Compute(), progress: float = 0.0
) -> Float[Tensor, "b"]:
    """The loss of each image: line 5 of Algorithm 1, or consistency tuning.

    Args:
        model: The network.
        batch: A batch from `noised_batch`, or a part of it.
        params: The hyper-parameters.
        compute: Device and precision.
        progress: The fraction of the training that is done, in [0, 1).
    """
    x0, num_steps, eps, xt, cond, moves = batch
    network, schedule = given(model, cond, moves=moves), schedule_of(model)
    with compute.autocast():
        if params.weighting == "consistency":
            return consistency_loss(network, model.prediction, x0, eps, xt, num_steps, schedule, progress)
        predicted, v = network.with_variance(xt, num_steps)
    return training_loss(params.weighting, model.prediction, predicted, v, x0, eps, xt, num_steps, schedule)


def _losses_of_part(
    model: DiffusionModel,
    batch: Batch,
    params: Training,
    compute: Compute,
    progress: float,
    seed: int,
    k: int,
    part: slice,
) -> Float[Tensor, "_"]:
    """The losses of micro-batch k, whose dropout is seeded by k."""
    with global_stream(seed, "micro-batch", k):
        return losses_of_batch(model, batch.part(part), params, compute, progress)
