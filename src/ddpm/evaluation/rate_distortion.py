"""Stage bound: the bound on both splits, and progressive lossy coding (Ho et al. 2020, section 4.3)."""

from collections.abc import Mapping, Sequence
from math import hypot
from typing import Annotated, Any

from annotated_types import Ge, Le, Len
from pydantic import model_validator

from ddpm.conditioning.guidance import encode_cond
from ddpm.data.dataset import ImageDataset
from ddpm.diffusion.model import DiffusionModel
from ddpm.diffusion.posterior import Variance
from ddpm.errors import UserError
from ddpm.evaluation.bound import Bound, VariationalBound
from ddpm.run.params import Count, Section
from ddpm.run.resume.pieces import Pieces
from ddpm.run.seeding import derive_seed
from ddpm.run.stage import StageRun

Splits = Mapping[str, Mapping[str, Bound]]  # split -> variance -> bound


class BoundParams(Section):
    """Section `bound`. n_images: maximum number of images per split."""

    n_images: Annotated[int, Ge(2), Le(10_000)]
    stride: Annotated[int, Ge(1), Le(10_000)]
    variances: Annotated[list[Variance], Len(1, 3)]
    clip_sample: bool
    batch_size: Count

    @property
    def most_processes(self) -> int:
        """Timesteps are distributed over processes, and there are usually hundreds."""
        return 64

    @model_validator(mode="after")
    def _has_an_interval(self) -> "BoundParams":
        if self.n_images < 2 * self.stride:
            raise ValueError(
                f"n_images is {self.n_images}; with stride {self.stride} an interval needs at least {2 * self.stride}"
            )
        return self


def bounds_of_splits(stage: StageRun, model: DiffusionModel, splits: Mapping[str, ImageDataset]) -> Splits:
    """The bound of the first `n_images` images of each split, or of as many as the smaller split has.

    Raises:
        UserError: The images do not fit the model.
    """
    params, pieces, found = stage.params, Pieces(stage.resume), dict[str, dict[str, Bound]]()
    n = images_of_each(params, splits)
    for split, dataset in splits.items():
        if model.img_shape != dataset.img_shape:
            raise UserError(
                f"the model makes images of shape {model.img_shape}; the {split} split has {dataset.img_shape}"
            )
    for split, dataset in splits.items():
        images = dataset[:n]
        bound = VariationalBound(
            model,
            images.images,
            params.variances,
            derive_seed(stage.seed, split),
            stage.compute,
            params.clip_sample,
            params.batch_size,
            params.stride,
            encode_cond(model, images.x0, images.labels),
        )
        found[split] = bound.run(pieces.within(split))
    return found


def images_of_each(params: BoundParams, splits: Mapping[str, ImageDataset]) -> int:
    """The number of images of each split to evaluate."""
    return min(params.n_images, *map(len, splits.values()))


def compared(train: Bound, test: Bound) -> dict[str, dict[str, Any]]:
    """The bound with its interval and parts on both splits, and the generalisation gap, their difference."""
    gap = {part: value - train.parts[part] for part, value in test.parts.items()}
    return {
        "train": _measured(train.parts, train.margin),
        "test": _measured(test.parts, test.margin),
        "gap": _measured(gap, hypot(train.margin, test.margin)),
    }


def by_timestep(bounds: Mapping[str, Bound]) -> tuple[list[str], list[tuple[int | float, ...]]]:
    """Columns and rows of a table, t = 0 to T: the distortion, and for each variance L_t and the rate."""
    distortion = [0.0, *next(iter(bounds.values())).distortion.tolist()]
    columns = ["t", "distortion"]
    values: list[Sequence[int | float]] = [range(len(distortion)), distortion]
    for variance, bound in bounds.items():
        columns += [f"L_{variance}", f"rate_{variance}"]
        values += [bound.means.tolist(), bound.rate.tolist()]
    return columns, list(zip(*values, strict=True))


def rate_distortion(bound: Bound) -> list[dict[str, int | float]]:
    """Table 4 of the paper: rate and distortion at 11 timesteps, from T down to 1."""
    rate, distortion = bound.rate.tolist(), bound.distortion.tolist()
    timesteps = {max(1, round(share / 10 * len(distortion))) for share in range(11)}
    return [{"t": t, "rate": rate[t], "distortion": distortion[t - 1]} for t in sorted(timesteps, reverse=True)]


def _measured(parts: Mapping[str, float], margin: float) -> dict[str, Any]:
    total = sum(parts.values())
    return {"bits_per_dim": {"value": total, "low": total - margin, "high": total + margin}, **parts}
