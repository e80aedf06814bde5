"""The page: pictures, tables, params and hashes in one HTML file that needs no network. Its words are in page.html."""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from jaxtyping import Int, UInt8
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image
from torch import Tensor

from ddpm.errors import UserError
from ddpm.figures.canvas import DPI

TEMPLATE = Path(__file__).with_name("page.html")
CSS_DPI = 75  # half the dots of a figure, so that dense screens show every dot


@dataclass(frozen=True)
class Picture:
    """A picture as a data URI, with its width and height on the page in CSS pixels."""

    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Chain:
    """One denoising chain, x_T to x_0: each moment as a data URI, and the noise steps left, T to 0."""

    frames: list[str]
    num_steps: list[int]


def picture(path: Path) -> Picture:
    """A figure's PNG file as lossless WebP: the same pixels in less than half the bytes."""
    with Image.open(path) as image:
        pixels = image.convert("RGB")  # a figure is opaque
    return Picture(_data_uri(pixels, "webp", lossless=True), *(size * CSS_DPI // DPI for size in pixels.size))


def chain(steps: UInt8[Tensor, "moments c h w"], num_steps: Int[Tensor, " moments"]) -> Chain:
    """The moments of one sample, pixel by pixel; 1 channel is grey, 3 are colours."""
    images = (Image.fromarray(step.permute(1, 2, 0).squeeze(-1).numpy()) for step in steps)
    return Chain([_data_uri(image, "png") for image in images], num_steps.tolist())


def render(
    figures: Mapping[str, Picture],
    chains: Mapping[str, Chain],
    metrics: Mapping[str, Mapping[str, Any]],
    params: Mapping[str, Mapping[str, Any]],
    hashes: Mapping[str, str],
) -> str:
    """The page as HTML; the same arguments give the same text.

    figures: by file name without its ending; chains: "tiny" and "unet"; metrics: by stage; params: by section;
    hashes: MD5 by path. UserError where a figure has no place in page.html.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["shown"] = _shown
    page = environment.get_template(TEMPLATE.name).render(
        figures=figures, chains=chains, metrics=metrics, params=params, hashes=hashes
    )
    if absent := [name for name, figure in figures.items() if figure.uri not in page]:
        raise UserError(f"{TEMPLATE.name} has no place for {', '.join(absent)}; give each figure a caption there")
    return page


def _shown(value: bool | int | float) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _data_uri(image: Image.Image, kind: str, **options: Any) -> str:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind};base64,{b64encode(buffer.getvalue()).decode()}"
