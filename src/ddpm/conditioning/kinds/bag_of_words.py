"""Captions without their order: a learnt vector for each word; their sum is added to the step embedding."""

from typing import Annotated

from annotated_types import Ge, Lt
from jaxtyping import Integer
from torch import Tensor, nn

from ddpm.captions.vocabulary import PADDING, SIZE
from ddpm.conditioning.captioned import ReadsCaptions
from ddpm.conditioning.conditioning import CONDITIONINGS, Given
from ddpm.run.params import Section


class BagOfWordsOptions(Section):
    """dropout: share of the captions that are emptied, for guidance."""

    dropout: Annotated[float, Ge(0), Lt(1)] = 0.1


class BagOfWords(ReadsCaptions):
    """A caption as the words in it.

    Args:
        img_shape: Not used.
        n_classes: Classes that captions are drawn of.
        embedding_size: Length of the vectors.
        dropout: Share of the captions that are emptied.
    """

    Options = BagOfWordsOptions

    def __init__(self, img_shape: tuple[int, ...], n_classes: int, embedding_size: int, dropout: float) -> None:  # noqa: ARG002
        super().__init__(n_classes, dropout)
        self.words = nn.EmbeddingBag(SIZE, embedding_size, mode="sum", padding_idx=PADDING)

    def forward(self, cond: Integer[Tensor, "b length"]) -> Given:
        return Given(embedding=self.words(self.dropped(cond).long().to(self.words.weight.device)))


CONDITIONINGS.register(__name__, BagOfWords)
