"""Class labels: a learnt vector for each class is added to the timestep embedding."""

from collections.abc import Iterable
from typing import Annotated

import torch
from annotated_types import Ge, Lt
from jaxtyping import Float, Int64, Shaped
from torch import Tensor, nn

from ddpm.conditioning.conditioning import CONDITIONINGS, Conditioning, Given, check_numbers
from ddpm.run.params import Section


class LabelsOptions(Section):
    """Options of `Labels`.

    Attributes:
        dropout: Probability of dropping the label in training, for guidance.
    """

    dropout: Annotated[float, Ge(0), Lt(1)] = 0.1


class Labels(Conditioning):
    """`cond` is a class index, or n_classes for no label.

    Args:
        img_shape: Not used.
        n_classes: Number of classes.
        embedding_size: Length of the vectors.
        dropout: Probability of dropping the label in training.
    """

    Options = LabelsOptions
    describes = "given a class label"
    needs_labels = True

    def __init__(self, img_shape: tuple[int, ...], n_classes: int, embedding_size: int, dropout: float) -> None:  # noqa: ARG002
        super().__init__()
        self.n_classes, self.dropout = n_classes, dropout
        self.embedding = nn.Embedding(n_classes + 1, embedding_size)  # the last vector means no label

    def encode(self, images: Float[Tensor, "n c h w"], labels: Shaped[Tensor, "n"] | None) -> Int64[Tensor, "n"]:  # noqa: ARG002
        if labels is None:
            raise ValueError("conditioning is labels; this data set has none, so use clusters or null")
        return labels.long()

    def draw(self, seed: int, indices: Iterable[int]) -> Int64[Tensor, "n"]:  # noqa: ARG002
        """Class 0, 1, ... round-robin, by the image's index."""
        return torch.tensor([index % self.n_classes for index in indices], dtype=torch.int64)

    def of_labels(self, labels: Shaped[Tensor, " n"]) -> Int64[Tensor, " n"]:
        """The classes themselves, from 0 to n_classes - 1.

        Raises:
            ValueError: A label is not in that range.
        """
        if labels.is_floating_point() or ((labels < 0) | (labels >= self.n_classes)).any():
            raise ValueError(f"labels are {labels.unique().tolist()}; allowed: whole numbers 0 to {self.n_classes - 1}")
        return labels.long()

    def labels(self, cond: Shaped[Tensor, "n"]) -> Int64[Tensor, "n"]:
        return cond.long().clone()  # a copy, since safetensors cannot save tensors that share memory

    def check(self, cond: Shaped[Tensor, " n"]) -> None:
        check_numbers(cond, self.n_classes)

    def null(self, cond: Shaped[Tensor, "b"]) -> Int64[Tensor, "b"]:
        return torch.full_like(cond, self.n_classes)

    def mix(
        self, first: Shaped[Tensor, "1"], second: Shaped[Tensor, "1"], weights: Float[Tensor, "n"]
    ) -> Shaped[Tensor, "n"]:
        """The class of the image with the larger weight, or of the first image if the weights are equal."""
        return torch.where(weights > 0.5, second, first)

    def forward(self, cond: Shaped[Tensor, "b"]) -> Given:
        return Given(embedding=self.embedding(self.dropped(cond.long())))


CONDITIONINGS.register(__name__, Labels)
