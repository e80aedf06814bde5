"""Inception's features, for the standard FID (Heusel et al. 2017). The weights must be on disk.

The weights were trained on photographs, in TensorFlow. torchvision has the same convolutions, but other pooling and
resizing. Here both are as in the TensorFlow graph, so that values are comparable with published ones.
"""

import hashlib
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from tqdm import tqdm

from ddpm.errors import UserError
from ddpm.run.compute import Compute
from ddpm.run.progress import hidden

WEIGHTS = "pt_inception-2015-12-05-6726825d.pth"
WEIGHTS_SIZE = 95_628_359
WEIGHTS_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
SIZE = 299  # height and width of the network's input
BATCH = 64  # images per batch


class _Pooled(nn.Module):
    """A torchvision block whose last branch starts with `pool` instead of an average that counts the padding."""

    def __init__(self, block: Any, pool: nn.Module) -> None:
        super().__init__()
        self.block: Any = block
        self.pool = pool

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c_out h w"]:
        return torch.cat((*self.block._forward(x)[:-1], self.block.branch_pool(self.pool(x))), dim=1)


def inception() -> nn.Module:
    """Inception v3 with parameter names that match the weights. `pooled` turns it into the feature extractor."""
    from torchvision.models import Inception3  # takes as long to import as torch, and is rarely needed

    return Inception3(num_classes=1008, aux_logits=False, init_weights=False)


def pooled(network: nn.Module) -> nn.Module:
    """Turn an Inception network into a feature extractor, in place.

    Args:
        network: The output of `inception`.

    Returns:
        The network with the pooling of the TensorFlow graph and without its head, from (b, 3, h, w) to (b, 2048), in
        eval mode and without gradients.
    """
    for name, block in network.named_children():
        if hasattr(block, "branch_pool"):
            last = name == "Mixed_7c"
            pool = nn.MaxPool2d(3, 1, 1) if last else nn.AvgPool2d(3, 1, 1, count_include_pad=False)
            setattr(network, name, _Pooled(block, pool))
    network.fc = nn.Identity()
    return network.eval().requires_grad_(False)


def load_inception(path: Path) -> nn.Module:
    """The feature extractor with the published weights.

    This is the only pickle that the project reads. Its full SHA-256 is checked first, and torch loads only tensors
    from it.

    Args:
        path: The file that pytorch-fid and torch-fidelity download, `WEIGHTS`.

    Raises:
        UserError: The file is missing, or is not `WEIGHTS`.
    """
    key = f"params.yaml: evaluate_unet.inception_weights is {path}"
    try:
        known = path.stat().st_size == WEIGHTS_SIZE
        data = path.read_bytes() if known else b""
    except OSError as error:
        raise UserError(f"{key}: {error.strerror}; use the path of {WEIGHTS}, or null for none") from None
    if hashlib.sha256(data).hexdigest() != WEIGHTS_SHA256:
        raise UserError(f"{key}: not {WEIGHTS}, whose SHA-256 starts with {WEIGHTS_SHA256[:8]}; null leaves it out")
    network = inception()
    network.load_state_dict(torch.load(BytesIO(data), weights_only=True))
    return pooled(network)


def describe_inception(
    network: nn.Module, images: UInt8[Tensor, "n c h w"], compute: Compute = Compute()
) -> Float[Tensor, "n 2048"]:
    """Features of 8-bit images, grey or colour, in float32 on the CPU.

    Args:
        network: The output of `load_inception`.
        images: 8-bit images.
        compute: The device of the network. Its precision is not used.
    """
    batches = tqdm(images.split(BATCH), "Inception", disable=hidden())
    return torch.cat([network(resized(batch.to(compute.device))).cpu() for batch in batches])


def resized(images: UInt8[Tensor, "b c h w"]) -> Float[Tensor, "b 3 299 299"]:
    """8-bit images as input of Inception: in [-1, 1), 299x299, with grey repeated in all three channels."""
    height, width = (_interpolation(size).to(images.device) for size in images.shape[-2:])
    x = height @ images.float() @ width.T
    return ((x - 128) / 128).expand(-1, 3, -1, -1)


def _interpolation(size: int) -> Float[Tensor, "to_size size"]:
    """Weights of the linear interpolation of TensorFlow 1: pixel i of SIZE lies at i size / SIZE."""
    place = torch.arange(SIZE, dtype=torch.float64) * size / SIZE
    before = place.long()
    share = (place - before)[:, None]
    pixels = torch.eye(size, dtype=torch.float64)
    return torch.lerp(pixels[before], pixels[(before + 1).clamp(max=size - 1)], share).float()
