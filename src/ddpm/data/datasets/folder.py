"""A folder of pictures: PNG, JPEG, WebP, GIF, BMP or TIFF. If it has several subfolders, they are the classes."""

import os
import unicodedata
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Le, Len
from tqdm import tqdm

from ddpm.data.dataset import DATASETS, DatasetSource, ImageDataset, OwnImages
from ddpm.data.own import check_folder, check_number, in_a_line, refusal, small_labels, split_sizes, without_copies
from ddpm.data.pictures import SMALLEST, SUFFIXES, BrokenError, Header, decode, header, read
from ddpm.run.params import Section
from ddpm.run.progress import hidden

LARGEST_AS_IS, SIZE = 64, 32  # pixels a side
SPLIT_NAMES = {"train", "test", "val", "valid", "validation"}
Side = Annotated[int, Ge(SMALLEST), Le(1024)]


class FolderOptions(Section):
    """Options of data set `folder`.

    Attributes:
        size: Side in pixels, or [height, width]. Pictures are centre-cropped to that shape and resized. null means the
            size of the pictures if they all have the same size of at most 64 pixels a side, else 32.
        channels: 1 (grey) or 3 (RGB), or null for 3 if any picture is in colour, else 1.
        ground: Grey level of the background of transparent pictures.
        broken: What to do about unreadable files.
    """

    size: Side | Annotated[list[Side], Len(2, 2)] | None = None
    channels: Literal[1, 3] | None = None
    ground: Annotated[int, Ge(0), Le(255)] = 255
    broken: Literal["refuse", "leave_out"] = "refuse"


def find(folder: Path, options: FolderOptions) -> DatasetSource:
    """Read the names and headers of all pictures, which are decoded later.

    Raises:
        UserError: There are too few pictures, or some cannot be read.
    """
    notes = list[str]()
    classes = picture_files(folder, notes)
    headers, broken = dict[Path, Header](), dict[Path, str]()
    for path in classes:
        try:
            headers[path] = header(path)
        except BrokenError as error:
            broken[path] = str(error)
    _leave_out(folder, broken, options, notes)
    check_number(folder, len(headers))
    height, width = _size(options, list(headers.values()), notes)
    channels = options.channels or (1 if all(found.grey for found in headers.values()) else 3)
    names = tuple(sorted({classes[path] for path in headers}))
    names = names if len(names) > 1 else ()  # a single class carries no information
    n_train, n_test = split_sizes(len(headers))
    labels = {path: names.index(classes[path]) if names else 0 for path in sorted(headers)}
    shape = channels, height, width

    def load(_: Path | None) -> tuple[ImageDataset, ImageDataset]:
        return _load(folder, shape, options, labels, names, notes)

    return DatasetSource(shape, n_train, n_test, names, load, notes)


def picture_files(folder: Path, notes: list[str]) -> dict[Path, str]:
    """The class of each picture in a folder and its subfolders: the subfolder of `folder` that it is in, or "".

    Names that start with a dot are ignored. Links to folders are not followed.

    Args:
        folder: The folder.
        notes: A line on other files is appended, if there are any.

    Raises:
        UserError: The folder cannot be read, it has no pictures, it has pictures both in subfolders and outside of
            them, or its subfolders are splits.
    """
    check_folder(folder)

    def refuse(error: OSError) -> None:
        raise refusal(folder, f"{error.filename}: {error.strerror}")

    found: dict[Path, str] = {}
    others = list[str]()
    for here, subfolders, files in os.walk(folder, onerror=refuse):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        inner = Path(here).relative_to(folder).parts[:1]
        for name in sorted(name for name in files if not name.startswith(".")):
            path = Path(here, name)
            suffix = path.suffix.lower()
            if suffix in SUFFIXES and (path.is_file() or not path.exists()):  # or a dangling link, reported later
                found[path] = unicodedata.normalize("NFC", inner[0]) if inner else ""
            else:
                others.append(suffix or "no suffix")
    if not found:
        raise refusal(folder, f"it has no pictures ({', '.join(sorted(SUFFIXES))}); other files: {len(others):,}")
    if others:
        notes.append(f"Other files are ignored: {len(others):,} ({in_a_line(sorted(set(others)))}).")
    if len(classes := set(found.values())) > 1 and "" in classes:
        stray = [path.name for path, name in found.items() if not name]
        raise refusal(folder, f"subfolders are classes, but these are next to them: {in_a_line(stray)}")
    if {name.lower() for name in classes} <= SPLIT_NAMES:
        named = ", ".join(sorted(classes))
        raise refusal(folder, f"its subfolders look like splits, not classes: {named}; name one of them as data.path")
    return found


def _load(
    folder: Path,
    shape: tuple[int, int, int],
    options: FolderOptions,
    labels: dict[Path, int],
    class_names: tuple[str, ...],
    notes: list[str],
) -> tuple[ImageDataset, ImageDataset]:
    """Decode the pictures one by one, and split them."""
    images, broken, n = torch.empty(len(labels), *shape, dtype=torch.uint8), dict[Path, str](), 0
    names, classes = list[str](), list[int]()
    for path, label in tqdm(labels.items(), "read pictures", disable=hidden()):
        try:
            images[n] = decode(read(path), shape[0], shape[1:], options.ground)
        except BrokenError as error:
            broken[path] = str(error)
            continue
        n += 1
        names.append(str(path.relative_to(folder)))
        classes.append(label)
    _leave_out(folder, broken, options, notes)
    if shape[0] == 3 and options.channels is None and (images[:n] == images[:n, :1]).all():
        notes.append("All images are grey, though stored in colour: -S data.folder.channels=1 trains in grey.")
    found = small_labels(torch.tensor(classes), len(class_names)) if class_names else None
    return without_copies(ImageDataset(images[:n], found, class_names), names, folder, notes)


def _size(options: FolderOptions, headers: Sequence[Header], notes: list[str]) -> tuple[int, int]:
    if isinstance(options.size, list):
        return options.size[0], options.size[1]
    if options.size is not None:
        return options.size, options.size
    sizes = sorted({found.size for found in headers}, key=lambda size: (prod(size), size))
    if len(sizes) == 1 and max(sizes[0]) <= LARGEST_AS_IS:
        return sizes[0]
    span = " to ".join(f"{width}x{height}" for height, width in dict.fromkeys((sizes[0], sizes[-1])))
    notes.append(f"Pictures of {span} pixels are cropped and resized to {SIZE}x{SIZE}: data.folder.size changes this.")
    return SIZE, SIZE


def _leave_out(folder: Path, broken: dict[Path, str], options: FolderOptions, notes: list[str]) -> None:
    if not broken:
        return
    lines = [f"{path.relative_to(folder)} ({why})" for path, why in sorted(broken.items())]
    said = f"{len(lines):,} of its files cannot be read: {in_a_line(lines)}"
    if options.broken == "refuse":
        raise refusal(folder, f"{said}; to leave them out: -S data.folder.broken=leave_out")
    notes.append(f"Files that cannot be read are left out: {in_a_line(lines)}.")


DATASETS.register(__name__, OwnImages(FolderOptions, find))
