"""params.yaml: what is wrong is named; nothing is read that was not declared."""

from functools import reduce
from operator import getitem

import pytest
from hypothesis import given
from hypothesis import strategies as st
from project import REPO
from ruamel.yaml import YAML

from ddpm.run.params import Params, load_params, select
from ddpm.errors import UserError
from ddpm.sampling.sample import SAMPLERS

VALUES = YAML(typ="safe").load(REPO / "params.yaml")


def leaves(values, path=()):
    for key, value in values.items():
        yield from leaves(value, (*path, key)) if isinstance(value, dict) else [(*path, key)]


def default(path):
    return reduce(getitem, path, VALUES)


def changed(path, value, delete=False):
    """A copy of params.yaml's values with one leaf replaced or deleted."""

    def copy(node, rest):
        if not rest:
            return value
        node = dict(node)
        if delete and len(rest) == 1:
            del node[rest[0]]
        else:
            node[rest[0]] = copy(node.get(rest[0]), rest[1:])
        return node

    return copy(VALUES, path)


def load(values, folder):
    YAML(typ="safe").dump(values, folder / "params.yaml")
    return load_params(folder / "params.yaml")


def test_the_projects_own_params_are_valid():
    assert load_params(REPO / "params.yaml").seed == VALUES["seed"]


@pytest.mark.parametrize("path", list(leaves(VALUES)), ids=".".join)
def test_a_missing_key_is_named(path, tmp_path):
    with pytest.raises(UserError) as caught:
        load(changed(path, None, delete=True), tmp_path)
    assert str(caught.value) == f"{tmp_path}/params.yaml: {'.'.join(path)} is missing"


@pytest.mark.parametrize("path", list(leaves(VALUES)), ids=".".join)
def test_a_wrong_type_is_named_with_its_value(path, tmp_path):
    for wrong in ({"a": 1}, 0.5 if isinstance(default(path), bool) else True):
        with pytest.raises(UserError, match=rf"params\.yaml: {'.'.join(path)}.*"):
            load(changed(path, wrong), tmp_path)


def test_unknown_keys_are_named(tmp_path):
    with pytest.raises(UserError, match=r"params\.yaml: train_unet\.learning_rate is not a parameter"):
        load(changed(("train_unet", "learning_rate"), 1), tmp_path)
    with pytest.raises(UserError, match=r"params\.yaml: train_unett is not a parameter"):
        load({**VALUES, "train_unett": {}}, tmp_path)


