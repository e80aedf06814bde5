"""Picture files: decoded pixels match in every format, and broken files raise an error with a reason."""

import os
from contextlib import suppress
from io import BytesIO

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ddpm.data import pictures
from ddpm.data.pictures import BrokenError, decode, header, open_picture, read

COLOURS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
GREYS = COLOURS[..., 0]
ORIENTATIONS = {  # EXIF's tag: what a viewer does with the stored pixels
    1: lambda x: x,
    2: np.fliplr,
    3: lambda x: np.rot90(x, 2),
    4: np.flipud,
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x, 2).swapaxes(0, 1),
    8: lambda x: np.rot90(x, 1),
}


def encoded(image, kind="png", **options):
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def shown(content, channels=3, size=(6, 9), ground=255):
    """As (height, width, channels)."""
    return decode(content, channels, size, ground).movedim(0, 2).numpy()


@pytest.mark.parametrize(
    ("kind", "options"),
    [("png", {}), ("bmp", {}), ("tiff", {}), ("webp", {"lossless": True}), ("tiff", {"compression": "tiff_lzw"})],
)
def test_lossless_formats_decode_exactly(kind, options):
    assert np.array_equal(shown(encoded(Image.fromarray(COLOURS), kind, **options)), COLOURS)
    if kind != "webp":  # it has no grey
        assert np.array_equal(shown(encoded(Image.fromarray(GREYS), kind, **options), 1)[..., 0], GREYS)


def test_jpeg_decodes_approximately():
    smooth = np.add.outer(np.arange(0, 160, 10), np.arange(0, 80, 5)).astype(np.uint8)
    found = shown(encoded(Image.fromarray(smooth), "jpeg", quality=95), 1, smooth.shape)[..., 0]
    assert np.abs(found.astype(int) - smooth).max() < 10


def test_decode_converts_between_grey_and_rgb():
    assert np.array_equal(shown(encoded(Image.fromarray(GREYS))), np.repeat(GREYS[..., None], 3, axis=2))
    luma = COLOURS @ np.array([0.299, 0.587, 0.114])  # ITU-R 601
    assert np.abs(shown(encoded(Image.fromarray(COLOURS)), 1)[..., 0] - luma).max() < 1


