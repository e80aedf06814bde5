"""Progressive generation, shared latents and interpolation: figures 6 to 10 and 14 of the paper (Ho et al. 2020)."""

from collections.abc import Iterable, Sequence
from functools import partial
from math import ceil
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Ge, Le, Len
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor
from tqdm import tqdm

from ddpm.conditioning.guidance import draw_cond, encode_cond
from ddpm.data.dataset import ImageDataset
from ddpm.diffusion.model import DiffusionModel, schedule_of
from ddpm.diffusion.posterior import Variance
from ddpm.errors import UserError
from ddpm.evaluation.classifier import describe, load_classifier
from ddpm.evaluation.estimate import Estimate
from ddpm.evaluation.evaluate import LEAST_SAMPLES
from ddpm.evaluation.metric import Comparison
from ddpm.evaluation.metrics.fid_classifier import fid_classifier
from ddpm.evaluation.metrics.patches_fine import patches_fine
from ddpm.images import denormalize_img, to_uint8
from ddpm.run.params import Count, Section
from ddpm.run.progress import hidden
from ddpm.run.resume.pieces import Pieces
from ddpm.run.seeding import generator
from ddpm.run.stage import StageRun
from ddpm.sampling.chain import Chain
from ddpm.sampling.spacing import timesteps

Depths = Annotated[list[Annotated[float, Ge(0), Le(1)]], Len(1, 16)]


class Paper(Section):
    """Section `paper`. n_samples: number of chains, or of held-out images if there are fewer."""

    n_samples: Annotated[int, Ge(LEAST_SAMPLES), Le(10_000)]
    batch_size: Count
    n_steps: Annotated[int, Ge(1), Le(10_000)] | None
    variance: Variance
    clip_sample: bool
    n_moments: Annotated[int, Ge(2), Le(21)]
    n_trajectories: Annotated[int, Ge(1), Le(32)]
    n_halves: Annotated[int, Ge(2), Le(10_000)]
    split_depths: Depths
    n_split: Annotated[int, Ge(1), Le(8)]
    n_branches: Annotated[int, Ge(1), Le(20)]
    interpolation_depth: Annotated[float, Ge(0), Le(1)]
    coarse_depths: Depths
    n_pairs: Annotated[int, Ge(1), Le(32)]
    n_lambdas: Annotated[int, Ge(2), Le(19)]

    @property
    def most_processes(self) -> int:
        """One per batch of chains."""
        return ceil(self.n_samples / self.batch_size)


