"""Whether variations of an image keep its content and vary the rest, and whether edits show the intended value."""

import torch
from jaxtyping import Float, Int64, Integer, UInt8
from torch import Tensor

from ddpm.captions.adherence import adherence
from ddpm.captions.attributes import VALUES, measured
from ddpm.captions.vocabulary import captions
from ddpm.evaluation.classifier import Classifier, describe
from ddpm.run.seeding import generator


def others_of_class(
    labels: Integer[Tensor, " n"], chosen: Int64[Tensor, " m"], n_each: int, seed: int
) -> Int64[Tensor, "m n_each"]:
    """For each chosen image, random indices of other images of its class. They repeat if there are too few.

    Args:
        labels: The classes of all images.
        chosen: Indices of images whose classes have at least two images each.
        n_each: Number of other images for each chosen image.
        seed: Seed of the choice.
    """
    rows = []
    for place, image in enumerate(chosen.tolist()):
        same = (labels == labels[image]).nonzero()[:, 0]
        same = same[same != image]
        order = torch.randperm(len(same), generator=generator(seed, "others", place))
        rows.append(same[order[torch.arange(n_each) % len(same)]])
    return torch.stack(rows)


def spread(points: Float[Tensor, "n k d"]) -> Float[Tensor, " n"]:
    """The mean distance between two different points of each group of k."""
    k = points.shape[1]
    return torch.cdist(points, points).sum((1, 2)) / (k * (k - 1))


def variation_scores(
    classifier: Classifier,
    variations: UInt8[Tensor, "n k c h w"],
    others: UInt8[Tensor, "n k c h w"],
    rows: Integer[Tensor, "n length"],
) -> dict[str, float]:
    """How well variations match the caption of their original, and how diverse they are relative to its class.

    Args:
        classifier: Predicts classes, and gives the features for diversity.
        variations: k variations of each image.
        others: k other images of the same class for each image.
        rows: Captions with all measured attributes of the originals, as token IDs.

    Returns:
        variations/ and others/: shares of images that match the whole caption, the class and each attribute.
        spread/pixels and spread/features: the spread of the variations divided by the spread of the others.
    """
    n, k = variations.shape[:2]
    texts, found, spreads = captions(rows.repeat_interleave(k, dim=0)), dict[str, float](), []
    for name, images in (("variations", variations), ("others", others)):
        seen = describe(classifier, images.flatten(0, 1))
        shares = adherence(seen.images, texts, seen.classes).shares
        found |= {f"{name}/{key}": share for key, share in shares.items()}
        spreads.append([spread(points.unflatten(0, (n, k))).mean().item() for points in (seen.pixels, seen.features)])
    own, theirs = spreads
    return found | {f"spread/{space}": own[i] / theirs[i] for i, space in enumerate(("pixels", "features"))}


def edit_scores(
    classifier: Classifier, images: UInt8[Tensor, "n c h w"], items: Integer[Tensor, " n"], value: str
) -> dict[str, float]:
    """Whether edited images show the intended value, and keep their class.

    Args:
        classifier: Predicts classes.
        images: 8-bit edited images.
        items: The classes of the originals.
        value: The intended value of an attribute, such as "light".

    Returns:
        shown: the share of images in which the value is measured, by the rules of the original's class. class: the
        share that is still of that class.
    """
    column, number = divmod(VALUES.index(value), 2)
    shown = measured(images, items)[:, column] == number + 1
    kept = describe(classifier, images).classes == items
    return {"shown": shown.double().mean().item(), "class": kept.double().mean().item()}