def test_every_mistake_is_listed(tmp_path):
    values = changed(("train_unet", "lr"), -1)
    values["seed"] = "zero"
    with pytest.raises(UserError) as caught:
        load(values, tmp_path)
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("seed",), -1, "seed is -1; input should be greater than or equal to 0"),
        (("threads",), 0, "threads is 0; input should be greater than or equal to 1"),
        (("device",), "tpu", "device is 'tpu'; input should be 'auto', 'cpu' or 'cuda'"),
        (("train_unet", "lr"), float("nan"), "train_unet.lr is nan; input should be a finite number"),
        (("train_unet", "lr"), 0, "train_unet.lr is 0"),
        (("train_unet", "ema_decay"), 1.0, "train_unet.ema_decay is 1.0; input should be less than 1"),
        (("train_unet", "groups"), 7, "must be a multiple of groups, 7"),
        (("train_unet", "dim_mults"), [1, 2, 4, 8, 16], "FashionMNIST has 28"),
        (("train_unet", "n_train"), 59_999, "the training split has 60000 images"),
        (
            ("train_unet",),
            {**VALUES["train_unet"], "schedule": "rescaled_linear", "max_steps": 20},
            "schedule rescaled_linear needs at least 21",
        ),
        (("evaluate_tiny", "max_steps"), [100, 20], "has 20; schedule rescaled_linear needs at least 21"),
        (("evaluate_unet", "n_held_out"), 6000, "train_unet.n_train + evaluate_unet.n_held_out is 61000; the training"),
        (("train_classifier", "n_train"), 55_001, "train_classifier.n_train + evaluate_unet.n_held_out is 60001"),
        (
            ("evaluate_unet", "reference"),
            "train",
            "evaluate_unet.reference is 'train'; input should be 'test' or 'held",
        ),
        (("generate_gradients", "img_shape"), [2, 4, 5], "generate_gradients.img_shape: [2, 4, 5] has 2 channels"),
        (("generate_gradients", "img_shape"), [3, 4], "generate_gradients.img_shape is [3, 4]"),
        (("sample", "unet", "n_films"), 64, "n_films is 64; it cannot exceed n_samples"),
        (("sample", "unet", "n_samples"), -5, "sample.unet.n_samples is -5"),
        (("sample", "unet", "sampler"), "dpmpp_2s", "sample.unet.sampler is 'dpmpp_2s'; input should be 'ancestral',"),
        (("sample", "unet", "n_steps"), 0, "sample.unet.n_steps is 0; input should be greater than or equal to 1"),
        (("sample", "unet", "eta"), 1.5, "sample.unet.eta is 1.5; input should be less than or equal to 1"),
    ],
)
def test_values_out_of_range_say_what_is_allowed(path, value, message, tmp_path):
    values = changed(path, value)
    values["sample"]["unet"] = {**values["sample"]["unet"], "n_samples": values["sample"]["unet"]["n_samples"]}
    if path[-1] == "n_films":
        values["sample"]["unet"]["n_samples"] = 32
    with pytest.raises(UserError) as caught:
        load(values, tmp_path)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampler": "dpmpp_2m", "n_steps": 1}, "n_steps is 1; sampler dpmpp_2m needs at least 2"),
        ({"sampler": "dpmpp_3m", "n_steps": 2}, "n_steps is 2; sampler dpmpp_3m needs at least 3"),
        ({"sampler": "unipc", "n_steps": 2}, "n_steps is 2; sampler unipc needs at least 3"),
        ({"sampler": "heun", "n_steps": 1}, "n_steps is 1; sampler heun needs at least 2"),
        ({"sampler": "ancestral", "eta": 0.5}, "eta is 0.5; only sampler ddim has it, with ancestral it must be 0"),
    ],
)
def test_a_sampler_and_its_steps_must_fit(changes, message, tmp_path):
    values = changed(("sample", "tiny"), VALUES["sample"]["tiny"] | changes)
    with pytest.raises(UserError) as caught:
        load(values, tmp_path)
    assert str(caught.value) == f"{tmp_path}/params.yaml: sample.tiny: {message}"


def test_every_sampler_can_be_chosen(tmp_path):
    for sampler in SAMPLERS:
        values = changed(("sample", "tiny"), VALUES["sample"]["tiny"] | {"sampler": sampler, "n_steps": 3})
        assert load(values, tmp_path).sample.tiny.sampler == sampler


@given(st.binary(max_size=60))
def test_any_bytes_are_one_clear_error(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("params") / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"params\.yaml"):
        load_params(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"params\.yaml: cannot be read \(No such file"):
        load_params(tmp_path / "params.yaml")


def test_numbers_are_read_as_dvc_reads_them(tmp_path):
    text = (REPO / "params.yaml").read_text().replace("lr: 0.003", "lr: 3e-3")
    (tmp_path / "params.yaml").write_text(text)
    assert load_params(tmp_path / "params.yaml").train_tiny.lr == 0.003


def test_a_stage_sees_only_what_it_asked_for():
    params = Params.model_validate(VALUES)
    chosen = select(params, ("seed", "sample.tiny"))
    assert chosen.seed == params.seed
    assert chosen.sample.tiny == params.sample.tiny
    with pytest.raises(AttributeError):
        _ = chosen.train_unet
    with pytest.raises(AttributeError):
        _ = chosen.sample.unet
    assert set(chosen.model_dump()) == {"seed", "sample"}


def test_two_keys_of_one_section_are_both_kept():
    seen = select(load_params(REPO / "params.yaml"), ("sample.tiny", "sample.unet"))
    assert seen.sample.tiny.n_samples == VALUES["sample"]["tiny"]["n_samples"]
    assert seen.sample.unet.n_samples == VALUES["sample"]["unet"]["n_samples"]
