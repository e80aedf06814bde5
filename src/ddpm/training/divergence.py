"""Detection of diverged training runs, and their error."""

from math import isfinite

from ddpm.errors import UserError

DIVERGED = 1e6  # times the initial loss, which is not reached by chance, and no run recovers from it


def is_diverged(loss: float, first: float) -> bool:
    """Whether a loss is not finite, or more than `DIVERGED` times the `first`."""
    return not isfinite(loss) or loss > DIVERGED * first


def diverged(what: str, lr: float, n_images: int) -> UserError:
    """The error to raise.

    Args:
        what: What is not finite or too large, and at which step.
        lr: The learning rate of the step.
        n_images: Images in the batch.
    """
    return UserError(f"training diverged: {what}, with lr {lr:.3g} and {n_images} images; try a smaller lr")


def loss_at(step: int, total_steps: int, per_epoch: int, loss: float) -> str:
    """Describe a loss, for an error message.

    Args:
        step: The training step, from 1.
        total_steps: Steps of the whole run.
        per_epoch: Steps per epoch.
        loss: The loss.
    """
    place = f"batch {(step - 1) % per_epoch + 1} of {per_epoch} in epoch {(step - 1) // per_epoch + 1}"
    return f"the loss at step {step} of {total_steps}, {place}, is {loss:.3g}"
