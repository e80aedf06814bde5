"""Gradient accumulation over micro-batches, bit-identical for any number of processes.

Floating-point addition is not associative, so the micro-batches are always summed in the same order, along a binary
tree. Each process sums the subtrees within its share. Their sums are exchanged and combined by all processes.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ddpm.run.processes import gathered_tensors, rank, size

Node = tuple[int, int]  # a node of the tree: the micro-batches first..end - 1, which are summed


class BatchGradient:
    """Gradients of a network's weights, flattened into one tensor.

    Args:
        parameters: The weights. Their `grad` is set to a view of that tensor.
        batch_size: Maximum number of images in a batch.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], batch_size: int) -> None:
        weights = [parameter for parameter in parameters if parameter.requires_grad]
        self._n_weights = sum(weight.numel() for weight in weights)
        self._sums = torch.zeros(self._n_weights + batch_size, device=weights[0].device)
        first = 0
        for weight in weights:
            own = self._sums[first : first + weight.numel()]
            weight.grad = own.as_strided(weight.shape, weight.stride())  # in the weight's memory format
            first += weight.numel()

    def __call__(
        self, n_images: int, micro_batches: int, losses_of: Callable[[int, slice], Float[Tensor, "_"]]
    ) -> Float[Tensor, "b"]:
        """Compute the gradient of the mean loss of a batch.

        Args:
            n_images: Images in the batch.
            micro_batches: Number of micro-batches. A batch with fewer images has one per image.
            losses_of: Returns the loss of each image of a micro-batch. Called with its index k and its slice of images,
                for the micro-batches that this process computes.

        Returns:
            The loss of each image.
        """
        n_parts = min(micro_batches, n_images)

        def of_part(k: int) -> Float[Tensor, "_"]:
            part = share(n_images, k, n_parts)
            self._sums.zero_()
            losses = losses_of(k, part)
            (losses.sum() / n_images).backward()
            self._sums[self._n_weights :][part] = losses.detach()
            return self._sums.clone()

        whose = [nodes((0, n_parts), range(n_parts)[share(n_parts, which, size())]) for which in range(size())]
        known = _exchanged({node: _total(node, of_part) for node in whose[rank() % size()]}, whose, self._sums)
        self._sums.copy_(_combined((0, n_parts), known))
        return self._sums[self._n_weights :][:n_images].clone()


def check_micro_batches(micro_batches: int, batch_size: int) -> None:
    """Raise ValueError if a batch cannot be cut into equal micro-batches."""
    if batch_size % micro_batches:
        raise ValueError(f"micro_batches is {micro_batches}; it must divide batch_size, which is {batch_size}")


def share(n: int, which: int, of: int) -> slice:
    """The slice number `which`, from 0, of n items that are divided into `of` slices as evenly as possible."""
    return slice(n * which // of, n * (which + 1) // of)


def nodes(node: Node, own: range) -> list[Node]:
    """The largest nodes of the tree below `node` whose micro-batches are all in `own`."""
    first, end = node
    if not own or end <= own[0] or first > own[-1]:
        return []
    if own[0] <= first and end <= own[-1] + 1:
        return [node]
    return [found for half in _halves(node) for found in nodes(half, own)]


def _halves(node: Node) -> tuple[Node, Node]:
    first, end = node
    middle = (first + end + 1) // 2
    return (first, middle), (middle, end)


def _total(node: Node, of_part: Callable[[int], Float[Tensor, "_"]]) -> Float[Tensor, "_"]:
    """The sum over a node's micro-batches."""
    if node[1] - node[0] == 1:
        return of_part(node[0])
    left, right = (_total(half, of_part) for half in _halves(node))
    return left.add_(right)


def _combined(node: Node, known: Mapping[Node, Float[Tensor, "_"]]) -> Float[Tensor, "_"]:
    """The sum over a node's micro-batches, from the known sums of nodes below it."""
    if node in known:
        return known[node]
    left, right = (_combined(half, known) for half in _halves(node))
    return left + right


def _exchanged(
    known: Mapping[Node, Float[Tensor, "_"]], whose: Sequence[Sequence[Node]], like: Float[Tensor, "_"]
) -> dict[Node, Float[Tensor, "_"]]:
    """The sums of all processes, given the sums `known` to this one and the nodes of each process, `whose`."""
    if len(whose) == 1:
        return dict(known)
    mine, found = list(known.values()), dict[Node, Tensor]()
    for i in range(max(map(len, whose))):
        sums = gathered_tensors(mine[i] if i < len(mine) else torch.zeros_like(like))
        found |= {theirs[i]: sums[which] for which, theirs in enumerate(whose) if i < len(theirs)}
    return found
