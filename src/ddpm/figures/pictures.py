"""Every figure that is made of images: data, forward process, predictions, previews, samples; and `plot_img`.

"pixels" are in [0, 1]; x0, xt and eps are in the networks' range, where data lie in [-1, 1].
"""

from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from torch import Tensor

from ddpm.diffusion.posterior import Prediction
from ddpm.figures.canvas import PREDICTED, evenly_spaced, image_table, show
from ddpm.images import denormalize_img, normalize_img


def gradients(pixels: Float[Tensor, "n c h w"], seed: int, n_columns: int = 8) -> Figure:
    """A few images of the gradient data."""
    n, c, h, w = pixels.shape
    n_columns = min(n_columns, n)
    return image_table(
        pixels,
        n_columns,
        title=f"Gradients from the data, seed {seed}",
        note=f"The toy data: {h} by {w} pixels in {c} channels, from one random colour to another along the diagonal.",
        xlabel="column",
        ylabel="row",
        columns=[str(i + 1) for i in range(n_columns)],
        rows=[str(i + 1) for i in range(-(-n // n_columns))],
    )


def normalization(pixels: Float[Tensor, "n c h w"], seed: int) -> Figure:
    """Images before and after `normalize_img`, and brought back by `denormalize_img`."""
    normalized = normalize_img(pixels)
    back = denormalize_img(normalized)
    error = (back - pixels).abs().max().item()
    return image_table(
        torch.cat((pixels, normalized.clamp(0, 1), back)),
        len(pixels),
        title=f"Original, normalised, denormalised: gradients, seed {seed}",
        note="Networks compute with values in [-1, 1], centred on 0. Shown as they are, all values below 0 look black. "
        f"Denormalising brings the original back (largest absolute error {error:.1e}).",
        xlabel="image",
        ylabel="range of values",
        columns=[str(i + 1) for i in range(len(pixels))],
        rows=["original\n[0, 1]", "normalised\n[-1, 1]", "denormalised\n[0, 1]"],
    )


def forward_process(
    x0: Float[Tensor, "c h w"],
    eq2: Float[Tensor, "s c h w"],
    eq4: Float[Tensor, "s c h w"],
    noise: Float[Tensor, "2 c h w"],
    steps: Sequence[int],
    alpha_bars: Sequence[float],
    seed: int,
) -> Figure:
    """One image noised by equation 2 (upper row) and by equation 4 (lower row), beside pure noise.

    eq2, eq4: x_t for each t of `steps`; alpha_bars: alpha_bar_t of those; noise: one image of it a row.
    """
    row_2, row_4 = (torch.cat((x0[None], xt, eps[None])) for xt, eps in zip((eq2, eq4), noise, strict=True))
    left = [rf"$\sqrt{{\bar\alpha_t}}$ = {alpha_bar**0.5:.3f}" for alpha_bar in alpha_bars]
    return image_table(
        denormalize_img(torch.cat((row_2, row_4))),
        len(row_2),
        title=f"The forward process: Equation 2 and Equation 4, up to {max(steps):,} steps, seed {seed}",
        note="Equation 2 adds a little noise t times over; Equation 4 jumps to step t at once. The noise differs, "
        "its strength is the same. "
        r"$\sqrt{\bar\alpha_t}$: the strength that the image has left, from 1 (all of it) to 0 (none).",
        xlabel="number of noise steps t, and what is left of the image",
        ylabel="noised by",
        columns=[
            "t = 0\nthe image",
            *(f"t = {t:,}\n{share}" for t, share in zip(steps, left, strict=True)),
            "pure noise\n",
        ],
        rows=["Equation 2", "Equation 4"],
        column_breaks=[1, len(row_2) - 1],
    )


def noising(
    x0: Float[Tensor, "b c h w"],
    eps: Float[Tensor, "b c h w"],
    xt: Float[Tensor, "b c h w"],
    reconstructed: Float[Tensor, "b c h w"],
    num_steps: Int[Tensor, "b"],
    max_steps: int,
    seed: int,
) -> Figure:
    """What `noise_img` adds and `reconstruct` takes away again when it is told the true noise; fewest steps first."""
    error = (reconstructed - x0).abs().max().item()
    order = num_steps.argsort(stable=True)
    return image_table(
        denormalize_img(torch.cat([stage[order] for stage in (x0, eps, xt, reconstructed)])),
        len(x0),
        title=f"Noising and reconstruction: max abs error {error:.1e}, {max_steps:,} steps, seed {seed}",
        note=f"Each gradient gets t of {max_steps:,} steps of noise in one go. "
        "Who knows the noise can undo it exactly: predicting it is the network's whole task.",
        xlabel="number of noise steps t",
        ylabel="noising, then reconstruction",
        columns=_headings(num_steps[order]),
        rows=["gradient", "applied\nunscaled noise", "noised", "reconstruction"],
    )


def untrained_prediction(
    xt: Float[Tensor, "b c h w"],
    wanted: Float[Tensor, "b c h w"],
    predicted: Float[Tensor, "b c h w"],
    num_steps: Int[Tensor, "b"],
    prediction: Prediction,
    label: str,
) -> Figure:
    """Noised images, what a network should say of them (`wanted`, a `prediction`), and what it says before training.

    Fewest steps first.
    """
    loss, zero = (predicted - wanted).square().mean().item(), wanted.square().mean().item()
    name = PREDICTED[prediction]
    order = num_steps.argsort(stable=True)
    return image_table(
        denormalize_img(torch.cat([stage[order] for stage in (xt, wanted, predicted)])),
        len(xt),
        title=f"Prediction before training: {label}",
        note="The network sees the upper row and should answer with the middle one. Untrained, its answers have "
        f"little to do with either. Mean squared error {loss:.2f}; always answering 0 (grey) would score {zero:.2f}.",
        xlabel="number of noise steps t",
        ylabel="question and answer",
        columns=_headings(num_steps[order]),
        rows=["noised", f"{name} in it", f"predicted\n{name}"],
    )


def training_previews(
    panels: Float[Tensor, "k n c h2 w3"], steps: Int[Tensor, "k"], label: str, n_moments: int = 4
) -> Figure:
    """Reconstructions at `n_moments` of the k moments of training.

    panels: pixels as `log_images` lays them out: noised | noise | image over noised | predicted noise | reconstruction.
    """
    moments = evenly_spaced(len(steps), n_moments)
    panels, n = panels[moments], panels.shape[1]
    return image_table(
        rearrange(panels, "k n c (two h) (three w) -> (k two n three) c h w", two=2, three=3),
        3 * n,
        title=f"Reconstructions during training: {label}",
        note="Upper row of each pair: the noised image, the noise in it, the image under it. Lower row: the same "
        "noised image, and the noise and the image that the network's prediction stands for.",
        xlabel="held-out image, and what is shown of it",
        ylabel="training step",
        columns=["noised", "noise", "image"] * n,
        rows=[row for step in steps[moments].tolist() for row in (f"{step:,}: actual", "predicted")],
        column_breaks=range(3, 3 * n, 3),
        row_breaks=range(2, 2 * len(moments), 2),
    )


def sample_grid(
    samples: Float[Tensor, "n c h w"], real: Float[Tensor, "m c h w"], label: str, n_rows: int = 8, n_columns: int = 12
) -> Figure:
    """Samples in a grid, under one row of real images to judge them by; both are pixels."""
    n_columns = min(n_columns, len(real))
    samples = samples[: n_rows * n_columns]
    return image_table(
        torch.cat((real[:n_columns], samples)),
        n_columns,
        title=f"Samples: {label}",
        note="Top row: real images that the network was not trained on. Below: images that it made out of pure noise, "
        "not selected.",
        xlabel=f"{len(samples)} samples of {samples.shape[-2]} by {samples.shape[-1]} pixels",
        ylabel="source",
        rows=["real", "sampled"],
        row_breaks=[1],
    )


def samples_by_class(
    samples: Float[Tensor, "n c h w"],
    labels: Int[Tensor, " n"],
    real: Float[Tensor, "classes c h w"],
    names: Sequence[str],
    label: str,
    n_columns: int = 12,
) -> Figure:
    """The first samples of each class in a row, beside a real image of it; all are pixels, labels from 0."""
    n_each = min(n_columns - 1, int(labels.bincount(minlength=len(names)).min()))
    rows = [torch.cat((real[[i]], samples[labels == i][:n_each])) for i in range(len(names))]
    return image_table(
        torch.cat(rows),
        1 + n_each,
        title=f"Samples by class: {label}",
        note="Left: a real image of each class that the network was not trained on. Right: images that it made out of "
        "pure noise when it was told the class; the first ones, not selected.",
        xlabel=f"{n_each} samples a class, of {samples.shape[-2]} by {samples.shape[-1]} pixels",
        ylabel="class",
        columns=["real"],
        rows=names,
        column_breaks=[1],
    )


def denoising(
    chain: Float[Tensor, "moments k c h w"], num_steps: Int[Tensor, "moments"], label: str, n_columns: int = 21
) -> Figure:
    """About `n_columns` moments of sampling for each of k samples.

    chain: pixels of x_T (pure noise), ..., x_0; num_steps: the noise steps left at each moment, T, ..., 0.
    """
    moments = evenly_spaced(len(chain), n_columns)
    k = chain.shape[1]
    return image_table(
        rearrange(chain[moments], "steps k c h w -> (k steps) c h w"),
        len(moments),
        title=f"From noise to image: {label}",
        note=f"Sampling starts from pure noise (left) and takes away some of it {len(chain) - 1:,} times, until none "
        "is left (right).",
        xlabel="noise steps left, t",
        ylabel="sample",
        columns=[f"{t:,}" for t in num_steps[moments].tolist()],
        rows=[str(i + 1) for i in range(k)],
    )


def nearest_neighbours(
    samples: Float[Tensor, "n c h w"],
    by_pixel: Float[Tensor, "n c h w"],
    by_feature: Float[Tensor, "n c h w"],
    closeness: Float[Tensor, " n"],
    n_first: int,
    label: str,
) -> Figure:
    """Samples over the training images nearest to them; all are pixels.

    closeness: of each sample to `by_pixel`; the first `n_first` samples are not selected, the others are the closest.
    """
    return image_table(
        torch.cat((samples, by_pixel, by_feature)),
        len(samples),
        title=f"Nearest training images: {label}",
        note="Figures 12 and 15 of Ho et al. 2020. Left: the first samples. Right: those most like one training image, "
        "where a copy would show. Above each, its distance in pixels to the nearest training image over that to the "
        "50 nearest: 0 would be a copy.",
        xlabel=f"the first {n_first} samples, then the {len(samples) - n_first} closest to a training image",
        ylabel="sample and neighbours",
        columns=[f"{value:.2f}" for value in closeness.tolist()],
        rows=["sample", "nearest\nby pixels", "nearest\nby features"],
        column_breaks=[n_first],
    )


def plot_img(img: Float[Tensor, "*shape"], title: str | None = None) -> None:
    """Show one image on the screen or in the notebook; where there is neither, nothing happens.

    img: (c, h, w) with 1 channel (grey) or 3 (colour), in [0, 1]; what lies outside is clamped. Raises ValueError for
    another shape.
    """
    if img.ndim != 3 or img.shape[0] not in (1, 3) or img.numel() == 0:
        raise ValueError(
            f"plot_img shows one image of shape (c, h, w) with 1 or 3 channels, not {tuple(img.shape)}; "
            "of a batch, pass one image: images[0]"
        )
    import matplotlib.pyplot as plt  # only here: it looks for a screen

    figure, axes = plt.subplots()
    show(axes, img.clamp(0, 1))
    if title is not None:
        axes.set_title(title)
    plt.show()
    if not plt.isinteractive():
        plt.close(figure)


def _headings(num_steps: Int[Tensor, "b"]) -> list[str]:
    return [f"t = {t:,}" for t in num_steps.tolist()]
