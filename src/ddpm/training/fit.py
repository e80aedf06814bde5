"""A whole training run: the steps of Algorithm 1 with evaluation, logging and checkpoints."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from tqdm import tqdm

from ddpm.conditioning.guidance import given
from ddpm.diffusion.forward import noise_img
from ddpm.diffusion.model import DiffusionModel, evaluation_mode, schedule_of
from ddpm.diffusion.posterior import to_eps, to_x0
from ddpm.errors import UserError
from ddpm.images import Decode, as_it_is, reconstruction_grid, to_uint8
from ddpm.run.compute import Compute
from ddpm.run.progress import hidden
from ddpm.run.resume.context import Resume
from ddpm.run.resume.state import TrainingState
from ddpm.run.seeding import generator
from ddpm.training.evaluate import simple_loss
from ddpm.training.loop import Examples, Step, start_training, training_steps
from ddpm.training.params import Training
from ddpm.training.quartiles import means, named
from ddpm.training.steps import total_steps

TOO_SHORT = "training takes %d steps, fewer than warmup_steps, %d: the learning rate does not reach lr; increase epochs"
Reader = Callable[[Step], None]


@runtime_checkable
class Log(Protocol):
    """A logger of metrics and images during training."""

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None: ...

    def log_image(self, image: Float[Tensor, "c h w"], key: str, step: int) -> None: ...


@dataclass(frozen=True)
class History:
    """The results of training other than the weights.

    Attributes:
        steps: Optimiser steps taken.
        train_loss: (step, mean loss since the previous row).
        quartile_loss: The same for each quarter of 1..T, low t first. None if no image had such a t.
        eval_loss: (step, held-out loss of the EMA weights).
        preview_steps: The training steps of the previews.
        previews: 8-bit outputs of `reconstruction_grid`, (steps, images, channels, 2 height, 3 width).
    """

    steps: int
    train_loss: list[tuple[int, float]]
    quartile_loss: list[tuple[int, list[float | None]]]
    eval_loss: list[tuple[int, float]]
    preview_steps: list[int]
    previews: UInt8[Tensor, "k n c h2 w3"]


def fit(
    model: DiffusionModel,
    params: Training,
    train: Examples,
    held_out: Examples | None = None,
    seed: int = 0,
    compute: Compute = Compute(),
    log: Log | None = None,
    resume: Resume | None = None,
    decode: Decode = as_it_is,
) -> History:
    """Train `model` in place. It ends with the EMA weights.

    Args:
        model: The network to train.
        params: The hyper-parameters.
        train: Images to train on.
        held_out: Images in [-1, 1] to evaluate on, or None for no evaluation.
        seed: Seed of all randomness, together with the step.
        compute: Device and precision.
        log: Logger of curves and previews.
        resume: Saves the state to disk, so that an interrupted run resumes with bit-identical results.
        decode: Maps the network's data, such as latents, to images in [-1, 1], for previews.

    Returns:
        The loss curves and previews.

    Raises:
        UserError: Training diverged (`training_steps`), or the params are not compatible with the precision.
    """
    state = start_training(model, params, compute)
    if resume:
        resume.start(state)
    if log:
        _log_curves(state, log)
    total = total_steps(len(train.images), params)
    if total < params.warmup_steps:
        logging.warning(TOO_SHORT, total, params.warmup_steps)
    readers = [record_loss(state, params, log)]
    if held_out is not None:
        readers.append(evaluate(state, params, held_out, seed, compute, log, decode))
    steps = training_steps(state, params, train, seed, compute)
    progress = tqdm(steps, "train", total, initial=state.step, disable=hidden())
    try:
        for step in progress:
            for read in readers:
                read(step)
            if state.train_loss and state.train_loss[-1][0] == step.number:
                progress.set_postfix(loss=f"{state.train_loss[-1][1]:.4f}")
            if resume:
                resume.after_step(state, step.last)
    except UserError:
        if resume:
            resume.save(state)
        raise
    model.load_state_dict(_ema(state).state_dict())
    previews = torch.stack(state.previews) if state.previews else torch.empty(0, 0, 0, 0, 0, dtype=torch.uint8)
    return History(state.step, state.train_loss, state.quartile_loss, state.eval_loss, state.preview_steps, previews)


def record_loss(state: TrainingState, params: Training, log: Log | None = None) -> Reader:
    """A callback that adds a row to the loss curves every `log_interval` steps and after the last one."""

    def read(step: Step) -> None:
        state.recent.append(step.loss)
        state.tallies.append(step.tally)
        if step.number % params.log_interval and not step.last:
            return
        state.train_loss.append((step.number, sum(state.recent) / len(state.recent)))
        state.quartile_loss.append((step.number, means(state.tallies)))
        state.recent.clear()
        state.tallies.clear()
        if log:
            by_quartile = named(state.quartile_loss[-1][1])
            log.log_metrics({"train/loss": state.train_loss[-1][1], "train/lr": step.lr, **by_quartile}, step.number)

    return read


def evaluate(
    state: TrainingState,
    params: Training,
    held_out: Examples,
    seed: int,
    compute: Compute,
    log: Log | None = None,
    decode: Decode = as_it_is,
) -> Reader:
    """A callback that evaluates the EMA weights every `img_log_interval` steps and after the last one.

    Args:
        state: The run, which receives the losses and previews.
        params: Section of the training stage.
        held_out: Examples that the network is not trained on.
        seed: Seed of timesteps and noise.
        compute: Device and precision.
        log: Also receives them, if given.
        decode: Maps the network's data, such as latents, to images in [-1, 1].
    """
    shown = slice(params.n_images_to_log)

    def read(step: Step) -> None:
        if step.number % params.img_log_interval and not step.last:
            return
        model = _ema(state)
        loss = simple_loss(model, held_out, seed, compute)
        pictures = preview(given(model, held_out.cond, shown), held_out.images[shown], seed, compute, decode)
        state.eval_loss.append((step.number, loss))
        state.preview_steps.append(step.number)
        state.previews.append(to_uint8(pictures))
        if log:
            log.log_metrics({"eval/loss": loss}, step.number)
            log.log_image(torch.cat(list(pictures), dim=-2), "reconstructions", step.number)

    return read


def preview(
    model: DiffusionModel,
    images: Float[Tensor, "n c h w"],
    seed: int,
    compute: Compute = Compute(),
    decode: Decode = as_it_is,
) -> Float[Tensor, "n c2 h2 w3"]:
    """`reconstruction_grid` of some images.

    Args:
        model: A network that is unconditional, or whose conditioning is bound.
        images: The network's data, such as images or latents.
        seed: Seed of timesteps and noise, which depend on nothing else.
        compute: Device and precision.
        decode: Maps the network's data, such as latents, to images in [-1, 1].
    """
    schedule = schedule_of(model)
    num_steps, noise, noised = noise_img(images.to(compute.device), schedule, generator=generator(seed, "preview"))
    with torch.no_grad(), evaluation_mode(model), compute.autocast():
        predicted = model(noised, num_steps).float()
    eps = to_eps(model.prediction, predicted, noised, num_steps, schedule)
    x0 = to_x0(model.prediction, predicted, noised, num_steps, schedule)
    return reconstruction_grid(*map(decode, (images.to(noised), noised, noise, eps, x0))).cpu()


def _ema(state: TrainingState) -> DiffusionModel:
    """The network with the EMA weights, which are evaluated and saved."""
    return cast(DiffusionModel, state.modules["average"].module)


def _log_curves(state: TrainingState, log: Log) -> None:
    """Log the curves from before the interruption to the tracking run of a resumed run."""
    for name, rows in (("train/loss", state.train_loss), ("eval/loss", state.eval_loss)):
        for step, loss in rows:
            log.log_metrics({name: loss}, step)
    for step, losses in state.quartile_loss:
        log.log_metrics(named(losses), step)
