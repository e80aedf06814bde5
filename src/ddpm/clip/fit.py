"""Contrastive training of a CLIP on noised images (Radford et al. 2021)."""

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Le
from jaxtyping import Float, Int64
from torch import Tensor

from ddpm.clip.model import Clip, ClipConfig
from ddpm.data.dataset import to_x0_range
from ddpm.diffusion.forward import noise_img
from ddpm.diffusion.schedule import SCHEDULES, NoiseSchedule
from ddpm.run.compute import Compute
from ddpm.run.params import Count, Section
from ddpm.run.resume.context import Resume
from ddpm.run.resume.state import TrainingState
from ddpm.run.seeding import generator
from ddpm.training.loop import Examples
from ddpm.training.optimizers import lr_factor
from ddpm.training.params import ScheduleName
from ddpm.training.steps import take_steps


class TrainClip(Section):
    """Section `train_clip`."""

    max_steps: Annotated[int, Ge(1), Le(10_000)]
    schedule: ScheduleName
    size: Annotated[int, Ge(2), Le(1024)]
    channels: Annotated[int, Ge(2), Le(512)]
    groups: Annotated[int, Ge(1), Le(256)]
    width: Annotated[int, Ge(1), Le(1024)]
    layers: Annotated[int, Ge(1), Le(24)]
    heads: Annotated[int, Ge(1), Le(64)]
    lr: Annotated[float, Gt(0), Le(1)]
    warmup_steps: Annotated[int, Ge(0), Le(10_000_000)]
    batch_size: Annotated[int, Ge(2), Le(100_000)]
    epochs: Annotated[float, Gt(0), Le(100_000)]
    log_interval: Count

    def config(self, img_shape: tuple[int, ...]) -> ClipConfig:
        """The config for images of this shape.

        Raises:
            ValueError: The CLIP cannot be built.
        """
        names = "max_steps", "size", "channels", "groups", "width", "layers", "heads"
        return ClipConfig(img_shape, **{name: getattr(self, name) for name in names})


def contrastive_loss(
    images: Float[Tensor, "b size"], captions: Float[Tensor, "b size"], scale: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """The symmetric cross-entropy of matching images and captions in a batch (Radford et al. 2021, figure 3)."""
    logits, own = scale * images @ captions.T, torch.arange(len(images), device=images.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def fit_clip(
    model: Clip,
    params: TrainClip,
    train: Examples,
    seed: int = 0,
    compute: Compute = Compute(),
    resume: Resume | None = None,
) -> list[tuple[int, float]]:
    """Train `model` in place by Adam, with linear learning-rate warm-up and decay to 0.

    Args:
        model: A new CLIP.
        params: The hyper-parameters.
        train: 8-bit images, with the token IDs of their captions as `cond`.
        seed: Seed of all randomness, together with the step.
        compute: Device and precision.
        resume: Saves the state to disk, so that an interrupted run resumes with bit-identical results.

    Returns:
        (step, mean loss since the previous row) every `log_interval` steps and after the last one.

    Raises:
        UserError: Training diverged. `resume` keeps the state before that step.
    """
    assert train.cond is not None
    model.to(compute.device).to(memory_format=torch.channels_last).train()
    images, rows = train.images.to(compute.device), train.cond.to(compute.device)
    schedule = NoiseSchedule(params.max_steps, betas=SCHEDULES[params.schedule](params.max_steps)).to(compute.device)

    def lr(done: int, total: int) -> float:
        return params.lr * lr_factor(done, total, params.warmup_steps)

    def loss_of(step: int, chosen: Int64[Tensor, "b"]) -> float:
        chosen = chosen.to(compute.device)
        num_steps, _, xt = noise_img(to_x0_range(images[chosen]), schedule, generator=generator(seed, "noise", step))
        with compute.autocast():
            vectors = model.of_images(xt, num_steps), model.of_captions(rows[chosen])
        loss = contrastive_loss(*vectors, model.log_scale.exp())
        model.zero_grad()
        loss.backward()
        return loss.item()

    state = TrainingState({"model": model}, [torch.optim.Adam(model.parameters(), fused=True)])
    losses = take_steps("train clip", state, len(images), params, lr, loss_of, seed, resume, params.log_interval)
    model.eval().requires_grad_(False)
    return losses
