"""Both sides of a metric at once."""

from ddpm.evaluation.estimate import Scores


def scores(metric, comparison):
    """Values of samples and real images, or None where the metric does not apply."""
    found = [metric.score(comparison, images) for images in (comparison.samples, comparison.real)]
    return None if None in found else Scores(*found)
