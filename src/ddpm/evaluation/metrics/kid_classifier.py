"""Kernel distance in the features of the project's classifier (Binkowski et al. 2018)."""

import warnings
from functools import partial

from jaxtyping import Float
from torch import Tensor

from ddpm.evaluation.estimate import Estimate
from ddpm.evaluation.frechet import GivenFeatures
from ddpm.evaluation.metric import Comparison, Described, metric
from ddpm.run.seeding import global_stream

SUBSETS, SUBSET_SIZE = 10, 1000


@metric(
    __name__,
    better="lower",
    sees="the same as fid_classifier, without its bias for few samples",
    catches=("cluster_means", "class_missing"),
)
def kid_classifier(comparison: Comparison, images: Described) -> Estimate:
    """Distance from all reference images."""
    score = partial(kid, comparison.reference.features, seed=comparison.seed)
    return comparison.estimate(score, images.features)


def kid(reference: Float[Tensor, "m d"], samples: Float[Tensor, "n d"], seed: int = 0) -> float:
    """Squared maximum mean discrepancy with the kernel (x.y / d + 1)^3 (section 4).

    The estimate is unbiased, so it may be below 0. It is the mean over `SUBSETS` random subsets of at most
    `SUBSET_SIZE` images from each set.
    """
    from torchmetrics.image.kid import KernelInceptionDistance  # slow to import

    size = min(SUBSET_SIZE, len(reference), len(samples))
    with warnings.catch_warnings(action="ignore"):  # it warns that it holds all features in memory
        metric = KernelInceptionDistance(
            feature=GivenFeatures(samples.shape[1]), subsets=SUBSETS, subset_size=size, sync_on_compute=False
        )
    metric.update(reference.double(), real=True)
    metric.update(samples.double(), real=False)
    with global_stream(seed, "kid"):
        return metric.compute()[0].item()
