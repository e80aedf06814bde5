"""Public functions reject arguments of a wrong type in one sentence, before any work."""

import subprocess
import sys
from inspect import signature
from pathlib import Path
from types import FunctionType

import numpy
import pytest
import torch
from torch.utils.data import TensorDataset

import ddpm
from ddpm.arguments import fits
from ddpm.errors import UserError

X, T = torch.zeros(2, 1, 8, 8), torch.tensor([1, 2])
NOISE, MASK, BOTH = torch.Generator(), torch.zeros(8, 8, dtype=torch.bool), torch.tensor([0, 1])
SCHEDULE, BETAS = ddpm.NoiseSchedule(10), ddpm.linear_schedule(10)


def network(**conditioned):
    options = {"groups": 2, "heads": 2, "max_steps": 10} | conditioned
    model = ddpm.Unet(ddpm.UnetConfig((1, 8, 8), 8, (1, 2), **options)).eval()
    model.noise_schedule = SCHEDULE
    return model


PLAIN = network()
LABELLED = network(conditioning={"name": "labels", "dropout": 0.1}, n_classes=3)
STEPS = {"n_steps": 2, "spacing": "even"}
CALLS = {
    "sample": {"model": LABELLED, "n_samples": 2, "labels": BOTH, "guidance_scale": 2.0, "sampler": "ddim", **STEPS}
    | {"return_all_steps": False, "clip_sample": 0.9, "start": X, "num_steps": 5, "batch_size": 2, "cond": None}
    | {"generator": NOISE, "on_step": None, "captions": None},
    "inpaint": {"model": LABELLED, "images": X, "mask": MASK, "generator": NOISE, "n_resamples": 1, **STEPS}
    | {"labels": BOTH, "cond": None, "captions": None, "guidance_scale": 1.0, "clip_sample": False, "batch_size": 2}
    | {"on_step": None},
    "interpolate": {"model": LABELLED, "first": X[0], "second": X[1], "n": 2, "num_steps": 5, "generator": NOISE}
    | {**STEPS, "labels": BOTH, "clip_sample": False},
    "noise_to": {"model": PLAIN, "images": X, "num_steps": 5, "generator": NOISE},
    "encode": {"model": LABELLED, "images": X, **STEPS, "labels": BOTH, "batch_size": 2},
    "load_model": {"path": "gone"},
    "save_model": {"path": Path("gone"), "model": PLAIN, "facts": {}},
    "plot_img": {"img": X[0], "title": "t"},
    "gradient_images": {"n_images": 2, "img_size": (3, 4, 5), "generator": NOISE},
    "normalize_img": {"img": X},
    "denormalize_img": {"img": X},
    "linear_schedule": {"max_steps": 5, "min_noise": 0.1, "max_noise": 0.2},
    "cosine_schedule": {"max_steps": 5, "s": 0.01, "max_beta": 0.9},
    "rescaled_linear_schedule": {"max_steps": 50},
    "q_eq2": {"x": X[0], "num_steps": 3, "betas": BETAS, "generator": NOISE},
    "q_eq4": {"x": X[0], "num_steps": 3, "betas": BETAS, "generator": NOISE},
    "noise_img": {"img": X, "noise_schedule": SCHEDULE, "max_steps": 5, "generator": NOISE, "step_sampling": "uniform"},
    "reconstruct": {"noisy_img": X, "noise": X, "num_steps": T, "noise_schedule": SCHEDULE},
    "log_images": {"img": X, "noised": X, "noise": X, "noise_pred": X, "reconstructed": X, "num_images": 2},
    "train": {"model": PLAIN, "config_dict": {}, "trainset": TensorDataset(X), "testset": None, "track": False}
    | {"init": "gone"},
}
EACH = [(name, argument) for name, arguments in CALLS.items() for argument in arguments]


def test_every_public_argument_is_covered():
    public = {name: found for name in ddpm.__all__ if isinstance(found := getattr(ddpm, name), FunctionType)}
    assert CALLS.keys() == public.keys()
    for name, function in public.items():
        assert list(CALLS[name].keys() ^ (signature(function).parameters.keys() - {"options"})) == []


@pytest.mark.parametrize(("name", "argument"), EACH)
def test_wrong_type_error_names_argument_and_allowed_types(name, argument):
    for wrong in (object(), b"bytes"):
        with pytest.raises(TypeError, match=rf"^{name}: {argument} is .*; it must be \S") as caught:
            getattr(ddpm, name)(**CALLS[name] | {argument: wrong})
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("sample", {"n_samples": 1.5}, "sample: n_samples is 1.5; it must be int"),
        (
            "sample",
            {"labels": torch.tensor([0.5, 0.5])},
            r"sample: labels is a tensor of shape \(2,\) and type torch.f",
        ),
        ("sample", {"n_samples": True}, "sample: n_samples is True; it must be int"),
        ("sample", {"captions": ["a boot", 1]}, r"sample: captions is \['a boot', 1\]; it must be list\[str\] or None"),
        ("gradient_images", {"img_size": (3, 4)}, r"img_size is \(3, 4\); it must be tuple\[int, int, int\]"),
        ("noise_img", {"step_sampling": "even"}, "step_sampling is 'even'; it must be 'uniform' or 'stratified'"),
        ("normalize_img", {"img": numpy.zeros(3)}, "normalize_img: img is array"),
    ],
)
def test_type_error_messages(name, changes, said):
    with pytest.raises(TypeError, match=said):
        getattr(ddpm, name)(**CALLS[name] | changes)


def test_mismatched_shapes_raise_type_error():
    """In a process of its own: here the tests' shape checks wrap every function."""
    code = """
import ddpm, torch
x = torch.zeros(2, 1, 8, 8)
for call in (
    lambda: ddpm.reconstruct(x, x[:1], torch.tensor([1, 2]), ddpm.NoiseSchedule(10)),
    lambda: ddpm.log_images(x, x, x[..., :7], x, x),
):
    try:
        call()
    except TypeError as error:
        print(error)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    first, second = said.splitlines()
    assert first.startswith(
        "reconstruct: noise is a tensor of shape (1, 1, 8, 8) and type torch.float32; it must be a "
    )
    assert second.startswith(
        "log_images: noise is a tensor of shape (2, 1, 8, 7) and type torch.float32; it must be a "
    )


def test_fits_accepts_numpy_scalars_and_lists_for_tuples():
    assert fits(numpy.int64(2), int)
    assert fits(numpy.float32(2), float | None)
    assert fits(3, float)
    assert fits([3, 4, 5], tuple[int, int, int])
    assert not fits([3, 4, 5.0], tuple[int, int, int])
    assert not fits("2", int)


def test_float64_images_are_cast_to_float32():
    double = X.double()
    assert ddpm.sample(PLAIN, 2, start=double, n_steps=2).dtype == torch.float32
    assert ddpm.inpaint(PLAIN, double, ~MASK, n_steps=2, n_resamples=1).dtype == torch.float32
    assert ddpm.encode(PLAIN, double, n_steps=2).dtype == torch.float32


@pytest.mark.parametrize("cond", [torch.zeros(2, 1, 8, 8), torch.zeros(2), torch.zeros(2, 3, dtype=torch.long)])
def test_sample_rejects_cond_of_wrong_shape_or_dtype(cond):
    with pytest.raises(ValueError, match=r"cond has shape .* and type .*; this model takes \(2,\) and torch.int64"):
        ddpm.sample(LABELLED, 2, cond=cond, n_steps=2)


def test_load_model_raises_user_error_for_missing_file():
    with pytest.raises(UserError, match="gone: no such file"):
        ddpm.load_model("gone")
