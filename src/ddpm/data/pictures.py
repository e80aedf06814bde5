"""Picture files as images of a data set: of one size, grey or RGB, in 8 bits.

A file is read as a viewer shows it: EXIF orientation is applied, only the first frame is used, and transparent pixels
are composited over a grey background. It is centre-cropped to the aspect ratio of the images, and resized (Lanczos).
"""

import warnings
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ddpm.errors import UserError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
SMALLEST = 4  # pixels a side
MOST_PIXELS = 50_000_000
MOST_BYTES = 256 * 2**20
GREY = "1", "L", "LA", "I", "I;16", "I;16B", "I;16L"
SIXTEEN_BITS = "I", "I;16", "I;16B", "I;16L"
ORIENTATION, TURNED = 0x0112, 5  # EXIF's tag, of which values from 5 swap height and width


class BrokenError(Exception):
    """Raised if a file cannot be read as a picture. The message gives the reason."""


@dataclass(frozen=True)
class Header:
    """Properties of a picture that are known before it is decoded.

    Attributes:
        size: (height, width), after EXIF orientation.
        grey: Whether its mode is greyscale.
    """

    size: tuple[int, int]
    grey: bool


def read(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        BrokenError: It cannot be read, or is larger than MOST_BYTES.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise BrokenError(error.strerror or str(error)) from None
    if len(content) > MOST_BYTES:
        raise BrokenError(f"it has more than {MOST_BYTES:,} bytes")
    return content


def header(path: Path) -> Header:
    """Read the header of a picture file, decoding pixels only if needed to find EXIF data.

    Raises:
        BrokenError: It is not a picture, or it is too small or too large.
    """
    try:
        with path.open("rb") as file, _checked(file) as image:
            width, height = image.size
            if width != height and image.getexif().get(ORIENTATION, 1) >= TURNED:  # decodes a PNG without EXIF
                width, height = height, width
            return Header((height, width), image.mode in GREY)
    except OSError as error:
        raise BrokenError(_reason(error)) from None


def decode(content: bytes, channels: int, size: tuple[int, int], ground: int) -> UInt8[Tensor, "c h w"]:
    """Decode an image from the bytes of a file.

    Args:
        content: The contents of the file.
        channels: 1 (grey) or 3 (RGB).
        size: (height, width) of the image.
        ground: Grey level of the background of transparent pictures, 0 to 255.

    Raises:
        BrokenError: It is not a picture, or it is damaged, too small or too large.
    """
    try:
        with warnings.catch_warnings(action="ignore"), _checked(BytesIO(content)) as image:  # about odd metadata
            shown = _in_8_bits(ImageOps.exif_transpose(image))
            opaque = _over(shown, ground).convert("L" if channels == 1 else "RGB")
            fitted = ImageOps.fit(opaque, (size[1], size[0]), Image.Resampling.LANCZOS)
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError, OverflowError) as error:  # all raised by Pillow
        raise BrokenError(_reason(error)) from None
    pixels = torch.from_numpy(np.array(fitted))
    return pixels[None] if channels == 1 else pixels.permute(2, 0, 1)


def open_picture(path: Path, img_shape: tuple[int, ...]) -> UInt8[Tensor, "c h w"]:
    """Open a picture file as input of a network, on a white background.

    Args:
        path: The file.
        img_shape: (channels, height, width) of the result. The picture must have this size. Its channels are converted.

    Raises:
        UserError: It is not a picture, or it has the wrong size.
    """
    channels, height, width = img_shape
    try:
        if (found := header(path).size) != (height, width):
            theirs, ours = f"{found[1]}x{found[0]}", f"{width}x{height}"
            raise UserError(f"{path}: it has {theirs} pixels; this network's images have {ours}")
        return decode(read(path), channels, (height, width), ground=255)
    except BrokenError as error:
        raise UserError(f"{path}: {error}") from None


def _checked(file: object) -> Image.Image:
    """Open a picture and check its size."""
    with warnings.catch_warnings(action="ignore"):  # about sizes, which are checked below
        try:
            image = Image.open(file)  # type: ignore[arg-type]
        except (UnidentifiedImageError, SyntaxError, ValueError, EOFError) as error:
            raise BrokenError(_reason(error)) from None
        except Image.DecompressionBombError:
            raise BrokenError(f"it has more than {MOST_PIXELS:,} pixels") from None
    width, height = image.size
    if min(width, height) < SMALLEST:
        raise BrokenError(f"it has {width}x{height} pixels; at least {SMALLEST}x{SMALLEST} are needed")
    if width * height > MOST_PIXELS:
        raise BrokenError(f"it has {width}x{height} pixels; at most {MOST_PIXELS:,} are read")
    return image


def _in_8_bits(image: Image.Image) -> Image.Image:
    """Convert 16-bit pixels to 8 bits, since Pillow would clip them. Raises BrokenError for floats."""
    if image.mode == "F":
        raise BrokenError("its pixels are floating-point numbers, whose range is not known")
    if image.mode not in SIXTEEN_BITS:
        return image
    levels = np.asarray(image).astype(np.int64)
    if levels.min() < 0 or levels.max() > 65_535:
        raise BrokenError("its pixels have more than 16 bits")
    return Image.fromarray(((levels + 128) // 257).astype(np.uint8))


def _over(image: Image.Image, ground: int) -> Image.Image:
    """Composite a picture that may be transparent over a grey background."""
    if not image.has_transparency_data:
        return image
    seen = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", seen.size, (ground, ground, ground, 255)), seen)


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "it is not a picture"
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return words or type(error).__name__
