"""Muon: momentum whose every matrix is made orthogonal before it is a step (Jordan et al. 2024).

torch.optim.Muon takes 2-D parameters only and always orthogonalises in bf16, which most CPUs emulate slowly.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Muon(torch.optim.Optimizer):
    """For weights of two dimensions and more; a convolution's kernel counts as one row an output channel.

    lr: size of a step, as the root of the mean square singular value; momentum: Nesterov's.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float = 0.02, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002, the base class has it
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter.grad)
                average = state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                update = parameter.grad.lerp(average, group["momentum"]).flatten(1)
                rows, columns = update.shape
                step = orthogonalize(update) * max(1, rows / columns) ** 0.5
                parameter.sub_(step.reshape(parameter.shape), alpha=group["lr"])


def orthogonalize(matrix: Float[Tensor, "m n"], iterations: int = 5) -> Float[Tensor, "m n"]:
    """U V^T of the singular value decomposition U S V^T, roughly: singular values end between 0.7 and 1.2.

    Newton-Schulz iteration with Jordan's quintic, whose slope at 0 is large rather than its limit exactly 1.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix / (matrix.norm() + 1e-7)
    if tall := x.shape[0] > x.shape[1]:
        x = x.T
    for _ in range(iterations):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x
