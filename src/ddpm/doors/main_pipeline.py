"""The main pipeline's data, for doors."""

from pathlib import Path

from ddpm.data.dataset import Data
from ddpm.run.params import load_params

MAIN = "../../params.yaml"  # from the door's folder


def main_data() -> Data:
    """Section `data` of the main pipeline, whose images doors read."""
    return load_params({"data": Data}, Path(MAIN)).data
