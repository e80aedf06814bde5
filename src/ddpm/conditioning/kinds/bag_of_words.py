"""Captions as bags of words: the sum of learnt word vectors is added to the timestep embedding."""

from typing import Annotated

from annotated_types import Ge, Lt
from jaxtyping import Integer
from torch import Tensor, nn

from ddpm.captions.vocabulary import PADDING, SIZE
from ddpm.conditioning.captioned import ReadsCaptions
from ddpm.conditioning.conditioning import CONDITIONINGS, Given
from ddpm.run.params import Section


class BagOfWordsOptions(Section):
    """Options of `BagOfWords`.

    Attributes:
        dropout: Probability of an empty caption in training, for guidance.
    """

    dropout: Annotated[float, Ge(0), Lt(1)] = 0.1


class BagOfWords(ReadsCaptions):
    """A caption as a bag of words.

    Args:
        img_shape: Not used.
        n_classes: Number of classes that captions are drawn for.
        embedding_size: Length of the vectors.
        dropout: Probability of an empty caption in training.
    """

    Options = BagOfWordsOptions

    def __init__(self, img_shape: tuple[int, ...], n_classes: int, embedding_size: int, dropout: float) -> None:  # noqa: ARG002
        super().__init__(n_classes, dropout)
        self.words = nn.EmbeddingBag(SIZE, embedding_size, mode="sum", padding_idx=PADDING)

    def forward(self, cond: Integer[Tensor, "b length"]) -> Given:
        return Given(embedding=self.words(self.dropped(cond).long().to(self.words.weight.device)))


CONDITIONINGS.register(__name__, BagOfWords)
