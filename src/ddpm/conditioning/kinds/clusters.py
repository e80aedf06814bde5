"""Unsupervised clusters: k-means on the training images. The network is conditioned on the mean of the image's cluster.

A network that models p(x | cluster), with clusters drawn by frequency, is a model of p(x) trained without labels (Bao
et al. 2022, Hu et al. 2023).
"""

import warnings
from collections.abc import Iterable
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le, Lt
from jaxtyping import Float, Float64, Int64, Shaped
from torch import Tensor

from ddpm.conditioning.conditioning import CONDITIONINGS, Conditioning, Given, check_numbers
from ddpm.run.params import Section
from ddpm.run.seeding import generator

ITERATIONS = 5  # most is gained in the first few, and each takes a second or more


class ClustersOptions(Section):
    """Options of `Clusters`.

    Attributes:
        n_clusters: k of k-means.
        dropout: Probability of dropping the cluster in training, for guidance.
    """

    n_clusters: Annotated[int, Ge(1), Le(1000)] = 1000
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.1


class Clusters(Conditioning):
    """`cond` is the index of a cluster, or n_clusters for none. For interpolations it is an image instead.

    Args:
        img_shape: (channels, height, width) of the images.
        n_classes: Not used.
        embedding_size: Not used.
        n_clusters: k of k-means.
        dropout: Probability of dropping the cluster in training.
    """

    Options = ClustersOptions
    describes = "given the mean of a cluster of training images"
    gives_image = True
    means: Float[Tensor, "k c h w"]
    frequencies: Float64[Tensor, "k"]

    def __init__(
        self,
        img_shape: tuple[int, ...],
        n_classes: int,  # noqa: ARG002
        embedding_size: int,  # noqa: ARG002
        n_clusters: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.register_buffer("means", torch.zeros(n_clusters, *img_shape))
        self.register_buffer("frequencies", torch.zeros(n_clusters, dtype=torch.float64))

    def fit(self, images: Float[Tensor, "n c h w"], seed: int) -> None:
        """Run Lloyd's algorithm on the pixels, initialised with k of the images. It needs at least k images."""
        from scipy.cluster.vq import kmeans2  # slow to import, and only training needs it

        points = images.flatten(1).numpy()
        with warnings.catch_warnings():  # an empty cluster keeps its mean and is never drawn
            warnings.filterwarnings("ignore", "One of the clusters is empty")
            means, nearest = kmeans2(points, len(self.means), iter=ITERATIONS, minit="points", rng=seed)
        self.means.copy_(torch.from_numpy(means).reshape(self.means.shape))
        counts = torch.from_numpy(nearest).long().bincount(minlength=len(means))
        self.frequencies.copy_(counts.double() / len(images))

    def encode(self, images: Float[Tensor, "n c h w"], labels: Shaped[Tensor, "n"] | None) -> Int64[Tensor, "n"]:  # noqa: ARG002
        """The cluster whose mean is nearest."""
        return torch.cdist(images.flatten(1).to(self.means), self.means.flatten(1)).argmin(1).cpu()

    def draw(self, seed: int, indices: Iterable[int]) -> Int64[Tensor, "n"]:
        """Random clusters, by their frequency among the training images."""
        weights = self.frequencies.cpu()
        drawn = [weights.multinomial(1, generator=generator(seed, "cluster", index)) for index in indices]
        return torch.cat(drawn) if drawn else torch.empty(0, dtype=torch.int64)

    def check(self, cond: Shaped[Tensor, "n *rest"]) -> None:
        if not cond.is_floating_point():
            check_numbers(cond, len(self.means))

    def null(self, cond: Shaped[Tensor, "b *rest"]) -> Shaped[Tensor, "b *rest"]:
        return torch.zeros_like(cond) if cond.is_floating_point() else torch.full_like(cond, len(self.means))

    def mix(
        self, first: Shaped[Tensor, "1 *rest"], second: Shaped[Tensor, "1 *rest"], weights: Float[Tensor, "n"]
    ) -> Float[Tensor, "n c h w"]:
        """Interpolations of the two clusters' means."""
        ends = self._images(first), self._images(second)
        return torch.lerp(*ends, weights.to(self.means).reshape(-1, 1, 1, 1))

    def forward(self, cond: Shaped[Tensor, "b *rest"]) -> Given:
        return Given(image=self._images(self.dropped(cond)))

    def _images(self, cond: Shaped[Tensor, "b *rest"]) -> Float[Tensor, "b c h w"]:
        """The mean of each cluster, grey for none. Images are unchanged. Raises IndexError for an unknown cluster."""
        if cond.is_floating_point():
            return cond.to(self.means)
        shown = F.embedding(cond.long().to(self.means.device), F.pad(self.means.flatten(1), (0, 0, 0, 1)))
        return shown.unflatten(1, self.means.shape[1:])


CONDITIONINGS.register(__name__, Clusters)
