"""Images with captions, the training data of the text-conditional doors."""

from pathlib import Path
from typing import NamedTuple

from jaxtyping import Int64
from torch import Tensor

from ddpm.captions.split import load_split
from ddpm.data.dataset import ImageDataset, load_dataset

# As seen from a door's folder.
IMAGES = {split: f"../../data/images/{split}.safetensors" for split in ("train", "held_out")}
CAPTIONS = {split: f"../captions/data/{split}.safetensors" for split in IMAGES}
CAPTIONED = *IMAGES.values(), *CAPTIONS.values()


class Captioned(NamedTuple):
    """Images and the token IDs of their captions."""

    images: ImageDataset
    words: Int64[Tensor, "n length"]


def load_captioned(n_eval: int | None = None) -> tuple[Captioned, Captioned]:
    """The training images without a withheld pair, and the last `n_eval` held-out images, or all if it is None."""
    images = {split: load_dataset(Path(path)) for split, path in IMAGES.items()}
    captions = {split: load_split(Path(path)) for split, path in CAPTIONS.items()}
    seen, last = captions["train"].seen, slice(-(n_eval or len(images["held_out"])), None)
    train = Captioned(images["train"][seen], captions["train"].tokens[seen])
    return train, Captioned(images["held_out"][last], captions["held_out"].tokens[last])
