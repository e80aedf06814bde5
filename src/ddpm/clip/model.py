"""CLIP on noised images: a joint embedding of images and captions (Radford et al. 2021).

The image encoder is conditioned on t, so that its gradient can guide the reverse process (GLIDE, Nichol et al. 2021,
section 2.3).
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer, Shaped, UInt8
from safetensors import safe_open
from torch import Tensor, nn

from ddpm.conditioning.steering import LogLikelihood
from ddpm.conditioning.text import TextEncoder
from ddpm.data.dataset import to_x0_range
from ddpm.errors import UserError
from ddpm.networks.blocks import ResidualBlock, StepEmbedding, to_patches
from ddpm.run.files import load_tensors, write_tensors

BATCH = 512  # images per batch outside training


@dataclass(frozen=True)
class ClipConfig:
    """Config of a `Clip`.

    Attributes:
        img_shape: (channels, height, width) of the images.
        max_steps: T.
        size: Dimension of the embeddings.
        channels: Feature maps at half the image size. There are twice as many at a quarter and an eighth.
        groups: Number of groups of each GroupNorm.
        width: Width of the text encoder.
        layers: Transformer blocks of the text encoder.
        heads: Attention heads of the text encoder.

    Raises:
        ValueError: groups do not divide channels, heads do not divide width, or channels is odd.
    """

    img_shape: tuple[int, ...]
    max_steps: int
    size: int
    channels: int
    groups: int
    width: int
    layers: int
    heads: int

    def __post_init__(self) -> None:
        """Raise ValueError if the CLIP cannot be built."""
        for key, divisor in (("channels", self.groups), ("width", self.heads)):
            if (value := getattr(self, key)) % divisor:
                name = "groups" if key == "channels" else "heads"
                raise ValueError(f"{key} is {value}; it must be a multiple of {name}, {divisor}")
        if self.channels % 2:
            raise ValueError(f"channels is {self.channels}; it must be even, for sines and cosines of t")


class Clip(nn.Module):
    """An image encoder and a text encoder, and the learnt scale of their dot product.

    Args:
        config: The config.
    """

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.config = config
        channels, step = config.channels, 4 * config.channels
        self.step = nn.Sequential(StepEmbedding(config.max_steps, channels), nn.Linear(channels, step), nn.GELU())
        self.conv_in = nn.Conv2d(4 * config.img_shape[0], channels, 3, padding=1)
        widths = (channels, channels), (channels, 2 * channels), (2 * channels, 2 * channels)
        self.blocks = nn.ModuleList(ResidualBlock(*width, step, config.groups) for width in widths)
        self.downsample = nn.ModuleList(nn.Conv2d(out, out, 3, 2, 1) for _, out in widths[:-1])
        self.project_image = nn.Linear(2 * channels, config.size)
        self.text = TextEncoder(config.width, config.layers, config.heads)
        self.project_text = nn.Linear(config.width, config.size)
        self.log_scale = nn.Parameter(torch.tensor(2.0))

    def of_images(self, xt: Float[Tensor, "b c h w"], num_steps: Shaped[Tensor, "b"]) -> Float[Tensor, "b size"]:
        """Embeddings of noised images at their timesteps, normalised to length 1."""
        step = self.step(num_steps)
        x = self.conv_in(to_patches(F.pad(xt, (0, xt.shape[3] % 2, 0, xt.shape[2] % 2)), 2))
        x = self.blocks[0](x, step)
        for downsample, block in zip(self.downsample, self.blocks[1:], strict=True):
            x = block(downsample(x), step)
        return F.normalize(self.project_image(x.mean((2, 3))).float(), dim=1)

    def of_captions(self, rows: Integer[Tensor, "b length"]) -> Float[Tensor, "b size"]:
        """Embeddings of captions (rows of token IDs), normalised to length 1."""
        return F.normalize(self.project_text(self.text(rows)[:, -1]).float(), dim=1)

    def likelihood(self, rows: Integer[Tensor, "b length"]) -> LogLikelihood:
        """The scaled dot product of the embeddings of x_t and caption, as log p(caption | x_t) (GLIDE, section 2.3)."""
        captions = self.of_captions(rows).detach()
        return lambda xt, num_steps: self.log_scale.exp() * (self.of_images(xt, num_steps) * captions).sum(1)

    @torch.no_grad()
    def scores(self, images: UInt8[Tensor, "n c h w"], rows: Integer[Tensor, "n length"]) -> Float[Tensor, " n"]:
        """The cosine similarity of each clean image and its caption, from -1 to 1."""
        found = []
        for some, said in zip(images.split(BATCH), rows.split(BATCH), strict=True):
            x0, least = to_x0_range(some).to(self.log_scale), torch.ones(len(some), dtype=torch.int64)
            found.append((self.of_images(x0, least.to(x0.device)) * self.of_captions(said)).sum(1).cpu())
        return torch.cat(found)


def save_clip(path: Path, model: Clip) -> None:
    """Write the weights, with the config in the file's header."""
    write_tensors(path, model.state_dict(), {"config": json.dumps(asdict(model.config), sort_keys=True)})


def load_clip(path: Path) -> Clip:
    """Read a file written by `save_clip`.

    Returns:
        The CLIP in eval mode, with frozen weights.

    Raises:
        UserError: The file is missing, damaged, or not a CLIP.
    """
    weights = load_tensors(path)
    try:
        with safe_open(path, framework="pt") as file:
            values = json.loads((file.metadata() or {})["config"])
        model = Clip(ClipConfig(**values | {"img_shape": tuple(values["img_shape"])}))
        model.load_state_dict(weights)
    except (RuntimeError, KeyError, TypeError, ValueError):
        raise UserError(f"{path}: not a CLIP of this version; delete it and run `dvc repro`") from None
    return model.eval().requires_grad_(False)
