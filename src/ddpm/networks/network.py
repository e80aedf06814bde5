"""The registry of networks. Each file in `architectures/` defines a class and its config, a dataclass."""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any, get_type_hints

import torch
from pydantic import create_model

from ddpm.conditioning.conditioning import build_conditioning
from ddpm.diffusion.model import DiffusionModel
from ddpm.errors import UserError
from ddpm.registry import Registry
from ddpm.run.params import Section, validated

NETWORKS: Registry[type[DiffusionModel]] = Registry("ddpm.networks.architectures", "network")
# Fields of a config that data and training determine. The others are the network's options in params.yaml.
GIVEN = "img_shape", "max_steps", "conditioning", "n_classes"


def options_of(config: Any) -> type[Section]:
    """The options of a network in params.yaml: the fields of its config except GIVEN, with their bounds."""
    return _section(config, GIVEN)


def check_config(config: Any) -> None:
    """Raise ValueError, naming field and value, if a value of a config has the wrong type or is out of bounds."""
    kind: Any = type(config)
    values = {field.name: getattr(config, field.name) for field in fields(kind)}
    try:
        validated(_section(kind), values, kind.__name__)
    except UserError as error:
        raise ValueError(str(error)) from None


def _section(config: type[Any], left_out: Sequence[str] = ()) -> type[Section]:
    types = get_type_hints(config, include_extras=True)
    options: dict[str, Any] = {
        field.name: (types[field.name], ... if field.default is MISSING else field.default)
        for field in fields(config)
        if field.name not in left_out
    }
    return create_model(f"{config.__name__}Options", __base__=Section, **options)


def network_config(
    name: str,
    options: Section,
    img_shape: tuple[int, ...],
    max_steps: int,
    conditioning: Mapping[str, Any] | None = None,
    n_classes: int = 0,
) -> Any:
    """The config of a network, from which its class builds it.

    Args:
        name: The name of the file in `architectures/`.
        options: An instance of the network's `Options`.
        img_shape: (channels, height, width) of its images.
        max_steps: T.
        conditioning: "name" and options of its conditioning, or None for an unconditional network.
        n_classes: Classes of the data set, for a conditioning that needs them.

    Raises:
        ValueError: The network takes no conditioning, or the network or conditioning cannot be built for such images.
    """
    config: Any = vars(NETWORKS[name])["Config"]
    facts = {"img_shape": img_shape, "max_steps": max_steps, "conditioning": conditioning, "n_classes": n_classes}
    known = {field.name for field in fields(config)}
    if conditioning is not None and "conditioning" not in known:
        raise ValueError(f"conditioning is {conditioning['name']}; network {name} is unconditional, so it must be null")
    with torch.device("meta"):  # raises if it cannot be built for these images
        build_conditioning(conditioning, img_shape, n_classes, 1)
    return config(**{key: value for key, value in facts.items() if key in known}, **options.model_dump())
