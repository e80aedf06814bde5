"""Algorithm 1: draw images, steps and noise, and descend on the error of the predicted noise (Ho et al. 2020)."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from math import ceil
from typing import Any, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float, Int, Shaped, UInt8
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import TensorDataset
from tqdm import tqdm

from ddpm.run.tracking import record as tracking
from ddpm.run.compute import Compute
from ddpm.run.params import validated
from ddpm.data.order import batches
from ddpm.diffusion.forward import noise_img
from ddpm.diffusion.posterior import to_eps, to_x0
from ddpm.diffusion.schedule import SCHEDULES, NoiseSchedule
from ddpm.errors import UserError
from ddpm.images import from_uint8, normalize_img, reconstruction_grid, to_uint8
from ddpm.networks.model import DiffusionModel, evaluation_mode, labelled
from ddpm.run.resume.context import Resume
from ddpm.run.resume.state import TrainingState
from ddpm.sections import Training
from ddpm.run.seeding import generator, global_stream
from ddpm.training.divergence import diverged, is_diverged, loss_at
from ddpm.training.evaluate import simple_loss
from ddpm.diffusion.loss import training_loss
from ddpm.training.muon import Muon
from ddpm.training.quartiles import means, named, tally

# What the course's config_dict leaves out: plain Adam on the paper's schedule.
COURSE_DEFAULTS = {
    "prediction": "eps",
    "weighting": "simple",
    "step_sampling": "uniform",
    "schedule": "linear",
    "muon_lr": None,
    "lr_decay": "none",
    "warmup_steps": 0,
    "adam_betas": [0.9, 0.999],
    "ema_decay": 0.0,
    "log_interval": 50,
    "img_log_interval": 200,
    "n_images_to_log": 3,
}
# What it says beside the training itself; tracked, not acted on.
DESCRIPTIVE = {"image_shape", "hidden_size", "n_images", "n_eval_images"}


@runtime_checkable
class Log(Protocol):
    """Where numbers and pictures go while a model trains."""

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None: ...

    def log_image(self, image: Float[Tensor, "c h w"], key: str, step: int) -> None: ...


@dataclass(frozen=True)
class History:
    """What training leaves beside the weights.

    train_loss: (step, mean loss since the row before); quartile_loss: the same for each quarter of 1..T, low t first,
    None where no image had such a t; eval_loss: (step, loss of the weights that are kept).
    previews: 8-bit pictures of `reconstruction_grid`, (moments, images, channels, 2 height, 3 width).
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
    images: Shaped[Tensor, "n c h w"],
    eval_images: Float[Tensor, "m c h w"] | None = None,
    seed: int = 0,
    compute: Compute = Compute(),
    log: Log | None = None,
    resume: Resume | None = None,
    labels: Shaped[Tensor, " n"] | None = None,
    eval_labels: Shaped[Tensor, " m"] | None = None,
) -> History:
    """Train `model` in place; with `ema_decay` it ends with the averaged weights.

    images: 8-bit, or floats in [-1, 1]; eval_images: in [-1, 1]. All randomness comes from (seed, step).
    resume: keeps the state on disk; a run that was stopped goes on from there, to the same bits.
    labels, eval_labels: what the images show, for a model that must be told.
    Raises UserError where loss or weights are no longer finite, or the loss is `DIVERGED` times what it was at first;
    `resume` then keeps the state before that step; and for prediction "mean" in bf16.
    """
    if params.prediction == "mean" and compute.precision == "bf16":  # x_t and mu_tilde agree in all that bf16 holds
        raise UserError("params.yaml: prediction is mean, which bf16 is too coarse for; precision must be fp32")
    schedule = NoiseSchedule(params.max_steps, betas=SCHEDULES[params.schedule](params.max_steps))
    model.noise_schedule, model.prediction = schedule, params.prediction
    model.to(compute.device).to(memory_format=torch.channels_last)
    model.train()
    images = images.to(compute.device)
    per_epoch = ceil(len(images) / params.batch_size)
    n_steps = max(1, round(params.epochs * per_epoch))
    optimizers = make_optimizers(model, params)
    # A decay of 0 makes the average follow the weights exactly: one path for both.
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(params.ema_decay), use_buffers=False)

    state = TrainingState({"model": model, "average": average}, optimizers)
    if resume:
        resume.start(state)
    if log:
        _log_curves(state, log)
    ahead = islice(batches(len(images), params.batch_size, seed, first=state.step), n_steps - state.step)
    progress = tqdm(ahead, "train", n_steps, initial=state.step, disable=None)
    for step, chosen in enumerate(progress, start=state.step + 1):
        factor = lr_factor(step - 1, n_steps, params)
        lr = params.lr * factor
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor
        batch, noise_stream = images[chosen.to(compute.device)], generator(seed, "noise", step)
        with global_stream(seed, "dropout", step):
            told = labelled(model, labels, chosen)
            losses, num_steps = _step_loss(told, schedule, batch, noise_stream, compute, params)
        loss = losses.mean()
        numbers = torch.hstack((loss, tally(losses.detach(), num_steps, len(schedule))))
        value, *quartiles = numbers.tolist()  # the only time in a step that the device is waited for
        if is_diverged(value, state.first_loss(value)):
            if resume:
                resume.save(state)
            raise diverged(loss_at(step, n_steps, per_epoch, value), lr, len(chosen))
        model.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        average.update_parameters(model)

        state.step, last = step, step == n_steps
        state.recent.append(value)
        state.tallies.append(quartiles)
        if step % params.log_interval == 0 or last:
            state.train_loss.append((step, sum(state.recent) / len(state.recent)))
            state.quartile_loss.append((step, means(state.tallies)))
            state.recent.clear()
            state.tallies.clear()
            progress.set_postfix(loss=f"{state.train_loss[-1][1]:.4f}")
            if log:
                by_quartile = named(state.quartile_loss[-1][1])
                log.log_metrics({"train_loss": state.train_loss[-1][1], "lr": lr, **by_quartile}, step)
        if eval_images is not None and (step % params.img_log_interval == 0 or last):
            kept = cast(DiffusionModel, average.module)
            state.eval_loss.append((step, simple_loss(kept, eval_images, schedule, seed, compute, eval_labels)))
            shown = slice(params.n_images_to_log)
            picture = preview(labelled(kept, eval_labels, shown), eval_images[shown], seed, compute)
            state.preview_steps.append(step)
            state.previews.append(to_uint8(picture))
            if log:
                log.log_metrics({"eval_loss": state.eval_loss[-1][1]}, step)
                log.log_image(torch.cat(list(picture), dim=-2), "reconstructions", step)
        if resume:
            resume.after_step(state, last)
    if not state.is_finite():  # no loss was taken after the last step
        raise diverged(f"the weights after step {n_steps}, the last, are not finite", params.lr, params.batch_size)
    model.load_state_dict(average.module.state_dict())
    pictures = torch.stack(state.previews) if state.previews else torch.empty(0, 0, 0, 0, 0, dtype=torch.uint8)
    return History(n_steps, state.train_loss, state.quartile_loss, state.eval_loss, state.preview_steps, pictures)


