"""Extra input channels with zero weights for a trained U-Net, whose output does not change until it is fine-tuned.

This is how GLIDE is fine-tuned to inpaint (Nichol et al. 2021, section 2.4).
"""

from ddpm.diffusion.model import DiffusionModel
from ddpm.errors import UserError

WIDENED = "conv_in.weight"


def load_widened(model: DiffusionModel, narrow: DiffusionModel) -> None:
    """Load the weights of `narrow` into `model`, with zeros for the extra input channels of its first convolution.

    Args:
        model: A new network, whose first convolution has extra input channels after those of `narrow`.
        narrow: A trained network.

    Raises:
        UserError: The networks differ in more than that.
    """
    own, theirs = model.state_dict(), narrow.state_dict()
    weights = {key: value for key, value in theirs.items() if not key.startswith("noise_schedule.")}  # set by training
    odd = [key for key in own.keys() | weights.keys() if key != WIDENED and not _same(key, own, weights)]
    seen = weights[WIDENED].shape[1]
    if odd or own[WIDENED][:, :seen].shape != weights[WIDENED].shape:
        raise UserError(f"the networks differ: {min(odd, default=WIDENED)} does not have the same shape in both")
    widened = own[WIDENED].zero_()
    widened[:, :seen] = weights[WIDENED]
    model.load_state_dict(weights | {WIDENED: widened})


def _same(key: str, own: dict, weights: dict) -> bool:
    return key in own and key in weights and own[key].shape == weights[key].shape
