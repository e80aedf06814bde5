"""Precision: the share of samples within the manifold of real images (Kynkaanniemi et al. 2019)."""

from ddpm.evaluation.estimate import Estimate, share
from ddpm.evaluation.manifold import in_manifold
from ddpm.evaluation.metric import Comparison, Described, metric


@metric(__name__, better="higher", sees="whether samples look like real images", catches=("noisy",))
def precision_classifier(comparison: Comparison, images: Described) -> Estimate:
    """Within the manifold of as many reference images as there are samples."""
    return share(in_manifold(images.features, comparison.reference.features[comparison.equal_reference]))
