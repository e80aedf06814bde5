"""Optimisers and the learning-rate schedule."""

from collections.abc import Sequence

import torch

from ddpm.diffusion.model import DiffusionModel
from ddpm.training.muon import Muon
from ddpm.training.params import LrDecay, Training


def make_optimizers(model: DiffusionModel, params: Training) -> list[torch.optim.Optimizer]:
    """Adam for all weights or, with `muon_lr`, Muon for weights with two or more dimensions and Adam for the rest."""
    betas = params.adam_betas[0], params.adam_betas[1]
    if params.muon_lr is None:
        return [torch.optim.Adam(model.parameters(), params.lr, betas, fused=True)]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    matrices = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    return [torch.optim.Adam(vectors, params.lr, betas, fused=True), Muon(matrices, params.muon_lr)]


def lr_factor(done: int, total_steps: int, warmup_steps: int = 0, lr_decay: LrDecay = "linear") -> float:
    """The factor on the learning rate of a training step.

    Args:
        done: Number of steps before it, from 0.
        total_steps: Number of steps of the run.
        warmup_steps: Steps over which the factor rises linearly to 1, or 0 for no warm-up.
        lr_decay: "linear" to 0 at the end of the run, or "none".
    """
    warmup = min(1.0, (done + 1) / warmup_steps) if warmup_steps else 1.0
    return warmup * (1 - done / total_steps if lr_decay == "linear" else 1.0)


def set_lr(optimizers: Sequence[torch.optim.Optimizer], factor: float) -> None:
    """Set each learning rate to `factor` times its initial value."""
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor
