"""The page: figures, tables, params and hashes in one HTML file that needs no network. Its words are in page.html."""

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
DARK = "#171b22"  # the ground of a page in dark mode
CSS_DPI = 75  # half the dots of a figure, so that dense screens show every dot


@dataclass(frozen=True)
class Picture:
    """A figure as the page shows it.

    Attributes:
        uri: The picture as a data URI.
        dark: The same for a dark page.
        width: On the page, in CSS pixels.
        height: On the page, in CSS pixels.
        caption: What it shows and what it means.
        alt: What can be seen.
    """

    uri: str
    dark: str
    width: int
    height: int
    caption: str
    alt: str


@dataclass(frozen=True)
class Chapter:
    """A topic's part of the page. More of it may stand in sections/TOPIC.html.

    Attributes:
        title: Its heading.
        figures: In the order in which they are shown.
    """

    title: str
    figures: list[Picture]


@dataclass(frozen=True)
class Opening:
    """What the page begins with.

    Attributes:
        picture: Samples.
        metrics: Names of the metrics that are shown beside it, as far as they were measured.
    """

    picture: Picture
    metrics: Sequence[str]


@dataclass(frozen=True)
class Trajectory:
    """One sampling chain at moments that are evenly spaced in t, from T to 0.

    Attributes:
        frames: x_t as data URIs.
        estimates: What the network takes x_0 to be then.
        num_steps: The noise steps left, t.
    """

    frames: list[str]
    estimates: list[str]
    num_steps: list[int]


def picture(path: Path) -> Picture:
    """A figure's PNG file as lossless WebP, with the words in it: the same pixels in less than half the bytes."""
    with Image.open(path) as image:
        words = image.info
        pixels = image.convert("RGB")  # a figure is opaque
    width, height = (size * CSS_DPI // DPI for size in pixels.size)
    both = pixels, darkened(pixels, json.loads(words["Images"]))
    uri, dark = (_data_uri(each, "webp", lossless=True) for each in both)
    return Picture(uri, dark, width, height, words["Caption"], words["Alt"])


def darkened(figure: Image.Image, images: Sequence[Sequence[int]]) -> Image.Image:
    """A figure for a dark page: light becomes dark and keeps its hue. The images in it stay as they are.

    Args:
        figure: On a white ground.
        images: (left, top, right, bottom) of each image in it, in dots.
    """
    red, green, blue = figure.split()
    lightest = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    darkest = ImageChops.darker(ImageChops.darker(red, green), blue)
    dark = [  # channel - darkest + 255 - lightest, which turns HSL's lightness round; from the ground up to white
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
    """The moments of one sample, pixel by pixel; of those that lie close together in t, some are left out."""
    even = torch.linspace(int(num_steps[0]), 0, len(num_steps))
    chosen = (num_steps - even[:, None]).abs().argmin(dim=1).unique()
    frames, found = ([pixels_uri(image) for image in of[chosen]] for of in (images, estimates))
    return Trajectory(frames, found, num_steps[chosen].tolist())


def pixels_uri(image: UInt8[Tensor, "c h w"]) -> str:
    """An image, pixel by pixel, as a data URI; 1 channel is grey, 3 are colours."""
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
    """The page as HTML; the same arguments give the same text.

    Args:
        opening: What it begins with.
        chapters: By topic, in the order in which they are shown.
        trajectories: By the topic that shows them.
        metrics: What a stage measured, by stage.
        params: All validated params, as plan/params.json has them.
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
    """A page's template, which finds the look of all pages, `style.html`, and values are escaped in."""
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
    """The values of each section and subsection, by dotted name; those outside any are "for all stages"."""
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
