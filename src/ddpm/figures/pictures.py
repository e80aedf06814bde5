"""Figures of a network's previews, samples and trajectories, and `plot_img`. All images are pixels in [0, 1]."""

from collections.abc import Mapping

import torch
from einops import rearrange
from jaxtyping import Float, Int, Shaped
from matplotlib.figure import Figure
from torch import Tensor

from ddpm.figures.canvas import evenly_spaced, image_table, show


def training_previews(
    previews: Float[Tensor, "k n c h2 w3"], steps: Int[Tensor, "k"], label: str, n_moments: int = 4
) -> Figure:
    """Reconstructions of held-out images at several training steps.

    Args:
        previews: Outputs of `reconstruction_grid`.
        steps: Their training steps.
        label: The network's name in the title.
        n_moments: Number of training steps to show.
    """
    moments = evenly_spaced(len(steps), n_moments)
    chosen, n = previews[moments], previews.shape[1]
    return image_table(
        rearrange(chosen, "k n c (two h) (three w) -> (k two n three) c h w", two=2, three=3),
        3 * n,
        title=f"Reconstructions during training: {label}",
        note="Top row of each pair: the noised image, its noise and the original image. Bottom row: the same noised "
        "image, and the noise and the image that follow from the network's prediction.",
        xlabel="held-out images",
        ylabel="training step",
        columns=["noised", "noise", "image"] * n,
        rows=[row for step in steps[moments].tolist() for row in (f"{step:,}: actual", "predicted")],
        column_breaks=range(3, 3 * n, 3),
        row_breaks=range(2, 2 * len(moments), 2),
    )


def sample_grid(
    samples: Float[Tensor, "n c h w"],
    real: Float[Tensor, "m c h w"],
    origin: str,
    label: str,
    n_rows: int = 8,
    n_columns: int = 12,
) -> Figure:
    """A grid of samples, below one row of real images for comparison.

    Args:
        samples: Samples, the first of which are shown.
        real: Images that the network was not trained on.
        origin: What the samples are drawn from, such as "from pure noise, given a class label".
        label: The network's name in the title.
        n_rows: Rows of samples.
        n_columns: Samples per row, at most as many as real images.
    """
    n_columns = min(n_columns, len(real))
    samples = samples[: n_rows * n_columns]
    return image_table(
        torch.cat((real[:n_columns], samples)),
        n_columns,
        title=f"Samples: {label}",
        note=f"Top row: real images that the network was not trained on. Below: the first samples {origin}, not "
        "cherry-picked.",
        xlabel=f"{len(samples)} samples of {samples.shape[-2]} by {samples.shape[-1]} pixels",
        ylabel="source",
        rows=["real", "sampled"],
        row_breaks=[1],
    )


def samples_by_class(
    samples: Float[Tensor, "n c h w"],
    labels: Shaped[Tensor, " n"],
    real: Mapping[str, Float[Tensor, "c h w"]],
    origin: str,
    label: str,
    n_columns: int = 12,
) -> Figure:
    """The first samples of each class, one row per class, next to a real image of it.

    Args:
        samples: Samples of all classes.
        labels: Their classes, from 0.
        real: A real image of each class by class name, in the order of the labels.
        origin: What the samples are drawn from, as in `sample_grid`.
        label: The network's name in the title.
        n_columns: Images per row, including the real one. Fewer if a class has fewer samples.
    """
    n_each = min(n_columns - 1, int(labels.bincount(minlength=len(real)).min()))
    rows = [torch.cat((image[None], samples[labels == i][:n_each])) for i, image in enumerate(real.values())]
    return image_table(
        torch.cat(rows),
        1 + n_each,
        title=f"Samples by class: {label}",
        note="Left: a real image of each class that the network was not trained on. Right: the first samples of the "
        f"class {origin}, not cherry-picked.",
        xlabel=f"{n_each} samples per class, of {samples.shape[-2]} by {samples.shape[-1]} pixels",
        ylabel="class",
        columns=["real"],
        rows=list(real),
        column_breaks=[1],
    )


def denoising(
    trajectories: Float[Tensor, "moments k c h w"],
    num_steps: Int[Tensor, "moments"],
    origin: str,
    label: str,
    n_columns: int = 21,
) -> Figure:
    """Sampling trajectories, one row per sample.

    Args:
        trajectories: x_T (pure noise), ..., x_0.
        num_steps: Their timesteps, T, ..., 0.
        origin: What the samples are drawn from, as in `sample_grid`.
        label: The network's name in the title.
        n_columns: Number of timesteps to show, including the first and the last.
    """
    moments = evenly_spaced(len(trajectories), n_columns)
    k = trajectories.shape[1]
    return image_table(
        rearrange(trajectories[moments], "moments k c h w -> (k moments) c h w"),
        len(moments),
        title=f"From noise to image: {label}",
        note=f"Sampling {origin}: each of {len(trajectories) - 1:,} steps removes some of the noise (left), until "
        "none is left (right).",
        xlabel="timestep t",
        ylabel="sample",
        columns=[f"{t:,}" for t in num_steps[moments].tolist()],
        rows=[str(i + 1) for i in range(k)],
    )


def plot_img(img: Float[Tensor, "*shape"], title: str | None = None) -> None:
    """Show one image in a window or notebook. Does nothing without a display.

    Args:
        img: (c, h, w) with 1 (grey) or 3 (RGB) channels, in [0, 1]. Values outside are clamped.
        title: Title of the plot.

    Raises:
        ValueError: img has another shape.
    """
    if img.ndim != 3 or img.shape[0] not in (1, 3) or img.numel() == 0:
        raise ValueError(
            f"plot_img shows one image of shape (c, h, w) with 1 or 3 channels, not {tuple(img.shape)}; "
            "for a batch, pass one image: images[0]"
        )
    import matplotlib.pyplot as plt  # only here, because it looks for a display

    figure, axes = plt.subplots()
    show(axes, img.clamp(0, 1))
    if title is not None:
        axes.set_title(title)
    plt.show()
    if not plt.isinteractive():
        plt.close(figure)
