"""An independent check: distance and recall in the features of a second classifier, never used for a choice.

    python -m benchmarks.second_evaluator                                  # three minutes, after `make repro`
    python -m benchmarks.second_evaluator others=path/samples.safetensors  # compare other samples

Its architecture, seed and training differ from those of the pipeline's classifier. Use it to check a conclusion, never
to choose a parameter: it would no longer be independent. Writes docs/results/second_evaluator.md.
"""

import argparse
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.core.options import parser
from benchmarks.core.rates import DATA, machine
from benchmarks.core.report import insert, table
from ddpm.data.dataset import ImageDataset, load_dataset
from ddpm.data.order import batches
from ddpm.evaluation.frechet import fid
from ddpm.evaluation.manifold import share_in_manifold
from ddpm.images import from_uint8
from ddpm.run.files import load_tensors
from ddpm.run.progress import hidden
from ddpm.run.seeding import global_stream
from ddpm.run.stage import mistakes_in_one_line

DOC = Path("docs/results/second_evaluator.md")
SEED, EPOCHS, BATCH_SIZE, LR = 1234, 4, 128, 1e-3


class Evaluator(nn.Module):
    """Strided 5x5 and 3x3 convolutions, a hidden layer of 64 features, and a linear layer for the classes."""

    def __init__(self, channels: int, n_classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, width, kernel, stride in ((channels, 32, 5, 1), (32, 64, 3, 2), (64, 96, 3, 2)):
            layers += [nn.Conv2d(before, width, kernel, stride, kernel // 2), nn.BatchNorm2d(width), nn.ReLU()]
        layers += [nn.Flatten(), nn.Dropout(0.3)]
        self.features = nn.Sequential(*layers, nn.LazyLinear(64), nn.Tanh())
        self.classes = nn.Linear(64, n_classes)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        return self.classes(self.features(x))


def trained(train: ImageDataset) -> Evaluator:
    """Train an evaluator for `EPOCHS` epochs."""
    assert train.labels is not None
    with global_stream(SEED, "second evaluator"):
        model = Evaluator(train.img_shape[0], len(train.class_names))
        model(from_uint8(train.images[:1]))
        optimizer = torch.optim.NAdam(model.parameters(), LR)
        total = EPOCHS * -(-len(train) // BATCH_SIZE)
        for step, chosen in enumerate(tqdm(islice(batches(len(train), BATCH_SIZE, SEED), total), disable=hidden())):
            optimizer.param_groups[0]["lr"] = LR * (1 - step / total)
            loss = F.cross_entropy(model(from_uint8(train.images[chosen])), train.labels[chosen].long())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


@torch.no_grad()
def features(model: Evaluator, images: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
    """The activations of the hidden layer."""
    return torch.cat([model.features(from_uint8(batch)) for batch in images.split(500)])


def named_file(word: str) -> tuple[str, Path]:
    """Parse an argument NAME=FILE."""
    name, _, path = word.partition("=")
    if not Path(path).is_file():
        raise argparse.ArgumentTypeError(f"{word}; give NAME=FILE, where the file contains `samples`")
    return name, Path(path)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("others", type=named_file, nargs="*", metavar="NAME=FILE", help="other sets of samples")
    others = options.parse_args().others
    train, held_out, test = (load_dataset(DATA[name]) for name in ("train", "held_out", "test"))
    files = {"samples": Path("samples/unet.safetensors"), **dict(others)}
    sets = {name: load_tensors(path)["samples"] for name, path in files.items()}
    n = min(len(samples) for samples in sets.values())
    sets["real images"] = held_out.images
    model = trained(train)
    with torch.no_grad():
        guesses = torch.cat([model(from_uint8(batch)).argmax(1) for batch in test.images.split(500)])
    assert test.labels is not None
    accuracy = guesses.eq(test.labels).double().mean().item()
    reference = features(model, test.images)
    rows = []
    for name, images in sets.items():
        found = features(model, images[:n])
        recall = share_in_manifold(reference[: len(found)], found)
        rows.append((name, f"{fid(reference, found):.3f}", f"{recall:.3f}"))
    about = f"{n} images each, compared with {len(reference)} test images, on {machine()}."
    text = f"{about} The classifier has a test accuracy of {accuracy:.1%}.\n\n"
    insert(DOC, text + table(("", "distance", "recall"), rows))


if __name__ == "__main__":
    with mistakes_in_one_line("second_evaluator"):
        main()