def test_one_bit_palette_and_cmyk_images_are_decoded():
    bits = GREYS > 127
    assert np.array_equal(shown(encoded(Image.fromarray(bits)), 1)[..., 0], bits * 255)
    palette = Image.fromarray(COLOURS // 128 * 255).quantize(8)
    assert np.array_equal(shown(encoded(palette)), COLOURS // 128 * 255)
    ink = Image.fromarray(255 - COLOURS).convert("CMYK")
    assert np.abs(shown(encoded(ink, "tiff")).astype(int) - (255 - COLOURS)).max() <= 1


def test_16_bit_images_are_scaled_to_8_bits():
    levels = np.arange(54, dtype=np.uint16).reshape(6, 9) * 1236
    for kind in ("png", "tiff"):
        found = shown(encoded(Image.fromarray(levels), kind), 1)[..., 0]
        assert np.abs(found - levels / 257).max() <= 0.5


@given(alpha=st.integers(0, 255), ground=st.integers(0, 255))
@settings(max_examples=20, deadline=None)
def test_alpha_is_blended_with_the_ground(alpha, ground):
    image = np.dstack((COLOURS, np.full((6, 9, 1), alpha, np.uint8)))
    expected = COLOURS * (alpha / 255) + ground * (1 - alpha / 255)
    assert np.abs(shown(encoded(Image.fromarray(image)), ground=ground) - expected).max() <= 1


def test_transparent_palette_colour_shows_the_ground():
    image = Image.fromarray(np.zeros((6, 9), np.uint8)).convert("P")
    image.info["transparency"] = 0
    assert (shown(encoded(image, transparency=0), ground=77) == 77).all()


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_exif_orientation_is_applied(orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    expected = ORIENTATIONS[orientation](COLOURS)
    path = tmp_path / "turned.png"
    path.write_bytes(encoded(Image.fromarray(COLOURS), exif=exif))
    assert header(path).size == expected.shape[:2]
    assert np.array_equal(shown(path.read_bytes(), size=expected.shape[:2]), expected)


def test_gif_decodes_first_frame():
    frames = [Image.fromarray(np.full((6, 9), level, np.uint8)) for level in (10, 200)]
    assert (shown(encoded(frames[0], "gif", save_all=True, append_images=frames[1:]), 1) == 10).all()


def test_decode_center_crops_and_resizes():
    wide = np.concatenate((np.zeros((4, 3), np.uint8), GREYS[:4, :4], np.zeros((4, 3), np.uint8)), axis=1)
    assert np.array_equal(shown(encoded(Image.fromarray(wide)), 1, (4, 4))[..., 0], GREYS[:4, :4])
    tall = np.repeat(np.repeat(GREYS[:4, :4], 8, axis=0), 8, axis=1)  # pixels of 8x8
    found = shown(encoded(Image.fromarray(tall)), 1, (4, 4))[..., 0]
    assert np.corrcoef(found.ravel(), GREYS[:4, :4].ravel())[0, 1] > 0.95
    assert shown(encoded(Image.fromarray(GREYS)), 3, (40, 20)).shape == (40, 20, 3)
    smaller = np.asarray(Image.fromarray(GREYS).resize((6, 4), Image.Resampling.LANCZOS))
    assert np.array_equal(shown(encoded(Image.fromarray(GREYS)), 1, (4, 6))[..., 0], smaller)


def test_opened_picture_is_on_white(tmp_path):
    Image.new("RGBA", (9, 6)).save(tmp_path / "clear.png")
    found = open_picture(tmp_path / "clear.png", (3, 6, 9))
    assert found.shape == (3, 6, 9)
    assert (found == 255).all()


PNG = encoded(Image.fromarray(COLOURS))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is not a picture"),
        (b"a text", "it is not a picture"),
        (PNG[:60], "."),
        (PNG[: len(PNG) // 2], "."),
        (PNG[:100] + bytes(20) + PNG[120:], "."),
        (encoded(Image.new("L", (3, 9))), "it has 3x9 pixels; at least 4x4 are needed"),
        (encoded(Image.new("L", (40, 40))), "it has 40x40 pixels; at most 1,000 are read"),
        (encoded(Image.fromarray(np.zeros((6, 9), np.float32)), "tiff"), "its pixels are floating-point numbers"),
        (encoded(Image.fromarray(np.full((6, 9), 70_000, np.int32)), "tiff"), "its pixels have more than 16 bits"),
    ],
)
def test_decode_rejects_broken_files_with_reason(content, reason, monkeypatch):
    monkeypatch.setattr(pictures, "MOST_PIXELS", 1000)
    with pytest.raises(BrokenError, match=reason):
        decode(content, 1, (4, 4), 0)


@given(cut=st.integers(0, len(PNG)), changed=st.integers(0, len(PNG) - 1), value=st.integers(0, 255))
@settings(max_examples=200, deadline=None)
def test_damaged_png_decodes_or_raises_broken_error(cut, changed, value):
    content = bytearray(PNG)
    content[changed] = value
    with suppress(BrokenError):
        assert decode(bytes(content[:cut]), 3, (4, 5), 0).shape == (3, 4, 5)


def test_unreadable_and_oversized_files_are_rejected(tmp_path, monkeypatch):
    loop = tmp_path / "loop.png"
    loop.symlink_to(loop)
    for look in (read, header):
        with pytest.raises(BrokenError, match="Too many levels of symbolic links"):
            look(loop)
    large = tmp_path / "large.png"
    with large.open("wb") as file:
        file.truncate(2000)
    monkeypatch.setattr(pictures, "MOST_BYTES", 1000)
    with pytest.raises(BrokenError, match="more than 1,000 bytes"):
        read(large)
    if os.geteuid():
        large.chmod(0)
        with pytest.raises(BrokenError, match="Permission denied"):
            read(large)


def test_header_reports_size_and_grey(tmp_path):
    for name, image, grey in (("a", COLOURS, False), ("b", GREYS, True), ("c", GREYS > 9, True)):
        path = tmp_path / f"{name}.png"
        Image.fromarray(image).save(path)
        assert (header(path).size, header(path).grey) == ((6, 9), grey)
        assert decode(read(path), 3, (6, 9), 0).dtype == torch.uint8
