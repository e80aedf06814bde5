"""Networks by name: their options in params.yaml, and the configs built from them."""

from dataclasses import dataclass
from typing import Annotated

import pytest
from annotated_types import Ge
from pydantic import ValidationError

from ddpm.errors import UserError
from ddpm.networks.architectures.mlp import TinyDiffuser, TinyDiffuserConfig
from ddpm.networks.architectures.unet import Unet, UnetConfig
from ddpm.networks.network import GIVEN, NETWORKS, network_config, options_of


@dataclass(frozen=True)
class Config:
    img_shape: tuple[int, ...]
    width: Annotated[int, Ge(1)]
    max_steps: int
    depth: Annotated[int, Ge(1)] = 3


def test_registry_finds_networks_and_rejects_unknown_names():
    assert NETWORKS["mlp"] is TinyDiffuser
    assert NETWORKS["unet"] is Unet
    with pytest.raises(UserError, match=f"'gan' is not a network; allowed: {', '.join(NETWORKS)}"):
        NETWORKS["gan"]


@pytest.mark.parametrize("name", list(NETWORKS))
def test_options_are_config_fields_not_set_by_data_or_training(name):
    network = NETWORKS[name]
    own = set(vars(network)["Config"].__dataclass_fields__)
    assert set(network.Options.model_fields) == own - set(GIVEN)


def test_options_keep_types_bounds_and_defaults_of_config():
    options = options_of(Config)
    assert options(width=5).model_dump() == {"width": 5, "depth": 3}
    for values, reason in (
        ({}, "width"),
        ({"width": 0}, "greater than or equal to 1"),
        ({"width": 1, "depth": 0}, "greater than or equal to 1"),
        ({"width": "1"}, "valid integer"),
        ({"width": 1, "max_steps": 3}, "Extra inputs"),
    ):
        with pytest.raises(ValidationError, match=reason):
            options(**values)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"dim_mults": []}, "at least 1 item"),
        ({"dim_mults": [0]}, "greater than or equal to 1"),
        ({"dim_mults": [1] * 7}, "at most 6 items"),
        ({"dropout": 1.0}, "less than 1"),
        ({"heads": 0}, "greater than or equal to 1"),
        ({"max_attention_size": 0}, "greater than or equal to 1"),
        ({"learn_variance": 1}, "valid boolean"),
    ],
)
def test_unet_options_reject_invalid_values(values, reason):
    [name] = values
    with pytest.raises(ValidationError, match=rf"\n{name}.*\n.*{reason}"):
        Unet.Options(**values)


@pytest.mark.parametrize(
    ("config", "values", "message"),
    [
        (UnetConfig, {"channels": 0}, "UnetConfig: channels is 0; .* greater than or equal to 1"),
        (UnetConfig, {"dim_mults": ()}, "UnetConfig: dim_mults is .* at least 1 item"),
        (UnetConfig, {"groups": 0}, "UnetConfig: groups is 0; .* greater than or equal to 1"),
        (UnetConfig, {"dropout": 1.0}, "UnetConfig: dropout is 1.0; .* less than 1"),
        (UnetConfig, {"max_steps": 0}, "UnetConfig: max_steps is 0; .* greater than or equal to 1"),
        (UnetConfig, {"img_shape": (28, 28)}, r"img_shape is \(28, 28\); it must be \(channels, height, width\)"),
        (UnetConfig, {"img_shape": (0, 28, 28)}, "UnetConfig: img_shape.0 is 0; .* greater than or equal to 1"),
        (TinyDiffuserConfig, {"hidden_size": 0}, "TinyDiffuserConfig: hidden_size is 0; .* greater than or equal to 1"),
        (TinyDiffuserConfig, {"img_shape": (3, 0)}, "TinyDiffuserConfig: img_shape.1 is 0; .* greater than or equal"),
    ],
)
def test_config_error_names_the_invalid_field(config, values, message):
    fitting = {"img_shape": (1, 28, 28)} | ({} if config is UnetConfig else {"hidden_size": 8, "max_steps": 10})
    config(**fitting)
    with pytest.raises(ValueError, match=message):
        config(**fitting | values)


def test_network_config_combines_options_data_and_training():
    options = Unet.Options(channels=16, dim_mults=[1, 2], learn_variance=True)
    conditioning = {"name": "labels", "dropout": 0.1}
    config = network_config("unet", options, (3, 16, 8), 30, conditioning, 7)
    assert config == UnetConfig(
        (3, 16, 8), 16, (1, 2), max_steps=30, learn_variance=True, conditioning=conditioning, n_classes=7
    )
    plain = network_config("mlp", TinyDiffuser.Options(hidden_size=9), (3, 4, 5), 20)
    assert (plain.img_shape, plain.hidden_size, plain.max_steps) == ((3, 4, 5), 9, 20)


def test_unconditional_network_rejects_conditioning():
    with pytest.raises(ValueError, match="conditioning is labels; network mlp is unconditional, so it must be null"):
        network_config("mlp", TinyDiffuser.Options(hidden_size=9), (3, 4, 5), 20, {"name": "labels"}, 7)
