"""Overfitting as a likelihood gap between training and unseen images (Jiralerspong et al. 2023)."""

from math import log

import torch
from jaxtyping import Float
from torch import Tensor

from ddpm.evaluation.estimate import Estimate
from ddpm.evaluation.metric import Comparison, Described, metric

N_REAL = 2048  # maximum number of training images, and of unseen images
ITERATIONS = 10  # of expectation-maximisation
LEAST = 0.01  # minimum variance of a Gaussian relative to the median, so that it does not fall to 0 for a copy


@metric(
    __name__,
    better="near the floor",
    sees="samples that lie closer to training images than to unseen ones",
    catches=("copies",),
)
def likelihood_gap_classifier(comparison: Comparison, images: Described) -> Estimate:
    """In nats per feature, under Gaussians centred on the samples, with variances fitted to the training images."""
    train, unseen = (
        torch.cdist(real.features[:N_REAL], images.features).square()
        for real in (comparison.train, comparison.reference)
    )
    d = images.features.shape[1]

    def gap(part: Tensor) -> float:
        variances = fitted_variances(train[:, part], d)  # refitted for each half, so that the interval includes the fit
        seen, not_seen = (log_likelihood(found[:, part], variances, d).mean() for found in (train, unseen))
        return (seen - not_seen).item() / d

    return comparison.estimate(gap, torch.arange(len(images.features)))


def log_likelihood(squares: Float[Tensor, "m n"], variances: Float[Tensor, " n"], d: int) -> Float[Tensor, " m"]:
    """The log-likelihood of m points under a mixture of n equally weighted Gaussians, up to a constant.

    Args:
        squares: Squared distances between points and means.
        variances: The variance of each Gaussian.
        d: Number of dimensions.
    """
    terms = squares * (-0.5 / variances) - d / 2 * variances.log()
    return torch.logsumexp(terms, dim=1) - log(len(variances))


def fitted_variances(squares: Float[Tensor, "m n"], d: int) -> Float[Tensor, " n"]:
    """Maximum-likelihood variances for m points, by expectation-maximisation. Arguments as for `log_likelihood`."""
    variances = (squares.min(dim=1).values.mean() / d).expand(squares.shape[1])
    for _ in range(ITERATIONS):
        weights = (squares * (-0.5 / variances) - d / 2 * variances.log()).softmax(dim=1)
        found = (weights * squares).sum(dim=0) / (d * weights.sum(dim=0).clamp(min=1e-12))
        variances = found.clamp(min=LEAST * found.median().item())
    return variances
