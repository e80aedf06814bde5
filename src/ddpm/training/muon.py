"""Muon: momentum whose matrices are orthogonalised before each step (Jordan et al. 2024).

torch.optim.Muon takes 2-D parameters only and always orthogonalises in bf16, which most CPUs emulate slowly.
"""

from collections.abc import Iterable
from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Muon(torch.optim.Optimizer):
    """Muon for weights with two or more dimensions.

    A convolution kernel is treated as a matrix with one row per output channel.

    Args:
        params: The weights.
        lr: Learning rate: about the singular values of an update, for a matrix that is at least as wide as high.
        momentum: Nesterov momentum.
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
                # Input channels last, as in memory. The order of a matrix's columns makes no difference.
                update = parameter.grad.lerp(average, group["momentum"]).movedim(1, -1)
                step = orthogonalize(update.flatten(1)).reshape(update.shape).movedim(-1, 1)
                tallness = max(1.0, len(update) / update[0].numel()) ** 0.5
                parameter.sub_(step, alpha=group["lr"] * tallness)


def orthogonalize(matrix: Float[Tensor, "m n"], iterations: int = 5) -> Float[Tensor, "m n"]:
    """Approximately U V^T of the singular value decomposition U S V^T, by Newton-Schulz iteration.

    Jordan's quintic trades convergence for a steep slope at 0, so singular values end between 0.7 and 1.2. With
    G = X X^T, an iteration is X <- p(G) X, p(G) = a + b G + c G^2. G and all p(G) commute, so the iteration
    G <- p(G)^2 G needs only small square matrices, and X, usually far wider than high, is multiplied once, by the
    product of all p(G). In float32 the result is accurate to three digits.

    Args:
        matrix: Any matrix.
        iterations: Number of Newton-Schulz iterations.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    scale = 1 / (x.norm() + 1e-7)
    gram, factors = x @ x.T * scale**2, list[Tensor]()
    for _ in range(iterations):
        if factors:
            gram = factors[-1] @ gram @ factors[-1]
        factors.append(torch.addmm(gram, gram, gram, beta=b, alpha=c))
        factors[-1].diagonal().add_(a)
    x = reduce(torch.matmul, factors) * scale @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x
