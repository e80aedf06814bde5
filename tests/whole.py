"""All of params.yaml, as stage `check` sees it. The stages are imported once for all tests of a process."""

from collections.abc import Iterator, Sequence
from contextlib import chdir
from copy import deepcopy
from functools import cache, reduce
from operator import getitem
from typing import Any

from project import REPO

from ddpm.check import checked_params
from ddpm.diffusion.schedule import SCHEDULES, NoiseSchedule
from ddpm.networks.architectures.unet import Unet
from ddpm.networks.checkpoint import save_model
from ddpm.rules import RULES, Rule
from ddpm.run.dvc import Stages, declared_stages, sections
from ddpm.run.params import WHOLE, params_model, validated
from ddpm.run.yaml import load_yaml
from ddpm.training.train_model import TrainModel

VALUES: dict[str, Any] = load_yaml(REPO / "params.yaml")


@cache
def stages() -> Stages:
    """Every stage, by name."""
    with chdir(REPO):
        return declared_stages()


def check(values: Any, rules: Sequence[Rule] = RULES) -> Any:
    """All params.

    Raises:
        UserError: One line that begins with "params.yaml: " for each mistake.
    """
    return checked_params(stages(), values, rules)


@cache
def _section_model(key: str) -> Any:
    return params_model({key: sections(stages())[key]}, "ignore")


def check_section(key: str, values: Any) -> None:
    """The section `key` and the general values alone: a hundred times faster."""
    validated(_section_model(key), values, "params.yaml", WHOLE)


def nodes(values: Any = VALUES, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every section, subsection and key."""
    for key, value in values.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from nodes(value, (*path, key))


def value_at(path: Sequence[str]) -> Any:
    """The value at `path`."""
    return reduce(getitem, path, VALUES)


def changed(path: Sequence[str], value: Any) -> dict[str, Any]:
    """params.yaml's values with another one at `path`."""
    values = deepcopy(VALUES)
    reduce(getitem, path[:-1], values)[path[-1]] = value
    return values


def without(path: Sequence[str]) -> dict[str, Any]:
    """The values of params.yaml without the one at `path`."""
    values = deepcopy(VALUES)
    del reduce(getitem, path[:-1], values)[path[-1]]
    return values


def save_start(root, values):
    """Write root/init/unet.safetensors: what train_unet trains with the params `values`, but untrained."""
    training = TrainModel.model_validate(values["train_unet"])
    model = Unet(training.config((1, 28, 28), 10))
    betas = SCHEDULES[training.schedule](training.max_steps)
    model.noise_schedule, model.prediction = NoiseSchedule(training.max_steps, betas=betas), training.prediction
    save_model(root / "init/unet.safetensors", model, {"schedule": training.schedule})
