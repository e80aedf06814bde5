"""Groups of like images that nobody labelled: what a network can be shown of an image before it sees any of it."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int64, Shaped, UInt8
from torch import Tensor, nn

from ddpm.images import from_uint8, normalize_img

ITERATIONS = 5  # the first few bring most: each takes a second and more


class Clusters(nn.Module):
    """The means of k-means over images, and the share of the images that is nearest to each.

    A network that learns p(x | cluster), with the cluster drawn by its share, is a model of p(x) that was told nothing
    but the images themselves (Bao et al. 2022, Hu et al. 2023).
    n_clusters: k; img_shape: (channels, height, width). Saved with the network; zero until `learn`.
    """

    means: Float[Tensor, "k c h w"]
    shares: Float64[Tensor, "k"]

    def __init__(self, n_clusters: int, img_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("means", torch.zeros(n_clusters, *img_shape))
        self.register_buffer("shares", torch.zeros(n_clusters, dtype=torch.float64))

    def learn(self, images: UInt8[Tensor, "n c h w"], seed: int) -> None:
        """Lloyd's algorithm in the space of pixels, from k of the images; at least k different ones."""
        from scipy.cluster.vq import kmeans2  # takes a while, and only training comes here

        points = normalize_img(from_uint8(images)).flatten(1).numpy()
        means, nearest = kmeans2(points, len(self.means), iter=ITERATIONS, minit="points", rng=seed)
        self.means.copy_(torch.from_numpy(means).reshape(self.means.shape))
        self.shares.copy_(torch.from_numpy(nearest).long().bincount(minlength=len(means)).double() / len(images))

    def nearest(self, images: Float[Tensor, "n c h w"]) -> Int64[Tensor, "n"]:
        """The cluster of each image, from 0 to k - 1; images in [-1, 1]."""
        return torch.cdist(images.flatten(1).to(self.means), self.means.flatten(1)).argmin(1)

    def draw(self, generator: torch.Generator) -> int:
        """A cluster, by its share."""
        return int(self.shares.cpu().multinomial(1, generator=generator))

    def forward(self, labels: Shaped[Tensor, "b"]) -> Float[Tensor, "b c h w"]:
        """What a network is shown: the mean of each one's cluster; for k, which says nothing, grey.

        IndexError for other labels.
        """
        shown = F.embedding(labels.long(), F.pad(self.means.flatten(1), (0, 0, 0, 1)))
        return shown.unflatten(1, self.means.shape[1:])
