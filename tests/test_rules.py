"""Rules between sections of params.yaml: each allows its limit and rejects the next value."""

from copy import deepcopy

import numpy as np
import pytest
from rule_limits import LIMITS
from whole import VALUES, check

from ddpm import rules
from ddpm.diffusion.schedule import NoiseSchedule, cosine_schedule
from ddpm.errors import UserError
from ddpm.networks.architectures.mlp import TinyDiffuser, TinyDiffuserConfig
from ddpm.networks.checkpoint import save_model
from ddpm.run import params


@pytest.fixture(autouse=True, scope="module")
def project(tmp_path_factory):
    """100 images without labels, and initial weights for the default tiny model, in the working folder."""
    root = tmp_path_factory.mktemp("own")
    np.savez(root / "own.npz", x_train=np.random.default_rng(0).integers(0, 256, (100, 8, 8), dtype=np.uint8))
    model = TinyDiffuser(TinyDiffuserConfig(img_shape=(3, 4, 5), hidden_size=128, max_steps=100))
    model.noise_schedule, model.prediction = NoiseSchedule(100, betas=cosine_schedule(100)), "x0"
    save_model(root / "init/start.safetensors", model, {"schedule": "cosine"})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("DVC_ROOT", ".")
        yield


def with_values(changes):
    """params.yaml with some values set by dotted key."""
    values = deepcopy(VALUES)
    for key, value in changes.items():
        *sections, last = key.split(".")
        node = values
        for section in sections:
            node = node.setdefault(section, {})
        node[last] = value
    return values


N_NUMBERS = 55_000 * 28 * 28  # in FashionMNIST's training images
NAMES = [f"{key}={refused}" for _, _, key, _, refused, _ in LIMITS]


@pytest.mark.parametrize(("rule", "others", "key", "allowed", "refused", "message"), LIMITS, ids=NAMES)
def test_rule_allows_its_limit_and_rejects_values_beyond(rule, others, key, allowed, refused, message):
    check(with_values({**others, key: allowed}))
    with pytest.raises(UserError) as caught:
        check(with_values({**others, key: refused}), [getattr(rules, rule)])
    [line] = str(caught.value).splitlines()
    assert line.startswith(f"params.yaml: {message}")


def test_pairs_of_test_images_share_no_image():
    own = {"data.name": "npz", "data.path": "own.npz"}  # 24 test images
    check(with_values(own | {"paper.n_pairs": 12}))
    with pytest.raises(
        UserError, match=r"^params.yaml: paper.n_pairs is 13; it cannot exceed half the test split, 12$"
    ):
        check(with_values(own | {"paper.n_pairs": 13}))


@pytest.mark.parametrize("name", rules.MODELS)
def test_each_models_micro_batches_limit_the_processes(name):
    values = {"train_tiny.micro_batches": 8, "train_unet.micro_batches": 8, f"train_{name}.micro_batches": 4}
    check(with_values(values | {"processes": 4}), [rules.processes_have_work])
    with pytest.raises(
        UserError, match=rf"processes is 5; train_{name}.micro_batches is 4, so it must be at most that"
    ):
        check(with_values(values | {"processes": 5}), [rules.processes_have_work])


def test_too_many_images_are_rejected_with_the_remedy(monkeypatch):
    monkeypatch.setattr(params, "MOST_NUMBERS", N_NUMBERS)
    check(VALUES, [rules.tensors_fit])
    monkeypatch.setattr(params, "MOST_NUMBERS", N_NUMBERS - 1)
    with pytest.raises(UserError) as caught:
        check(VALUES, [rules.tensors_fit])
    assert str(caught.value) == (
        f"params.yaml: images x pixels of data is 55000 x 1 x 28 x 28; at most {N_NUMBERS - 1} numbers are allowed at "
        "once; lower data.n_train, or data.folder.size for a folder"
    )


def test_every_rule_has_a_case():
    assert {rule for rule, *_ in LIMITS} == {rule.__name__ for rule in rules.RULES}


def test_every_mistake_is_reported_on_its_own_line():
    with pytest.raises(UserError) as caught:
        check(with_values({"paper.n_steps": 201, "bound.variances": ["learned"], "sample.tiny.n_steps": 101}))
    found = sorted(line.split(" is ")[0] for line in str(caught.value).splitlines())
    assert found == [
        "params.yaml: bound.variances.0",
        "params.yaml: paper.n_steps",
        "params.yaml: sample.tiny.n_steps",
    ]
