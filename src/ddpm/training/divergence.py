"""When a training has gone wrong, and what it says then."""

from math import isfinite

from ddpm.errors import UserError

# Times the loss at the start. Nothing comes back from there, and no batch gets there by chance.
DIVERGED = 1e6


def is_diverged(loss: float, first: float) -> bool:
    """Whether a loss leads nowhere: it is not finite, or `DIVERGED` times the `first`."""
    return not isfinite(loss) or loss > DIVERGED * first


def diverged(what: str, lr: float, n_images: int) -> UserError:
    """The error to raise. what: goes wrong, and where; n_images: in the batch."""
    return UserError(f"training diverged: {what}, with lr {lr:.3g} and {n_images} images; try a smaller lr")


def loss_at(step: int, n_steps: int, per_epoch: int, loss: float) -> str:
    """Which loss it is: steps count from 1, `per_epoch` of them make an epoch."""
    place = f"batch {(step - 1) % per_epoch + 1} of {per_epoch} in epoch {(step - 1) // per_epoch + 1}"
    return f"the loss at step {step} of {n_steps}, {place}, is {loss:.3g}"
