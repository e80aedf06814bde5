"""The page: figures, tables, params and hashes in one HTML file that works offline. Its text is in page.html."""

import json
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int, UInt8
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from PIL import Image, ImageChops, ImageColor
from torch import Tensor

from ddpm.figures.canvas import DPI

HERE, SOURCE = Path(__file__).parent, Path("src/ddpm/figures")
TEMPLATES = sorted(SOURCE / path.relative_to(HERE) for path in HERE.rglob("*.html"))
DARK = "#171b22"  # the background of a page in dark mode
CSS_DPI = 75  # half the resolution of a figure, so that high-DPI screens show every pixel


@dataclass(frozen=True)
class Picture:
    """A figure on the page.

    Attributes:
        uri: The picture as a data URI.
        dark: The same for dark mode.
        width: Width in CSS pixels.
        height: Height in CSS pixels.
        caption: What the figure shows and what it means.
        alt: Alternative text: what can be seen in the figure.
    """

    uri: str
    dark: str
    width: int
    height: int
    caption: str
    alt: str


@dataclass(frozen=True)
class Chapter:
    """A topic's section of the page. Further text may be in sections/TOPIC.html.

    Attributes:
        title: Its heading.
        figures: Its figures, in order.
    """

    title: str
    figures: list[Picture]


@dataclass(frozen=True)
class Opening:
    """The top of the page.

    Attributes:
        picture: Samples.
        metrics: Names of the metrics to show below it, if they were measured.
    """

    picture: Picture
    metrics: Sequence[str]


@dataclass(frozen=True)
class Trajectory:
    """One sampling chain at timesteps that are evenly spaced, from T to 0.

    Attributes:
        frames: x_t as data URIs.
        estimates: The network's estimates of x_0 at these timesteps, as data URIs.
        num_steps: The timesteps t.
    """

    frames: list[str]
    estimates: list[str]
    num_steps: list[int]


def picture(path: Path) -> Picture:
    """A figure's PNG file as lossless WebP, which takes less than half the bytes, with its caption and alt text."""
    with Image.open(path) as image:
        words = image.info
        pixels = image.convert("RGB")  # a figure is opaque
    width, height = (size * CSS_DPI // DPI for size in pixels.size)
    both = pixels, darkened(pixels, json.loads(words["Images"]))
    uri, dark = (_data_uri(each, "webp", lossless=True) for each in both)
    return Picture(uri, dark, width, height, words["Caption"], words["Alt"])


def darkened(figure: Image.Image, images: Sequence[Sequence[int]]) -> Image.Image:
    """A figure for dark mode: lightness is inverted, hue is kept. The images in it are not changed.

    Args:
        figure: On a white background.
        images: (left, top, right, bottom) of each image in it, in pixels.
    """
    red, green, blue = figure.split()
    lightest = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    darkest = ImageChops.darker(ImageChops.darker(red, green), blue)
    dark = [  # channel - darkest + 255 - lightest, which inverts HSL's lightness, then scaled to run from DARK to white
        ImageChops.add(ImageChops.subtract(channel, darkest), ImageChops.invert(lightest)).point(
            [round(ground + (255 - ground) * level / 255) for level in range(256)]
        )
        for channel, ground in zip((red, green, blue), ImageColor.getrgb(DARK), strict=True)
    ]
    merged = Image.merge("RGB", dark)
    for left, top, right, bottom in images:
        merged.paste(figure.crop((left, top, right, bottom)), (left, top))
    return merged


def trajectory(
    images: UInt8[Tensor, "moments c h w"],
    estimates: UInt8[Tensor, "moments c h w"],
    num_steps: Int[Tensor, " moments"],
) -> Trajectory:
    """The steps of one sample as a `Trajectory`. Where steps are dense in t, some are left out."""
    even = torch.linspace(int(num_steps[0]), 0, len(num_steps))
    chosen = (num_steps - even[:, None]).abs().argmin(dim=1).unique()
    frames, found = ([pixels_uri(image) for image in of[chosen]] for of in (images, estimates))
    return Trajectory(frames, found, num_steps[chosen].tolist())


def pixels_uri(image: UInt8[Tensor, "c h w"]) -> str:
    """An image with 1 (grey) or 3 (RGB) channels as a data URI, at its own size."""
    return _data_uri(Image.fromarray(image.permute(1, 2, 0).squeeze(-1).numpy()), "png")


def render(
    opening: Opening,
    chapters: Mapping[str, Chapter],
    trajectories: Mapping[str, Trajectory],
    metrics: Mapping[str, Mapping[str, Any]],
    params: Mapping[str, Any],
    hashes: Mapping[str, str],
    doors: Sequence[str],
) -> str:
    """The page as HTML. The same arguments give the same text.

    Args:
        opening: The top of the page.
        chapters: Its sections by topic, in order.
        trajectories: Sampling chains, by the topic that shows them.
        metrics: Metrics by stage.
        params: All validated params, as in plan/params.json.
        hashes: MD5 by path.
        doors: Systems with pages of their own.
    """
    return template(HERE / "page.html").render(
        opening=opening,
        chapters=chapters,
        trajectories=trajectories,
        metrics=metrics,
        params=params,
        sections=dict(sections(params)),
        hashes=hashes,
        doors=doors,
    )


def template(path: Path) -> Template:
    """A page's template, with autoescaping. All pages share `style.html` and `macros.html`."""
    environment = Environment(
        loader=FileSystemLoader([path.parent, HERE]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["shown"] = _shown
    environment.globals["dark"] = DARK
    return environment.get_template(path.name)


def sections(params: Mapping[str, Any], name: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """The values of each section and subsection, by dotted name. Top-level values are under "for all stages"."""
    values = {key: value for key, value in params.items() if not isinstance(value, Mapping)}
    if values:
        yield name or "for all stages", values
    for key, value in params.items():
        if isinstance(value, Mapping):
            yield from sections(value, f"{name}.{key}" if name else key)


def _shown(value: bool | int | float) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _data_uri(image: Image.Image, kind: str, **options: Any) -> str:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind};base64,{b64encode(buffer.getvalue()).decode()}"
