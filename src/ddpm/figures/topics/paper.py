"""Counterparts of figures 5 to 10 and 14 of the paper (Ho et al. 2020), with the same numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from torch import Tensor

from ddpm.figures.canvas import (
    BLUE,
    FAINT,
    INK,
    colors,
    curve_axes,
    curve_panels,
    image_table,
    legend_above,
    legend_over,
    plain_log_scale,
)
from ddpm.figures.names import label_of, origin
from ddpm.figures.reports import Rows, as_pixels, read_json, read_rows
from ddpm.figures.topic import TOPICS, Topic
from ddpm.networks.checkpoint import load_model
from ddpm.run.files import load_tensors
from ddpm.run.stage import StageRun

MODEL, SAMPLES = "models/unet.safetensors", "samples/paper.safetensors"
BOUND, RATES = "reports/bound/bound.json", "reports/bound/test.csv"
QUALITY, QUALITY_ROWS = "reports/paper/x0_quality.json", "reports/paper/x0_quality.csv"


@dataclass(frozen=True)
class Inputs:
    """Results of stages bound and paper. All images are pixels in [0, 1].

    Attributes:
        label: The model's name in titles.
        origin: What its samples are drawn from.
        n_bound: Number of test images that the rates are averaged over.
        rates: Rows of rate and distortion, t = 0 to T.
        n_steps: Steps of a whole chain.
        estimates: x_0 estimates of some chains, at the timesteps `estimates_t`.
        latents: x_t of some chains, at the timesteps `split_t`.
        branches: Samples that continue from each of them.
        sources: Pairs of test images.
        lambdas: Weights of the second image of a pair.
        interpolation: Each pair, interpolated at t = `interpolation_t` and denoised.
        coarse: The first pair, interpolated at each of `coarse_t` and denoised.
        metric: The name of the distance between the estimates and real images.
        quality: Rows of this distance, one per timestep.
        quality_floor: The distance of an equal number of real images.
        n_samples: Number of chains that `quality` is measured on.
        reference: The split that they are compared with.
        extractor: Identifies the classifier whose features are compared.
    """

    label: str
    origin: str
    n_bound: int
    rates: Rows
    n_steps: int
    estimates: Float[Tensor, "moments n c h w"]
    estimates_t: Int[Tensor, "moments"]
    latents: Float[Tensor, "chains depths c h w"]
    branches: Float[Tensor, "chains depths n_branches c h w"]
    split_t: Int[Tensor, "depths"]
    sources: Float[Tensor, "pairs 2 c h w"]
    lambdas: Sequence[float]
    interpolation: Float[Tensor, "pairs lambdas c h w"]
    interpolation_t: int
    coarse: Float[Tensor, "rows lambdas c h w"]
    coarse_t: Int[Tensor, "rows"]
    metric: str
    quality: Rows
    quality_floor: float
    n_samples: int
    reference: str
    extractor: str


def load(_: StageRun) -> Inputs:
    """Read the outputs of stages bound and paper."""
    model, made, known = load_model(Path(MODEL)), load_tensors(Path(SAMPLES)), read_json(Path(QUALITY))
    return Inputs(
        label=label_of(model),
        origin=origin(model),
        n_bound=read_json(Path(BOUND))["n_images"],
        rates=read_rows(Path(RATES)),
        n_steps=int(made["n_steps"]),
        estimates=as_pixels(made["estimates"]),
        estimates_t=made["estimates_t"],
        latents=as_pixels(made["latents"]),
        branches=as_pixels(made["branches"]),
        split_t=made["split_t"],
        sources=as_pixels(made["sources"]),
        lambdas=made["lambdas"].tolist(),
        interpolation=as_pixels(made["interpolation"]),
        interpolation_t=int(made["interpolation_t"]),
        coarse=as_pixels(made["coarse"]),
        coarse_t=made["coarse_t"],
        metric=known["metric"],
        quality=read_rows(Path(QUALITY_ROWS)),
        quality_floor=known[f"{known['metric']}_floor"]["value"],
        n_samples=known["n_samples"],
        reference=known["reference"],
        extractor=known["extractor"],
    )


TOPIC = TOPICS.register(
    __name__,
    Topic("The paper, figure by figure", 6, [MODEL, SAMPLES, BOUND, RATES, QUALITY, QUALITY_ROWS], load),
)


@TOPIC.figure(
    caption="Figure 5, progressive lossy coding: most bits are spent on the last steps, which change the image least.",
    alt="Curves of distortion and rate by timestep, and of distortion by rate",
)
def paper_05(inputs: Inputs) -> Figure:
    rows = inputs.rates
    figure, panels = curve_panels(
        f"Figure 5 of Ho et al. 2020: {inputs.label}",
        f"{inputs.n_bound:,} test images, coded by chains of {len(rows) - 1:,} steps. Rate: the bits that a receiver "
        "needs to know x_t. Distortion: the error of the network's x0 estimate from x_t, in levels of 0 to 255. Most "
        "bits are spent on the last steps, which change the image least.",
        "timestep t",
        "distortion (RMSE, levels of 255)",
        ["distortion by step", "rate by step", "distortion by rate"],
        share_y=False,
    )
    t, distortion = ([float(row[key]) for row in rows] for key in ("t", "distortion"))
    by_step, rate_by_step, by_rate = panels
    by_step.plot(t[1:], distortion[1:], color=INK, linewidth=1.8)
    variances = [key.removeprefix("rate_") for key in rows[0] if key.startswith("rate_")]
    for variance, color in zip(variances, colors(len(variances)), strict=True):
        rate = [float(row[f"rate_{variance}"]) for row in rows]
        rate_by_step.plot(t, rate, label=variance, color=color, linewidth=1.8)
        by_rate.plot(rate[1:], distortion[1:], label=variance, color=color, linewidth=1.8)
    rate_by_step.set_ylabel("rate (bits/dim)")
    by_rate.set_xlabel("rate (bits/dim)")
    for axes in (by_step, rate_by_step):
        axes.invert_xaxis()
    for axes in panels:
        axes.set_ylim(bottom=0)
    legend_above(figure, panels)
    return figure


@TOPIC.figure(
    caption="Figures 6 and 14, progressive generation {inputs.origin}: the x0 estimate starts close to a mean image; "
    "outlines come next, texture last.",
    alt="Rows of the network's x0 estimates, which sharpen from left to right",
)
def paper_06_14(inputs: Inputs) -> Figure:
    moments, n = inputs.estimates.shape[:2]
    return image_table(
        rearrange(inputs.estimates, "moments n c h w -> (n moments) c h w"),
        moments,
        title=f"Figures 6 and 14 of Ho et al. 2020: {inputs.label}",
        note=f"The network's x0 estimate (equation 15) at {moments} of {inputs.n_steps} steps, for the first {n} "
        "chains, not cherry-picked. The outline settles early, texture comes last.",
        xlabel="timestep t",
        ylabel="sample",
        columns=[f"{t:,}" for t in inputs.estimates_t.tolist()],
        rows=[str(i + 1) for i in range(n)],
    )


@TOPIC.figure(
    caption="Figure 7, samples {inputs.origin} that share x_t: the later the chain is split, the more they have in "
    "common.",
    alt="Noised images at several timesteps, each with the samples that continue from it",
)
def paper_07(inputs: Inputs) -> Figure:
    chains, depths, n = inputs.branches.shape[:3]
    return image_table(
        torch.cat((inputs.latents[:, :, None], inputs.branches), dim=2).flatten(0, 2),
        n + 1,
        title=f"Figure 7 of Ho et al. 2020: {inputs.label}",
        note=f"A chain of {inputs.n_steps} steps is split at timestep t: {n} chains with independent noise continue "
        "from its x_t. The later the split, the more their samples have in common.",
        xlabel=f"x_t, and {n} samples that continue from it",
        ylabel="chain and split",
        columns=[r"$x_t$"],
        rows=[f"{chain + 1}: t = {t:,}" for chain in range(chains) for t in inputs.split_t.tolist()],
        column_breaks=[1],
        row_breaks=range(depths, chains * depths, depths),
    )


@TOPIC.figure(
    caption="Figure 8, interpolation between pairs of test images: smooth between similar images; between dissimilar "
    "ones the middle is blurred or belongs to no class. Fine detail is lost, even at the ends.",
    alt="Pairs of test images, and the interpolated images between them",
)
def paper_08(inputs: Inputs) -> Figure:
    return _between(
        inputs.sources,
        inputs.interpolation,
        inputs.lambdas,
        title=f"Figure 8 of Ho et al. 2020: {inputs.label}",
        note=f"The {len(inputs.sources)} pairs of test images at both ends are noised to "
        f"t = {inputs.interpolation_t:,}, interpolated there, and denoised by the rest of a chain of {inputs.n_steps} "
        "steps.",
        ylabel="pair",
        rows=[str(i + 1) for i in range(len(inputs.sources))],
    )


@TOPIC.figure(
    caption="Figure 9, coarse-to-fine interpolation: at t = 0 the two images are blended; with more noise the "
    "interpolations become images of their own. At t = T, x_t holds no information on the pair; only the conditioning, "
    "if there is any, does.",
    alt="One pair of test images and the interpolated images between them, in rows of increasing noise",
)
def paper_09(inputs: Inputs) -> Figure:
    coarse = inputs.coarse
    return _between(
        inputs.sources[:1].expand(len(coarse), *inputs.sources.shape[1:]),
        coarse,
        inputs.lambdas,
        title=f"Figure 9 of Ho et al. 2020: {inputs.label}",
        note="The first pair of figure 8, interpolated at timestep t and denoised by the rest of a chain of "
        f"{inputs.n_steps} steps, with the same noise everywhere. At t = 0 pixels are interpolated; the larger t, the "
        "less of the pair is left, and the coarser the features that change.",
        ylabel="timestep t",
        rows=[f"{t:,}" for t in inputs.coarse_t.tolist()],
    )


@TOPIC.figure(
    caption="Figure 10, quality of the x0 estimate: the distance between the x0 estimates and real images over the "
    "course of sampling.",
    alt="Curve of the distance of the x0 estimates by timestep",
)
def paper_10(inputs: Inputs) -> Figure:
    figure, axes = curve_axes(
        f"Figure 10 of Ho et al. 2020: {inputs.label}",
        f"{inputs.metric} of the network's x0 estimate (equation 15), for {inputs.n_samples:,} chains of "
        f"{inputs.n_steps} steps, against the {inputs.reference} split (extractor {inputs.extractor}). Band: 95 % "
        "confidence interval. Dashed: as many real images.",
        "timestep t",
        inputs.metric,
    )
    columns = "num_steps", inputs.metric, "low", "high"
    t, value, low, high = ([float(row[key]) for row in inputs.quality] for key in columns)
    axes.plot(t, value, label=f"x0 estimates: {value[-1]:.3g} at the end", color=BLUE, linewidth=2, marker="o")
    axes.fill_between(t, low, high, color=BLUE, alpha=0.2, linewidth=0)
    floor = inputs.quality_floor
    axes.axhline(floor, color=FAINT, linestyle="--", linewidth=1, label=f"real images: {floor:.3g}")
    plain_log_scale(axes)
    axes.invert_xaxis()
    legend_over(axes, ncols=2)
    return figure


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
    """Interpolated images between their two source images."""
    n = len(lambdas)
    return image_table(
        torch.cat((sources[:, :1], mixed, sources[:, 1:]), dim=1).flatten(0, 1),
        n + 2,
        title=title,
        note=note,
        xlabel="weight λ of the second image; 0 and 1 are reconstructions",
        ylabel=ylabel,
        columns=["first", *(f"{weight:.2g}" for weight in lambdas), "second"],
        rows=rows,
        column_breaks=[1, n + 1],
    )
