"""Rules between sections of params.yaml: each is refused by its own rule alone, and its limit itself is allowed."""

from copy import deepcopy

import numpy as np
import pytest
from whole import VALUES, check

from ddpm import rules
from ddpm.diffusion.schedule import NoiseSchedule, cosine_schedule
from ddpm.errors import UserError
from ddpm.networks.architectures.mlp import TinyDiffuser, TinyDiffuserConfig
from ddpm.networks.checkpoint import save_model


@pytest.fixture(autouse=True, scope="module")
def project(tmp_path_factory):
    """100 images without labels, and weights for the default tiny model to start from, where relative paths lead."""
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
    """params.yaml with some values, by their dotted keys."""
    values = deepcopy(VALUES)
    for key, value in changes.items():
        *sections, last = key.split(".")
        node = values
        for section in sections:
            node = node.setdefault(section, {})
        node[last] = value
    return values


# Rule, values of other sections that make the case, the key, its last allowed value, its first refused one, and what is
# said of that.
NOT_MOVED = (
    "train_unet.unet.tell_moves is true; no image is moved, so it must be false, or train_unet.flip true, or "
    "train_unet.max_shift above 0"
)
LIMITS = [
    (
        "networks_can_be_built",
        {"train_unet.unet.heads": 1, "train_unet.unet.groups": 2},
        "train_unet.unet.channels",
        62,
        63,
        "train_unet: channels is 63; it must be a multiple of groups, 2",
    ),
    (
        "networks_can_be_built",
        {"train_tiny.conditioning": None},
        "train_tiny.conditioning",
        None,
        "labels",
        "train_tiny: conditioning is labels; network mlp is unconditional, so it must be null",
    ),
    (
        "networks_can_be_built",
        {"train_unet.conditioning": "low_resolution"},
        "train_unet.low_resolution.factor",
        4,
        3,
        "train_unet: factor is 3; it must divide the images' height and width, 28 and 28",
    ),
    (
        "init_can_be_trained",
        {"train_tiny.init": "start.safetensors"},
        "train_tiny.prediction",
        "x0",
        "v",
        "train_tiny.init: init/start.safetensors: its prediction is x0, and this training's is v; they must be equal",
    ),
    (
        "samples_can_be_drawn",
        {},
        "sample.tiny.n_steps",
        100,
        101,
        "sample.tiny.n_steps is 101; train_tiny.max_steps is 100, so sampler ancestral takes 1 to 100",
    ),
    (
        "samples_can_be_drawn",
        {"sample.unet.n_steps": None, "train_unet.schedule": "cosine", "bound.stride": 1, "paper.n_steps": None}
        | {"sample.unet.sampler": "dpmpp_2m"},
        "train_unet.max_steps",
        2,
        1,
        "sample.unet.n_steps is None; train_unet.max_steps is 1, so sampler dpmpp_2m takes 2 to 1",
    ),
    (
        "samples_can_be_drawn",
        {"train_unet.unet.learn_variance": False, "sample.unet.sampler": "ancestral"},
        "sample.unet.ancestral.variance",
        "fixed_large",
        "learned",
        "sample.unet.ancestral.variance is learned; train_unet's network does not predict it, so it must be "
        "fixed_large or fixed_small",
    ),
    (
        "samples_can_be_drawn",
        {"sample.tiny.sampler": "ancestral"},
        "sample.tiny.ancestral.variance",
        "fixed_large",
        "learned",
        "sample.tiny.ancestral.variance is learned; train_tiny's network does not predict it, so it must be "
        "fixed_large or fixed_small",
    ),
    (
        "variance_was_learned",
        {},
        "paper.variance",
        "fixed_large",
        "learned",
        "paper.variance is learned; train_unet's network does not predict it, so it must be fixed_large or fixed_small",
    ),
    (
        "variance_was_learned",
        {},
        "bound.variances",
        ["fixed_large", "fixed_small"],
        ["fixed_large", "learned"],
        "bound.variances.1 is learned; train_unet's network does not predict it, so it must be fixed_large or "
        "fixed_small",
    ),
    (
        "samples_can_be_drawn",
        {},
        "sample.tiny.guidance_scale",
        1.0,
        1.5,
        "sample.tiny.guidance_scale is 1.5; train_tiny.conditioning is null, so it must be 1",
    ),
    (
        "samples_can_be_drawn",
        {"sample.unet.guidance_scale": 1.5},
        "train_unet.conditioning",
        "labels",
        None,
        "sample.unet.guidance_scale is 1.5; train_unet.conditioning is null, so it must be 1",
    ),
    (
        "samples_can_be_drawn",
        {"train_unet.conditioning": "clusters", "sample.unet.guidance_scale": 1.5},
        "train_unet.clusters.dropout",
        0.01,
        0.0,
        "sample.unet.guidance_scale is 1.5; train_unet.clusters.dropout is 0, so it must be 1",
    ),
    (
        "processes_have_work",
        {"train_unet.micro_batches": 8},
        "processes",
        8,
        9,
        "processes is 9; train_unet.micro_batches is 8, so it must be at most that, or null",
    ),
    (
        "clusters_have_images",
        {"train_unet.conditioning": "clusters", "train_unet.clusters.n_clusters": 1000},
        "data.n_train",
        1000,
        999,
        "train_unet.clusters.n_clusters is 1000; it cannot exceed the training images (data.n_train), 999",
    ),
    (
        "evaluation_has_images",
        {},
        "sample.unet.n_samples",
        24,
        23,
        "sample.unet.n_samples is 23; as many samples are evaluated, so it must be at least 24",
    ),
    (
        "evaluation_has_images",
        {"evaluate_unet.inception_weights": "weights.pth"},
        "sample.unet.n_samples",
        4098,
        4097,
        "sample.unet.n_samples is 4097; as many samples are evaluated with "
        "evaluate_unet.inception_weights, so it must be at least 4098",
    ),
    (
        "evaluation_has_images",
        {},
        "evaluate_unet.n_samples",
        1024,
        1025,
        "evaluate_unet.n_samples is 1025; it cannot exceed sample.unet.n_samples, 1024",
    ),
    (
        "evaluation_has_images",
        {"evaluate_unet.n_samples": 1024},
        "data.n_held_out",
        1024,
        1023,
        "evaluate_unet.n_samples is 1024; it cannot exceed data.n_held_out, 1023",
    ),
    (
        "evaluation_has_images",
        {},
        "data.n_held_out",
        24,
        23,
        "data.n_held_out is 23; as many samples are evaluated, so it must be at least 24",
    ),
    (
        "evaluation_has_images",
        {"data.name": "npz", "data.path": "own.npz", "data.n_held_out": 30},
        "evaluate_unet.n_samples",
        24,
        25,
        "evaluate_unet.n_samples is 25; it cannot exceed the test split, 24",
    ),
    (
        "labels_are_there",
        {"data.name": "npz", "data.path": "own.npz"},
        "train_unet.conditioning",
        None,
        "labels",
        "train_unet.conditioning is labels; data set npz has no classes, so it must be null",
    ),
    (
        "conditioning_fits_augmentation",
        {"train_unet.conditioning": "clusters"},
        "train_unet.max_shift",
        0,
        1,
        "train_unet.max_shift is 1; conditioning clusters shows images unchanged, so it must be 0",
    ),
    ("moves_are_made", {"train_unet.unet.tell_moves": True}, "train_unet.flip", True, False, NOT_MOVED),
    ("moves_are_made", {"train_unet.unet.tell_moves": True}, "train_unet.max_shift", 1, 0, NOT_MOVED),
    (
        "conditioning_fits_augmentation",
        {"train_unet.conditioning": "clusters"},
        "train_unet.flip",
        False,
        True,
        "train_unet.flip is true; conditioning clusters shows images unchanged, so it must be false",
    ),
    (
        "evaluation_has_images",
        {},
        "paper.n_steps",
        200,
        201,
        "paper.n_steps is 201; it cannot exceed train_unet.max_steps, 200",
    ),
    (
        "evaluation_has_images",
        {"bound.stride": 150},
        "data.n_train",
        300,
        299,
        "2 x bound.stride is 300; it cannot exceed the training images (data.n_train), 299",
    ),
    (
        "evaluation_has_images",
        {"data.name": "npz", "data.path": "own.npz"},  # of whose 100 images 24 are for tests
        "bound.stride",
        12,
        13,
        "2 x bound.stride is 26; it cannot exceed the test split, 24",
    ),
    (
        "evaluation_has_images",
        {"bound.n_images": 10_000},
        "bound.stride",
        200,
        201,
        "bound.stride is 201; it cannot exceed train_unet.max_steps, 200",
    ),
    *(
        (
            "evaluation_has_images",
            {},
            key,
            1000,
            1001,
            f"{key} is 1001; it cannot exceed generate_gradients.n_held_out, 1000",
        )
        for key in ("evaluate_tiny.n_bound", "study_samplers.n_bound")
    ),
    *(
        (
            "corners_can_be_tested",
            {},
            key,
            42,
            41,
            f"{key} is 41; times the 3 channels of generate_gradients.img_shape it must be at least 125, to test "
            "whether corner colours are uniform",
        )
        for key in ("sample.tiny.n_samples", "evaluate_tiny.n_samples", "study_samplers.n_samples")
    ),
    (
        "bounds_have_terms",
        {"sample.tiny.n_steps": None},
        "train_tiny.max_steps",
        2,
        1,
        "train_tiny.max_steps is 1; the variational bound needs at least 2",
    ),
    (
        "tensors_fit",
        {},
        "train_unet.n_eval_per_step",
        2**28 // 784,
        2**28 // 784 + 1,
        f"train_unet.n_eval_per_step x pixels is {2**28 // 784 + 1} x 1 x 28 x 28; at most {2**28} numbers are allowed",
    ),
    (
        "tensors_fit",
        {"generate_gradients.n_train": 2**28 // 60, "train_tiny.mlp.hidden_size": 65_536},
        "train_tiny.batch_size",
        2**12,
        2**12 + 1,
        f"train_tiny.batch_size x the network's width is {2**12 + 1} x 65536; at most {2**28} numbers are allowed",
    ),
    (
        "tensors_fit",
        {"sample.unet.n_samples": 1_000_000},
        "sample.unet.n_samples",
        2**28 // 784,
        2**28 // 784 + 1,
        f"sample.unet.n_samples x pixels is {2**28 // 784 + 1} x 1 x 28 x 28; at most {2**28} numbers are allowed",
    ),
]
NAMES = [f"{key}={refused}" for _, _, key, _, refused, _ in LIMITS]


@pytest.mark.parametrize(("rule", "others", "key", "allowed", "refused", "message"), LIMITS, ids=NAMES)
def test_a_limit_is_allowed_and_what_lies_beyond_is_refused(rule, others, key, allowed, refused, message):
    check(with_values({**others, key: allowed}))
    with pytest.raises(UserError) as caught:
        check(with_values({**others, key: refused}), [getattr(rules, rule)])
    [line] = str(caught.value).splitlines()
    assert line.startswith(f"params.yaml: {message}")


def test_every_rule_has_a_case():
    assert {rule for rule, *_ in LIMITS} == {rule.__name__ for rule in rules.RULES}


def test_every_mistake_is_a_line_of_its_own():
    with pytest.raises(UserError) as caught:
        check(with_values({"paper.n_steps": 201, "bound.variances": ["learned"], "sample.tiny.n_steps": 101}))
    found = sorted(line.split(" is ")[0] for line in str(caught.value).splitlines())
    assert found == [
        "params.yaml: bound.variances.0",
        "params.yaml: paper.n_steps",
        "params.yaml: sample.tiny.n_steps",
    ]
