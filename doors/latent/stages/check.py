"""Stage check: all of params.yaml, before any work, and which code and which named files decide a stage's result."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ddpm.check import check_stage
from ddpm.data.dataset import Data
from ddpm.run.dvc import CHECK
from ddpm.run.params import load_params
from ddpm.run.stage import run

MAIN = "../../params.yaml"


def autoencoder_can_be_built(params: Any) -> Iterator[str]:
    """Images, factor, channels and groups go together."""
    try:
        params.train_autoencoder.config(load_params({"data": Data}, Path(MAIN)).data.source.img_shape)
    except ValueError as error:
        yield f"train_autoencoder: {error}"


STAGES = {CHECK: check_stage([autoencoder_can_be_built], [MAIN])}

if __name__ == "__main__":
    run(STAGES)
