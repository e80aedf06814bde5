"""Masked language modelling on captions, to pretrain a text encoder (Devlin et al. 2019).

It replaces Imagen's language model, which is pretrained on text only (Saharia et al. 2022, section 2.1).
"""

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Le
from jaxtyping import Bool, Float, Int64, Integer
from torch import Tensor, nn

from ddpm.captions.vocabulary import PADDING, SIZE
from ddpm.conditioning.text import TextEncoder, TextShape
from ddpm.run.compute import Compute
from ddpm.run.params import Count
from ddpm.run.resume.context import Resume
from ddpm.run.resume.state import TrainingState
from ddpm.run.seeding import generator
from ddpm.training.optimizers import lr_factor
from ddpm.training.steps import take_steps

MASKED = 0.2  # fraction of the words


class TrainText(TextShape):
    """Section `train_text`: the text encoder and its training. lr: initial learning rate, decaying linearly to 0."""

    batch_size: Count
    epochs: Annotated[int, Ge(1), Le(1000)]
    lr: Annotated[float, Gt(0), Le(1)]


class MaskedWords(nn.Module):
    """A text encoder, and a linear layer that predicts each word from its vector."""

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.guess = nn.Linear(encoder.positions.shape[1], SIZE)

    def forward(
        self, rows: Integer[Tensor, "b length"], masked: Bool[Tensor, "b length"]
    ) -> Float[Tensor, "b length words"]:
        """Logits for each word of the captions `rows`, with masked words replaced by padding."""
        return self.guess(self.encoder(rows.masked_fill(masked, PADDING))[:, :-1])


def masks(rows: Integer[Tensor, "b length"], stream: torch.Generator) -> Bool[Tensor, "b length"]:
    """Which words to mask: each with probability `MASKED`."""
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
        model: A new model.
        params: The hyper-parameters.
        rows: Captions, as returned by `captions.vocabulary.tokens`.
        seed: Seed of all randomness, together with the step.
        compute: Device and precision.
        resume: Saves the state to disk, so that an interrupted run resumes with bit-identical results.

    Returns:
        (step, mean cross-entropy of the masked words, in nats) for each epoch.

    Raises:
        UserError: Training diverged. `resume` keeps the state before that step.
    """
    model.to(compute.device).train()
    rows = rows.to(compute.device)

    def lr(done: int, total: int) -> float:
        return params.lr * lr_factor(done, total)

    def loss_of(step: int, chosen: Int64[Tensor, "b"]) -> float:
        batch = rows[chosen.to(compute.device)]
        masked = masks(batch, generator(seed, "mask", step))
        with compute.autocast():
            logits = model(batch, masked)
        loss = F.cross_entropy(logits[masked].float(), batch[masked], reduction="sum") / masked.sum().clamp(min=1)
        model.zero_grad()
        loss.backward()
        return loss.item()

    state = TrainingState({"model": model}, [torch.optim.Adam(model.parameters())])
    losses = take_steps("train text", state, len(rows), params, lr, loss_of, seed, resume)
    model.eval()
    return losses


def guessed(model: MaskedWords, rows: Int64[Tensor, "n length"], seed: int) -> float:
    """Accuracy of the model on masked words of captions, from 0 to 1."""
    masked = masks(rows, generator(seed, "guess"))
    with torch.no_grad():
        found = model(rows, masked)[masked].argmax(1)
    return (found == rows[masked]).double().mean().item()
