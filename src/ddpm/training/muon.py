"""Muon: momentum whose every matrix is made orthogonal before it is a step (Jordan et al. 2024).

torch.optim.Muon takes 2-D parameters only and always orthogonalises in bf16, which most CPUs emulate slowly.
"""

from collections.abc import Iterable
from functools import reduce

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
                # Input channels last, as they lie in memory; the order of a matrix's columns makes no difference.
                update = parameter.grad.lerp(average, group["momentum"]).movedim(1, -1)
                step = orthogonalize(update.flatten(1)).reshape(update.shape).movedim(-1, 1)
                tallness = max(1.0, len(update) / update[0].numel()) ** 0.5
                parameter.sub_(step, alpha=group["lr"] * tallness)


def orthogonalize(matrix: Float[Tensor, "m n"], iterations: int = 5) -> Float[Tensor, "m n"]:
    """U V^T of the singular value decomposition U S V^T, roughly: singular values end between 0.7 and 1.2.

    Newton-Schulz iteration with Jordan's quintic, whose slope at 0 is large rather than its limit exactly 1:
    X <- p(G) X with G = X X^T and p(G) = a + b G + c G^2. G and every p(G) commute, so the iteration is one of small
    square matrices alone, G <- p(G)^2 G, and X, mostly far wider than high, is multiplied once, with all p(G) at once.
    In float32 its result is right to three digits; the iteration itself is off by a fifth.
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
