"""Comparability of headline metrics: they must have been computed under the same conditions."""

from collections.abc import Mapping
from typing import Any

from ddpm.run.params import PARAMS
from ddpm.run.yaml import load_yaml


def judged_by(report: Mapping[str, Any]) -> dict[str, str]:
    """The settings that the headline metrics depend on, besides the network.

    Args:
        report: The output of `evaluate.as_report`.

    Returns:
        The data set, what the network is conditioned on, the epochs of the two-sample tests, the reference split and
        the number of samples, by their keys in params.yaml.
    """
    params = load_yaml(PARAMS)  # validated by stage `check`
    values = {
        "data.name": params["data"]["name"],
        "data.path": params["data"]["path"],
        "train_unet.conditioning": params["train_unet"]["conditioning"],
        "evaluate_unet.epochs": params["evaluate_unet"]["epochs"],
        "evaluate_unet.reference": report["reference"],
        "evaluate_unet.n_samples": report["n_samples"],
    }
    return {key: "null" if value is None else str(value) for key, value in values.items()}
