"""What compression saves: the table's counts against a manual count, and rates with a fake clock."""

import pytest
import torch
from project import REPO

from benchmarks import compression
from benchmarks.core.claims import load_claims
from benchmarks.core.clock import Clock
from ddpm.run.compute import Compute


@pytest.fixture(scope="module")
def smallest():
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(REPO)
        changes = load_claims(compression.DOOR / compression.CLAIMS).variants["f8"]
        small = {"unet": {"channels": 8, "groups": 2, "heads": 2}, "max_steps": 10, "batch_size": 4}
        drawn = {"batch_size": 6, "n_steps": 10, "n_samples": 6}
        yield compression.variant(changes | {"train_latent": small, "sample_latent": drawn}, (1, 28, 28))


def test_row_counts_two_flops_per_multiplication(smallest, monkeypatch):
    """Of a linear layer from 3 to 5 numbers at 1 x 1: 2 x 3 x 5."""

    class Linear(torch.nn.Module):
        img_shape, conditioning = (3, 1, 1), None

        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(3, 500_000, bias=False)

        def forward(self, images, _):
            return self.layer(images.flatten(1))

    monkeypatch.setattr(compression, "given", lambda model, *_: model)
    found = compression.row(smallest._replace(model=Linear()), [10.4, 2.6])
    assert found == (8, "3 x 1 x 1", "1,500,000", "3", "10.4", "2.6")


def test_rates_are_images_per_second(smallest, monkeypatch):
    """Each reading of the clock adds a second: 3 steps of 4 images take 3 s, and 6 images in 10 steps take 10 s."""
    ticks = iter(range(1000))
    monkeypatch.setattr(compression, "Clock", lambda steps: Clock(steps, lambda: next(ticks)))
    assert compression.training(smallest, Compute(), 3) == pytest.approx(4)
    assert compression.sampling(smallest, Compute(), 3) == pytest.approx(0.6)
