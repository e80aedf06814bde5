"""How a classifier is trained, for the features that samples are judged by."""

from itertools import islice
from math import ceil, cos, pi

import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor, nn
from tqdm import tqdm

from ddpm.data.order import batches
from ddpm.images import from_uint8, normalize_img
from ddpm.run.compute import Compute
from ddpm.run.resume.context import Resume
from ddpm.run.resume.state import TrainingState
from ddpm.run.seeding import generator
from ddpm.sections import TrainClassifier
from ddpm.training.divergence import diverged, is_diverged, loss_at


def fit_classifier(
    model: nn.Module,
    params: TrainClassifier,
    images: UInt8[Tensor, "n 1 28 28"],
    labels: UInt8[Tensor, " n"],
    seed: int = 0,
    compute: Compute = Compute(),
    resume: Resume | None = None,
) -> list[tuple[int, float]]:
    """Train `model` in place and leave it in eval mode; returns (epoch, mean loss).

    SGD with Nesterov momentum, a one-cycle learning rate (Smith & Topin 2017), label smoothing (Szegedy et al. 2015)
    and random shifts. All randomness comes from (seed, step). resume: keeps the state on disk; a run that was stopped
    goes on from there, to the same bits. Raises UserError where loss or weights are no longer finite, or the loss is
    `divergence.DIVERGED` times what it was at first; `resume` then keeps the state before that step.
    """
    model.to(compute.device).to(memory_format=torch.channels_last).train()
    images, labels = images.to(compute.device), labels.to(compute.device).long()
    per_epoch = ceil(len(images) / params.batch_size)
    n_steps = params.epochs * per_epoch
    optimizer = torch.optim.SGD(model.parameters(), momentum=0.9, nesterov=True, weight_decay=params.weight_decay)
    state = TrainingState({"model": model}, [optimizer])
    if resume:
        resume.start(state)
    order = islice(batches(len(images), params.batch_size, seed, first=state.step), n_steps - state.step)
    progress = tqdm(order, "train classifier", n_steps, initial=state.step, disable=None)
    for step, chosen in enumerate(progress, start=state.step + 1):
        chosen = chosen.to(compute.device)
        [group] = optimizer.param_groups
        group["lr"] = one_cycle(step - 1, n_steps, params.lr)
        x = normalize_img(from_uint8(shifted(images[chosen], params.max_shift, generator(seed, "shift", step))))
        with compute.autocast():
            logits = model(x)
        loss = F.cross_entropy(logits.float(), labels[chosen], label_smoothing=params.label_smoothing)
        if is_diverged(value := loss.item(), state.first_loss(value)):
            if resume:
                resume.save(state)
            raise diverged(loss_at(step, n_steps, per_epoch, value), group["lr"], len(chosen))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        state.step = step
        state.recent.append(value)
        if step % per_epoch == 0:
            state.train_loss.append((step // per_epoch, sum(state.recent) / per_epoch))
            state.recent.clear()
        if resume:
            resume.after_step(state, step == n_steps)
    if not state.is_finite():  # no loss was taken after the last step
        raise diverged(f"the weights after step {n_steps}, the last, are not finite", params.lr, params.batch_size)
    model.eval()
    return state.train_loss


def one_cycle(done: int, n_steps: int, highest: float) -> float:
    """The learning rate after `done` of `n_steps` steps: up from 1/25 of the highest, then down to 1/10,000 of that.

    Two halves of a cosine; the first is a fifth of the steps.
    """
    lowest, top = highest / 25, max(0.0, 0.2 * n_steps - 1)
    if done < top:
        start, end, share = lowest, highest, done / top
    else:
        start, end, share = highest, lowest / 10_000, (done - top) / max(1.0, n_steps - 1 - top)
    return end + (start - end) / 2 * (cos(pi * share) + 1)


def shifted(images: UInt8[Tensor, "b 1 h w"], most: int, stream: torch.Generator) -> UInt8[Tensor, "b 1 h w"]:
    """Each image moved by up to `most` pixels, at random, across and down; what comes into view is black."""
    b, _, h, w = images.shape
    windows = F.pad(images, [most] * 4).unfold(2, h, 1).unfold(3, w, 1)
    down, across = torch.randint(2 * most + 1, (2, b), generator=stream).to(images.device)
    return windows[torch.arange(b, device=images.device), :, down, across]
