"""Data and noise: the toy data and the forward process."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from annotated_types import Ge, Le, Len
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from torch import Tensor

from ddpm.data.dataset import load_dataset
from ddpm.data.gradients import gradient_images
from ddpm.diffusion.forward import noise_img, q_eq2, q_eq4, reconstruct
from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.figures.canvas import image_table
from ddpm.figures.reports import as_pixels
from ddpm.figures.topic import TOPICS, Topic
from ddpm.images import denormalize_img, normalize_img
from ddpm.run.params import PictureShape, Section
from ddpm.run.seeding import generator
from ddpm.run.stage import StageRun

GRADIENTS = "data/gradients/held_out.safetensors"
COLUMNS = 8


class RenderData(Section):
    """Section `render_data`.

    forward_img_shape: (channels, height, width) of the gradients in the figures of the forward process, larger than
    the toy data. n_gradients: toy images to show. n_noised: gradients to normalise and noise. forward_steps: t at
    which equations 2 and 4 are compared.
    """

    forward_img_shape: PictureShape
    n_gradients: Annotated[int, Ge(1), Le(64)]
    n_noised: Annotated[int, Ge(1), Le(8)]
    forward_steps: Annotated[list[Annotated[int, Ge(1), Le(10_000)]], Len(1, 8)]


@dataclass(frozen=True)
class Inputs:
    """Toy images, and noised gradients.

    Attributes:
        seed: The project's seed.
        gradients: Held-out toy data, in [0, 1].
        pixels: Larger gradients, in [0, 1].
        x0: The same in [-1, 1].
        eq2: The first image of `x0`, noised by equation 2 to each t of `forward_steps`.
        eq4: The same by equation 4.
        pure_noise: Two images of standard Gaussian noise.
        forward_steps: The timesteps of `eq2` and `eq4`.
        alpha_bars: alpha_bar_t at these timesteps.
        num_steps: t of each image of `xt`.
        eps: The noise in each image of `xt`.
        xt: `x0`, noised by equation 4.
        reconstructed: x_0, reconstructed from `xt` and `eps`.
        max_steps: T of the schedule.
    """

    seed: int
    gradients: Float[Tensor, "n c1 h1 w1"]
    pixels: Float[Tensor, "b c h w"]
    x0: Float[Tensor, "b c h w"]
    eq2: Float[Tensor, "s c h w"]
    eq4: Float[Tensor, "s c h w"]
    pure_noise: Float[Tensor, "2 c h w"]
    forward_steps: Sequence[int]
    alpha_bars: Sequence[float]
    num_steps: Int[Tensor, "b"]
    eps: Float[Tensor, "b c h w"]
    xt: Float[Tensor, "b c h w"]
    reconstructed: Float[Tensor, "b c h w"]
    max_steps: int


def load(stage: StageRun) -> Inputs:
    """Read the toy data, generate larger gradients, and noise them."""
    params: RenderData = stage.params
    channels, height, width = params.forward_img_shape
    pixels = gradient_images(params.n_noised, (channels, height, width), generator(stage.seed, "gradients"))
    x0, schedule = normalize_img(pixels), NoiseSchedule(max(params.forward_steps))
    stream = generator(stage.seed, "forward_process")
    eq2, eq4 = (
        torch.stack([q(x0[0], t, schedule.betas, stream) for t in params.forward_steps]) for q in (q_eq2, q_eq4)
    )
    pure_noise = torch.randn(2, *x0[0].shape, generator=stream)
    num_steps, eps, xt = noise_img(x0, schedule, generator=generator(stage.seed, "noising"), step_sampling="stratified")
    return Inputs(
        seed=stage.root_seed,
        gradients=as_pixels(load_dataset(Path(GRADIENTS)).images[: params.n_gradients]),
        pixels=pixels,
        x0=x0,
        eq2=eq2,
        eq4=eq4,
        pure_noise=pure_noise,
        forward_steps=params.forward_steps,
        alpha_bars=schedule.alpha_bar(torch.tensor(params.forward_steps)).tolist(),
        num_steps=num_steps,
        eps=eps,
        xt=xt,
        reconstructed=reconstruct(xt, eps, num_steps, schedule),
        max_steps=len(schedule),
    )


TOPIC = TOPICS.register(__name__, Topic("Data and noise", 1, [GRADIENTS], load, RenderData))


@TOPIC.figure(
    caption="The toy data: each image is a gradient from one random colour to another along its diagonal.",
    alt="Small images, each a gradient between two colours",
)
def gradients(inputs: Inputs) -> Figure:
    n, c, h, w = inputs.gradients.shape
    n_columns = min(COLUMNS, n)
    return image_table(
        inputs.gradients,
        n_columns,
        title=f"Gradients from the data, seed {inputs.seed}",
        note=f"The toy data: {h} by {w} pixels in {c} channels, from one random colour to another along the diagonal.",
        xlabel="column",
        ylabel="row",
        columns=[str(i + 1) for i in range(n_columns)],
        rows=[str(i + 1) for i in range(-(-n // n_columns))],
    )


@TOPIC.figure(
    caption="Networks work on values in [-1, 1]. Normalising is lossless.",
    alt="Gradients before and after normalisation, and denormalised",
)
def normalization(inputs: Inputs) -> Figure:
    back = denormalize_img(inputs.x0)
    error = (back - inputs.pixels).abs().max().item()
    return image_table(
        torch.cat((inputs.pixels, inputs.x0.clamp(0, 1), back)),
        len(inputs.pixels),
        title=f"Original, normalised, denormalised: gradients, seed {inputs.seed}",
        note="Networks work on values in [-1, 1], centred on 0. Shown without rescaling, all values below 0 are black. "
        f"Denormalising recovers the original (largest absolute error {error:.1e}).",
        xlabel="image",
        ylabel="range of values",
        columns=[str(i + 1) for i in range(len(inputs.pixels))],
        rows=["original\n[0, 1]", "normalised\n[-1, 1]", "denormalised\n[0, 1]"],
    )


@TOPIC.figure(
    caption="Equation 2 adds noise step by step, equation 4 in a single step. Both rows should look equally noisy.",
    alt="One gradient with increasing noise, in two rows",
)
def forward_process(inputs: Inputs) -> Figure:
    steps, noise = inputs.forward_steps, inputs.pure_noise
    row_2, row_4 = (
        torch.cat((inputs.x0[:1], xt, eps[None])) for xt, eps in zip((inputs.eq2, inputs.eq4), noise, strict=True)
    )
    left = [rf"$\sqrt{{\bar\alpha_t}}$ = {alpha_bar**0.5:.3f}" for alpha_bar in inputs.alpha_bars]
    return image_table(
        denormalize_img(torch.cat((row_2, row_4))),
        len(row_2),
        title=f"The forward process: Equation 2 and Equation 4, up to {max(steps):,} steps, seed {inputs.seed}",
        note="Equation 2 adds a little noise t times; Equation 4 jumps to step t directly. The noise differs, but its "
        "variance is the same. "
        r"$\sqrt{\bar\alpha_t}$: the factor of the image, from 1 (unchanged) to 0 (pure noise).",
        xlabel="number of noise steps t, and the factor of the image",
        ylabel="noised by",
        columns=[
            "t = 0\nthe image",
            *(f"t = {t:,}\n{share}" for t, share in zip(steps, left, strict=True)),
            "pure noise\n",
        ],
        rows=["Equation 2", "Equation 4"],
        column_breaks=[1, len(row_2) - 1],
    )


@TOPIC.figure(
    caption="If the noise is known, the image can be reconstructed exactly. So it is enough to predict the noise.",
    alt="Gradients, the noise added to them, the sum, and reconstructions",
)
def noising(inputs: Inputs) -> Figure:
    error = (inputs.reconstructed - inputs.x0).abs().max().item()
    order = inputs.num_steps.argsort(stable=True)
    shown = inputs.x0, inputs.eps, inputs.xt, inputs.reconstructed
    return image_table(
        denormalize_img(torch.cat([images[order] for images in shown])),
        len(order),
        title=f"Noising and reconstruction: max abs error {error:.1e}, {inputs.max_steps:,} steps, seed {inputs.seed}",
        note=f"Each gradient gets t of {inputs.max_steps:,} steps of noise at once. If the noise is known, it can be "
        "removed exactly, so predicting it is all that the network has to do.",
        xlabel="number of noise steps t",
        ylabel="noising, then reconstruction",
        columns=[f"t = {t:,}" for t in inputs.num_steps[order].tolist()],
        rows=["gradient", "applied\nunscaled noise", "noised", "reconstruction"],
    )
