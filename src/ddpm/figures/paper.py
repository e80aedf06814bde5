"""The counterparts of the paper's figures 6 to 9 and 14 (Ho et al. 2020), by their numbers.

All images are pixels in [0, 1]; num_steps: the noise steps t at which they stand; n_steps: those of the whole chain.
"""

from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from torch import Tensor

from ddpm.figures.canvas import image_table


def x0_estimates(
    estimates: Float[Tensor, "moments n c h w"], num_steps: Int[Tensor, "moments"], n_steps: int, label: str
) -> Figure:
    """Figures 6 and 14: what the model takes for x_0 at some moments of n chains."""
    moments, n = estimates.shape[:2]
    return image_table(
        rearrange(estimates, "moments n c h w -> (n moments) c h w"),
        moments,
        title=f"Figures 6 and 14 of Ho et al. 2020: {label}",
        note=f"What the network takes for the finished image (equation 15) at {moments} of {n_steps} steps, for {n} "
        "chains that are not selected. The outline settles early, texture comes last.",
        xlabel="noise steps left, t",
        ylabel="sample",
        columns=[f"{t:,}" for t in num_steps.tolist()],
        rows=[str(i + 1) for i in range(n)],
    )


def shared_latents(
    latents: Float[Tensor, "chains depths c h w"],
    branches: Float[Tensor, "chains depths n c h w"],
    num_steps: Int[Tensor, "depths"],
    n_steps: int,
    label: str,
) -> Figure:
    """Figure 7: x_t of some chains at some depths, and the samples that go on from each."""
    chains, depths, n = branches.shape[:3]
    return image_table(
        torch.cat((latents[:, :, None], branches), dim=2).flatten(0, 2),
        n + 1,
        title=f"Figure 7 of Ho et al. 2020: {label}",
        note=f"A chain of {n_steps} steps is split at t noise steps: {n} chains with noise of their own go on from its "
        "image there. The later the split, the more their samples have in common.",
        xlabel=f"the chain at t, and {n} samples that go on from there",
        ylabel="chain, and where it is split",
        columns=[r"$x_t$"],
        rows=[f"{chain + 1}: t = {t:,}" for chain in range(chains) for t in num_steps.tolist()],
        column_breaks=[1],
        row_breaks=range(depths, chains * depths, depths),
    )


def interpolation(
    sources: Float[Tensor, "pairs 2 c h w"],
    mixed: Float[Tensor, "pairs lambdas c h w"],
    lambdas: Sequence[float],
    t: int,
    n_steps: int,
    label: str,
) -> Figure:
    """Figure 8: pairs of test images, mixed after t noise steps and denoised."""
    return _between(
        sources,
        mixed,
        lambdas,
        title=f"Figure 8 of Ho et al. 2020: {label}",
        note=f"The {len(sources)} pairs of test images at both ends are noised to t = {t:,}, mixed there, and denoised "
        f"by the rest of a chain of {n_steps} steps. Like images have clothes between them; between unlike ones the "
        "middle is blurred, or neither of both.",
        ylabel="pair",
        rows=[str(i + 1) for i in range(len(sources))],
    )


def coarse_to_fine(
    sources: Float[Tensor, "2 c h w"],
    mixed: Float[Tensor, "depths lambdas c h w"],
    lambdas: Sequence[float],
    num_steps: Int[Tensor, "depths"],
    n_steps: int,
    label: str,
) -> Figure:
    """Figure 9: one pair of test images, mixed at several t."""
    return _between(
        sources.expand(len(mixed), *sources.shape),
        mixed,
        lambdas,
        title=f"Figure 9 of Ho et al. 2020: {label}",
        note=f"The first pair of figure 8, mixed after t noise steps and denoised by the rest of a chain of {n_steps}, "
        "with the same noise in each row and column. At t = 0 pixels are mixed; the higher t, the less of the pair is "
        "left, and the coarser the change from one image to the other.",
        ylabel="noise steps, t",
        rows=[f"{t:,}" for t in num_steps.tolist()],
    )


def _between(
    sources: Float[Tensor, "rows 2 c h w"],
    mixed: Float[Tensor, "rows lambdas c h w"],
    lambdas: Sequence[float],
    *,
    title: str,
    note: str,
    ylabel: str,
    rows: Sequence[str],
) -> Figure:
    """Mixtures between the two images that they are of."""
    n = len(lambdas)
    return image_table(
        torch.cat((sources[:, :1], mixed, sources[:, 1:]), dim=1).flatten(0, 1),
        n + 2,
        title=title,
        note=note,
        xlabel="share of the second image, λ, and reconstructions of both at 0 and 1",
        ylabel=ylabel,
        columns=["first", *(f"{weight:.2g}" for weight in lambdas), "second"],
        rows=rows,
        column_breaks=[1, n + 1],
    )
