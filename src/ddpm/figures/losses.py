"""The loss of a network during training, from the outputs of its stage."""

from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from ddpm.diffusion.posterior import Prediction
from ddpm.figures.curves import loss_curves
from ddpm.figures.reports import Curve, read_curve
from ddpm.networks.checkpoint import load_model


class Losses(NamedTuple):
    """The losses of a network, and its training objective.

    Attributes:
        train: The training loss by training step.
        evaluation: The held-out loss of the EMA weights by training step.
        prediction: What the network predicts.
        weighting: The weighting of the training loss.
    """

    train: Curve
    evaluation: Curve
    prediction: Prediction
    weighting: str

    def drawn(self, label: str, data: str = "image", optimum: float | None = None) -> Figure:
        """Draw the loss curves.

        Args:
            label: The network's name in the title.
            data: What the network denoises, such as "latent".
            optimum: The minimum of the evaluation loss over all predictors, if known.
        """
        return loss_curves(self.train, self.evaluation, self.prediction, label, optimum, self.weighting, data)


def losses_deps(name: str) -> list[str]:
    """The files that `load_losses` reads."""
    return [f"models/{name}.safetensors", *(f"reports/train_{name}/{curve}.csv" for curve in ("loss", "eval_loss"))]


def load_losses(name: str) -> Losses:
    """Read the outputs of stage train_NAME."""
    weights, *curves = map(Path, losses_deps(name))
    model = load_model(weights)
    train, evaluation = map(read_curve, curves)
    return Losses(train, evaluation, model.prediction, model.facts["weighting"])
