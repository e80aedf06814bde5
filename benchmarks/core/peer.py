"""Public diffusion projects to compare with: each is a file in benchmarks/peers, built as its own examples build it.

All train on the same 8-bit images in the same order, without the random flips of two examples: FashionMNIST's shoes
all face left. Batches have 128 images (the examples' 16 to 1024 are meant for GPUs), and learning rates are constant.
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

PACKAGES = ".benchmark/peers"  # where `make peers` puts them
EVALUATIONS = 50  # of the network, for an image
BATCH = 128  # images a step, and images that are drawn at a time


class Parts(NamedTuple):
    """What a peer consists of.

    Attributes:
        model: Its network.
        optimizer: Its optimiser.
        loss: The loss of 8-bit images, with fresh noise from torch's global state.
        draw: BATCH images in [0, 1] from the averaged network, with noise from torch's global state.
        average: The averaged network.
        averaging: The module that holds the average with all that `update` needs to know.
        update: Updates the average after a step, whose number it is given.
        clip: The most that the gradient's norm may be.
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
        torch.use_deterministic_algorithms(False)  # this project's choice, which costs time
        torch.set_num_threads(cores())
        with global_stream(seed, "init"):
            self._parts = PEERS[self.name](train.img_shape)
        modules = {"model": self._parts.model, "average": self._parts.averaging}
        state = TrainingState(modules, [self._parts.optimizer])
        return state, self._steps(state, train.images, n_steps, seed)

    def draw(self, number: int, seed: int) -> Tensor:
        """Batch `number` of BATCH images in [0, 1], from the training that was started last."""
        self._parts.average.eval()
        with global_stream(seed, "sample", number), torch.no_grad(), redirect_stderr(io.StringIO()):  # its own bars
            return self._parts.draw()

    def _steps(self, state: TrainingState, images: Tensor, n_steps: int, seed: int) -> Iterator[float]:
        """Take the steps that `state` has yet to take, yielding the loss of each."""
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
        (n_steps, seconds): The step, and the seconds that the training took. The state is kept in `folder`, so that
        another run goes on from there.
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
    """A second network, whose parameters an EMA can hold as its own."""
    return deepcopy(model).requires_grad_(False)
