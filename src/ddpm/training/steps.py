"""The training loop of networks other than diffusion models, with one optimiser and one loss."""

from collections.abc import Callable
from itertools import islice
from math import ceil
from typing import Protocol, runtime_checkable

from jaxtyping import Int64
from torch import Tensor
from tqdm import tqdm

from ddpm.data.order import batches
from ddpm.run.progress import hidden
from ddpm.run.resume.context import Resume
from ddpm.run.resume.state import TrainingState
from ddpm.training.divergence import diverged, is_diverged, loss_at


@runtime_checkable
class Epochs(Protocol):
    """How long to train: `batch_size` examples per step, for a number of epochs."""

    @property
    def batch_size(self) -> int: ...

    @property
    def epochs(self) -> float: ...


def total_steps(n: int, params: Epochs) -> int:
    """Optimiser steps of a whole run on n examples, at least 1."""
    return max(1, round(params.epochs * ceil(n / params.batch_size)))


def take_steps(
    name: str,
    state: TrainingState,
    n: int,
    params: Epochs,
    lr: Callable[[int, int], float],
    loss_of: Callable[[int, Int64[Tensor, "b"]], float],
    seed: int = 0,
    resume: Resume | None = None,
    log_interval: int | None = None,
) -> list[tuple[int, float]]:
    """Take the remaining training steps of `state`.

    Args:
        name: Label of the progress bar.
        state: A network in train mode and its one optimiser, updated in place.
        n: Number of examples.
        params: How long to train.
        lr: Maps (steps done, total steps) to the learning rate.
        loss_of: Sets the gradients and returns the mean loss. Called with the step, from 1, and the indices of its
            batch.
        seed: Seed of the order of the examples.
        resume: Saves the state to disk, so that an interrupted run resumes with bit-identical results.
        log_interval: Steps between rows of the loss curve, or None for one row per epoch.

    Returns:
        (step, mean loss since the previous row) every `log_interval` steps and after the last one.

    Raises:
        UserError: Training diverged. `resume` keeps the state before that step.
    """
    if resume:
        resume.start(state)
    [optimizer] = state.optimizers
    [group] = optimizer.param_groups
    per_epoch, total = ceil(n / params.batch_size), total_steps(n, params)
    order = islice(batches(n, params.batch_size, seed, first=state.step), total - state.step)
    progress = tqdm(order, name, total, initial=state.step, disable=hidden())
    for step, chosen in enumerate(progress, start=state.step + 1):
        group["lr"] = lr(step - 1, total)
        loss = loss_of(step, chosen)
        if is_diverged(loss, state.first_loss(loss)):
            if resume:
                resume.save(state)
            raise diverged(loss_at(step, total, per_epoch, loss), group["lr"], len(chosen))
        optimizer.step()
        state.step = step
        state.recent.append(loss)
        if step % (log_interval or per_epoch) == 0 or step == total:
            state.train_loss.append((step, sum(state.recent) / len(state.recent)))
            state.recent.clear()
            progress.set_postfix(loss=f"{state.train_loss[-1][1]:.4f}")
        if resume:
            resume.after_step(state, step == total)
    if not state.is_finite():  # no loss was computed after the last step
        raise diverged(f"the weights after step {total}, the last, are not finite", group["lr"], params.batch_size)
    return state.train_loss
