"""Public diffusion projects to compare with. Each is a file in benchmarks/peers, built as in its own examples.

All train on the same 8-bit images in the same order, without the random flips used in two of the examples:
FashionMNIST's shoes all face left. The batch size is 128 (the examples' 16 to 1024 are meant for GPUs), and learning
rates are constant.
"""

import io
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr
from copy import deepcopy
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.core.clock import Clock
from benchmarks.core.rates import Started, Trainee
from ddpm.data.dataset import ImageDataset
from ddpm.data.order import batches
from ddpm.errors import UserError
from ddpm.registry import Registry
from ddpm.run.processes import cores
from ddpm.run.progress import hidden
from ddpm.run.resume.file import read_about
from ddpm.run.resume.state import TrainingState
from ddpm.run.seeding import global_stream

PACKAGES = ".benchmark/peers"  # where `make peers` installs them
EVALUATIONS = 50  # of the network, per image
BATCH = 128  # images per training step, and per batch of samples


class Parts(NamedTuple):
    """The parts of a peer.

    Attributes:
        model: The network.
        optimizer: The optimiser.
        loss: The loss of 8-bit images, with noise from torch's global generator.
        draw: BATCH samples in [0, 1] from the averaged network, with noise from torch's global generator.
        average: The averaged network.
        averaging: The module that contains the average and the state of `update`.
        update: Updates the average, given the number of the step.
        clip: Maximum gradient norm.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    loss: Callable[[Tensor], Tensor]
    draw: Callable[[], Tensor]
    average: nn.Module
    averaging: nn.Module
    update: Callable[[int], object]
    clip: float = float("inf")


PEERS: Registry[Callable[[tuple[int, ...]], Parts]] = Registry("benchmarks.peers", "peer")  # builds it for an img_shape


class Peer(Trainee):
    """The peer in the file `name`, a public package.

    Raises:
        UserError: It is not installed.
    """

    batch_size = BATCH

    def __init__(self, name: str) -> None:
        self.name = name
        if PACKAGES not in sys.path:
            sys.path.append(PACKAGES)
        try:
            self.settings = f"{name}-{version(name)}"
        except PackageNotFoundError:
            raise UserError(f"{name} is not installed; run `make peers`, or leave it out with --only") from None

    def start(self, train: ImageDataset, n_steps: int, seed: int) -> Started:
        torch.use_deterministic_algorithms(False)  # only this project uses them, and they cost time
        torch.set_num_threads(cores())
        with global_stream(seed, "init"):
            self._parts = PEERS[self.name](train.img_shape)
        modules = {"model": self._parts.model, "average": self._parts.averaging}
        state = TrainingState(modules, [self._parts.optimizer])
        return state, self._steps(state, train.images, n_steps, seed)

    def draw(self, number: int, seed: int) -> Tensor:
        """Batch `number` of BATCH samples in [0, 1], from the training started last."""
        self._parts.average.eval()
        with global_stream(seed, "sample", number), torch.no_grad(), redirect_stderr(io.StringIO()):  # own bars
            return self._parts.draw()

    def _steps(self, state: TrainingState, images: Tensor, n_steps: int, seed: int) -> Iterator[float]:
        """Take the remaining steps of `state`, yielding the loss of each."""
        parts = self._parts
        order = islice(batches(len(images), BATCH, seed, first=state.step), n_steps - state.step)
        for step, chosen in enumerate(order, start=state.step + 1):
            with global_stream(seed, "step", step):
                loss = parts.loss(images[chosen])
            if not loss.isfinite():
                raise UserError(f"{self.name}: training diverged at step {step} of {n_steps}")
            parts.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parts.model.parameters(), parts.clip)
            parts.optimizer.step()
            parts.update(step)
            state.step = step
            yield loss.item()


def passes(
    trainee: Trainee, train: ImageDataset, at: Sequence[int], seed: int, folder: Path
) -> Iterator[tuple[int, float]]:
    """Train up to each of the steps `at`, in ascending order, in one run.

    Yields:
        (n_steps, seconds): The step, and the training time. The state is saved in `folder`, so that another run can
        resume from it.
    """
    if not at:
        return
    kept = {int(path.stem): path for path in folder.glob("*.safetensors")}
    first = max((step for step in kept if step <= at[0]), default=0)
    state, steps = trainee.start(train, at[-1], seed)
    before = 0.0
    if first:
        state.load(kept[first])
        before = read_about(kept[first])[0]["seconds"]
    clock = Clock(steps)
    for n_steps in at:
        for _ in tqdm(range(state.step, n_steps), trainee.name, disable=hidden()):
            next(clock)
        state.save(folder / f"{n_steps}.safetensors", {"seconds": before + clock.seconds})
        yield n_steps, before + clock.seconds


def copy_of(model: nn.Module) -> nn.Module:
    """A copy of a network, whose parameters an EMA can use as its own."""
    return deepcopy(model).requires_grad_(False)
