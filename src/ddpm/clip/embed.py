"""CLIP embeddings of images and captions, for a prior and a decoder (DALL-E 2, Ramesh et al. 2022)."""

import torch
from jaxtyping import Float, Int64, Integer, UInt8
from torch import Tensor

from ddpm.clip.model import BATCH, Clip
from ddpm.conditioning.kinds.clip_caption import ClipCaption
from ddpm.conditioning.sphere import on_sphere
from ddpm.data.dataset import to_x0_range
from ddpm.run.files import tensors_sha256


@torch.no_grad()
def embed_images(clip: Clip, images: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n size"]:
    """The embeddings of clean images, normalised by `on_sphere`, on the CPU."""
    device, found = clip.log_scale.device, []
    for some in images.split(BATCH):
        x0, first = to_x0_range(some).to(device), torch.ones(len(some), dtype=torch.int64, device=device)
        found.append(on_sphere(clip.of_images(x0, first)).cpu())
    return torch.cat(found)


@torch.no_grad()
def embed_captions(clip: Clip, rows: Integer[Tensor, "n length"]) -> Float[Tensor, "n size"]:
    """The embeddings of captions, normalised by `on_sphere`, on the CPU."""
    return on_sphere(clip.of_captions(rows)).cpu()


def space_of(clip: Clip) -> Int64[Tensor, ""]:
    """A CLIP's embedding space, identified by a hash of its weights. Embeddings of other CLIPs are incompatible."""
    digest = tensors_sha256("", {name: value.cpu() for name, value in clip.state_dict().items()})
    return torch.tensor(int(digest[:15], 16))


def give_text(clip: Clip, conditioning: ClipCaption) -> None:
    """Copy a CLIP's text encoder into a prior's conditioning.

    Raises:
        RuntimeError: The shapes differ.
    """
    conditioning.encoder.load_state_dict(clip.text.state_dict())
    conditioning.project_text.load_state_dict(clip.project_text.state_dict())
    conditioning.space.copy_(space_of(clip))
