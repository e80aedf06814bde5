"""Which networks' headline metrics compare: those that were judged by the same."""

from collections.abc import Mapping
from typing import Any

from ddpm.run.params import PARAMS
from ddpm.run.yaml import load_yaml


def judged_by(report: Mapping[str, Any]) -> dict[str, str]:
    """What the headline metrics depend on beside the network.

    Args:
        report: `evaluate.as_report`: "reference" and "n_samples".

    Returns:
        The data set, how long the judging networks learn, the split that samples are compared with, and how many
        samples there are: the values of params.yaml and of the report, by their keys.
    """
    params = load_yaml(PARAMS)  # which stage `check` has validated
    values = {
        "data.name": params["data"]["name"],
        "data.path": params["data"]["path"],
        "evaluate_unet.epochs": params["evaluate_unet"]["epochs"],
        "evaluate_unet.reference": report["reference"],
        "evaluate_unet.n_samples": report["n_samples"],
    }
    return {key: "null" if value is None else str(value) for key, value in values.items()}
