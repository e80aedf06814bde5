"""`python -m ddpm.fill models/inpaint.safetensors PICTURE MASK FOLDER` inpaints a picture where a mask is white.

The picture and the mask must have the size of the network's images. Pixels of the mask above 127 are inpainted.
"""

import argparse
from pathlib import Path
from typing import Any

import torch

from ddpm.data.dataset import to_x0_range
from ddpm.data.pictures import open_picture
from ddpm.errors import UserError
from ddpm.images import denormalize_img, to_uint8
from ddpm.output import MEMORY_HINT, check_folder, check_numbers, load_image_model, write_pngs
from ddpm.run.stage import mistakes_in_one_line
from ddpm.sampling.inpaint import inpaint


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser("ddpm.fill", description="inpaint a picture where a mask is white")
    parser.add_argument("model", type=Path, help="a safetensors file, such as models/inpaint.safetensors")
    parser.add_argument("picture", type=Path, help="a picture of the size of the network's images")
    parser.add_argument("mask", type=Path, help="a picture of that size: white where to inpaint")
    parser.add_argument("folder", type=Path, help="output folder; it is created if it does not exist")
    parser.add_argument("-n", type=int, default=4, help="number of different results (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the noise (%(default)s)")
    parser.add_argument("--caption", help="such as 'a dark dress', if the network takes captions")
    parser.add_argument("--n-steps", type=int, help="steps of Algorithm 2 (all)")
    parser.add_argument("--guidance-scale", type=float, default=1.0, help="(%(default)s)")
    with mistakes_in_one_line("fill", MEMORY_HINT):
        fill(**vars(parser.parse_args()))


def fill(
    model: Path, picture: Path, mask: Path, folder: Path, n: int, seed: int, caption: str | None, **options: Any
) -> None:
    """Inpaint a picture and write the results to files `0.png` to `N.png`.

    Args:
        model: The network's file. A network that was not trained to inpaint works too (see `ddpm.inpaint`).
        picture: The picture's file.
        mask: The mask's file.
        folder: The output folder, created if it does not exist.
        n: Number of different results.
        seed: Seed of the noise.
        caption: Caption of the whole picture, or None.
        options: Further arguments of `ddpm.inpaint`.

    Raises:
        UserError: A file is not a model or picture, a picture has the wrong size, or an option is not allowed. No
            images are written.
    """
    check_numbers(n, seed)
    check_folder(folder)
    network = load_image_model(model)
    image, painted = open_picture(picture, network.img_shape), open_picture(mask, (1, *network.img_shape[1:]))
    captions = None if caption is None else [caption] * n
    images, stream = to_x0_range(image).expand(n, *network.img_shape), torch.Generator().manual_seed(seed)
    try:
        filled = inpaint(network, images, painted[0] > 127, stream, captions=captions, clip_sample=True, **options)
    except ValueError as error:
        raise UserError(str(error)) from None
    write_pngs(folder, to_uint8(denormalize_img(filled)))


if __name__ == "__main__":
    main()
