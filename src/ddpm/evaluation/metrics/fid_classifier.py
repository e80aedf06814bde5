"""Frechet distance in the features of a classifier of the data (Heusel et al. 2017)."""

from functools import partial

from ddpm.evaluation.estimate import Scores
from ddpm.evaluation.frechet import fid
from ddpm.evaluation.metric import Comparison, metric


@metric(__name__, better="lower", sees="kinds and outlines, hardly texture")
def fid_classifier(comparison: Comparison) -> Scores:
    """Against all reference images."""
    return comparison.beside_floor(partial(fid, comparison.reference.features), lambda images: images.features)