def train(
    model: DiffusionModel,
    config_dict: Mapping[str, Any],
    trainset: TensorDataset,
    testset: TensorDataset | None = None,
) -> DiffusionModel:
    """Train `model` by Algorithm 1 with Adam and log to MLflow; returns it with its noise_schedule set.

    config_dict: the keys of `ddpm.run.params.Training`, of which lr, epochs, batch_size and max_steps are required and the
    others default to `COURSE_DEFAULTS`; optionally device and seed. The course's image_shape, hidden_size, n_images and
    n_eval_images are only logged. UserError for any other key or a bad value.
    trainset, testset: TensorDatasets whose first tensor is images in [-1, 1], (n, channels, height, width).
    """
    own = {"device", "seed"} | DESCRIPTIVE
    chosen = {key: value for key, value in config_dict.items() if key not in own}
    params = validated(Training, COURSE_DEFAULTS | chosen, "config_dict")
    compute = Compute(torch.device(config_dict.get("device", "cpu")))
    eval_images = None if testset is None else testset.tensors[0]
    with tracking.stage_run("train", config_dict) as run:
        fit(model, params, trainset.tensors[0], eval_images, config_dict.get("seed", 0), compute, run)
    return model


def make_optimizers(model: DiffusionModel, params: Training) -> list[torch.optim.Optimizer]:
    """Adam for every weight; or Muon for those of two dimensions and more, and Adam for the others."""
    betas = params.adam_betas[0], params.adam_betas[1]
    if params.muon_lr is None:
        return [torch.optim.Adam(model.parameters(), params.lr, betas, fused=True)]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    matrices = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    return [torch.optim.Adam(vectors, params.lr, betas, fused=True), Muon(matrices, params.muon_lr)]


def lr_factor(done: int, n_steps: int, params: Training) -> float:
    """What the learning rate is multiplied with after `done` steps: a linear rise, then level or linear to zero."""
    rise = min(1.0, (done + 1) / params.warmup_steps) if params.warmup_steps else 1.0
    return rise * (1 - done / n_steps if params.lr_decay == "linear" else 1.0)


def preview(
    model: DiffusionModel, images: Float[Tensor, "n c h w"], seed: int, compute: Compute = Compute()
) -> Float[Tensor, "n c h2 w3"]:
    """`reconstruction_grid` of images with the same steps and noise at every call with one seed."""
    schedule = model.noise_schedule
    assert schedule is not None
    num_steps, noise, noised = noise_img(images.to(compute.device), schedule, generator=generator(seed, "preview"))
    with torch.no_grad(), evaluation_mode(model), compute.autocast():
        predicted = model(noised, num_steps).float()
    eps = to_eps(model.prediction, predicted, noised, num_steps, schedule)
    x0 = to_x0(model.prediction, predicted, noised, num_steps, schedule)
    return reconstruction_grid(images.to(noised), noised, noise, eps, x0).cpu()


def _step_loss(
    model: DiffusionModel,
    schedule: NoiseSchedule,
    batch: Shaped[Tensor, "b c h w"],
    noise_stream: torch.Generator,
    compute: Compute,
    params: Training,
) -> tuple[Float[Tensor, "b"], Int[Tensor, "b"]]:
    """Lines 2 to 5 of Algorithm 1: the loss of each image, and its t."""
    x0 = normalize_img(from_uint8(batch)) if batch.dtype == torch.uint8 else batch
    num_steps, eps, xt = noise_img(x0, schedule, generator=noise_stream, step_sampling=params.step_sampling)
    with compute.autocast():
        predicted, v = model.with_variance(xt, num_steps)
    losses = training_loss(params.weighting, model.prediction, predicted, v, x0, eps, xt, num_steps, schedule)
    return losses, num_steps


def _log_curves(state: TrainingState, log: Log) -> None:
    """Show what a resumed training did before in its new tracking run too."""
    for name, rows in (("train_loss", state.train_loss), ("eval_loss", state.eval_loss)):
        for step, loss in rows:
            log.log_metrics({name: loss}, step)
    for step, losses in state.quartile_loss:
        log.log_metrics(named(losses), step)
