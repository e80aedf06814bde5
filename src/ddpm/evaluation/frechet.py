"""The Frechet distance between two sets of features (Heusel et al. 2017)."""

from jaxtyping import Float
from torch import Tensor, nn


class GivenFeatures(nn.Module):
    """A feature extractor for torchmetrics that passes precomputed features through."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def fid(reference: Float[Tensor, "m d"], samples: Float[Tensor, "n d"]) -> float:
    """Frechet distance between Gaussians with the means and covariances of the two sets (equation 6).

    Its upward bias decreases with n: compare only values with equal n, reference and extractor.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance  # slow to import

    metric = FrechetInceptionDistance(feature=GivenFeatures(samples.shape[1]), sync_on_compute=False)
    metric.update(reference.double(), real=True)
    metric.update(samples.double(), real=False)
    return metric.compute().item()