class Study:
    """The reverse process of a model, with the settings of a stage's params. Finished parts are cached.

    Args:
        stage: The stage paper.
        model: A trained network.
        test: Test images, the first of which are interpolated in pairs.

    Raises:
        UserError: The images do not fit the model, or are too few.
    """

    def __init__(self, stage: StageRun, model: DiffusionModel, test: ImageDataset) -> None:
        self.params: Paper = stage.params
        if model.img_shape != test.img_shape:
            raise UserError(f"the model makes images of shape {model.img_shape}; the test split has {test.img_shape}")
        if (n := self.params.n_pairs) > len(test) // 2:
            raise UserError(f"params.yaml: paper.n_pairs is {n}; the test split has {len(test)} images")
        self.pairs = test[: 2 * n]
        self.seed, self.model, self.pieces = stage.seed, model, Pieces(stage.resume)
        kept = timesteps(schedule_of(model), self.params.n_steps)
        self.chain = Chain(model, kept, self.params.variance, self.params.clip_sample, stage.compute)
        last = len(kept) - 1
        self.moments = torch.linspace(last, 1, min(self.params.n_moments, last), dtype=torch.float64).round().long()

    def x0_estimates(self) -> UInt8[Tensor, "moments n c h w"]:
        """Figures 6, 10 and 14: the x_0 estimate (equation 15) at some timesteps of `n_samples` chains."""
        n, size, last = self.params.n_samples, self.params.batch_size, len(self.chain.timesteps) - 1
        firsts, made = range(0, n, size), list[Tensor]()
        with tqdm(total=len(firsts) * (last + 1), desc="paper", disable=hidden()) as progress:
            batches = (range(first, min(first + size, n)) for first in firsts)
            makes = {f"estimates/{batch.start}": partial(self._estimates, batch, progress) for batch in batches}
            for piece in self.pieces(makes):
                made += piece
                progress.update(len(made) * (last + 1) - progress.n)  # made before, or by another process
        return torch.cat(made, dim=1)

    def shared_latents(self) -> dict[str, Tensor]:
        """Figure 7: x_t of the first chains at some depths, and chains with independent noise that continue from it."""
        params, n = self.params, self.params.n_branches
        indices = [self.chain.index(depth) for depth in params.split_depths]
        cond = draw_cond(self.model, self.seed, range(params.n_split))
        walked = [*self.chain.given(cond).walk(self._streams("chain", range(params.n_split)))][::-1]  # x_0 to x_T
        latents = torch.stack([walked[index] for index in indices], dim=1)

        def branches(name: str, chain: int, depth: int) -> tuple[Tensor]:
            xt = latents[chain, depth].expand(n, *latents.shape[2:])
            own = self.chain.given(cond, torch.full((n,), chain))
            return (pixels(own.decode(xt, indices[depth], self._streams(name, range(n)))),)

        cells = {f"split/{i}/{j}": (i, j) for i in range(params.n_split) for j in range(len(indices))}
        found = self.pieces({name: partial(branches, name, *cell) for name, cell in cells.items()})
        return {
            "latents": pixels(latents),
            "branches": torch.stack([images for (images,) in found]).unflatten(0, (-1, len(indices))),
            "split_t": self.chain.timesteps[indices],
        }

    def interpolations(self) -> dict[str, Tensor]:
        """Figures 8 and 9: each pair of test images interpolated at one depth, and the first pair at several."""
        x0 = self.pairs.x0.unflatten(0, (-1, 2))
        cond = encode_cond(self.model, self.pairs.x0, self.pairs.labels)
        lambdas = torch.linspace(0, 1, self.params.n_lambdas)

        def interpolation(pair: int, index: int) -> tuple[Tensor]:
            noise = torch.randn(x0.shape[2:], generator=generator(self.seed, "encoding", pair))
            streams = self._streams("decoding", [pair] * len(lambdas))  # the same noise for every lambda
            mixed = None if cond is None else self._mixed(cond[2 * pair : 2 * pair + 2], lambdas)
            own = self.chain.given(mixed)
            return (pixels(own.interpolate(x0[pair, 0], x0[pair, 1], lambdas, index, noise, streams)),)

        def mixtures(cells: Sequence[tuple[int, int]]) -> Tensor:
            makes = {f"mixed/{pair}/{index}": partial(interpolation, pair, index) for pair, index in cells}
            return torch.stack([images for (images,) in self.pieces(makes)])

        index = self.chain.index(self.params.interpolation_depth)
        indices = [self.chain.index(depth) for depth in self.params.coarse_depths]
        return {
            "sources": self.pairs.images.unflatten(0, (-1, 2)),
            "lambdas": lambdas,
            "interpolation": mixtures([(pair, index) for pair in range(len(x0))]),
            "interpolation_t": self.chain.timesteps[[index]],
            "coarse": mixtures([(0, depth) for depth in indices]),
            "coarse_t": self.chain.timesteps[indices],
        }

    def _estimates(self, images: range, progress: "tqdm[Any]") -> tuple[Tensor]:
        """The x_0 estimates of the chains with the indices `images`."""
        chain, found = self.chain.given(draw_cond(self.model, self.seed, images)), list[Tensor]()
        last = len(chain.timesteps) - 1
        for index, xt in zip(range(last, -1, -1), chain.walk(self._streams("chain", images)), strict=True):
            if index in self.moments:
                found.append(pixels(chain.estimate(xt, index)))
            progress.update()
        return (torch.stack(found),)

    def _mixed(self, cond: Shaped[Tensor, "2 *rest"], lambdas: Float[Tensor, "n"]) -> Shaped[Tensor, "n *any"]:
        return self.model.conditioning.mix(cond[:1], cond[1:], lambdas)

    def _streams(self, name: str, indices: Iterable[int]) -> list[torch.Generator]:
        return [generator(self.seed, name, index) for index in indices]


def quality_by_moment(
    stage: StageRun,
    estimates: UInt8[Tensor, "moments n c h w"],
    real: UInt8[Tensor, "n c h w"],
    reference: UInt8[Tensor, "m c h w"],
    classifier: Path,
) -> tuple[list[Estimate], Estimate, dict[str, Any]]:
    """Figure 10: the Frechet distance of the x_0 estimates by timestep, or the patch distance without a classifier.

    Args:
        stage: The stage paper.
        estimates: 8-bit images.
        real: An equal number of real images, for the floor.
        reference: The test images.
        classifier: Path of the classifier that computes the features.

    Returns:
        One estimate per timestep, the floor, and the facts that they depend on: metric, n_samples, reference,
        extractor. With fewer than `LEAST_SAMPLES` images, the metric is `patches_fine`.
    """
    params, (model, extractor) = stage.params, load_classifier(classifier)
    metric = patches_fine if params.n_samples < LEAST_SAMPLES else fid_classifier
    model.to(stage.compute.device)
    most = len(reference) if metric is patches_fine else params.n_samples  # patches compare sets of equal size
    target, *sets = (describe(model, images) for images in (reference, real[:most], *estimates[:, :most]))
    comparison = Comparison(sets[0], sets[0], target, target, 0, params.n_halves, 0.0, 0, stage.seed)
    floor, *found = (score for images in sets if (score := metric(comparison, images)) is not None)
    facts = {"n_samples": params.n_samples, "reference": "test", "extractor": extractor}
    return found, floor, {"metric": metric.__name__, **facts}


def pixels(images: Float[Tensor, "*n c h w"]) -> UInt8[Tensor, "*n c h w"]:
    """8-bit images from [-1, 1], on the CPU."""
    return to_uint8(denormalize_img(images)).cpu()
