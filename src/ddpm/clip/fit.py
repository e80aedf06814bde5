"""Training a CLIP on noised images: in each batch every image has to find its caption, and every caption its image."""

from itertools import islice
from math import ceil
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Le
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from ddpm.clip.model import Clip, ClipConfig
from ddpm.data.dataset import to_x0_range
from ddpm.data.order import batches
from ddpm.diffusion.forward import noise_img
from ddpm.diffusion.schedule import SCHEDULES, NoiseSchedule
from ddpm.run.compute import Compute
from ddpm.run.params import Count, Section
from ddpm.run.progress import hidden
from ddpm.run.resume.context import Resume
from ddpm.run.resume.state import TrainingState
from ddpm.run.seeding import generator
from ddpm.training.divergence import diverged, is_diverged, loss_at
from ddpm.training.loop import Examples
from ddpm.training.params import ScheduleName


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
        """The config for images of a shape; ValueError if there can be no such CLIP."""
        names = "max_steps", "size", "channels", "groups", "width", "layers", "heads"
        return ClipConfig(img_shape, **{name: getattr(self, name) for name in names})


def contrastive_loss(
    images: Float[Tensor, "b size"], captions: Float[Tensor, "b size"], scale: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """Mean cross-entropy of images among captions and of captions among images (Radford et al. 2021, figure 3)."""
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
    """Train `model` in place by Adam, with a learning rate that rises and then falls to zero, both linearly.

    Args:
        model: A new CLIP.
        params: The hyper-parameters.
        train: 8-bit images and their captions.
        seed: All randomness comes from (seed, step).
        compute: The device and its precision.
        resume: Keeps the state on disk, so that an interrupted run goes on to the same bits.

    Returns:
        (step, mean loss since the row before) every `log_interval` steps and after the last one.

    Raises:
        UserError: Training diverged; `resume` keeps the state before that step.
    """
    assert train.cond is not None
    model.to(compute.device).to(memory_format=torch.channels_last).train()
    images, rows = train.images.to(compute.device), train.cond.to(compute.device)
    schedule = NoiseSchedule(params.max_steps, betas=SCHEDULES[params.schedule](params.max_steps)).to(compute.device)
    per_epoch = ceil(len(images) / params.batch_size)
    total = max(1, round(params.epochs * per_epoch))
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    state = TrainingState({"model": model}, [optimizer])
    if resume:
        resume.start(state)
    order = islice(batches(len(images), params.batch_size, seed, first=state.step), total - state.step)
    progress = tqdm(order, "train clip", total, initial=state.step, disable=hidden())
    for step, chosen in enumerate(progress, start=state.step + 1):
        chosen = chosen.to(compute.device)
        [group] = optimizer.param_groups
        group["lr"] = params.lr * min(step / (params.warmup_steps + 1), 1) * (1 - (step - 1) / total)
        num_steps, _, xt = noise_img(to_x0_range(images[chosen]), schedule, generator=generator(seed, "noise", step))
        with compute.autocast():
            vectors = model.of_images(xt, num_steps), model.of_captions(rows[chosen])
        loss = contrastive_loss(*vectors, model.log_scale.exp())
        if is_diverged(value := loss.item(), state.first_loss(value)):
            if resume:
                resume.save(state)
            raise diverged(loss_at(step, total, per_epoch, value), group["lr"], len(chosen))
        optimizer.zero_grad()
        loss.backward()
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
    model.eval().requires_grad_(False)
    return state.train_loss
