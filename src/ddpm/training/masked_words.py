"""A text encoder that learns from captions alone, by guessing words that are masked (Devlin et al. 2019).

It is here what a language model is to Imagen: it has read text and seen no image (Saharia et al. 2022, section 2.1).
"""

from itertools import islice
from math import ceil
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Le
from jaxtyping import Bool, Float, Int64, Integer
from torch import Tensor, nn
from tqdm import tqdm

from ddpm.captions.vocabulary import PADDING, SIZE
from ddpm.conditioning.text import TextEncoder, TextShape
from ddpm.data.order import batches
from ddpm.run.compute import Compute
from ddpm.run.params import Count
from ddpm.run.progress import hidden
from ddpm.run.resume.context import Resume
from ddpm.run.resume.state import TrainingState
from ddpm.run.seeding import generator
from ddpm.training.divergence import diverged, is_diverged, loss_at

MASKED = 0.2  # share of the words


class TrainText(TextShape):
    """Section `train_text`: the text encoder and how it is trained. lr: at the first step; it falls linearly to 0."""

    batch_size: Count
    epochs: Annotated[int, Ge(1), Le(1000)]
    lr: Annotated[float, Gt(0), Le(1)]


class MaskedWords(nn.Module):
    """A text encoder, and a layer that guesses each word from its vector."""

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.guess = nn.Linear(encoder.positions.shape[1], SIZE)

    def forward(
        self, rows: Integer[Tensor, "b length"], masked: Bool[Tensor, "b length"]
    ) -> Float[Tensor, "b length words"]:
        """Logits of each word of the captions `rows`, read with padding in the place of the masked ones."""
        return self.guess(self.encoder(rows.masked_fill(masked, PADDING))[:, :-1])


def masks(rows: Integer[Tensor, "b length"], stream: torch.Generator) -> Bool[Tensor, "b length"]:
    """Which words to mask: a share `MASKED` of all, at random."""
    return (torch.rand(rows.shape, generator=stream) < MASKED).to(rows.device) & (rows != PADDING)


def fit_masked_words(
    model: MaskedWords,
    params: TrainText,
    rows: Int64[Tensor, "n length"],
    seed: int = 0,
    compute: Compute = Compute(),
    resume: Resume | None = None,
) -> list[tuple[int, float]]:
    """Train `model` in place with Adam and leave it in eval mode.

    Args:
        model: A new one.
        params: The hyper-parameters.
        rows: Captions, as `captions.vocabulary.tokens` gives them.
        seed: All randomness comes from (seed, step).
        compute: The device and its precision.
        resume: Keeps the state on disk, so that an interrupted run goes on to the same bits.

    Returns:
        (epoch, mean cross-entropy of the masked words, in nats) for each epoch.

    Raises:
        UserError: Training diverged; `resume` keeps the state before that step.
    """
    model.to(compute.device).train()
    rows, per_epoch = rows.to(compute.device), ceil(len(rows) / params.batch_size)
    total = params.epochs * per_epoch
    optimizer = torch.optim.Adam(model.parameters())
    state = TrainingState({"model": model}, [optimizer])
    if resume:
        resume.start(state)
    order = islice(batches(len(rows), params.batch_size, seed, first=state.step), total - state.step)
    progress = tqdm(order, "train text", total, initial=state.step, disable=hidden())
    for step, chosen in enumerate(progress, start=state.step + 1):
        [group] = optimizer.param_groups
        group["lr"] = params.lr * (1 - (step - 1) / total)
        batch = rows[chosen.to(compute.device)]
        masked = masks(batch, generator(seed, "mask", step))
        with compute.autocast():
            logits = model(batch, masked)
        loss = F.cross_entropy(logits[masked].float(), batch[masked], reduction="sum") / masked.sum().clamp(min=1)
        if is_diverged(value := loss.item(), state.first_loss(value)):
            if resume:
                resume.save(state)
            raise diverged(loss_at(step, total, per_epoch, value), group["lr"], len(chosen))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        state.step = step
        state.recent.append(value)
        if step % per_epoch == 0:
            state.train_loss.append((step // per_epoch, sum(state.recent) / per_epoch))
            state.recent.clear()
        if resume:
            resume.after_step(state, step == total)
    if not state.is_finite():  # no loss was taken after the last step
        raise diverged(f"the weights after step {total}, the last, are not finite", params.lr, params.batch_size)
    model.eval()
    return state.train_loss


def guessed(model: MaskedWords, rows: Int64[Tensor, "n length"], seed: int) -> float:
    """Share of the masked words of captions that the model guesses."""
    masked = masks(rows, generator(seed, "guess"))
    with torch.no_grad():
        found = model(rows, masked)[masked].argmax(1)
    return (found == rows[masked]).double().mean().item()
